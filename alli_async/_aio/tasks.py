"""Calls made at once, and work that runs to completion although its caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import anyio

T = TypeVar("T")
OtherT = TypeVar("OtherT")


async def concurrently(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Make several calls at once.

    Returns:
        All results, in the order of the calls.

    Raises:
        BaseException: The first error, by itself, once all other calls have ended.
        asyncio.CancelledError: The caller was cancelled, whatever the calls raised in the same moment. (A task
            group raises the error of a child then, and the cancellation is lost.)
    """
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    except GeneratorExit:
        tasks = []  # the loop was closed before this had ended: nothing can be cancelled there
        raise
    finally:
        await cancel_all(tasks)
    errors = [task.exception() for task in tasks if not task.cancelled()]
    error = next((each for each in errors if each is not None), None)
    if error is not None:
        raise error
    return [task.result() for task in tasks]


async def cancel_all(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait until they have ended, even if the caller is cancelled; then raise CancelledError."""
    pending = [task for task in tasks if not task.done()]
    for task in pending:
        task.cancel()
    cancelled: asyncio.CancelledError | None = None
    while pending:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancelled = error
        pending = [task for task in pending if not task.done()]
    for task in tasks:
        if not task.cancelled():
            task.exception()  # asyncio complains of an error that nobody looks at
    if cancelled is not None:
        raise cancelled


async def both(one: Coroutine[Any, Any, T], other: Coroutine[Any, Any, OtherT]) -> tuple[T, OtherT]:
    """Make two calls at once that give different things."""
    calls: Sequence[Coroutine[Any, Any, Any]] = one, other
    first, second = await concurrently(calls)
    return first, second


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


async def wait_done(work: asyncio.Future[Any]) -> None:
    """Wait until a task has ended; its result or error is not looked at.

    A caller that is cancelled meanwhile, by asyncio or by anyio, waits on and is cancelled afterwards.
    """
    cancelled: asyncio.CancelledError | None = None
    # The scope keeps anyio's own cancellations out. Those of asyncio get through, once for each request.
    with anyio.CancelScope(shield=True):
        while not work.done():
            try:
                await asyncio.wait([work])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled


def first_error(failures: BaseExceptionGroup) -> BaseException:
    """The first error of a group, however deep it is nested."""
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
