"""An export into a single file, which is there whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from .._aio.threads import in_thread
from ..client import AlliClient
from ..errors import DecodeError
from ..models import Skipped, StreamStats
from .formats.jsonl import Lines, read_lines
from .formats.utf8 import NO_TEXT, is_utf8
from .report import ExportReport
from .running import PROGRESS_SECONDS, OnError
from .shard_buffer import BATCH_BYTES
from .storage.directory import DirectoryStore


class _Head(msgspec.Struct):
    id: str


_head_of = msgspec.json.Decoder(_Head).decode

# Lines that are written at a time when a file is written once more.
_BATCH = 256


class _File:
    """The lines of the file. The methods block and are meant for a worker thread, one at a time.

    Attributes:
        lines: What they are written to.
    """

    def __init__(self, path: Path, mode: int) -> None:
        self._name = path.name
        # What it is called while it is written once more. Where that was killed, the next export removes it.
        self._first = f".first-{path.name}"
        self._compression = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix, "none")
        self._store = DirectoryStore(path.parent, mode)
        self.lines = self._begin()
        self._store.remove(self._first)

    def write(self, lines: list[bytes]) -> None:
        """Add lines."""
        if lines:
            self.lines.write(lines)

    def drop(self, ids: set[str], before: int) -> None:
        """Write it once more, without these conversations where they stand before a line."""
        try:
            first = self.lines.commit(self._first)
            self.lines = self._begin()
            batch: list[bytes] = []
            for number, line in enumerate(read_lines(self._store, first)):
                if number < before and _head_of(line).id in ids:
                    continue
                batch.append(line)
                if len(batch) >= _BATCH:
                    self.lines.write(batch)
                    batch = []
            self.write(batch)
        finally:
            self._store.remove(self._first)

    def commit(self) -> int:
        """Make it the file; gives how many bytes it has."""
        return self.lines.commit(self._name).bytes

    def discard(self) -> None:
        """Leave nothing behind. After `commit` it does nothing."""
        self.lines.discard()

    def _begin(self) -> Lines:
        return Lines(self._store.sink(self._name), self._compression)


async def export_file(
    client: AlliClient,
    path: Path,
    *,
    mode: int,
    on_error: OnError,
    on_progress: Callable[[Any], None] | None,
    filters: Any,
) -> ExportReport:
    """Write every conversation to a file, once, compressed as its name says."""
    started = time.monotonic()
    stream = client.conversations.transcripts(raw=True, on_error=on_error, **filters)
    # Asked before the first request: a destination that cannot be written is known at once.
    file = await in_thread(_File, path, mode, undo=_File.discard)
    batch: list[bytes] = []
    size = lines = lost = 0
    # How many lines there were when the first conversation came again: those after it are the whole ones.
    once: int | None = None
    told = started
    stats: StreamStats = stream.stats
    try:
        async with stream:
            async for transcript in stream:
                if once is None and stream.again:
                    once = lines
                if not is_utf8(transcript.json):
                    error = DecodeError(NO_TEXT, path="$")
                    if on_error == "raise":
                        raise error
                    stream.skipped.append(Skipped(transcript.id, error))
                    lost += transcript.chat_count
                    continue
                batch.append(transcript.json)
                size += len(transcript.json)
                lines += 1
                if size >= BATCH_BYTES:
                    await in_thread(file.write, batch)
                    batch, size = [], 0
                if on_progress is not None and (now := time.monotonic()) - told >= PROGRESS_SECONDS:
                    told = now
                    on_progress(stats)
        await in_thread(file.write, batch)
        if once is not None:
            await in_thread(file.drop, stream.again, once)
        written = await in_thread(file.commit)
    finally:
        file.discard()
    if on_progress is not None:
        on_progress(stats)
    return ExportReport(
        path=str(path),
        conversations=file.lines.rows,
        chats=stats.chats - lost,
        bytes=written,
        uncompressed_bytes=file.lines.bytes_in,
        seconds=time.monotonic() - started,
        requests=stats.requests,
        retries=stats.retries,
        skipped=stream.skipped,
    )
