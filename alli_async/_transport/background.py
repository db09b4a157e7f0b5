"""Results of work in the background: an iterator whose task ends with its consumer, and with its client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from .._aio.channel import Channel
from .._aio.tasks import wait_done
from ..errors import ConfigurationError
from .lifetime import Lifetime

ResultT = TypeVar("ResultT")


class BackgroundResults(Generic[ResultT]):
    """The results of work that a task of its own does.

    To be walked once, by `async for`. The task ends when all results are given, when the `async with` block is
    left, when the iterator is let go (by a `break`, say), and when the client is closed.

    Args:
        lifetime: The lifetime of the client.
        walked_twice: The message of the error where it is walked once more.
    """

    def __init__(self, lifetime: Lifetime, walked_twice: str) -> None:
        self._lifetime = lifetime
        self._walked_twice = walked_twice
        self._task: asyncio.Task[None] | None = None
        self._is_walked = self._is_ended = self._is_client_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[ResultT]:
        if self._is_walked:
            raise ConfigurationError(self._walked_twice)
        self._is_walked = True
        return _Results(self)

    async def aclose(self) -> None:
        """End the work; what is under way is cancelled. Calling it twice is fine."""
        self._is_ended = True
        if self._task is not None:
            self._task.cancel()
        await self.wait_ended()

    def end(self) -> None:
        """Begin to end the work, since the client is closed: the consumer gets a `ClientStateError`."""
        self._is_client_closed = True
        if self._task is not None:
            self._task.cancel()

    def let_go(self) -> None:
        """Begin to end the work, since nobody can read on. The collector calls this, in any thread."""
        self._is_ended = True
        task = self._task
        if task is not None and not task.done() and not task.get_loop().is_closed():
            task.get_loop().call_soon_threadsafe(task.cancel)

    async def wait_ended(self) -> None:
        """Wait until no task of the work is left."""
        if self._task is not None:
            await wait_done(self._task)

    async def next_result(self) -> ResultT:
        """The next result.

        Raises:
            StopAsyncIteration: There is none left, or the work was ended.
        """
        raise NotImplementedError

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]], out: Channel[Any]) -> asyncio.Task[None]:
        """Begin the work in a task of its own: nothing is ever yielded from inside a task group.

        Args:
            work: The work, which puts its results into a channel.
            out: The channel, which is closed when the work has ended.

        Raises:
            ClientStateError: The client is closed, or belongs to another event loop or process.
        """
        self._lifetime.check()

        def on_done(task: asyncio.Task[None]) -> None:
            if not task.cancelled():
                task.exception()  # asyncio complains of an error that nobody looks at, and nobody may read on
            out.close()
            self._lifetime.discard_stream(self)

        self._task = asyncio.create_task(work())
        self._task.add_done_callback(on_done)
        self._lifetime.add_stream(self)
        return self._task


class _Results(AsyncIterator[ResultT], Generic[ResultT]):
    """The iterator over results. Dropping it ends the work, as soon as the event loop runs.

    An asynchronous generator would be closed by a task that the event loop starts, which nothing waits for.
    """

    __slots__ = ("_results",)

    def __init__(self, results: BackgroundResults[ResultT]) -> None:
        self._results: BackgroundResults[ResultT] = results

    async def __anext__(self) -> ResultT:
        try:
            return await self._results.next_result()
        except GeneratorExit:
            raise  # the loop was closed in the middle of this: nothing can be ended there
        except BaseException:
            await self._results.aclose()
            raise

    async def aclose(self) -> None:
        """End the work."""
        await self._results.aclose()

    def __del__(self) -> None:
        self._results.let_go()
