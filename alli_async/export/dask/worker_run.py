"""What a worker does of a run: it writes single shards, and records them for the export's process."""

from __future__ import annotations

import asyncio
import contextlib

from ..._aio.tasks import cancel_all, wait_done
from ..._aio.threads import in_thread
from ..._transport.session import Session
from ...errors import AlliError, ExportError
from ..commit_log import RunLog, ShardState
from ..executors import ShardSlots
from ..formats.projection import Projection
from ..formats.writers import writer_of
from ..project import check_knows
from ..records import Shard, ShardRecord
from ..run_context import RunContext
from ..shard_export import ShardExporter
from ..storage.directory import DirectoryStore
from ..storage.store import Store, TakenError
from .messages import Assignment, JoinRequest, WorkerStatus
from .sharing import is_current


class _SupersededError(ExportError):
    """The export that this worker joined has ended, or another has taken the destination over."""


class WorkerRun:
    """What a worker does of a run: it writes single shards, as the export's process assigns them.

    Args:
        request: The request that the worker has joined by.
        assignment: The run, and how it is read.
        session: The session that sends the requests.
        store: The destination.
        projection: Makes of the server's JSON what is written.

    Attributes:
        splits: Names of the shards that this worker has split.
    """

    def __init__(
        self,
        request: JoinRequest,
        assignment: Assignment,
        session: Session,
        store: Store,
        projection: Projection,
    ) -> None:
        spec, number = request.spec, assignment.plan.run
        # In an object store the names of parts are unique in any case.
        is_unique = isinstance(store, DirectoryStore)
        self._store = store
        self._export = request.session
        self._log = RunLog(store, ShardState(assignment.plan))
        self._context = RunContext(
            session=session,
            filters=assignment.filters,
            plan=assignment.plan,
            open_writer=lambda shard: writer_of(
                spec, store, number, shard, unique=is_unique, projection=projection
            ),
            on_error=assignment.on_error,
            tuning=request.tuning,
        )
        self._known_ids = assignment.known_ids
        self._exporter = ShardExporter(self._context, self._record)
        self._slots = ShardSlots(session.limiter, request.tuning)
        self._checking: asyncio.Task[None] | None = None
        self._adding: asyncio.Task[None] | None = None
        self.splits: list[str] = []

    async def check(self) -> None:
        """Check that the server knows the project by this worker's key.

        In an outage this takes as long as that. The export's process asks again meanwhile; there is one check.
        """
        if self._checking is None:
            self._checking = asyncio.create_task(self._check())
        try:
            await wait_done(self._checking)
            self._checking.result()
        except AlliError:
            self._checking = None
            raise

    async def end(self) -> None:
        """End the tasks that this run has begun besides its shards."""
        await cancel_all(*(task for task in (self._checking, self._adding) if task is not None))

    def status(self) -> WorkerStatus:
        """What this worker has done so far."""
        return WorkerStatus(progress=self._exporter.progress(), splits=self.splits, at_once=self._slots.at_once)

    async def _check(self) -> None:
        session = self._context.session.counting(self._exporter.ended)
        await check_knows(session, self._known_ids, self._store)

    async def write(self, shard: Shard) -> list[str]:
        """Write a shard, or what is left of it after it was split, unless that was done before.

        Returns:
            The names of the shards with a record in the journal now, in their order.
        """
        self._adding = self._adding or asyncio.create_task(self._slots.keep_adding())
        recorded: list[str] = []
        while True:
            record = await in_thread(self._log.read_record, shard.name)
            if record is None:
                with contextlib.suppress(TakenError):  # another worker has written it: its record says so
                    async with self._slots:
                        await self._exporter.export(shard)
                continue
            recorded.append(shard.name)
            if not record.split:
                return recorded
            shard = record.split[0]

    async def _record(self, record: ShardRecord) -> None:
        """Record what became of a shard. The export's process reads it, and assigns what was split off."""
        await in_thread(self._write_record, record)
        if record.split:
            self.splits.append(record.shard)

    def _write_record(self, record: ShardRecord) -> None:
        store = self._store
        try:
            if not is_current(store, self._export):
                raise _SupersededError(f"{store}: this export has ended, or another goes on with it")
            self._log.write(record)
        except (TakenError, _SupersededError):
            for part in record.commit.parts if record.commit else []:
                store.remove(part.name)
            raise
