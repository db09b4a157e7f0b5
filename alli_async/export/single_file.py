"""An export into a single file, which is there whole or not at all."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from .._aio.threads import in_thread
from .._client_session import session_of
from .._listing.filters import Filters
from .._transcripts.codec import RAW_CODEC
from .._transcripts.stream import TranscriptStream
from ..client import AlliClient
from ..errors import DecodeError
from ..models import RawTranscript, Skipped
from .formats.csv import CsvRows, CsvTable, read_conversations
from .formats.jsonl import Lines, read_lines
from .formats.projection import Projection
from .formats.utf8 import NO_TEXT, is_utf8
from .records import Part
from .report import ExportReport
from .request import ExportRequest
from .run_context import OnError
from .storage.addresses import FILE_KINDS, file_ending
from .storage.directory import DirectoryStore
from .storage.files import directory_mode, make_directory
from .storage.locking import FileLock
from .storage.store import PARTIAL, file_errors
from .tuning import Tuning


class _Head(msgspec.Struct):
    id: str


_head_of = msgspec.json.Decoder(_Head).decode


class _File:
    """The lines of the file. The methods block and are meant for a worker thread, one at a time.

    Attributes:
        lines: The part that the lines are written to.
        conversations: Number of conversations.
    """

    def __init__(self, path: Path, mode: int, projection: Projection, copied_lines: int) -> None:
        self._name = path.name
        self._copied_lines = copied_lines
        self._projection = projection
        self.conversations = 0
        by_name = FILE_KINDS.get(file_ending(path.name) or "", ("jsonl", "none"))
        self._is_csv, self._compression = by_name[0] == "csv", by_name[1]
        # A token in the temporary names keeps other exports out of the files of this one.
        token = secrets.token_hex(4)
        self._temporary = f"{path.name}.{token}"
        # The name of the first version while the second one is written; its ending says the compression.
        self._first_version = f".first-{token}-{path.name}"
        self._store = DirectoryStore(path.parent, mode)
        with file_errors("write", path):
            make_directory(path.parent, directory_mode(mode))
        self._lock = FileLock(path.with_name(f".{path.name}.lock"), path, mode)
        try:
            self._remove_leftovers(path)
            self.lines = self._begin()
        except BaseException:
            self._lock.release()
            raise

    def _remove_leftovers(self, path: Path) -> None:
        """Remove the temporary files of killed exports: the lock proves that no other export is running."""
        name = re.escape(path.name)
        # Names that earlier versions of this package gave are among them.
        leftover = re.compile(rf"\.{name}(\.[0-9a-f]{{8}})?{re.escape(PARTIAL)}|\.first-([0-9a-f]{{8}}-)?{name}")
        with file_errors("clean", path.parent):
            for left in path.parent.glob(".*"):
                if leftover.fullmatch(left.name):
                    left.unlink(missing_ok=True)

    def write(self, conversations: list[bytes]) -> None:
        """Add conversations as the server sent them."""
        if conversations:
            self.lines.write([self._projection.apply(each) for each in conversations])
            self.conversations += len(conversations)

    @property
    def bytes_in(self) -> int:
        """Number of bytes before compression."""
        return self.lines.bytes_in

    def drop(self, ids: set[str], before: int) -> None:
        """Write the file once more, without the first versions of conversations that came again.

        Args:
            ids: Ids of these conversations.
            before: Number of the line from which their last versions stand.
        """
        try:
            first = self.lines.commit(self._first_version)
            self.lines = self._begin()
            if isinstance(self.lines, CsvRows):
                self._copy_rows(self.lines, first, ids, before)
            else:
                self._copy_lines(self.lines, first, ids, before)
        finally:
            self._store.remove(self._first_version)

    def _copy_lines(self, out: Lines, first: Part, ids: set[str], before: int) -> None:
        batch: list[bytes] = []
        self.conversations = 0
        for number, line in enumerate(read_lines(self._store, first)):
            if number < before and _head_of(line).id in ids:
                continue
            self.conversations += 1
            batch.append(line)
            if len(batch) >= self._copied_lines:
                out.write(batch)
                batch = []
        if batch:
            out.write(batch)

    def _copy_rows(self, out: CsvRows, first: Part, ids: set[str], before: int) -> None:
        self.conversations = 0
        for number, each in enumerate(read_conversations(self._store, first)):
            if number >= before or each.id not in ids:
                self.conversations += 1
                out.copy(each.rows)

    def commit(self) -> int:
        """Rename the temporary file to the final name. Returns its size in bytes."""
        return self.lines.commit(self._name).bytes

    def discard(self) -> None:
        """Delete the temporary file, unless it was committed, and release the lock."""
        self.lines.discard()
        self._lock.release()

    def _begin(self) -> Lines | CsvRows:
        sink = self._store.sink(self._temporary)
        if self._is_csv:
            return CsvRows(sink, self._compression, CsvTable(self._projection))
        return Lines(sink, self._compression)


def raw_stream(
    client: AlliClient, filters: Filters, *, on_error: OnError, page_size: int
) -> TranscriptStream[RawTranscript]:
    """The stream of `transcripts(raw=True)`, with pages of a size."""
    session = session_of(client)
    return TranscriptStream(
        session, RAW_CODEC, filters, concurrency=None, ordered=False, on_error=on_error, page_size=page_size
    )


async def export_file(
    client: AlliClient,
    path: Path,
    request: ExportRequest,
    *,
    on_progress: Callable[[Any], None] | None,
    tuning: Tuning,
) -> ExportReport:
    """Write every conversation to a file, once, compressed as its name says.

    Args:
        client: The client to read with.
        path: The path of the file.
        request: What was asked for.
        on_progress: Called some ten times a second with the numbers so far; None for no calls.
        tuning: The numbers that the export runs by.
    """
    started = time.monotonic()
    on_error = request.on_error or "raise"
    stream = raw_stream(client, request.filters, on_error=on_error, page_size=request.page_size)
    # The file is opened before the first request: a destination that cannot be written is refused at once.
    file = await in_thread(_File, path, request.mode, request.projection, tuning.copied_lines, undo=_File.discard)
    filling = _Filling(stream, file, on_error, on_progress, tuning)
    try:
        await filling.run()
        size = await in_thread(file.commit)
    finally:
        file.discard()
    if on_progress is not None:
        on_progress(stream.stats)
    return filling.report(path, size, time.monotonic() - started)


class _Filling:
    """Writes the conversations of a stream into a file, in batches.

    Args:
        stream: The stream.
        file: The file.
        on_error: `"raise"` ends the export at a conversation that is not UTF-8; `"skip"` leaves it out.
        on_progress: Called with the numbers so far.
        tuning: How large a batch is, and how often progress is reported.
    """

    def __init__(
        self,
        stream: TranscriptStream[RawTranscript],
        file: _File,
        on_error: OnError,
        on_progress: Callable[[Any], None] | None,
        tuning: Tuning,
    ) -> None:
        # Chats of conversations that are not UTF-8: the stream counts them, and the file lacks them.
        self._lost_chats = 0
        self._stream = stream
        self._file = file
        self._on_error = on_error
        self._on_progress = on_progress
        self._tuning = tuning
        self._batch: list[bytes] = []
        self._size = self._lines = 0
        self._reported_at = time.monotonic()

    async def run(self) -> None:
        """Write all conversations, and the last version of a conversation that came again."""
        stream, file = self._stream, self._file
        # Number of lines when the first conversation came again. Last versions stand after these lines.
        lines_before: int | None = None
        async with stream:
            async for transcript in stream:
                if lines_before is None and stream.again:
                    lines_before = self._lines
                if is_utf8(transcript.json):
                    await self._add(transcript.json)
                else:
                    self._skip(transcript)
                self._report_progress()
        await in_thread(file.write, self._batch)
        if lines_before is not None:
            await in_thread(file.drop, stream.again, lines_before)

    def report(self, path: Path, size: int, seconds: float) -> ExportReport:
        """The report of the export.

        Args:
            path: The path of the file.
            size: Size of the file in bytes.
            seconds: Seconds that the export took.
        """
        stats = self._stream.stats
        return ExportReport(
            path=str(path),
            conversations=self._file.conversations,
            chats=stats.chats - self._lost_chats,
            bytes=size,
            uncompressed_bytes=self._file.bytes_in,
            seconds=seconds,
            requests=stats.requests,
            retries=stats.retries,
            skipped=self._stream.skipped,
        )

    async def _add(self, conversation: bytes) -> None:
        self._batch.append(conversation)
        self._size += len(conversation)
        self._lines += 1
        if self._size >= self._tuning.batch_bytes:
            await in_thread(self._file.write, self._batch)
            self._batch, self._size = [], 0

    def _skip(self, transcript: RawTranscript) -> None:
        error = DecodeError(NO_TEXT, path="$")
        if self._on_error == "raise":
            raise error
        self._stream.skipped.append(Skipped(transcript.id, error))
        self._lost_chats += transcript.chat_count

    def _report_progress(self) -> None:
        now = time.monotonic()
        if self._on_progress is not None and now - self._reported_at >= self._tuning.progress_seconds:
            self._reported_at = now
            self._on_progress(self._stream.stats)
