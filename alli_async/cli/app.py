"""The commands, and how they run and end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import wraps
from typing import Any, Literal

import click
import msgspec

from .. import __version__
from ..client import AlliClient
from ..errors import AlliError, ConfigurationError
from ..export import ExportReport, export
from .options import connection_options, filter_options, make_client, split
from .progress import showing

_INTERRUPTED = 128 + signal.SIGINT
_TERMINATED = 128 + signal.SIGTERM


def run(arguments: Sequence[str]) -> int:
    """Run the command with these arguments; gives the exit code."""
    try:
        code = cli.main(args=list(arguments), prog_name="alli-async", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.Abort:
        click.echo("alli-async: interrupted", err=True)
        return _INTERRUPTED
    except click.ClickException as error:
        click.echo(f"alli-async: {error.format_message()}", err=True)
        return error.exit_code
    except ConfigurationError as error:
        click.echo(f"alli-async: {error}", err=True)
        return 2
    except AlliError as error:
        click.echo(f"alli-async: {type(error).__name__}: {error}", err=True)
        return 1
    except BrokenPipeError:
        # The reader went away (`| head`), which is no failure; nothing more can be told it, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code if isinstance(code, int) else 0


def _asynchronous(command: Any) -> Any:
    """Run a coroutine function as a command: on uvloop where it is installed, ended by SIGINT and SIGTERM."""

    @wraps(command)
    def sync(*args: Any, **kwargs: Any) -> int:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            try:
                return runner.run(_until_terminated(command(*args, **kwargs)))
            except KeyboardInterrupt:
                click.echo("alli-async: interrupted", err=True)
                return _INTERRUPTED

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
        return _TERMINATED


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="alli-async")
def cli() -> None:
    """Get conversations out of Alli.

    The key comes from ALLI_API_KEY (or ALLI_TOKEN) in the environment, from --api-key-file, or from a prompt.
    """


# --- export -----------------------------------------------------------------------------------------------


@cli.command("export")
@click.argument("dest", type=click.Path())
@click.option(
    "--sandbox", type=click.IntRange(min=0), metavar="N", help="From an embedded sandbox of N conversations."
)
@click.option(
    "--compression", type=click.Choice(["gzip", "none"]), default="gzip", show_default=True, help="Of the file."
)
@click.option(
    "--on-error",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
    help="When a conversation's chats cannot be had: stop, or report it and go on.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one machine-readable report.")
@filter_options
@connection_options
@_asynchronous
async def export_command(
    dest: str,
    sandbox: int | None,
    compression: Literal["gzip", "none"],
    on_error: Literal["raise", "skip"],
    as_json: bool,
    **options: Any,
) -> int:
    """Write every conversation with all its chats to DEST, one a line (JSON Lines).

    DEST is a directory, or a file when its name ends in .jsonl or .jsonl.gz.
    """
    connection, filters = split(options)
    async with _client(sandbox, connection) as client:
        with showing(None if filters else sandbox) as show:
            report = await export(
                client, dest, compression=compression, on_error=on_error, on_progress=show, **filters
            )
    click.echo(_report_json(report) if as_json else _summary(report))
    return 1 if report.skipped else 0


@asynccontextmanager
async def _client(sandbox: int | None, connection: dict[str, Any]) -> AsyncIterator[AlliClient]:
    async with AsyncExitStack() as stack:
        if sandbox is None:
            client = make_client(**connection)
        else:
            from ..sandbox import Sandbox

            served = await stack.enter_async_context(Sandbox(conversations=sandbox))
            kept = {name: connection[name] for name in ("max_concurrency", "rate_limit", "timeout")}
            client = AlliClient(served.api_key, base_url=served.url, **kept)
        yield await stack.enter_async_context(client)


def _summary(report: ExportReport) -> str:
    pace = report.conversations / report.seconds if report.seconds else 0.0
    written = f"Exported {report.conversations:,} conversations with {report.chats:,} chats"
    lines = [
        f"{written} in {report.seconds:.1f} s ({pace:,.0f}/s).",
        f"  file      {report.path}",
        f"  size      {_size(report.bytes)} ({_size(report.uncompressed_bytes)} uncompressed)",
        f"  requests  {report.requests:,} ({report.retries:,} retried)",
    ]
    lines += [f"  skipped   {each.id}: {each.error}" for each in report.skipped]
    return "\n".join(lines)


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _report_json(report: ExportReport) -> str:
    return msgspec.json.encode(report, enc_hook=str).decode()


# --- reading ----------------------------------------------------------------------------------------------


@cli.command("conversations")
@click.option("--limit", type=click.IntRange(min=1), help="So many at most.")
@filter_options
@connection_options
@_asynchronous
async def conversations_command(limit: int | None, **options: Any) -> None:
    """List conversations, the latest chat first, one JSON object a line."""
    connection, filters = split(options)
    async with _client(None, connection) as client:
        left = limit
        async for conversation in client.conversations.list(page_size=min(limit or 50, 50), **filters):
            _print_json(conversation)
            if left is not None:
                left -= 1
                if not left:
                    break


@cli.command("chats")
@click.argument("conversation_id")
@connection_options
@_asynchronous
async def chats_command(conversation_id: str, **options: Any) -> None:
    """Print a conversation's chats, oldest first, one JSON object a line."""
    async with _client(None, options) as client:
        async for chat in client.conversations.list_chats(conversation_id):
            _print_json(chat)


@cli.command("daily")
@click.argument("start_date", metavar="START")
@click.argument("end_date", metavar="END")
@connection_options
@_asynchronous
async def daily_command(start_date: str, end_date: str, **options: Any) -> None:
    """Print how many conversations were active on each day from START to END (YYYY-MM-DD)."""
    async with _client(None, options) as client:
        for day in (await client.conversations.daily_counts(start_date, end_date)).days:
            click.echo(f"{day.date}\t{day.active_count}")


def _print_json(value: msgspec.Struct) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
