"""Cancel work at each of its suspension points in turn, and see that it has ended and left nothing."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import ContextVar
from functools import partial
from typing import Any

_watch: ContextVar[Suspensions | None] = ContextVar("watch", default=None)


class Suspensions:
    """Counts the suspension points of a call and of all tasks that it begins, and cancels the call at one.

    Args:
        at: The number of the suspension point, from 1, at which the call is cancelled; 0 for never.

    Attributes:
        count: The suspension points so far.
        is_cancelled: Whether the call was running still when its cancellation was asked for.
    """

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.count = 0
        self.is_cancelled = False
        self.left: set[asyncio.Task[Any]] = set()
        self._task: asyncio.Task[Any]
        self._begun: set[asyncio.Task[Any]] = set()

    async def run(self, call: Coroutine[Any, Any, Any], *, seconds: float = 20) -> asyncio.Task[Any]:
        """Run a call to its end, within so many seconds.

        Returns:
            The task of the call, which is done. `left` has the tasks that it has begun and that are not.
        """
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        loop.set_task_factory(self._make_task)
        token = _watch.set(self)
        try:
            self._task = asyncio.create_task(call)
            _watch.reset(token)
            done, _ = await asyncio.wait([self._task], timeout=seconds)
            assert done, f"the call goes on after it was cancelled at suspension point {self.at}"
        finally:
            loop.set_task_factory(before)
        self.left = {each for each in self._begun if not each.done()}
        return self._task

    def suspended(self) -> None:
        """Count a suspension point, and cancel the call if it is the one."""
        self.count += 1
        if self.count == self.at and not self._task.done():
            self.is_cancelled = self._task.cancel()

    def _make_task(
        self,
        loop: asyncio.AbstractEventLoop,
        call: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        **options: Any,
    ) -> asyncio.Task[Any]:
        assert not isinstance(call, Generator)
        watched = _watch.get() is self  # else a task of the server, which lives in this loop too
        task = asyncio.Task(_counting(call, self) if watched else call, loop=loop, **options)
        if watched:
            self._begun.add(task)
            # A task that is cancelled before its first step has not begun the call inside.
            task.add_done_callback(lambda _: call.close())
        return task


async def _counting(call: Coroutine[Any, Any, Any], watch: Suspensions) -> Any:
    return await _steps(call, watch)


@types.coroutine
def _steps(call: Coroutine[Any, Any, Any], watch: Suspensions) -> Generator[Any, Any, Any]:
    step: Callable[[], Any] = partial(call.send, None)
    while True:
        try:
            waited_for = step()
        except StopIteration as end:
            return end.value
        watch.suspended()
        try:
            value = yield waited_for
            step = partial(call.send, value)
        except GeneratorExit:
            call.close()
            raise
        except BaseException as error:  # noqa: BLE001 - a cancellation is thrown in here
            step = partial(call.throw, error)


async def count_suspensions(call: Callable[[], Coroutine[Any, Any, Any]]) -> int:
    """The number of suspension points of a call that nobody cancels; an error of the call is no matter."""
    watch = Suspensions()
    task = await watch.run(call())
    _ = task.cancelled() or task.exception()
    return watch.count


async def cancel_at_each(
    call: Callable[[], Coroutine[Any, Any, Any]],
    check: Callable[[], Awaitable[None] | None],
    *,
    most: int = 250,
    kept: tuple[str, ...] = (),
) -> int:
    """Cancel a call at each of its suspension points, one run for each.

    Args:
        call: Makes the coroutine of the call.
        check: Called after each run; it looks at what the call may have left behind.
        most: The most runs; where there are more suspension points, some between them are passed over.
        kept: Parts of the names of coroutines whose tasks may go on.

    Returns:
        How many runs were cancelled.
    """
    count = await count_suspensions(call)
    cancelled = 0
    for at in sorted({1 + number * count // min(count, most) for number in range(min(count, most))}):
        watch = Suspensions(at)
        task = await watch.run(call())
        if watch.is_cancelled:
            cancelled += 1
            assert task.cancelled(), f"the cancellation at suspension point {at} of {count} was swallowed"
        else:
            _ = task.cancelled() or task.exception()
        left = {each for each in watch.left if not any(name in repr(each) for name in kept)}
        assert not left, f"after the cancellation at suspension point {at} of {count} go on: {left}"
        found = check()
        if found is not None:
            await found
    return cancelled
