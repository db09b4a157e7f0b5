"""Who writes the shards of a run: this process, here; the workers of a Dask cluster, in `dask.cluster`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from .._aio.tasks import TaskGroup, cancel_all
from .._aio.threads import in_thread
from .._transport.limiter import RateLimiter
from .commit_log import RunLog
from .progress import ExportProgress
from .records import Shard, ShardRecord
from .run_context import RunContext
from .shard_export import OnChange, ShardExporter
from .tuning import Tuning


class Executor(Protocol):
    """Writes shards, many at a time; what became of each is in the run's log when it returns."""

    async def write_all(self, shards: Sequence[Shard], on_change: OnChange) -> None:
        """Write shards, and the shards that they are split into.

        Args:
            shards: The shards, none of which has a record.
            on_change: Called whenever the export may have got further.

        Raises:
            AlliError: The first error, once all other work has ended. What was committed stays.
        """
        ...

    def progress(self) -> ExportProgress:
        """The conversations and chats of the shards being written, and the requests of all shards."""
        ...


class LocalExecutor:
    """Writes shards in this process.

    Args:
        context: What all shards of the run share.
        run: Where the shards are recorded.
    """

    def __init__(self, context: RunContext, run: RunLog) -> None:
        self._run = run
        self._exporter = ShardExporter(context, self._record)
        self._slots = ShardSlots(context.session.limiter, context.tuning)
        self._group: TaskGroup
        self._on_change: OnChange

    def progress(self) -> ExportProgress:
        """The conversations and chats of the shards being written, and the requests of all shards."""
        return self._exporter.progress()

    async def write_all(self, shards: Sequence[Shard], on_change: OnChange) -> None:
        """Write shards, and the shards that they are split into."""
        if not shards:
            return
        self._on_change = on_change
        adding = asyncio.create_task(self._slots.keep_adding())
        try:
            async with TaskGroup() as self._group:
                self._begin(shards)
        finally:
            await cancel_all(adding)

    def _begin(self, shards: Sequence[Shard]) -> None:
        for shard in shards:
            self._group.create_task(self._write(shard))

    async def _write(self, shard: Shard) -> None:
        async with self._slots:
            state = self._run.state
            # The last shard is written when all others are; it must know what they hold.
            is_last = shard.end is None
            commits = [(each, state.commits[each.name]) for each in state.done] if is_last else []
            await self._exporter.export(shard, commits, self._on_change)

    async def _record(self, record: ShardRecord) -> None:
        # The file is written in a thread; the state changes here, where it is read.
        await in_thread(self._run.write, record)
        self._run.state.apply(record)
        # The exporter that split the shard goes on with its first piece; the other pieces are new work.
        self._begin((record.split or [])[1:])


class ShardSlots:
    """Bounds the shards that are read at a time: few at first, more as long as requests leave room.

    Args:
        limiter: The limiter of the requests.
        tuning: The bounds.

    Attributes:
        at_once: Shards that are read at a time, if there are so many.
    """

    def __init__(self, limiter: RateLimiter, tuning: Tuning) -> None:
        self.at_once = min(tuning.shards_at_first, tuning.shards_at_once)
        self._limiter = limiter
        self._tuning = tuning
        self._slots = asyncio.Semaphore(self.at_once)

    async def __aenter__(self) -> None:
        await self._slots.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._slots.release()

    async def keep_adding(self) -> None:
        """Add a slot whenever requests leave room, until there are as many as may be."""
        while self.at_once < self._tuning.shards_at_once:
            await asyncio.sleep(self._tuning.slot_seconds)
            if self._limiter.in_flight < self._limiter.max_in_flight / 2:
                self._slots.release()
                self.at_once += 1
