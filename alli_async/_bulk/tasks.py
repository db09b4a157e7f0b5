"""Calls that are made at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import anyio

T = TypeVar("T")
OtherT = TypeVar("OtherT")


async def concurrently(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, in order; the first error ends the others and is raised by itself."""
    try:
        async with asyncio.TaskGroup() as group:  # a child costs 3 µs; anyio's 20
            tasks = [group.create_task(call) for call in calls]
    except BaseExceptionGroup as failures:
        error = first_error(failures)
    else:
        return [task.result() for task in tasks]
    raise error


async def both(one: Coroutine[Any, Any, T], other: Coroutine[Any, Any, OtherT]) -> tuple[T, OtherT]:
    """The same of two calls that give different things."""
    calls: Sequence[Coroutine[Any, Any, Any]] = one, other
    first, second = await concurrently(calls)
    return first, second


async def unbroken(call: Coroutine[Any, Any, T], *, undo: Callable[[T], object] | None = None) -> T:
    """What a call gives, which goes on to its end even when its caller is cancelled; the caller leaves then.

    Args:
        call: To be made.
        undo: Called with the result that nobody is there any more to take.
    """
    work = asyncio.ensure_future(call)
    try:
        await settled(work)
    except asyncio.CancelledError:
        if not work.cancelled() and work.exception() is None and undo is not None:
            undo(work.result())
        raise
    return work.result()


async def settled(work: asyncio.Future[Any]) -> None:
    """Wait until a task has ended, however; what came of it is not looked at.

    One who is cancelled meanwhile, in whichever way, waits on, and is cancelled then.
    """
    cancelled: asyncio.CancelledError | None = None
    # The scope keeps anyio's own cancellations out. Those of asyncio get through: each is told once.
    with anyio.CancelScope(shield=True):
        while not work.done():
            try:
                await asyncio.wait([work])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled


def first_error(failures: BaseExceptionGroup) -> BaseException:
    """The error that began it."""
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
