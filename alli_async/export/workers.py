"""A worker's side of an export on a cluster: a place in it, and one shard after another.

These functions run on the worker's event loop. The key is the worker's own: it is read from its environment and
goes nowhere. What a shard became is told by the journal alone, so a shard can be given to any worker, and again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from importlib import import_module
from typing import Any

from .._aio.threads import in_thread
from .._version import __version__
from ..client import AlliClient
from ..errors import AlliError, ConfigurationError, ExportError
from .formats.writers import check_installed, writer_of
from .journal import Run
from .ledger import Ledger
from .messages import Hello, Receipt, Told, Work
from .planning import check_project
from .records import Fate, Shard
from .running import AT_FIRST, ExportProgress, Runner
from .sharing import Share, open_shared, prove, serves
from .storage.directory import DirectoryStore
from .storage.store import Store, TakenError

# A worker that nobody has asked for so long is no more at work: the export's process is gone.
_FORGOTTEN = 60.0
_WATCH = 0.5


class _SupersededError(ExportError):
    """The export that this worker had a place in is no more."""


class ShardRunner(Runner):
    """Does single shards, which others were chosen for by whoever holds the ledger."""

    def __init__(self, seat: Seat, work: Work) -> None:
        self._seat = seat
        hello, store, number = seat.hello, seat.store, work.plan.run
        # In an object store they are in any case.
        unique = isinstance(store, DirectoryStore)
        super().__init__(
            seat.session,
            work.filters,
            Run(store, Ledger(work.plan)),
            lambda shard: writer_of(hello.binding, store, number, shard, unique=unique),
            on_error=work.on_error,
            on_progress=None,
        )
        self.splits: list[str] = []
        self.widening: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """See that the server knows the project, by this worker's key."""
        plan = self._run.plan
        await check_project(self._session.counting(self._ended), plan.ids, self._seat.store)

    async def write(self, shard: Shard) -> list[str]:
        """Write a shard, or what is left of it once it was split, unless that was done.

        Gives the names of the shards whose fates are in the journal now, in their order.
        """
        self.widening = self.widening or asyncio.create_task(self._widen())
        told: list[str] = []
        while True:
            fate = await in_thread(self._run.fate_of, shard.name)
            if fate is None:
                with contextlib.suppress(TakenError):  # the journal tells by whom
                    await self._do(shard)
                continue
            told.append(shard.name)
            if not fate.split:
                return told
            shard = fate.split[0]

    async def _note(self, fate: Fate) -> None:
        await in_thread(self._write, fate)
        if fate.split:
            self.splits.append(fate.shard)

    def _write(self, fate: Fate) -> None:
        store = self._seat.store
        try:
            if not serves(store, self._seat.hello.session):
                raise _SupersededError(f"{store}: this export has ended, or another goes on with it")
            self._run.write(fate)
        except (TakenError, _SupersededError):
            for part in fate.commit.parts if fate.commit else []:
                store.remove(part.name)
            raise

    def _spawn(self, shard: Shard) -> None:
        """Whoever holds the ledger gives it to somebody."""


