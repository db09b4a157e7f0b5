"""A worker's side of an export on a cluster: a place in it, and one shard after another.

These functions run on the worker's event loop. The key is the worker's own: it is read from its environment and
goes nowhere. What a shard became is status by the journal alone, so a shard can be given to any worker, and again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from importlib import import_module
from typing import Any

from ..._aio.tasks import cancel_all, wait_done
from ..._aio.threads import in_thread
from ..._malloc import tune_malloc
from ..._transport.retry import is_transient
from ..._version import __version__
from ...client import AlliClient
from ...errors import AlliError, ConfigurationError, ExportError
from ..commit_log import RunLog, ShardState
from ..formats.projection import Projection
from ..formats.writers import check_installed, writer_of
from ..project import check_project
from ..records import Shard, ShardRecord
from ..running import AT_FIRST, ExportProgress, Runner
from ..storage.directory import DirectoryStore
from ..storage.store import Store, TakenError
from .messages import Assignment, JoinRequest, TaskResult, WorkerStatus
from .sharing import LimiterShare, check_same_place, is_current, open_shared

# Seconds without a poll, after which the export's process counts as gone and the worker leaves. It is longer than
# two questions to another worker that does not answer, for which the export's process waits a minute each.
_FORGOTTEN = 150.0
# Seconds between two looks whether that is so.
_WATCH = 0.5


class _SupersededError(ExportError):
    """The export that this worker joined has ended, or another has taken the destination over."""


class ShardRunner(Runner):
    """Write single shards, as the export's process assigns them.

    Args:
        session: The worker's part in the export.
        assignment: The run, and how it is read.
    """

    def __init__(self, session: WorkerSession, assignment: Assignment) -> None:
        self._worker = session
        spec, store, number = session.request.spec, session.store, assignment.plan.run
        # In an object store the names of parts are unique in any case.
        unique, projection = isinstance(store, DirectoryStore), Projection(spec.fields)
        super().__init__(
            session.session,
            assignment.filters,
            RunLog(store, ShardState(assignment.plan)),
            lambda shard: writer_of(spec, store, number, shard, unique=unique, projection=projection),
            on_error=assignment.on_error,
            on_progress=None,
        )
        self._checking: asyncio.Task[None] | None = None
        self.splits: list[str] = []
        self.widening: asyncio.Task[None] | None = None

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
        """End what this runner has begun besides its shards."""
        await cancel_all(*(task for task in (self._checking, self.widening) if task is not None))

    async def _check(self) -> None:
        plan = self._run.plan
        await check_project(self._session.counting(self._ended), plan.ids, self._worker.store)

    async def write(self, shard: Shard) -> list[str]:
        """Write a shard, or what is left of it after it was split, unless that was done before.

        Returns:
            The names of the shards with a record in the journal now, in their order.
        """
        self.widening = self.widening or asyncio.create_task(self._widen())
        recorded: list[str] = []
        while True:
            record = await in_thread(self._run.read_record, shard.name)
            if record is None:
                with contextlib.suppress(TakenError):  # another worker has written it: its record says so
                    await self._do(shard)
                continue
            recorded.append(shard.name)
            if not record.split:
                return recorded
            shard = record.split[0]

    async def _note(self, record: ShardRecord) -> None:
        await in_thread(self._write, record)
        if record.split:
            self.splits.append(record.shard)

    def _write(self, record: ShardRecord) -> None:
        store = self._worker.store
        try:
            if not is_current(store, self._worker.request.session):
                raise _SupersededError(f"{store}: this export has ended, or another goes on with it")
            self._run.write(record)
        except (TakenError, _SupersededError):
            for part in record.commit.parts if record.commit else []:
                store.remove(part.name)
            raise

    def _spawn(self, shard: Shard) -> None:
        """Leave the new shard to the export's process, which reads of it in the journal."""


