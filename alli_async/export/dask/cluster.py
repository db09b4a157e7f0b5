"""Run an export on a Dask cluster: its shards are assigned to workers, one task each.

A worker must see the destination and have a key before it is assigned anything, also a worker that joins later.
What became of a shard stands in the journal alone, and the scheduler is asked only which workers there are: the
shard of a lost worker is assigned to another.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import chain, repeat
from typing import Any

from ..._aio.tasks import cancel_all, run_to_completion
from ..._aio.threads import in_thread
from ..._listing.filters import Filters
from ..._transport.session import Session
from ...client import AlliClient
from ...errors import ConfigurationError, ExportError
from ..commit_log import RunLog
from ..formats.shard_writer import ShardWriter
from ..records import Shard, ShardRecord
from ..running import PROGRESS_SECONDS, ExportProgress, Runner, add_traffic
from ..storage.store import Store
from .coordinator import Coordinator
from .messages import Assignment, TaskResult
from .scheduler import Cluster, connected

# Seconds between two polls of the workers. The first poll comes when they know how many shards fit at a time.
_FIRST_POLL, _POLL = 0.2, 0.5
# Workers that may be lost while they write a shard. One more, and the shard counts as the cause.
_MAX_LOSSES = 3
# A record that a worker has written may be visible here later, by the delay of a shared file system: ten seconds.
_POLLS_FOR_RECORD = 20


@asynccontextmanager
async def coordinated(cluster: Cluster, client: AlliClient, store: Store) -> AsyncIterator[Coordinator]:
    """The coordinator of a cluster's workers, for as long as an export takes.

    Raises:
        ConfigurationError: The cluster cannot be reached, or the client cannot be made again on a worker.
    """
    options = _options(client)
    async with connected(cluster) as scheduler:
        coordinator = Coordinator(
            scheduler, store, options, client._config.max_concurrency, client._config.rate_limit
        )
        try:
            yield coordinator
        finally:
            await run_to_completion(coordinator.close())


def _options(client: AlliClient) -> dict[str, Any]:
    """The keyword arguments of a worker's client, without the key: a scheduler keeps, logs and shows them."""
    options, connection = dict(client._options), client._connection
    route = connection.route
    functions = options.pop("middlewares") + options.pop("call_middlewares")
    if functions or connection.is_given:
        raise ConfigurationError(
            "cluster: a client with middlewares or an aiohttp session of its own is in this process only; "
            "make one without"
        )
    if route.ssl is not None:
        raise ConfigurationError(
            "cluster: certificates of the client's own (ssl, --ca-file) are in this process only; set "
            "SSL_CERT_FILE on each worker instead"
        )
    # A proxy with a password is left to the environment of each worker, like the key.
    is_secret = route.proxy is not None and route.proxy.credentials is not None
    options["proxy"] = str(route.proxy.url) if route.proxy is not None and not is_secret else None
    options["trust_env"] = route.trust_env or is_secret
    # This process has asked the server before: its address is right, and a worker can wait for it from the start.
    options["retry"] = replace(options["retry"], patience_from_start=True)
    for name in ("api_key", "token", "region", "rate_limit"):
        del options[name]
    return options


class ClusterRunner(Runner):
    """A run whose shards are written by workers, all but the last one.

    Args:
        coordinator: The workers.
        session: The session, like all further arguments as for `Runner`.
    """

    def __init__(
        self,
        session: Session,
        filters: Filters,
        run: RunLog,
        open_writer: Callable[[str], ShardWriter],
        *,
        coordinator: Coordinator,
        **how: Any,
    ) -> None:
        super().__init__(session, filters, run, open_writer, **how)
        self._coordinator = coordinator
        self._waiting: deque[Shard] = deque()
        self._losses: Counter[str] = Counter()

    async def run(self) -> ExportProgress:
        """Write all pending shards: the workers all but the last, then this process the last.

        Raises:
            AlliError: The first error. What was committed stays.
        """
        # The last shard takes what moved while the others were read, so it needs their commits.
        for_workers = [shard for shard in self._run.state.pending if shard.end is not None]
        if for_workers:
            assignment = Assignment(plan=self._run.plan, filters=self._filters, on_error=self._on_error)
            await self._coordinator.begin(assignment)
            try:
                await self._assign_all(for_workers)
            finally:
                await run_to_completion(self._coordinator.dismiss())
        return await super().run()

    def progress(self) -> ExportProgress:
        """The progress so far, of this process and all workers."""
        total = super().progress()
        for each in self._coordinator.progress():
            total.conversations += each.conversations
            total.chats += each.chats
            add_traffic(total, each)
        return total

    async def _assign_all(self, shards: Iterable[Shard]) -> None:
        self._waiting.extend(shards)
        assigned: dict[asyncio.Task[TaskResult | None], Shard] = {}
        polling = asyncio.create_task(self._keep_polling())
        try:
            while self._waiting or assigned:
                while self._waiting and (worker := self._coordinator.least_busy()):
                    shard = self._waiting.popleft()
                    assigned[self._coordinator.assign(worker, shard)] = shard
                done, _ = await asyncio.wait(
                    {polling, *assigned}, timeout=PROGRESS_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if polling in done:
                    polling.result()
                for task in done & assigned.keys():
                    await self._handle(assigned.pop(task), task.result())
                self._tell()
        finally:
            await cancel_all(polling, *assigned)

    async def _keep_polling(self) -> None:
        """Poll the workers, and queue the shards that they have cut off."""
        for pause in chain([_FIRST_POLL], repeat(_POLL)):
            await asyncio.sleep(pause)
            for name in await self._coordinator.poll(everyone=bool(self._waiting)):
                await self._apply_record(name)

    async def _handle(self, shard: Shard, result: TaskResult | None) -> None:
        """Handle the end of a task; a shard that is not written is assigned again, first of all."""
        if result is None or not result.has_session:
            self._losses[shard.name] += result is None
            if self._losses[shard.name] > _MAX_LOSSES:
                raise ExportError(f"shard {shard.name}: {_MAX_LOSSES + 1} workers were lost while they wrote it")
            self._waiting.appendleft(shard)
            return
        if result.error is not None:
            raise result.error
        for name in result.recorded:
            await self._apply_record(name)

    async def _apply_record(self, name: str) -> None:
        """Read a shard's record from the journal and apply it to the state, once."""
        state = self._run.state
        if not state.has_record(name):
            record = await self._read_record(name)
            if not state.has_record(name):
                state.apply(record)
                self._waiting.extend((record.split or [])[1:])

    async def _read_record(self, name: str) -> ShardRecord:
        for _ in range(_POLLS_FOR_RECORD):
            record = await in_thread(self._run.read_record, name)
            if record is not None:
                return record
            await asyncio.sleep(_POLL)
        raise ExportError(
            f"shard {name}: a worker has written its record, but the record cannot be seen here; "
            "look whether all machines mount the same storage"
        )
