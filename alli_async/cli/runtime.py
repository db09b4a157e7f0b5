"""How a command runs and ends: its event loop, its signals, its client."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from .._malloc import tune_malloc
from .exhaustion import raise_file_limit, spare_address_space
from .options import make_client

if TYPE_CHECKING:  # The help does not need it.
    from ..client import AlliClient

INTERRUPTED = 128 + signal.SIGINT
_ENDINGS = {signal.SIGINT: "alli-async: interrupted", signal.SIGTERM: "alli-async: terminated"}
# Seconds in which a signal that comes again is the same one.
_AGAIN = 1.0


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
            click.echo(("\x1b[?25h" if sys.stderr.isatty() else "") + _ENDINGS[number], err=True)
            os._exit(128 + number)

    for each in _ENDINGS:
        loop.add_signal_handler(each, end, each)
    try:
        return await task or 0
    except asyncio.CancelledError:
        if came is None:
            raise
        click.echo(_ENDINGS[came], err=True)
        return 128 + came


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


@asynccontextmanager
async def open_client(sandbox: int | None, connection: dict[str, Any]) -> AsyncIterator[AlliClient]:
    """A client of the service, or of an embedded sandbox of so many conversations."""
    async with AsyncExitStack() as stack:
        if sandbox is None:
            client = make_client(**connection)
        else:
            from ..client import AlliClient
            from ..sandbox import Sandbox

            served = await stack.enter_async_context(Sandbox(conversations=sandbox))
            kept = {
                name: connection[name]
                for name in ("max_concurrency", "rate_limit", "timeout", "max_response_bytes")
            }
            client = AlliClient(served.api_key, base_url=served.url, **kept)
        yield await stack.enter_async_context(client)
