"""An export into a single file, which is there whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..client import AlliClient
from ..errors import DecodeError
from ..models import Skipped, StreamStats
from .filling import BATCH_BYTES
from .parts import Lines
from .report import ExportReport
from .running import PROGRESS_SECONDS, OnError
from .stores import FileSink
from .text import NO_TEXT, is_utf8
from .threads import in_thread


async def export_file(
    client: AlliClient,
    path: Path,
    *,
    on_error: OnError,
    on_progress: Callable[[Any], None] | None,
    filters: Any,
) -> ExportReport:
    """Write every conversation to a file, compressed as its name says."""
    compression = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix, "none")
    started = time.monotonic()
    stream = client.conversations.transcripts(raw=True, on_error=on_error, **filters)
    # Asked before the first request: a destination that cannot be written is known at once.
    lines = await in_thread(lambda: Lines(FileSink(path, path.parent), compression), undo=Lines.discard)
    batch: list[bytes] = []
    size = lost = 0
    told = started
    stats: StreamStats = stream.stats
    try:
        async with stream:
            async for transcript in stream:
                if not is_utf8(transcript.json):
                    error = DecodeError(NO_TEXT, path="$")
                    if on_error == "raise":
                        raise error
                    stream.skipped.append(Skipped(transcript.id, error))
                    lost += transcript.chat_count
                    continue
                batch.append(transcript.json)
                size += len(transcript.json)
                if size >= BATCH_BYTES:
                    await in_thread(lines.write, batch)
                    batch, size = [], 0
                if on_progress is not None and (now := time.monotonic()) - told >= PROGRESS_SECONDS:
                    told = now
                    on_progress(stats)
        if batch:
            await in_thread(lines.write, batch)
        part = await in_thread(lines.commit, path.name)
    finally:
        lines.discard()
    if on_progress is not None:
        on_progress(stats)
    return ExportReport(
        path=str(path),
        conversations=lines.rows,
        chats=stats.chats - lost,
        bytes=part.bytes,
        uncompressed_bytes=lines.bytes_in,
        seconds=time.monotonic() - started,
        requests=stats.requests,
        retries=stats.retries,
        skipped=stream.skipped,
    )
