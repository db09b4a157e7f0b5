"""Standard output: rows as a table, as JSON Lines or as CSV, written so that a signal can end every wait."""

from __future__ import annotations

import asyncio
import os
import select
import stat
import sys
from typing import TYPE_CHECKING, Any

import click

from .terminal import console, is_terminal, visible_json

if TYPE_CHECKING:  # Only tables need it.
    from rich.console import RenderableType

# Bytes that a pipe takes without a wait once it is writable (PIPE_BUF), and that a terminal does.
_PIPE_BYTES, _TERMINAL_BYTES = 4096, 256


def has_reports() -> bool:
    """Whether reports are printed: the caller has not closed standard output (`>&-`), which is no failure."""
    return sys.stdout is not None


async def write_report(report: bytes | str) -> None:
    """Print the report of a command whose exit code is an answer by itself: JSON as bytes, or text.

    Where the caller has closed standard output, nothing is printed.
    """
    if not has_reports():
        return
    if isinstance(report, bytes):
        await write_json(report)
    else:
        await write_text(report)


async def write(data: bytes) -> None:
    """Write to standard output.

    A reader that stalls (`| less`) must not keep the event loop, and with it signals, from running: bytes are
    handed over only as fast as they are taken.

    Raises:
        OSError: The output is closed, full, or has no reader any more.
    """
    if sys.stdout is None:
        raise OSError(9, os.strerror(9))
    try:
        sys.stdout.flush()
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # a stream in memory, as tests of a caller put it there
        if not hasattr(sys.stdout, "getvalue"):
            raise
        sys.stdout.write(data.decode())
        return
    await _write_all(descriptor, data)


async def _write_all(descriptor: int, data: bytes) -> None:
    if sys.platform == "win32" and os.isatty(descriptor):
        # The console takes characters; bytes it would read in a code page of its own.
        sys.stdout.write(data.decode(sys.stdout.encoding, "backslashreplace"))
        sys.stdout.flush()
        return
    if stat.S_ISREG(os.fstat(descriptor).st_mode) or not hasattr(select, "poll"):
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        return
    size = _TERMINAL_BYTES if os.isatty(descriptor) else _PIPE_BYTES
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    view = memoryview(data)
    while view:
        if not poll.poll(0):
            await _writable(descriptor)
        view = view[os.write(descriptor, view[:size]) :]


async def _writable(descriptor: int) -> None:
    """Wait until a descriptor takes bytes again."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def note() -> None:
        if not ready.done():
            ready.set_result(None)

    try:
        loop.add_writer(descriptor, note)
    except (OSError, NotImplementedError):  # it is of a kind that is always ready, such as a device
        return
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


async def write_text(text: str) -> None:
    """Write a line of text, in the encoding of the output; what that cannot hold is escaped."""
    await write((text + "\n").encode(_encoding(), "backslashreplace"))


async def write_json(line: bytes) -> None:
    """Write a record as one line of JSON: as it is to a pipe or file, made safe to a terminal."""
    if b"\n" in line or b"\r" in line:
        import msgspec

        line = msgspec.json.format(line, indent=-1)
    encoding = _encoding()
    is_utf8 = encoding.lower().replace("-", "") == "utf8"
    if is_terminal(sys.stdout) or not is_utf8:
        line = visible_json(line, encoding)
    await write(line + b"\n")


async def write_done(record: dict[str, Any] | bytes, text: str, as_json: bool) -> None:
    """Write what a command did.

    Where the caller has closed standard output, nothing is written: what was done is done.

    Args:
        record: What is written as JSON: an object, or a line of JSON.
        text: What is written else.
        as_json: Whether JSON is written.

    Raises:
        click.ClickException: The output is full. The message says what was done nevertheless.
    """
    if not has_reports():
        return
    try:
        if not as_json:
            await write_text(text)
        elif isinstance(record, bytes):
            await write_json(record)
        else:
            import msgspec

            await write_json(msgspec.json.encode(record))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise click.ClickException(f"{text} (This cannot be written to the output: {error.strerror})") from None


async def show(*renderables: RenderableType, width: int | None = None) -> None:
    """Write tables and texts as the terminal can show them."""
    with_style = console(width=width)
    with with_style.capture() as captured:
        with_style.print(*renderables, sep="\n")
    text = captured.get()
    if not is_terminal(sys.stdout):
        # What fills the lines of a terminal is of no use in a file.
        text = "\n".join(line.rstrip(" ") for line in text.split("\n"))
    await write(text.encode(_encoding(), "backslashreplace"))
