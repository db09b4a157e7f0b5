"""How a command runs and ends: its event loop and its signals."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from .._malloc import tune_malloc
from .exhaustion import raise_file_limit, spare_address_space
from .signals import ENDINGS, until_ended

INTERRUPTED = 128 + signal.SIGINT
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
    return "; ".join(part for part in (f"alli-async: {ENDINGS[number]}", _stop_text()) if part)


def asynchronous(command: Any) -> Any:
    """Run a coroutine function as a command: on uvloop where it is installed, ended by SIGINT and SIGTERM.

    Tunes malloc so that freed memory is reused, not returned to the system.
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
                return runner.run(until_ended(command(*args, **kwargs), _ending))
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


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
