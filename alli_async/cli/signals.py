"""Signals that end the command: one is enough, wherever the process stands when it comes."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

ENDINGS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
# Seconds that cleaning up may take after the first signal. What is committed stays, as after any kill.
_GRACE = 1.5
# Seconds in which a signal that comes again is the same one: many send it to a process group and to each process.
_AGAIN = 1.0


def end_at_once_if_terminated() -> None:
    """Let SIGTERM raise SystemExit, as SIGINT raises KeyboardInterrupt, until the command has begun."""

    def end(number: int, _: FrameType | None) -> None:
        _say(f"alli-async: {ENDINGS[signal.Signals(number)]}")
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)


async def until_ended(command: Coroutine[Any, Any, int | None], last_line: Callable[[signal.Signals], str]) -> int:
    """Run a command to its end, or until the first signal has cancelled it and it has cleaned up.

    The handlers are Python's own, not the event loop's: a handler of the loop does not run while a callback waits,
    say, for a reader of standard error that has stalled. Cleaning up has a bound, since a thread that waits for a
    device or a stalled network drive cannot be ended. A signal that comes again later ends the process there.

    Args:
        command: The command.
        last_line: Gives the last line of a command that a signal has ended.

    Returns:
        The exit code: the command's own, or 128 and the number of the signal.
    """
    import asyncio

    loop, task = asyncio.get_running_loop(), asyncio.create_task(command)
    came: signal.Signals | None = None
    since = 0.0

    def end(number: int, _: FrameType | None) -> None:
        nonlocal came, since
        if came is None:
            came, since = signal.Signals(number), time.monotonic()
            # This thread needs no lock, so it can be begun in a handler, and the process does not wait for it.
            # Nor does it have the context of the command, in which the words of the last line are kept.
            _thread.start_new_thread(_end_later, (came, last_line(came)))
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)
        elif time.monotonic() - since > _AGAIN:
            _end_now(came, last_line(came))

    for each in ENDINGS:
        signal.signal(each, end)
    try:
        return await task or 0
    except asyncio.CancelledError:
        if came is None:
            raise
        _say(last_line(came))
        return 128 + came


def _end_later(number: signal.Signals, last_line: str) -> None:
    time.sleep(_GRACE)
    _end_now(number, last_line)


def _end_now(number: signal.Signals, last_line: str) -> None:
    try:
        # A progress bar has hidden the cursor.
        _say(("\x1b[?25h" if os.isatty(2) else "") + last_line)
    finally:
        os._exit(128 + number)


def _say(text: str) -> None:
    """Write a line to standard error, if that takes it without a wait; a reader that stalls ends nothing."""
    if sys.stderr is None:
        return
    import select

    try:
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(2, select.POLLOUT)
            if not poll.poll(0):
                return
        os.write(2, f"{text}\n".encode(errors="backslashreplace"))
    except OSError:  # it is closed, or full
        return
