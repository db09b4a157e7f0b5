"""Work in threads, which no task leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *arguments: Any, undo: Callable[[T], object] | None = None) -> T:
    """Call a function in a thread. One who is cancelled meanwhile leaves when the thread has ended.

    So nobody cleans up what a thread is still at work on. (anyio sees to that where its own scopes are cancelled,
    but not where a task is.)

    Args:
        function: What to call.
        *arguments: With what.
        undo: Called, in this thread, with the result that nobody is there any more to take.
    """
    work = asyncio.ensure_future(anyio.to_thread.run_sync(function, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            while not work.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([work])
        if not work.cancelled() and work.exception() is None and undo is not None:
            undo(work.result())
        raise
