"""An export to standard output: every conversation with all its chats, one a line."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from .output import write

if TYPE_CHECKING:
    from .._listing.filters import ConversationFilters
    from .._transcripts.stream import TranscriptStream
    from ..client import AlliClient
    from ..export import ExportReport
    from ..models import RawTranscript

# Bytes that are written at a time.
_BATCH_BYTES = 1 << 16


async def export_to_stdout(
    client: AlliClient, export_options: dict[str, Any], filters: dict[str, Any], on_progress: Callable[[Any], None]
) -> ExportReport:
    """Write every conversation to standard output.

    Args:
        client: The client to read with.
        export_options: The options of the export, by the names of `export`'s arguments.
        filters: The filters.
        on_progress: Called with the numbers so far.
    """
    from .._listing.filters import Filters
    from ..export import ExportReport
    from ..export.single_file import raw_stream

    bounds = {"first_chat_started_at": export_options["since"], "first_chat_end_at": export_options["until"]}
    filters = filters | {name: value for name, value in bounds.items() if value is not None}
    on_error: Literal["raise", "skip"] = export_options["on_error"] or "raise"
    began = time.monotonic()
    checked = Filters.checked(cast("ConversationFilters", filters))
    stream = raw_stream(client, checked, on_error=on_error, page_size=export_options["page_size"])
    lines, size = await _write_lines(stream, export_options, on_progress)
    if stream.again:
        text = f"{len(stream.again):,} conversations were written twice; the later line is the whole one"
        click.echo(text, err=True)
    stats = stream.stats
    return ExportReport(
        path="standard output",
        conversations=lines - len(stream.again),
        chats=stats.chats,
        bytes=size,
        uncompressed_bytes=size,
        seconds=time.monotonic() - began,
        requests=stats.requests,
        retries=stats.retries,
        skipped=stream.skipped,
    )


async def _write_lines(
    stream: TranscriptStream[RawTranscript], export_options: dict[str, Any], on_progress: Callable[[Any], None]
) -> tuple[int, int]:
    """Write the lines of a stream.

    Returns:
        The number of lines, and their size in bytes.
    """
    from ..errors import DecodeError
    from ..export.formats.projection import Projection, choose
    from ..export.formats.utf8 import NO_TEXT, is_utf8
    from ..models import Skipped

    projection = Projection(*choose(export_options["columns"], export_options["redact"]))
    lines, size, batch = 0, 0, bytearray()
    async with stream:
        async for transcript in stream:
            if not is_utf8(transcript.json):
                error = DecodeError(NO_TEXT, path="$")
                if export_options["on_error"] != "skip":
                    raise error
                stream.skipped.append(Skipped(transcript.id, error))
                continue
            batch += projection.apply(transcript.json) + b"\n"
            lines += 1
            # The first line goes at once: whoever reads it may want no more.
            if len(batch) >= _BATCH_BYTES or lines == 1:
                size += len(batch)
                await write(bytes(batch))
                batch.clear()
            on_progress(stream.stats)
    await write(bytes(batch))
    return lines, size + len(batch)
