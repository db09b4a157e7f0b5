"""Groups of tasks, and work that runs to completion although its caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio

T = TypeVar("T")
OtherT = TypeVar("OtherT")


class TaskGroup:
    """Tasks that begin and end together: the one rule of this package for groups and cancellation.

    - The first error, of a task or of the block, cancels all other tasks and the block.
    - The block ends when all tasks have ended, however often its own task is cancelled meanwhile.
    - Then a cancellation of the block's own task is raised before anything else, as CancelledError, even if tasks
      failed in the same moment. Else the first error is raised, by itself.

    `asyncio.TaskGroup` differs in the last point. Before Python 3.13 it raises the errors of its tasks where it
    was cancelled too, so whoever handles the errors swallows the cancellation. In every version it raises them
    as an ExceptionGroup, which no caller of this package expects.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._owner: asyncio.Task[Any]
        self._error: BaseException | None = None
        self._cancelling = 0
        self._is_in_block = self._is_interrupted = self._is_ending = False

    async def __aenter__(self) -> Self:
        owner = asyncio.current_task()
        assert owner is not None  # noqa: S101 - a coroutine that runs in a loop runs in a task
        self._owner, self._cancelling = owner, owner.cancelling()
        self._is_in_block = True
        return self

    def create_task(self, call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a task. In a group that is ending it is cancelled at once."""
        task = asyncio.create_task(call)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        if self._is_ending:
            task.cancel()
        return task

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_in_block = False
        if self._is_interrupted:
            self._owner.uncancel()
        if error is not None:
            if not isinstance(error, asyncio.CancelledError):
                self._error = self._error or error
            self._cancel_tasks()
        cancelled = error if isinstance(error, asyncio.CancelledError) else None
        try:
            while self._tasks:
                await asyncio.wait(self._tasks)
        except asyncio.CancelledError as request:
            cancelled = request
            self._cancel_tasks()
            with suppress(asyncio.CancelledError):  # the first request is raised below
                await wait_done(*self._tasks)
        self._raise(error, cancelled)

    def _raise(self, error: BaseException | None, cancelled: asyncio.CancelledError | None) -> None:
        """Raise what the rule says; the error of the block itself goes on without being raised here."""
        first, self._error = self._error, None
        if self._owner.cancelling() > self._cancelling:
            # The exception itself: anyio knows the cancellations of its scopes by their message.
            first = cancelled or asyncio.CancelledError()
        if first is None or first is error:
            return
        try:
            raise first
        finally:
            # What the block raised when the group interrupted it explains nothing.
            first.__context__ = None
            del first, error, cancelled

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        self._error = self._error or error
        self._cancel_tasks()
        if self._is_in_block and not self._is_interrupted:
            self._is_interrupted = True
            self._owner.cancel()

    def _cancel_tasks(self) -> None:
        if not self._is_ending:
            self._is_ending = True
            for task in self._tasks:
                task.cancel()


async def concurrently(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Make several calls at once.

    Returns:
        All results, in the order of the calls.

    Raises:
        BaseException: The first error, by itself, once all other calls have ended.
        asyncio.CancelledError: The caller was cancelled, whatever the calls raised in the same moment.
    """
    async with TaskGroup() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]


async def both(one: Coroutine[Any, Any, T], other: Coroutine[Any, Any, OtherT]) -> tuple[T, OtherT]:
    """Make two calls at once that give different things."""
    calls: Sequence[Coroutine[Any, Any, Any]] = one, other
    results: list[Any] = await concurrently(calls)
    return results[0], results[1]


async def cancel_all(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they have ended, even if the caller is cancelled; then raise CancelledError."""
    for task in tasks:
        task.cancel()
    try:
        await wait_done(*tasks)
    finally:
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # asyncio complains of an error that nobody looks at


async def run_to_completion(call: Coroutine[Any, Any, T], *, undo: Callable[[T], object] | None = None) -> T:
    """Run a call to completion even if the caller is cancelled, then raise CancelledError.

    Args:
        call: The call to make.
        undo: Called with the result when the caller was cancelled and cannot take it.
    """
    work = asyncio.ensure_future(call)
    try:
        await wait_done(work)
    except asyncio.CancelledError:
        if not work.cancelled() and work.exception() is None and undo is not None:
            undo(work.result())
        raise
    return work.result()


async def wait_done(*work: asyncio.Future[Any]) -> None:
    """Wait until tasks have ended; their results and errors are not looked at.

    A caller that is cancelled meanwhile, by asyncio or by anyio, waits on and is cancelled afterwards.
    """
    cancelled: asyncio.CancelledError | None = None
    # The scope keeps anyio's own cancellations out. Those of asyncio get through, once for each request.
    with anyio.CancelScope(shield=True):
        while pending := [each for each in work if not each.done()]:
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled
