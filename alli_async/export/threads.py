"""Work in threads, which no task leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import anyio.to_thread

from .._bulk.tasks import unbroken

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
    return await unbroken(anyio.to_thread.run_sync(function, *arguments), undo=undo)
