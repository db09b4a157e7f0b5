"""Doing what a run's plan says: many shards at a time, each into its own part, each told to the journal."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import msgspec

from .._aio.tasks import TaskGroup, cancel_all
from .._aio.threads import in_thread
from .._listing.filters import Filters
from .._listing.page_reader import BadRow, UndecodableError
from .._listing.partition_reader import PartitionReader
from .._listing.planner import even_cuts
from .._listing.survey import Span
from .._transport.session import Session
from ..errors import DecodeError
from ..models import RawTranscript, Skipped, StreamStats
from .commit_log import RunLog, split_of
from .formats.shard_writer import ShardWriter
from .holdings import Holdings, Version, pack_versions
from .outstanding import Gone, ask_again, find_gone, list_again
from .planning import AT_ONCE, ROWS
from .records import Commit, Deleted, Incomplete, Quarantined, Shard, ShardRecord
from .shard_buffer import DuplicateConversation, ShardBuffer
from .shard_reader import ShardReader, why

# A shard with so many rows, and about as many ahead as would make a shard of their own, is split.
_DENSE, _AHEAD = 3 * ROWS, ROWS
_MOST_PIECES = 64
PROGRESS_SECONDS = 0.1
_LEAST_CONCURRENCY = 16
# Shards walked at a time to begin with: where requests wait for each other, more would only end later, all of
# them, and less would be there after a kill. Another joins after so many seconds in which that was not so.
AT_FIRST, _JOINS_AFTER = 4, 0.01

OnError = Literal["raise", "skip"]


class ExportProgress(StreamStats, kw_only=True):
    """What an export has done so far; it counts what was done for this process, not what it found done.

    Attributes:
        expected: Conversations in all, about, where that is known.
        resumed: Conversations that were written before this process began.
        shards: In all, as far as known.
        shards_done: Of these.
    """

    expected: int | None = None
    resumed: int = 0
    shards: int = 0
    shards_done: int = 0


class EarlierRuns(Protocol):
    """What earlier runs have written into a destination."""

    @property
    def held(self) -> Holdings:
        """The conversations that are there."""
        ...

    def absent_from(self, met: Holdings) -> list[str]:
        """The ids of those that are not among these, and are not known to be deleted. It blocks."""
        ...


class Runner:
    """A run under way.

    Args:
        session: The session that sends the requests.
        filters: What is exported.
        run: What is to be done, and where that is noted.
        open_writer: Makes the writer of a shard's parts.
        on_error: `"raise"` ends the run at the first conversation that cannot be made whole.
        on_progress: Called some ten times a second.
        earlier: What earlier runs have written; None where there are none, or that does not matter.

    Attributes:
        at_once: Shards that are walked at a time, as far as there are so many.
    """

    def __init__(
        self,
        session: Session,
        filters: Filters,
        run: RunLog,
        open_writer: Callable[[str], ShardWriter],
        *,
        on_error: OnError,
        on_progress: Callable[[ExportProgress], None] | None,
        earlier: EarlierRuns | None = None,
    ) -> None:
        self._earlier = earlier
        self._session = session
        self._filters = filters
        self._run = run
        self._open_writer = open_writer
        self._on_error: OnError = on_error
        self._on_progress = on_progress
        self._told = 0.0
        self._readers: dict[str, ShardReader] = {}
        self._ended = StreamStats()
        self._buffers: dict[str, ShardBuffer] = {}
        commits = run.state.commits.values()
        self._resumed = sum(each.conversations for each in commits), sum(each.chats for each in commits)
        self.at_once = min(AT_FIRST, AT_ONCE)
        self._slots = asyncio.Semaphore(self.at_once)
        self._group: TaskGroup

    @property
    def span(self) -> Span | None:
        """The span of the list; None where it is one shard."""
        return self._run.plan.span

    async def run(self) -> ExportProgress:
        """Do all that is pending; the last shard comes last.

        Raises:
            AlliError: The first error, once all other work has ended. What was committed stays.
        """
        widening = asyncio.create_task(self._widen())
        try:
            return await self._do_all()
        finally:
            await cancel_all(widening)

    async def _widen(self) -> None:
        """Let more shards join, as long as there is room for their requests."""
        limiter = self._session.limiter
        while self.at_once < AT_ONCE:
            await asyncio.sleep(_JOINS_AFTER)
            if limiter.in_flight < limiter.max_in_flight / 2:
                self._slots.release()
                self.at_once += 1

    async def _do_all(self) -> ExportProgress:
        pending = self._run.state.pending
        # The last shard takes what moved while the others were read, so it comes after them.
        for shards in ([each for each in pending if each.end is not None], pending[-1:]):
            async with TaskGroup() as self._group:
                for shard in shards:
                    if not self._run.state.has_record(shard.name):
                        self._group.create_task(self._do(shard))
        self._tell(always=True)
        return self.progress()

    def progress(self) -> ExportProgress:
        """The numbers so far."""
        total = ExportProgress(
            expected=self._run.plan.expected,
            resumed=self._resumed[0],
            shards=len(self._run.state.commits) + len(self._run.state.pending),
            shards_done=len(self._run.state.commits),
        )
        written: list[Commit | ShardBuffer] = [*self._run.state.commits.values(), *self._buffers.values()]
        total.conversations = sum(each.conversations for each in written) - self._resumed[0]
        total.chats = sum(each.chats for each in written) - self._resumed[1]
        for stats in (self._ended, *(reader.stats for reader in self._readers.values())):
            add_traffic(total, stats)
        return total

    def _tell(self, *, always: bool = False) -> None:
        if self._on_progress is not None and (always or time.monotonic() - self._told >= PROGRESS_SECONDS):
            self._told = time.monotonic()
            self._on_progress(self.progress())

    # --- a shard ------------------------------------------------------------------------------------------

    async def _do(self, shard: Shard) -> None:
        """Write a shard when it is its turn."""
        async with self._slots:
            await self._write_shard(shard)

    async def _write_shard(self, shard: Shard) -> None:
        """Write a shard, or what is left of it once it was split, and note it."""
        again: set[str] = set()
        while True:
            writer = await in_thread(self._open_writer, shard.name, undo=_discard)
            buffer = ShardBuffer(writer, again)
            try:
                await self._fill(shard, buffer)
            except DuplicateConversation as repeated:
                again |= repeated.ids
                shard = buffer.shard or shard
            else:
                return
            finally:
                await buffer.discard()

    async def _fill(self, shard: Shard, buffer: ShardBuffer) -> None:
        began = time.monotonic()
        session, plan = self._session, self._run.plan
        at_once = max(_LEAST_CONCURRENCY, session.config.max_concurrency // max(1, len(plan.shards)))
        buffer.shard = shard
        cutter = _Cutter(self, buffer)
        reader = ShardReader(
            session,
            self._filters,
            shard,
            plan.span,
            plan.profile,
            concurrency=min(session.config.max_concurrency, at_once),
            commits=self._committed() if shard.end is None else (),
            on_page=cutter.look,
            page_size=plan.page_size,
        )
        self._readers[shard.name], self._buffers[shard.name] = reader, buffer
        try:
            await self._take(reader, buffer)
            commit = await self._commit(buffer.shard, reader, buffer, began)
            await self._note(ShardRecord(shard=buffer.shard.name, commit=commit))
        finally:
            del self._readers[shard.name], self._buffers[shard.name]
            add_traffic(self._ended, reader.stats)
        self._tell()

    def _committed(self) -> list[tuple[Shard, Commit]]:
        """The shards that are written, and what was written of each."""
        state = self._run.state
        return [(shard, state.commits[shard.name]) for shard in state.done]

    async def _take(self, reader: ShardReader, buffer: ShardBuffer) -> None:
        """Read a shard into its parts."""
        async with reader, aclosing(reader.records()) as records:
            async for transcript in records:
                await self._add(buffer, transcript)
                self._tell()
                self._look_at(reader)
        buffer.deleted.update(dict.fromkeys(reader.gone))
        if buffer.shard is not None and buffer.shard.end is None:
            await self._take_outstanding(reader, buffer)
            await self._take_by_id(reader, buffer, reader.deferred_ids())
            if self._run.plan.kind == "refresh" and self._earlier is not None:
                await self._take_absent(reader, buffer, self._earlier)
        self._look_at(reader)

    async def _add(self, buffer: ShardBuffer, transcript: RawTranscript) -> None:
        """Take a conversation, unless an incremental run meets what an earlier run has written just so."""
        if self._earlier is not None and self._run.plan.kind == "incremental" and not buffer.has([transcript.id]):
            version = Version.of(transcript.json, transcript.chat_count)
            if self._earlier.held.get(transcript.id) == version:
                return
        await buffer.add(transcript)

    async def _take_outstanding(self, reader: ShardReader, buffer: ShardBuffer) -> None:
        """Ask again for what earlier runs could not make whole, decode or list."""
        plan, filters = self._run.plan, self._filters.without_last_chat()
        ids, bad = await list_again(self._session.counting(reader.stats), filters, plan)
        for row in bad:
            (reader.bad if row.raw else reader.skipped).append(row if row.raw else row.skipped)  # type: ignore[arg-type]
        held = self._earlier.held if self._earlier is not None else Holdings()
        new = [each for each in ids if each not in held]
        await self._take_by_id(reader, buffer, dict.fromkeys([*plan.again, *new]))

    async def _take_absent(self, reader: ShardReader, buffer: ShardBuffer, earlier: EarlierRuns) -> None:
        """Find out what became of conversations that are held, and that a refresh has not met."""
        met = [each.id for each in reader.skipped if each.id] + [each.id for each in reader.bad]
        met += buffer.deleted
        commits = [commit for _, commit in self._committed()]
        for commit in commits:
            met += [each.id for each in commit.incomplete if each.id]
            met += [each.id for each in commit.quarantined if each.id]
            met += [each.id for each in commit.deleted]
        written = [*(commit.written for commit in commits), pack_versions(buffer.versions)]
        written.append(pack_versions(dict.fromkeys(met, Version(0, 0))))
        absent = await in_thread(earlier.absent_from, Holdings(written))
        if self._filters.selects_all and not self._filters.on_first_chat:
            await self._take_by_id(reader, buffer, absent)
        else:
            # What is still known has left the filter: its last version stays.
            gone = await find_gone(self._session.counting(reader.stats), absent)
            buffer.deleted.update(dict.fromkeys(gone))

    async def _take_by_id(self, reader: ShardReader, buffer: ShardBuffer, ids: Iterable[str]) -> None:
        """Ask for conversations by their ids; what the server does not know any more was deleted."""
        met = {each.id for each in reader.skipped}
        wanted = [each for each in ids if each not in met and not buffer.has([each])]
        async with aclosing(ask_again(self._session.counting(reader.stats), self._filters, wanted)) as answers:
            async for answer in answers:
                if isinstance(answer, Skipped):
                    reader.skipped.append(answer)
                elif isinstance(answer, Gone):
                    buffer.deleted[answer.id] = None
                else:
                    await buffer.add(answer)

    async def _note(self, record: ShardRecord) -> None:
        # The file in a thread, the state here, where it is read.
        await in_thread(self._run.write, record)
        self._run.state.apply(record)

    def _spawn(self, shard: Shard) -> None:
        self._group.create_task(self._do(shard))

    def _look_at(self, reader: ShardReader) -> None:
        if self._on_error == "raise":
            for skipped in reader.skipped:
                raise skipped.error
            for bad in reader.bad:
                raise bad.error

    async def _commit(self, done: Shard, reader: ShardReader, buffer: ShardBuffer, began: float) -> Commit:
        parts = await buffer.end(done.name)
        incomplete = [each for each in reader.skipped if not isinstance(each.error, DecodeError) or not each.id]
        undecodable = [each for each in reader.skipped if isinstance(each.error, DecodeError) and each.id]
        unread = [_bad_of(row, self._span_of(done)) for row in reader.bad] + [
            Quarantined(id=each.id, why=why(each.error), record=_body_of(each.error)) for each in undecodable
        ]
        return msgspec.structs.replace(
            reader.result(),
            parts=parts,
            conversations=buffer.conversations,
            chats=buffer.chats,
            uncompressed_bytes=buffer.writer.bytes_in,
            incomplete=[Incomplete(id=each.id, why=why(each.error), span=each.span) for each in incomplete],
            quarantined=[*buffer.bad, *(_unread(each, buffer) for each in unread)],
            written=pack_versions(buffer.versions),
            deleted=[Deleted(id=each, noticed_at=_now()) for each in buffer.deleted],
            requests=reader.stats.requests,
            retries=reader.stats.retries,
            seconds=round(time.monotonic() - began, 3),
        )

    def _span_of(self, shard: Shard) -> tuple[float, float] | None:
        """Where to look again for a row of a shard of which not even the id can be read; None for everywhere."""
        return None if shard.end is None else (shard.start or 0.0, shard.end)

    # --- a shard that is too dense ------------------------------------------------------------------------

    async def split(self, shard: Shard, cuts: Sequence[float]) -> Shard:
        """Note that a shard was cut, and have others do the rest; gives what is left of it."""
        into = split_of(shard, cuts)
        await self._note(ShardRecord(shard=shard.name, split=into))
        for other in into[1:]:
            self._spawn(other)
        return into[0]


class _Cutter:
    """Cuts a shard a little ahead of its reader, if much lies behind that.

    Args:
        runner: What notes the cut.
        buffer: The shard, and what was written of it.
    """

    def __init__(self, runner: Runner, buffer: ShardBuffer) -> None:
        self._runner = runner
        self._filling = buffer
        self._next_look = _DENSE

    async def look(self, reader: PartitionReader[Any], position: float) -> None:
        """Look at how dense a shard is; called after each of its pages."""
        if reader.own < self._next_look:
            return
        self._next_look += ROWS
        shard, span = self._filling.shard, self._runner.span
        if shard is None or span is None or shard.end is None:
            return
        start = span.low if shard.start is None else shard.start
        way = max(position - start, 0.0)
        ahead = reader.own * (shard.end - position) / way if way > 0 else math.inf
        step = max(way / 50, 4 * span.resolution)
        at = position + step
        while ahead >= _AHEAD and at + 4 * span.resolution < shard.end:
            at = round(at, 6)
            if await reader.try_cut(at):
                pieces = max(1, min(_MOST_PIECES, round(min(ahead, _MOST_PIECES * ROWS) / ROWS)))
                cuts = [at, *even_cuts(at, shard.end, pieces, span.resolution)]
                self._filling.shard = await self._runner.split(shard, cuts)
                return
            step *= 2
            at += step


def _discard(writer: ShardWriter) -> None:
    writer.discard()


def _bad_of(row: BadRow, span: tuple[float, float] | None) -> Quarantined:
    return Quarantined(
        id=row.id if row.is_known else None,
        why=why(row.error),
        record=row.raw.decode("utf-8", "replace"),
        span=None if row.is_known else row.span or span,
    )


def _unread(bad: Quarantined, buffer: ShardBuffer) -> Quarantined:
    """A record that was not read; its text is left out where an export leaves out fields."""
    return msgspec.structs.replace(bad, record=None) if buffer.writer.is_projected else bad


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _body_of(error: Exception) -> str | None:
    return error.body.decode("utf-8", "replace") if isinstance(error, UndecodableError) else None


def add_traffic(total: StreamStats, stats: StreamStats) -> None:
    """Put what was sent and received to what was; conversations are counted where they are written."""
    for name in ("requests", "retries", "refused", "bytes", "seconds_waited", "in_flight"):
        setattr(total, name, getattr(total, name) + getattr(stats, name))
