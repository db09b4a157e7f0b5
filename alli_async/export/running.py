"""Doing what a run's plan says: many shards at a time, each into its own part, each told to the journal."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Literal

import msgspec
from msgspec import Struct

from .._bulk.lenient import UndecodableError
from .._bulk.shards import Shard, following, key_of
from .._bulk.shardwalk import ShardWalk, walk_shard, why
from .._bulk.tasks import first_error
from .._transport.filters import Filters
from .._transport.session import Session
from ..errors import DecodeError
from ..models import RawTranscript, Skipped, StreamStats
from .filling import Again, Filling
from .journal import Run
from .ledger import split_of
from .missing import ask_again
from .parts import ShardWriter
from .planning import AT_ONCE, ROWS, even_cuts
from .records import Bad, Commit, Fate, Missing
from .threads import in_thread

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


class Runner:
    """A run under way.

    Args:
        session: Where the requests go.
        filters: What is exported.
        run: What is to be done, and where that is noted.
        open_writer: Makes the writer of a shard's parts.
        on_error: `"raise"` ends the run at the first conversation that cannot be made whole.
        on_progress: Called some ten times a second.

    Attributes:
        at_once: Shards that are walked at a time, as far as there are so many.
    """

    def __init__(
        self,
        session: Session,
        filters: Filters,
        run: Run,
        open_writer: Callable[[str], ShardWriter],
        *,
        on_error: OnError,
        on_progress: Callable[[ExportProgress], None] | None,
    ) -> None:
        self._session = session
        self._filters = filters
        self._run = run
        self._open_writer = open_writer
        self._on_error = on_error
        self._on_progress = on_progress
        self._told = 0.0
        self._walks: dict[str, ShardWalk] = {}
        self._ended = StreamStats()
        self._fillings: dict[str, Filling] = {}
        commits = run.ledger.commits.values()
        self._resumed = sum(each.conversations for each in commits), sum(each.chats for each in commits)
        self.at_once = min(AT_FIRST, AT_ONCE)
        self._slots = asyncio.Semaphore(self.at_once)
        self._group: asyncio.TaskGroup

    async def run(self) -> ExportProgress:
        """Do all that is pending; the open end is among the last.

        Raises:
            AlliError: The first error, once all other work has ended. What was committed stays.
        """
        widening = asyncio.create_task(self._widen())
        try:
            return await self._do_all()
        finally:
            widening.cancel()

    async def _widen(self) -> None:
        """Let more shards join, as long as there is room for their requests."""
        throttle = self._session.throttle
        while self.at_once < AT_ONCE:
            await asyncio.sleep(_JOINS_AFTER)
            if throttle.in_flight < throttle.allowance.limit / 2:
                self._slots.release()
                self.at_once += 1

    async def _do_all(self) -> ExportProgress:
        pending = self._run.ledger.pending
        windows = [shard for shard in pending if shard.end is not None]
        ends = [shard for shard in pending if shard.end is None]
        begun = [asyncio.Event() for _ in windows]
        error: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as self._group:
                for shard, event in zip(windows, begun, strict=True):
                    self._group.create_task(self._do(shard, event))
                for shard in ends:
                    self._group.create_task(self._do_end(shard, begun))
        except BaseExceptionGroup as failures:
            error = first_error(failures)
        if error is not None:
            raise error
        self._tell(always=True)
        return self.progress()

    def progress(self) -> ExportProgress:
        """The numbers so far."""
        total = ExportProgress(
            expected=self._run.plan.expected,
            resumed=self._resumed[0],
            shards=len(self._run.ledger.commits) + len(self._run.ledger.pending),
            shards_done=len(self._run.ledger.commits),
        )
        written: list[Commit | Filling] = [*self._run.ledger.commits.values(), *self._fillings.values()]
        total.conversations = sum(each.conversations for each in written) - self._resumed[0]
        total.chats = sum(each.chats for each in written) - self._resumed[1]
        for stats in (self._ended, *(walk.stats for walk in self._walks.values())):
            add_traffic(total, stats)
        return total

    def _tell(self, *, always: bool = False) -> None:
        if self._on_progress is not None and (always or time.monotonic() - self._told >= PROGRESS_SECONDS):
            self._told = time.monotonic()
            self._on_progress(self.progress())

    # --- a shard ------------------------------------------------------------------------------------------

    async def _do(self, shard: Shard, begun: asyncio.Event | None = None) -> None:
        """Write a window when it is its turn."""
        async with self._slots:
            if begun is not None:
                begun.set()
            await self._write_shard(shard)

    async def _do_end(self, shard: Shard, begun: Sequence[asyncio.Event]) -> None:
        """Write the open end when about the last windows are next.

        As late as that, for what comes meanwhile; but not after them, and without waiting for a slot: most of its
        requests wait for each other, and everybody would wait for it.
        """
        for event in begun[:-AT_ONCE]:
            await event.wait()
        await self._write_shard(shard)

    async def _write_shard(self, shard: Shard) -> None:
        """Write a shard, or what is left of it once it was split, and note it."""
        again: set[str] = set()
        while True:
            writer = await in_thread(self._open_writer, shard.name, undo=_discard)
            filling = Filling(writer, again)
            try:
                await self._fill(shard, filling)
            except Again as repeated:
                again |= repeated.ids
                shard = filling.shard or shard
            else:
                return
            finally:
                await filling.discard()

    async def _fill(self, shard: Shard, filling: Filling) -> None:
        began = time.monotonic()
        session, plan = self._session, self._run.plan
        at_once = max(_LEAST_CONCURRENCY, session.config.max_concurrency // max(1, len(plan.shards)))
        concurrency = min(session.config.max_concurrency, at_once)
        timed = self._rows() if shard.end is None else 0
        walk = walk_shard(session, self._filters, shard, plan.span, concurrency=concurrency, timed=timed)
        self._walks[shard.name], self._fillings[shard.name] = walk, filling
        try:
            done = await self._take(shard, walk, filling)
            commit = await self._commit(done, walk, filling, began)
            await self._note(Fate(shard=done.name, commit=commit))
        finally:
            del self._walks[shard.name], self._fillings[shard.name]
            add_traffic(self._ended, walk.stats)
        self._tell()

    def _rows(self) -> int:
        """About how many conversations all shards hold."""
        ledger = self._run.ledger
        done = sum(each.conversations for each in ledger.commits.values())
        counted = {name: filling.conversations for name, filling in self._fillings.items()}
        return done + sum(max(each.expected or 0, counted.get(each.name, 0)) for each in ledger.pending)

    async def _take(self, shard: Shard, walk: ShardWalk, filling: Filling) -> Shard:
        """Walk a shard; gives what of it was walked, should it have been split."""
        beyond: set[str] = set()
        next_look = _DENSE
        async with walk, aclosing(walk.records()) as records:
            async for transcript in records:
                if transcript.id in beyond:
                    break
                await filling.add(transcript)
                self._tell()
                self._look_at(walk)
                if filling.conversations >= next_look and not beyond:
                    next_look += ROWS
                    shard, beyond = await self._try_split(shard, filling, transcript)
                    filling.shard = shard
        if shard.end is None:
            await self._take_missing(walk, filling)
        self._look_at(walk)
        if beyond and (walk.skipped or walk.bad):
            # The walk was ahead of the cut: what it could not take may lie on either side. Its own walk will tell.
            raise Again(set())
        return shard

    async def _take_missing(self, walk: ShardWalk, filling: Filling) -> None:
        """What earlier runs could not make whole, unless the walk has met it."""
        met = {each.id for each in walk.skipped}
        ids = [each for each in self._run.plan.again if each not in met and not filling.has([each])]
        async with aclosing(ask_again(self._session.counting(walk.stats), self._filters, ids)) as answers:
            async for answer in answers:
                if isinstance(answer, Skipped):
                    walk.skipped.append(answer)
                else:
                    await filling.add(answer)

    async def _note(self, fate: Fate) -> None:
        # The file in a thread, the ledger here, where it is read.
        await in_thread(self._run.write, fate)
        self._run.ledger.tell(fate)

    def _spawn(self, shard: Shard) -> None:
        self._group.create_task(self._do(shard))

    def _look_at(self, walk: ShardWalk) -> None:
        if self._on_error == "raise":
            for skipped in walk.skipped:
                raise skipped.error
            for error in walk.bad.values():
                raise error

    async def _commit(self, done: Shard, walk: ShardWalk, filling: Filling, began: float) -> Commit:
        parts = await filling.end(done.name)
        incomplete = [each for each in walk.skipped if not isinstance(each.error, DecodeError)]
        undecodable = [each for each in walk.skipped if isinstance(each.error, DecodeError)]
        return Commit(
            parts=parts,
            conversations=filling.conversations,
            chats=filling.chats,
            uncompressed_bytes=filling.writer.bytes_in,
            incomplete=[Missing(id=each.id, why=why(each.error)) for each in incomplete],
            quarantined=[
                *filling.bad,
                *(Bad(why=why(error), record=record) for record, error in walk.bad.items()),
                *(Bad(id=each.id, why=why(each.error), record=_body_of(each.error)) for each in undecodable),
            ],
            requests=walk.stats.requests,
            retries=walk.stats.retries,
            seconds=round(time.monotonic() - began, 3),
        )

    # --- a shard that is too dense ------------------------------------------------------------------------

    async def _try_split(self, shard: Shard, filling: Filling, latest: RawTranscript) -> tuple[Shard, set[str]]:
        """Cut a shard a little ahead of its walk, if much lies behind that, and let others do the rest.

        Gives what the walk is to end as, and the ids by which it sees that it is there: the first ones that
        belong to the rest. None of them was met yet, so all that was belongs to this side of the cut.
        """
        span, end = self._run.plan.span, shard.end
        if span is None or end is None:
            return shard, set()
        start = span.low if shard.start is None else shard.start
        position = max(_created(latest), start)
        way = position - start
        ahead = filling.conversations * (end - position) / way if way > 0 else math.inf
        step = max(way / 50, 4 * span.resolution)
        at = position + step
        while ahead >= _AHEAD and at + 4 * span.resolution < end:
            at = round(at, 6)
            ids = await following(self._session.counting(self._ended), self._filters, shard, at, span)
            if not ids:
                break
            if not filling.has(ids):
                pieces = max(1, min(_MOST_PIECES, round(min(ahead, _MOST_PIECES * ROWS) / ROWS)))
                into = split_of(shard, [at, *even_cuts(at, end, pieces, span)])
                await self._note(Fate(shard=shard.name, split=into))
                for other in into[1:]:
                    self._spawn(other)
                return into[0], set(ids)
            step *= 2
            at += step
        return shard, set()


def _discard(writer: ShardWriter) -> None:
    writer.discard()


class _Dated(Struct, rename="camel"):
    created_at: float


def _created(transcript: RawTranscript) -> float:
    return msgspec.json.decode(transcript.json, type=_Dated).created_at


def _body_of(error: Exception) -> str | None:
    return key_of(error.body) if isinstance(error, UndecodableError) else None


def add_traffic(total: StreamStats, stats: StreamStats) -> None:
    """Put what was sent and received to what was; conversations are counted where they are written."""
    for name in ("requests", "retries", "refused", "bytes", "seconds_waited", "in_flight"):
        setattr(total, name, getattr(total, name) + getattr(stats, name))
