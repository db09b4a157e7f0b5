"""How a command runs and ends: its event loop, its signals, its client."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import wraps
from typing import Any

import click

from ..client import AlliClient
from .options import make_client

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM


def asynchronous(command: Any) -> Any:
    """Run a coroutine function as a command: on uvloop where it is installed, ended by SIGINT and SIGTERM."""

    @wraps(command)
    def sync(*args: Any, **kwargs: Any) -> int:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            try:
                return runner.run(_until_terminated(command(*args, **kwargs)))
            except KeyboardInterrupt:
                click.echo("alli-async: interrupted", err=True)
                return INTERRUPTED
            except BrokenPipeError:
                # The reader went away (`| head`), which is no failure; what is still buffered goes nowhere.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 0

    return sync


async def _until_terminated(command: Coroutine[Any, Any, int | None]) -> int:
    task = asyncio.create_task(command)
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await task or 0
    except asyncio.CancelledError:
        if not terminated:
            raise
        click.echo("alli-async: terminated", err=True)
        return TERMINATED


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
            from ..sandbox import Sandbox

            served = await stack.enter_async_context(Sandbox(conversations=sandbox))
            kept = {name: connection[name] for name in ("max_concurrency", "rate_limit", "timeout")}
            client = AlliClient(served.api_key, base_url=served.url, **kept)
        yield await stack.enter_async_context(client)
