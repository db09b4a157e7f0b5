"""Work in threads that no task leaves behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import anyio.to_thread

from .loops import check_loop
from .tasks import run_to_completion, wait_done

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *arguments: Any, undo: Callable[[T], object] | None = None) -> T:
    """Call a function in a thread; a caller that is cancelled leaves only when the thread has ended.

    So nobody cleans up files that a thread is still writing. (anyio does the same where its own scopes are
    cancelled, but not where a task is.)

    Args:
        function: The function to call.
        *arguments: Its positional arguments.
        undo: Called, in this thread, with the result when the caller was cancelled and cannot take it.

    Raises:
        ConfigurationError: No asyncio event loop is running.
    """
    check_loop()
    return await run_to_completion(anyio.to_thread.run_sync(function, *arguments), undo=undo)


async def in_stoppable_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a thread; a caller that is cancelled has it stop, and leaves when the thread has ended.

    Args:
        function: The function to call. Its last argument is a `threading.Event`, which is set when it is to stop:
            it then cleans up and raises.
        *arguments: Its other positional arguments.

    Raises:
        ConfigurationError: No asyncio event loop is running.
    """
    check_loop()
    stop = threading.Event()
    work = asyncio.ensure_future(anyio.to_thread.run_sync(partial(function, *arguments, stop)))
    try:
        # Cancels nothing; anyio's own cancellations get through as well.
        await asyncio.wait([work])
    except asyncio.CancelledError:
        stop.set()
        await wait_done(work)
        if not work.cancelled():
            work.exception()  # asyncio complains of an error that nobody looks at
        raise
    return work.result()
