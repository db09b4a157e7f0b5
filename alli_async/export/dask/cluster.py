"""Run an export on a Dask cluster: its shards are assigned to workers, one task each.

A worker must see the destination and have a key before it is assigned anything, also a worker that joins later.
What became of a shard stands in the journal alone, and the scheduler is asked only which workers there are: the
shard of a lost worker is assigned to another.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import chain, repeat
from typing import Any, NamedTuple

from ..._aio.tasks import cancel_all, run_to_completion
from ..._aio.threads import in_thread
from ..._client_session import options_of, session_of
from ...client import AlliClient
from ...errors import ConfigurationError, ExportError
from ..commit_log import RunLog
from ..progress import ExportProgress, add_progress
from ..records import Shard, ShardRecord
from ..run_context import RunContext
from ..shard_export import OnChange
from ..storage.store import Store
from ..tuning import Tuning
from .coordinator import Coordinator
from .messages import Assignment, TaskResult
from .scheduler import Cluster, Scheduler, connected


class Workers(NamedTuple):
    """The workers of a cluster, before they know a destination.

    Attributes:
        scheduler: Their scheduler.
        options: Keyword arguments of a worker's client, without its key.
        max_concurrency: Requests in flight, of all workers together.
        rate_limit: Requests per second, of all workers together; None for no limit.
    """

    scheduler: Scheduler
    options: dict[str, Any]
    max_concurrency: int
    rate_limit: float | None


@asynccontextmanager
async def reached(cluster: Cluster, client: AlliClient, tuning: Tuning) -> AsyncIterator[Workers]:
    """The workers of a cluster that can be reached. Nothing is written.

    Raises:
        ConfigurationError: The cluster cannot be reached, or the client cannot be made again on a worker.
    """
    options = _options(client)
    async with connected(cluster, timeout=tuning.connect_seconds) as scheduler:
        config = session_of(client).config
        yield Workers(scheduler, options, config.max_concurrency, config.rate_limit)


@asynccontextmanager
async def coordinated(workers: Workers, store: Store, tuning: Tuning) -> AsyncIterator[Coordinator]:
    """The coordinator of the workers, for as long as an export takes."""
    coordinator = Coordinator(
        workers.scheduler, store, workers.options, workers.max_concurrency, workers.rate_limit, tuning
    )
    try:
        yield coordinator
    finally:
        await run_to_completion(coordinator.close())


def _options(client: AlliClient) -> dict[str, Any]:
    """The keyword arguments of a worker's client, without the key: a scheduler keeps, logs and shows them."""
    options, connection = dict(options_of(client)), session_of(client).lifetime.connection
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


class ClusterExecutor:
    """Writes shards on the workers of a cluster.

    Args:
        coordinator: The workers.
        context: What all shards of the run share.
        run: Where the workers record the shards.
        known_ids: Ids of which the server knows at least one, by which the key of each worker is checked.
    """

    def __init__(
        self, coordinator: Coordinator, context: RunContext, run: RunLog, known_ids: Sequence[str] = ()
    ) -> None:
        self._coordinator = coordinator
        self._context = context
        self._run = run
        self._known_ids = known_ids
        self._waiting: deque[Shard] = deque()
        self._losses: Counter[str] = Counter()

    async def write_all(self, shards: Sequence[Shard], on_change: OnChange) -> None:
        """Write shards, and the shards that they are split into."""
        if not shards:
            return
        context = self._context
        assignment = Assignment(
            plan=context.plan, filters=context.filters, on_error=context.on_error, known_ids=self._known_ids
        )
        await self._coordinator.begin(assignment)
        try:
            await self._assign_all(shards, on_change)
        finally:
            await run_to_completion(self._coordinator.dismiss())

    def progress(self) -> ExportProgress:
        """The progress of all workers."""
        total = ExportProgress()
        for each in self._coordinator.progress():
            add_progress(total, each)
        return total

    async def _assign_all(self, shards: Sequence[Shard], on_change: OnChange) -> None:
        self._waiting.extend(shards)
        assigned: dict[asyncio.Task[TaskResult | None], Shard] = {}
        polling = asyncio.create_task(self._keep_polling())
        try:
            while self._waiting or assigned:
                while self._waiting and (worker := self._coordinator.least_busy()):
                    shard = self._waiting.popleft()
                    assigned[self._coordinator.assign(worker, shard)] = shard
                done, _ = await asyncio.wait(
                    {polling, *assigned},
                    timeout=self._context.tuning.progress_seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if polling in done:
                    polling.result()
                for task in done & assigned.keys():
                    await self._handle(assigned.pop(task), task.result())
                on_change()
        finally:
            await cancel_all(polling, *assigned)

    async def _keep_polling(self) -> None:
        """Poll the workers, and queue the shards that they have cut off."""
        tuning = self._context.tuning
        for pause in chain([tuning.first_poll], repeat(tuning.poll)):
            await asyncio.sleep(pause)
            for name in await self._coordinator.poll(everyone=bool(self._waiting)):
                await self._apply_record(name)

    async def _handle(self, shard: Shard, result: TaskResult | None) -> None:
        """Handle the end of a task; a shard that is not written is assigned again, first of all."""
        if result is None or not result.has_session:
            self._losses[shard.name] += result is None
            lost = self._losses[shard.name]
            if lost > self._context.tuning.most_losses:
                raise ExportError(f"shard {shard.name}: {lost} workers were lost while they wrote it")
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
        tuning = self._context.tuning
        for _ in range(tuning.polls_for_record):
            record = await in_thread(self._run.read_record, name)
            if record is not None:
                return record
            await asyncio.sleep(tuning.poll)
        raise ExportError(
            f"shard {name}: a worker has written its record, but the record cannot be seen here; "
            "look whether all machines mount the same storage"
        )
