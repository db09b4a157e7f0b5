"""How a command runs and ends: its event loop and its signals."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import click

from .._malloc import tune_malloc
from .exhaustion import raise_file_limit, spare_address_space

INTERRUPTED = 128 + signal.SIGINT
_ENDINGS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
# Seconds in which a signal that comes again is the same one.
_AGAIN = 1.0
# Where the context of a command keeps what it says when it is stopped.
_AT_STOP = "alli_async.at_stop"


def at_stop(text: Callable[[], str]) -> None:
    """Have the running command say what stays, and how to go on, when it is stopped or fails.

    Args:
        text: Gives the words for the end of the last line; empty if there is nothing to say.
    """
    click.get_current_context().meta[_AT_STOP] = text


def _stop_text() -> str:
    ctx = click.get_current_context(silent=True)
    text: Callable[[], str] = (ctx.meta if ctx is not None else {}).get(_AT_STOP, str)
    return text()


def _ending(number: signal.Signals) -> str:
    """The last line of a command that a signal ended."""
    return "; ".join(part for part in (f"alli-async: {_ENDINGS[number]}", _stop_text()) if part)


def asynchronous(command: Any) -> Any:
    """Run a coroutine function as a command: on uvloop where it is installed, ended by SIGINT and SIGTERM.

    The process keeps freed memory for the next answers.
    """

    @wraps(command)
    def sync(*args: Any, **kwargs: Any) -> int:
        import asyncio

        tune_malloc()
        raise_file_limit()
        spare_address_space()
        show_warnings()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            # Where no loop can be made, no coroutine waits for one.
            runner.get_loop()
            try:
                return runner.run(_until_ended(command(*args, **kwargs)))
            except BrokenPipeError:
                # The reader went away (`| head`), which is no failure; what is still buffered goes nowhere.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 0
            except Exception as error:
                # The messages speak of the options of this command, which are known only here.
                from .failures import FailedError, describe

                failure = describe(error)
                if failure is None:
                    raise
                raise FailedError(failure.with_ending(_stop_text())) from None

    return sync


def show_warnings() -> None:
    """Show the warnings of exports on standard error, unless ALLI_LOG shows the whole log there."""
    logger = logging.getLogger("alli_async.export")
    if not os.environ.get("ALLI_LOG") and not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("alli-async: warning: %(message)s"))
        handler.setLevel(logging.WARNING)
        logger.addHandler(handler)


async def _until_ended(command: Coroutine[Any, Any, int | None]) -> int:
    """Run it to its end, or to that which the first signal makes: it is cancelled, and cleans up.

    Not so asyncio's runner, whose second SIGINT raises wherever the loop stands, and leaves threads behind for
    which the process then waits. A signal that comes again at once is the same one (many send it to a whole group
    of processes, and to each); later it means that the cleaning up takes too long, and ends the process there.
    """
    import asyncio

    loop, task = asyncio.get_running_loop(), asyncio.create_task(command)
    came: signal.Signals | None = None
    since = 0.0

    def end(number: signal.Signals) -> None:
        nonlocal came, since
        if came is None:
            came, since = number, loop.time()
            task.cancel()
        elif loop.time() - since > _AGAIN:
            # What is committed stays, as after any kill. The bar has hidden the cursor.
            click.echo(("\x1b[?25h" if sys.stderr.isatty() else "") + _ending(number), err=True)
            os._exit(128 + number)

    for each in _ENDINGS:
        loop.add_signal_handler(each, end, each)
    try:
        return await task or 0
    except asyncio.CancelledError:
        if came is None:
            raise
        click.echo(_ending(came), err=True)
        return 128 + came


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
