"""A worker's side of an export on a cluster: a place in it, and one shard after another.

These functions run on the worker's event loop. The key is the worker's own: it is read from its environment and
goes nowhere. What became of a shard is recorded only in the commit log: any worker may write it, and again.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from importlib import import_module
from typing import Any

from ..._aio.tasks import cancel_all
from ..._aio.threads import in_thread
from ..._client_session import session_of
from ..._malloc import tune_malloc
from ..._transport.retry import is_transient
from ..._version import __version__
from ...client import AlliClient
from ...errors import AlliError, ConfigurationError
from ..formats.projection import Projection
from ..formats.writers import check_installed
from ..progress import ExportProgress
from ..records import Shard
from ..storage.store import Store
from .hash_key import read_hash_key
from .messages import Assignment, JoinRequest, TaskResult, WorkerStatus
from .sharing import LimiterShare, check_same_place, open_shared
from .worker_run import WorkerRun


class WorkerSession:
    """A worker's part in one export.

    Args:
        request: The request to join, as received.
        store: The destination.
        client: The worker's own client.
        worker: The Dask worker.
        hash_key: The key of the hashed fields; None where no field is hashed.

    Attributes:
        limiter: The worker's share of the export's budget.
        session: The session that sends the requests, through that limiter.
        run: What the worker does of the run; None until the assignment is known.
        polled: When the export's process polled last, on the monotonic clock.
        loop: The worker's event loop.
    """

    def __init__(
        self, request: JoinRequest, store: Store, client: AlliClient, worker: Any, hash_key: bytes | None = None
    ) -> None:
        self.request = request
        self.store = store
        self._projection = Projection(request.spec.fields, hash_key)
        self._client = client
        self._worker = worker
        session = session_of(client)
        self.limiter = LimiterShare(session.tenant.limiter)
        self.session = replace(session, limiter=self.limiter)
        self.run: WorkerRun | None = None
        self.polled = time.monotonic()
        self.loop = asyncio.get_running_loop()
        self._has_left = False
        self._tasks: set[asyncio.Task[list[str]]] = set()
        self._watching = asyncio.create_task(self._watch())

    @property
    def shards(self) -> int:
        """Number of shards that are being written."""
        return len(self._tasks)

    def begin(self, assignment: Assignment) -> WorkerRun:
        """Take the assignment, once."""
        self.run = self.run or WorkerRun(self.request, assignment, self.session, self.store, self._projection)
        return self.run

    async def write(self, shard: Shard) -> TaskResult:
        """Write a shard."""
        if self.run is None or self._has_left:
            return TaskResult(has_session=False)
        task = asyncio.create_task(self.run.write(shard))
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
        SESSIONS.pop((self.request.session, self._worker.address), None)
        self._has_left = True
        if asyncio.current_task() is not self._watching:
            self._watching.cancel()
        await cancel_all(*self._tasks)
        if self.run is not None:
            await self.run.end()
        await self._client.aclose()

    def status(self) -> WorkerStatus:
        """What this worker has done so far."""
        if self.run is None:
            at_once = self.request.tuning.shards_at_first
            return WorkerStatus(progress=ExportProgress(), splits=[], at_once=at_once)
        return self.run.status()

    async def _watch(self) -> None:
        while self._is_needed():  # noqa: ASYNC110 - neither the worker nor the export tells when it ends
            await asyncio.sleep(self.request.tuning.watch)
        await self.leave()

    def _is_needed(self) -> bool:
        is_alive = self._worker.status.name in ("running", "paused")
        return is_alive and time.monotonic() - self.polled < self.request.tuning.forgotten


# By export and worker: one process can hold several workers, and one worker several exports.
SESSIONS: dict[tuple[str, str], WorkerSession] = {}


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
        hash_key = await in_thread(read_hash_key, request.spec.fields)
        client = _client(request)
        store = await in_thread(_open, request)
    except AlliError as error:
        return error.message
    if (before := SESSIONS.get((request.session, dask_worker.address))) is not None:
        await before.leave()  # its confirmation came too late, so the export asked again
    SESSIONS[request.session, dask_worker.address] = WorkerSession(request, store, client, dask_worker, hash_key)
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
    if (worker := SESSIONS.get((session, dask_worker.address))) is None:
        return "it takes no part in the export any more"
    run = worker.begin(assignment)
    try:
        await run.check()
    except AlliError as error:
        if is_transient(error) or error.is_outage:
            raise ConnectionError(str(error)) from None
        return str(error)
    return None


async def set_share(session: str, shares: dict[str, tuple[int, float | None]], dask_worker: Any) -> None:
    """Set this worker's share of the budget: requests in flight, and requests per second."""
    if (worker := SESSIONS.get((session, dask_worker.address))) is not None:
        await worker.limiter.change(*shares[dask_worker.address])


async def report_status(session: str, dask_worker: Any) -> WorkerStatus | None:
    """Report what this worker has done so far; None when it takes no part in the export."""
    worker = SESSIONS.get((session, dask_worker.address))
    if worker is None:
        return None
    worker.polled = time.monotonic()
    return worker.status()


async def leave(session: str, dask_worker: Any) -> WorkerStatus | None:
    """End all work in an export, and report what was done."""
    worker = SESSIONS.get((session, dask_worker.address))
    if worker is None:
        return None
    await worker.leave()
    return worker.status()


def write_shard(session: str, address: str, shard: Shard) -> TaskResult:
    """Write one shard: the Dask task, on the worker that the shard is assigned to.

    The work is done on the worker's event loop. The task's thread only waits for it and gives up its place among
    the worker's threads, so the requests in flight bound how many shards are read at a time.
    """
    worker = SESSIONS.get((session, address))
    if worker is None:
        return TaskResult(has_session=False)
    import_module("distributed").secede()
    return asyncio.run_coroutine_threadsafe(worker.write(shard), worker.loop).result()