class WorkerSession:
    """A worker's part in one export.

    Args:
        request: The request to join, as received.
        store: The destination.
        client: The worker's own client.
        worker: The Dask worker.

    Attributes:
        limiter: The worker's share of the export's budget.
        session: The session that sends the requests, through that limiter.
        runner: Writes the shards; None until the assignment is known.
        polled: When the export's process polled last, on the monotonic clock.
        loop: The worker's event loop.
    """

    def __init__(self, request: JoinRequest, store: Store, client: AlliClient, worker: Any) -> None:
        self.request = request
        self.store = store
        self._client = client
        self._worker = worker
        self.limiter = LimiterShare(client._tenant.limiter)
        self.session = replace(client.conversations._session, limiter=self.limiter)
        self.runner: ShardRunner | None = None
        self.polled = time.monotonic()
        self.loop = asyncio.get_running_loop()
        self._has_left = False
        self._tasks: set[asyncio.Task[list[str]]] = set()
        self._watching = asyncio.create_task(self._watch())

    async def write(self, shard: Shard) -> TaskResult:
        """Write a shard."""
        if self.runner is None or self._has_left:
            return TaskResult(has_session=False)
        task = asyncio.create_task(self.runner.write(shard))
        self._tasks.add(task)
        try:
            await asyncio.wait({task})
            return TaskResult(has_session=False) if task.cancelled() else TaskResult(recorded=task.result())
        except AlliError as error:
            return TaskResult(error=error)
        finally:
            task.cancel()
            self._tasks.discard(task)

    async def leave(self) -> None:
        """End all work, and close the client."""
        _SESSIONS.pop((self.request.session, self._worker.address), None)
        self._has_left = True
        if asyncio.current_task() is not self._watching:
            self._watching.cancel()
        await cancel_all(*self._tasks)
        if self.runner is not None:
            await self.runner.end()
        await self._client.aclose()

    def status(self) -> WorkerStatus:
        """What this worker has done so far."""
        if self.runner is None:
            return WorkerStatus(progress=ExportProgress(), splits=[], at_once=AT_FIRST)
        return WorkerStatus(
            progress=self.runner.progress(), splits=self.runner.splits, at_once=self.runner.at_once
        )

    async def _watch(self) -> None:
        while self._is_needed():  # noqa: ASYNC110 - neither the worker nor the export tells when it ends
            await asyncio.sleep(_WATCH)
        await self.leave()

    def _is_needed(self) -> bool:
        is_alive = self._worker.status.name in ("running", "paused")
        return is_alive and time.monotonic() - self.polled < _FORGOTTEN


# By export and worker: one process can hold several workers, and one worker several exports.
_SESSIONS: dict[tuple[str, str], WorkerSession] = {}


async def join(request: JoinRequest, dask_worker: Any) -> str | None:
    """Join an export. Nothing is sent to the API's server.

    Returns:
        Why the worker cannot join; None when it has joined.
    """
    try:
        if request.sdk_version != __version__:
            raise ConfigurationError(
                f"it has alli_async {__version__}, not {request.sdk_version}; install the same"
            )
        check_installed(request.spec.format, request.spec.compression)
        if request.tunes_malloc:
            tune_malloc()
        client = _client(request)
        store = await in_thread(_open, request)
    except AlliError as error:
        return error.message
    if (before := _SESSIONS.get((request.session, dask_worker.address))) is not None:
        await before.leave()  # its confirmation came too late, so the export asked again
    _SESSIONS[request.session, dask_worker.address] = WorkerSession(request, store, client, dask_worker)
    return None


def _open(request: JoinRequest) -> Store:
    check_same_place(open_shared(request.place, patient=False), request.session)
    return open_shared(request.place)


def _client(request: JoinRequest) -> AlliClient:
    try:
        return AlliClient(**request.options)
    except ConfigurationError as error:
        if error.message.startswith("no key"):
            raise ConfigurationError("no key: set ALLI_API_KEY (or ALLI_TOKEN) in its environment") from None
        raise


async def begin(session: str, assignment: Assignment, dask_worker: Any) -> str | None:
    """Take the assignment, and ask the server for a conversation or two of the project.

    Returns:
        Why the worker cannot begin; None when it can.

    Raises:
        ConnectionError: The server did not answer for as long as a bulk read is patient; to be asked again.
    """
    if (worker := _SESSIONS.get((session, dask_worker.address))) is None:
        return "it takes no part in the export any more"
    worker.runner = worker.runner or ShardRunner(worker, assignment)
    try:
        await worker.runner.check()
    except AlliError as error:
        if is_transient(error) or error.is_outage:
            raise ConnectionError(str(error)) from None
        return str(error)
    return None


async def set_share(session: str, shares: dict[str, tuple[int, float | None]], dask_worker: Any) -> None:
    """Set this worker's share of the budget: requests in flight, and requests per second."""
    if (worker := _SESSIONS.get((session, dask_worker.address))) is not None:
        await worker.limiter.change(*shares[dask_worker.address])


async def report_status(session: str, dask_worker: Any) -> WorkerStatus | None:
    """Report what this worker has done so far; None when it takes no part in the export."""
    worker = _SESSIONS.get((session, dask_worker.address))
    if worker is None:
        return None
    worker.polled = time.monotonic()
    return worker.status()


async def leave(session: str, dask_worker: Any) -> WorkerStatus | None:
    """End all work in an export, and report what was done."""
    worker = _SESSIONS.get((session, dask_worker.address))
    if worker is None:
        return None
    await worker.leave()
    return worker.status()


def write_shard(session: str, address: str, shard: Shard) -> TaskResult:
    """Write one shard: the Dask task, on the worker that the shard is assigned to.

    The work is done on the worker's event loop. The task's thread only waits for it and gives up its place among
    the worker's threads, so the requests in flight bound how many shards are read at a time.
    """
    worker = _SESSIONS.get((session, address))
    if worker is None:
        return TaskResult(has_session=False)
    import_module("distributed").secede()
    return asyncio.run_coroutine_threadsafe(worker.write(shard), worker.loop).result()
