"""Exporting one shard: read it, write it to parts of its own, and record what became of it.

Where the record goes is not decided here, so the export's process and a cluster's worker write shards alike.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

import msgspec

from .._aio.threads import in_thread
from .._listing.page_reader import BadRow
from ..errors import DecodeError
from ..models import RawTranscript, StreamStats
from .commit_log import split_of
from .cutting import CurrentShard, ShardCutter
from .formats.shard_writer import ShardWriter
from .holdings import Version, pack_versions
from .last_shard import LastShard
from .progress import ExportProgress, add_traffic
from .records import Commit, Deleted, Incomplete, Quarantined, Shard, ShardRecord
from .run_context import RunContext
from .shard_buffer import DuplicateConversation, ShardBuffer
from .shard_reader import ShardReader, why
from .undecodable import UndecodableError

# Called whenever an export may have got further.
OnChange = Callable[[], None]


class ShardExporter:
    """Exports single shards, as many at a time as its caller likes.

    Args:
        context: What all shards of the run share.
        record: Records what became of a shard.

    Attributes:
        ended: Requests of the shards that have ended, and of whatever else is counted here.
    """

    def __init__(self, context: RunContext, record: Callable[[ShardRecord], Awaitable[None]]) -> None:
        self.ended = StreamStats()
        self._context = context
        self._record = record
        self._under_way: dict[str, tuple[ShardReader, ShardBuffer]] = {}

    def progress(self) -> ExportProgress:
        """The conversations and chats of the shards being written, and the requests of all shards."""
        total = ExportProgress()
        add_traffic(total, self.ended)
        for reader, buffer in self._under_way.values():
            total.conversations += buffer.conversations
            total.chats += buffer.chats
            add_traffic(total, reader.stats)
        return total

    async def export(
        self, shard: Shard, commits: Sequence[tuple[Shard, Commit]] = (), on_change: OnChange = lambda: None
    ) -> None:
        """Write a shard, or what is left of it once it was split, and record it.

        Args:
            shard: The shard.
            commits: For the last shard: the other shards, and what was committed of each.
            on_change: Called whenever the export may have got further.

        Raises:
            AlliError: The shard cannot be written. What was committed stays.
        """
        write_last: set[str] = set()
        current = CurrentShard(shard)
        while True:
            writer = await in_thread(self._context.open_writer, current.shard.name, undo=_discard)
            buffer = ShardBuffer(writer, write_last, batch_bytes=self._context.tuning.batch_bytes)
            try:
                await self._fill(current, buffer, commits, on_change)
            except DuplicateConversation as duplicate:
                write_last |= duplicate.ids
            else:
                return
            finally:
                await buffer.discard()

    async def _fill(
        self,
        current: CurrentShard,
        buffer: ShardBuffer,
        commits: Sequence[tuple[Shard, Commit]],
        on_change: OnChange,
    ) -> None:
        began = time.monotonic()
        # The name by which the shard is followed here stays when the shard is split.
        shard = current.shard
        reader = self._reader(current, commits)
        self._under_way[shard.name] = reader, buffer
        try:
            await self._read_into(reader, buffer, on_change)
            if shard.end is None:
                await LastShard(self._context, reader, buffer, commits).read()
            self._raise_skipped(reader)
            commit = await _finish_shard(current.shard, reader, buffer, began)
            await self._record(ShardRecord(shard=current.shard.name, commit=commit))
        finally:
            del self._under_way[shard.name]
            add_traffic(self.ended, reader.stats)
        on_change()

    def _reader(self, current: CurrentShard, commits: Sequence[tuple[Shard, Commit]]) -> ShardReader:
        session, plan, tuning = self._context.session, self._context.plan, self._context.tuning
        most = session.config.max_concurrency
        each = max(tuning.least_concurrency, most // max(1, len(plan.shards)))
        cutter = ShardCutter(current, plan.span, self._split, tuning)
        return ShardReader(
            session,
            self._context.filters,
            current.shard,
            plan.span,
            plan.profile,
            concurrency=min(most, each),
            commits=commits,
            on_page=cutter.after_page,
            page_size=plan.page_size,
        )

    async def _read_into(self, reader: ShardReader, buffer: ShardBuffer, on_change: OnChange) -> None:
        """Read the conversations that a shard lists into its parts."""
        async with reader, aclosing(reader.transcripts()) as transcripts:
            async for transcript in transcripts:
                if not self._is_held(transcript, buffer):
                    await buffer.add(transcript)
                on_change()
                self._raise_skipped(reader)
        buffer.deleted.update(dict.fromkeys(reader.gone))

    def _is_held(self, transcript: RawTranscript, buffer: ShardBuffer) -> bool:
        """Whether an incremental run meets a conversation that an earlier run has written just so."""
        earlier = self._context.earlier
        if earlier is None or self._context.plan.kind != "incremental" or buffer.has([transcript.id]):
            return False
        return earlier.holdings.get(transcript.id) == Version.of(transcript.json, transcript.chat_count)

    def _raise_skipped(self, reader: ShardReader) -> None:
        """Raise the error of a conversation that was passed over, where the run is to end at the first one."""
        if self._context.on_error == "raise":
            for error in (*(each.error for each in reader.skipped), *(each.error for each in reader.bad)):
                raise error

    async def _split(self, shard: Shard, cuts: Sequence[float]) -> Shard:
        """Record a split.

        Returns:
            The first piece, which the caller goes on reading; the executor writes the other pieces.
        """
        into = split_of(shard, cuts)
        await self._record(ShardRecord(shard=shard.name, split=into))
        return into[0]


def _discard(writer: ShardWriter) -> None:
    writer.discard()


async def _finish_shard(shard: Shard, reader: ShardReader, buffer: ShardBuffer, began: float) -> Commit:
    """Finish the parts of a shard.

    Returns:
        The content of the shard's record.
    """
    parts = await buffer.end(shard.name)
    # An undecodable row without an id counts as incomplete: its span is read again.
    incomplete = [each for each in reader.skipped if not isinstance(each.error, DecodeError) or not each.id]
    undecodable = [each for each in reader.skipped if isinstance(each.error, DecodeError) and each.id]
    # Where to look again for a row of which not even the id can be read; None for everywhere.
    span = None if shard.end is None else (shard.start or 0.0, shard.end)
    unread = [_quarantined(row, span) for row in reader.bad] + [
        Quarantined(id=each.id, why=why(each.error), text=_body_of(each.error)) for each in undecodable
    ]
    facts = reader.facts()
    return Commit(
        parts=parts,
        conversations=buffer.conversations,
        chats=buffer.chats,
        uncompressed_bytes=buffer.writer.bytes_in,
        incomplete=[Incomplete(id=each.id, why=why(each.error), span=each.span) for each in incomplete],
        quarantined=[*buffer.bad, *(_without_text(each, buffer) for each in unread)],
        written=pack_versions(buffer.versions),
        deleted=[Deleted(id=each, noticed_at=_now()) for each in buffer.deleted],
        requests=reader.stats.requests,
        retries=reader.stats.retries,
        seconds=round(time.monotonic() - began, 3),
        own_count=facts.own_count,
        last_own_id=facts.last_own_id,
        has_moved=facts.has_moved,
        ids=facts.ids,
        deferred=list(facts.deferred),
    )


def _quarantined(row: BadRow, span: tuple[float, float] | None) -> Quarantined:
    return Quarantined(
        id=row.id if row.is_known else None,
        why=why(row.error),
        text=row.raw.decode("utf-8", "replace"),
        span=None if row.is_known else row.span or span,
    )


def _without_text(bad: Quarantined, buffer: ShardBuffer) -> Quarantined:
    """The same entry, without its text where the export leaves out or hashes fields."""
    return msgspec.structs.replace(bad, text=None) if buffer.writer.is_projected else bad


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _body_of(error: Exception) -> str | None:
    return error.body.decode("utf-8", "replace") if isinstance(error, UndecodableError) else None
