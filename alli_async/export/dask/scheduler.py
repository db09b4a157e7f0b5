"""What an export needs of a Dask scheduler: the list of workers, calls to workers, a task on one worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from ..._aio.tasks import cancel_all, run_to_completion
from ...errors import ConfigurationError, ExportError

# A `distributed.Client`, of whichever kind, or the address of a scheduler.
Cluster = Any

# Seconds that an answer of a worker is waited for. The list of workers shows whether it is lost.
ANSWER, PATIENT_ANSWER = 5.0, 60.0
# Seconds between two looks at something that has no event.
GLANCE = 0.25


@asynccontextmanager
async def connected(cluster: Cluster, *, timeout: float) -> AsyncIterator[Scheduler]:
    """A connection of our own to a scheduler, so the caller's client can be of any kind, on any event loop.

    Args:
        cluster: The scheduler's address, or a client of it.
        timeout: Seconds that the scheduler may take to accept the connection.

    Raises:
        ConfigurationError: `distributed` is not installed, or nothing answers at the address.
    """
    try:
        distributed: Any = import_module("distributed")
    except ImportError:
        raise ConfigurationError("cluster: needs distributed: pip install 'alli-async[dask]'") from None
    address = cluster
    if not isinstance(cluster, str):
        address = getattr(getattr(cluster, "scheduler", None), "address", None)
    if not address:
        raise ConfigurationError(f"cluster: expected a distributed.Client or an address, got {cluster!r}")
    client = distributed.Client(
        address,
        asynchronous=True,
        security=getattr(cluster, "security", None),
        set_as_default=False,
        timeout=timeout,
        name="alli-async-export",
    )
    scheduler: Scheduler | None = None
    try:
        try:
            await client
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"cluster: no scheduler at {address}: {_first_line(error)}") from None
        yield (scheduler := Scheduler(client))
    finally:
        # Also where the caller is cancelled while the client connects.
        await _close(client)
        if scheduler is not None:
            await scheduler.forget()


async def _close(client: Any) -> None:
    """Close a client. One that has never connected may fail to close, which does no harm."""
    try:
        # A client swallows the cancellation of its own end.
        await run_to_completion(client.close())
    except Exception:
        if client.status == "running":
            raise


class Scheduler:
    """A scheduler, connected.

    Args:
        client: An asynchronous `distributed.Client`.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._address = str(client.scheduler.address)
        self._awaited: set[asyncio.Task[Any]] = set()

    async def forget(self) -> None:
        """Stop waiting for the results of tasks."""
        await cancel_all(*self._awaited)

    def __str__(self) -> str:
        return self._address

    async def present(self) -> set[str]:
        """The addresses of the workers.

        Raises:
            ExportError: The scheduler is gone.
        """
        identity = await self._answer(lambda: self._client.scheduler.identity(), PATIENT_ANSWER)
        if identity is None:
            raise ExportError(
                f"the scheduler at {self} is gone; what was committed stays, and the same call goes on"
            )
        return set(identity["workers"])

    async def ask(
        self, function: Callable[..., Any], *arguments: Any, workers: list[str], seconds: float = ANSWER
    ) -> dict[str, Any]:
        """Call a function on workers, beside their tasks.

        Returns:
            The result of each worker, or the exception it raised; nothing at all when a worker does not answer
            in time.
        """
        if not workers:
            return {}

        def run() -> Any:
            return self._client.run(function, *arguments, workers=workers, on_error="return")

        answers: dict[str, Any] = await self._answer(run, seconds) or {}
        return answers

    async def run(
        self, worker: str, lost: asyncio.Event, key: str, function: Callable[..., Any], *arguments: Any
    ) -> Any:
        """Run a task on a worker, and on no other.

        Returns:
            The result of the task; None when the worker is lost.

        Args:
            worker: Address of the worker.
            lost: Set when the worker is known to be lost.
            key: The key of the task.
            function: The function of the task.
            *arguments: Its arguments. Everybody who can see the cluster can see them.

        Raises:
            ExportError: The task failed.
        """
        how = {"workers": [worker], "allow_other_workers": False, "pure": False}
        if self._client.status == "closed":  # `present` raises the error of this
            await asyncio.sleep(GLANCE)
            return None
        future = self._client.submit(function, *arguments, key=key, **how)
        answer, losing = asyncio.create_task(_outcome(future)), asyncio.create_task(lost.wait())
        # The client fetches results together: cancelling one would cancel the results of other workers.
        self._awaited.add(answer)
        answer.add_done_callback(self._end)
        try:
            await asyncio.wait({answer, losing}, return_when=asyncio.FIRST_COMPLETED)
            return answer.result() if answer.done() and not answer.cancelled() else None
        except Exception as error:  # noqa: BLE001 - any error of the task, or of the cluster
            raise ExportError(f"worker {worker}: {type(error).__name__}: {error}") from None
        finally:
            losing.cancel()
            future.release()

    def _end(self, answer: asyncio.Task[Any]) -> None:
        self._awaited.discard(answer)
        _ = answer.cancelled() or answer.exception()

    async def _answer(self, ask: Callable[[], Coroutine[Any, Any, Any]], seconds: float) -> Any:
        """The answer of the scheduler; None when it does not answer in time, or the connection is lost."""
        if self._client.status != "running":
            return None
        asking = asyncio.ensure_future(ask())
        ends = time.monotonic() + seconds
        try:
            while not asking.done() and time.monotonic() < ends and self._client.status == "running":
                await asyncio.wait({asking}, timeout=GLANCE)
            return asking.result() if asking.done() else None
        except (OSError, RuntimeError):  # a connection that was lost, or is closed
            return None
        finally:
            asking.cancel()


async def _outcome(future: Any) -> Any:
    """The result of a task; None when the scheduler has lost or cancelled it."""
    try:
        return await future
    except Exception:
        if future.status not in ("cancelled", "lost"):
            raise
        # Whether the worker and the scheduler are still there is known soon.
        await asyncio.sleep(GLANCE)
        return None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0]
