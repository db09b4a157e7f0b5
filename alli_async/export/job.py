"""The export job: the stream of raw transcripts, into a part."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Unpack, get_args

import anyio
from msgspec import Struct, field

from .._transport.filters import ConversationFilters
from ..client import AlliClient
from ..errors import ConfigurationError
from ..models import Skipped, StreamStats
from .parts import Compression, PartWriter

# What is handed to the writing thread at a time: a hop costs 60 µs, compressing this much milliseconds.
_BATCH_BYTES = 1 << 20
_PROGRESS_SECONDS = 0.1
_SUFFIXES = {"gzip": ".jsonl.gz", "none": ".jsonl"}


class ExportReport(Struct, kw_only=True):
    """What an export did.

    Attributes:
        path: The file that was written.
        conversations: In it, one a line.
        chats: In them.
        bytes: Of the file.
        uncompressed_bytes: Of the lines.
        seconds: From beginning to end.
        requests: Sent, retries included.
        retries: Of these, second and further tries.
        skipped: With `on_error="skip"`: the conversations that could not be made whole, and why.
    """

    path: str
    conversations: int
    chats: int
    bytes: int
    uncompressed_bytes: int
    seconds: float
    requests: int
    retries: int
    skipped: list[Skipped] = field(default_factory=list)


async def export(
    client: AlliClient,
    dest: str | os.PathLike[str],
    *,
    compression: Compression = "gzip",
    on_error: Literal["raise", "skip"] = "raise",
    on_progress: Callable[[StreamStats], None] | None = None,
    **filters: Unpack[ConversationFilters],
) -> ExportReport:
    """Write every conversation with all its chats, one a line, as JSON Lines.

    A line is what the server sent, unknown fields included, with all chats in place of the few that come with a
    list. The file is written under another name and renamed when it is whole: an export that is stopped at any
    point leaves an earlier one as it was.

    Args:
        client: Where from.
        dest: A directory, which then holds `conversations/part-00000.jsonl.gz`; or a file, by its name's ending
            (`.jsonl`, `.jsonl.gz`), which also decides the compression.
        compression: `"gzip"` or `"none"`.
        on_error: `"skip"` goes on past a conversation whose chats cannot be had, and reports it.
        on_progress: Called some ten times a second with the numbers so far.
        **filters: See `ConversationFilters`.

    Raises:
        ExportError: The file system refuses.
        AlliError: As from `transcripts`.
    """
    if compression not in get_args(Compression):
        raise ConfigurationError(f'compression: expected "gzip" or "none", got {compression!r}')
    path, compression = _part(Path(dest), compression)
    started = time.monotonic()
    stream = client.conversations.transcripts(raw=True, on_error=on_error, **filters)
    # Asked before the first request: a destination that cannot be written is known at once.
    writer = await anyio.to_thread.run_sync(PartWriter, path, compression)
    try:
        lines: list[bytes] = []
        size = 0
        told = started
        async with stream:
            async for transcript in stream:
                lines.append(transcript.json)
                size += len(transcript.json)
                if size >= _BATCH_BYTES:
                    await anyio.to_thread.run_sync(writer.write, lines)
                    lines, size = [], 0
                if on_progress is not None and (now := time.monotonic()) - told >= _PROGRESS_SECONDS:
                    told = now
                    on_progress(stream.stats)
        if lines:
            await anyio.to_thread.run_sync(writer.write, lines)
        await anyio.to_thread.run_sync(writer.commit)
    finally:
        writer.discard()
    if on_progress is not None:
        on_progress(stream.stats)
    return ExportReport(
        path=str(path),
        conversations=stream.stats.conversations,
        chats=stream.stats.chats,
        bytes=writer.bytes_out,
        uncompressed_bytes=writer.bytes_in,
        seconds=time.monotonic() - started,
        requests=stream.stats.requests,
        retries=stream.stats.retries,
        skipped=stream.skipped,
    )


def _part(dest: Path, compression: Compression) -> tuple[Path, Compression]:
    """The file to write, and how: a destination named like a file is one."""
    if dest.is_dir() or not dest.name.endswith((".jsonl", ".jsonl.gz")):
        return dest / "conversations" / f"part-00000{_SUFFIXES[compression]}", compression
    return dest, "gzip" if dest.name.endswith(".gz") else "none"