class Seat:
    """A worker's place in an export."""

    def __init__(self, hello: Hello, store: Store, client: AlliClient, worker: Any) -> None:
        self.hello = hello
        self.store = store
        self._client = client
        self._worker = worker
        self.share = Share(client._tenant.limiter)
        self.session = replace(client.conversations._session, limiter=self.share)
        self.runner: ShardRunner | None = None
        self.seen = time.monotonic()
        self.loop = asyncio.get_running_loop()
        self._left = False
        self._tasks: set[asyncio.Task[list[str]]] = set()
        self._watching = asyncio.create_task(self._watch())

    async def write(self, shard: Shard) -> Receipt:
        """Do a shard."""
        if self.runner is None or self._left:
            return Receipt(seated=False)
        task = asyncio.create_task(self.runner.write(shard))
        self._tasks.add(task)
        try:
            await asyncio.wait({task})
            return Receipt(seated=False) if task.cancelled() else Receipt(told=task.result())
        except AlliError as error:
            return Receipt(error=error)
        finally:
            task.cancel()
            self._tasks.discard(task)

    async def leave(self) -> None:
        """End all work, and close the client."""
        _SEATS.pop((self.hello.session, self._worker.address), None)
        self._left = True
        if asyncio.current_task() is not self._watching:
            self._watching.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.runner is not None and self.runner.widening is not None:
            self.runner.widening.cancel()
        await self._client.aclose()

    def told(self) -> Told:
        """What was done here so far."""
        if self.runner is None:
            return Told(progress=ExportProgress(), splits=[], at_once=AT_FIRST)
        return Told(progress=self.runner.progress(), splits=self.runner.splits, at_once=self.runner.at_once)

    async def _watch(self) -> None:
        while self._is_wanted():  # noqa: ASYNC110 - neither tells that it goes
            await asyncio.sleep(_WATCH)
        await self.leave()

    def _is_wanted(self) -> bool:
        alive = self._worker.status.name in ("running", "paused")
        return alive and time.monotonic() - self.seen < _FORGOTTEN


# By session and worker: in one process there can be several of both.
_SEATS: dict[tuple[str, str], Seat] = {}


async def join(hello: Hello, dask_worker: Any) -> str | None:
    """Take a place in an export; gives what is in the way, where something is. Nothing is sent."""
    try:
        if hello.sdk_version != __version__:
            raise ConfigurationError(f"it has alli_async {__version__}, not {hello.sdk_version}; install the same")
        check_installed(hello.binding.format, hello.binding.compression)
        client = _client(hello)
        store = await in_thread(_open, hello)
    except AlliError as error:
        return error.message
    if (before := _SEATS.get((hello.session, dask_worker.address))) is not None:
        await before.leave()  # it was given in an answer that came too late
    _SEATS[hello.session, dask_worker.address] = Seat(hello, store, client, dask_worker)
    return None


def _open(hello: Hello) -> Store:
    prove(open_shared(hello.place, patient=False), hello.session)
    return open_shared(hello.place)


def _client(hello: Hello) -> AlliClient:
    try:
        return AlliClient(**hello.options)
    except ConfigurationError as error:
        if error.message.startswith("no key"):
            raise ConfigurationError("no key: set ALLI_API_KEY (or ALLI_TOKEN) in its environment") from None
        raise


async def begin(session: str, work: Work, dask_worker: Any) -> str | None:
    """Hear what is to be done, and ask the server for a conversation or two of the project.

    Gives what is in the way, where something is.
    """
    if (seat := _SEATS.get((session, dask_worker.address))) is None:
        return "it has no place in the export any more"
    seat.runner = seat.runner or ShardRunner(seat, work)
    try:
        await seat.runner.check()
    except AlliError as error:
        return str(error)
    return None


async def change(session: str, parts: dict[str, tuple[int, float | None]], dask_worker: Any) -> None:
    """Take the share of the budget that is this worker's: requests in flight, and requests per second."""
    if (seat := _SEATS.get((session, dask_worker.address))) is not None:
        await seat.share.change(*parts[dask_worker.address])


async def poll(session: str, dask_worker: Any) -> Told | None:
    """What this worker has done so far; None when it has no place in the export."""
    seat = _SEATS.get((session, dask_worker.address))
    if seat is None:
        return None
    seat.seen = time.monotonic()
    return seat.told()


async def leave(session: str, dask_worker: Any) -> Told | None:
    """End all work in an export; gives what was done."""
    seat = _SEATS.get((session, dask_worker.address))
    if seat is None:
        return None
    await seat.leave()
    return seat.told()


def write_shard(session: str, address: str, shard: Shard) -> Receipt:
    """The task: one shard, on the worker that it was given to.

    The work is done on the worker's event loop. The thread only waits for it, and gives up its place among the
    worker's threads: so as many shards are walked at a time as the requests in flight allow.
    """
    seat = _SEATS.get((session, address))
    if seat is None:
        return Receipt(seated=False)
    import_module("distributed").secede()
    return asyncio.run_coroutine_threadsafe(seat.write(shard), seat.loop).result()
