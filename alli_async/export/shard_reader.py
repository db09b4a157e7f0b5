"""Reading one shard of an export: every conversation of it once, with all its chats, as the server sent it.

A shard is a partition of the list. What belongs to a shard depends on the server alone, not on what other shards
were read, so shards can be read in any order, on any machine, and again. Two kinds of rows are left to the last
shard, which is read when all others are committed: rows that may have moved here from another shard
(`ShardReader.deferred`), and whatever moved after a shard was read (see `Closing`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Container, Iterable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from .._aio.tasks import cancel_all
from .._listing.closing import Closing, PartitionResult
from .._listing.filters import Filters
from .._listing.page_reader import BadRow, ListEntry, PageReader
from .._listing.pages import MAX_PAGE_SIZE
from .._listing.partition_reader import ASC, PartitionReader, boundary_ids
from .._listing.reader import EmittedRows
from .._listing.seen import SeenIds, pack
from .._listing.single_rows import StuckError
from .._listing.survey import ServerProfile, Span, is_empty
from .._listing.walks import Walk
from .._transcripts.stream import TranscriptStream
from .._transport.session import Session
from ..errors import (
    AlliConnectionError,
    AlliError,
    AlliTimeoutError,
    BadRequestError,
    DecodeError,
    IncompleteError,
    NotFoundError,
    ResponseTooLargeError,
    ServerError,
)
from ..models import RawTranscript, Skipped
from .records import Commit, Shard
from .undecodable import BodyKeepingCodec

Emit = Callable[[list[Any]], Awaitable[None]]
# Called after each page, with the reader and about when the last conversation on the page began.
OnPage = Callable[[PartitionReader[Any], float], Awaitable[None]]

# Errors of a single conversation.
CONVERSATION_ERRORS = (DecodeError, IncompleteError, NotFoundError, BadRequestError, ResponseTooLargeError)
# Errors of a single conversation or of the server. More ambiguous errors than 3, plus 1 in 100 conversations,
# count as a fault of the server.
AMBIGUOUS_ERRORS = (ServerError, AlliTimeoutError, AlliConnectionError)
_MAX_AMBIGUOUS, _CONVERSATIONS_PER_AMBIGUOUS = 3, 100


class Deferred:
    """Leaves rows that may have moved between shards to the last shard.

    Attributes:
        ids: Their ids.
        before: No row was emitted before the shards.
        moved: Rows that are claimed by another shard are not known here.
    """

    before: Container[str] = frozenset()
    moved: Container[str] = frozenset()

    def __init__(self) -> None:
        self.ids: list[str] = []

    def claim(self, conversation_id: str) -> bool:
        """Leave a row to the last shard."""
        self.ids.append(conversation_id)
        return False


class PartitionFacts(NamedTuple):
    """The facts about a shard that the last shard needs.

    Attributes:
        own_count: Number of rows that belong to the shard; None where it was not read as a partition.
        last_own_id: The id of the last row that belongs to it.
        has_moved: Whether rows left or came while it was read.
        ids: The packed digests of the ids of its rows.
        deferred: Ids of rows that it leaves to the last shard.
    """

    own_count: int | None = None
    last_own_id: str | None = None
    has_moved: bool = False
    ids: bytes = b""
    deferred: Sequence[str] = ()


class ShardReader:
    """The conversations of a shard; an async context manager that ends the work when it is left.

    A conversation that comes twice was short the first time (see `TranscriptStream.again`).

    Args:
        session: The session that sends the requests.
        filters: What the list holds.
        shard: Which part of it.
        span: The span of the list; None where the shard is the whole list.
        profile: How the server behaves; None where the shard is the whole list.
        concurrency: Conversations whose chats are fetched at a time.
        commits: For the last shard: the other shards, and what was committed of each.
        on_page: Called after each page of a shard that may be cut.
        page_size: Number of conversations to ask for at a time.

    Attributes:
        stats: What it has done so far.
        skipped: Conversations that could not be made whole, and why; rows that could not be listed.
        bad: Rows that could not be decoded, and why.
    """

    def __init__(
        self,
        session: Session,
        filters: Filters,
        shard: Shard,
        span: Span | None,
        profile: ServerProfile | None = None,
        *,
        concurrency: int,
        commits: Sequence[tuple[Shard, Commit]] = (),
        on_page: OnPage | None = None,
        page_size: int = MAX_PAGE_SIZE,
    ) -> None:
        codec = BodyKeepingCodec()
        is_part = span is not None and profile is not None and not shard.is_whole_list
        self.skipped: list[Skipped] = []
        self.bad: list[BadRow] = []
        self._shard = shard
        self._span = span
        self._profile = profile
        self._commits = commits
        self._deferred, self._emitted = Deferred(), EmittedRows()
        self._reported: list[BadRow] = []
        self._committed = SeenIds()
        self._partition: PartitionReader[Any] | None = None
        self._on_page = on_page
        self._looked_at = 0
        self._stream = TranscriptStream(
            session,
            codec,
            filters,
            concurrency=concurrency,
            ordered=False,
            on_error="skip",
            source=self._read if is_part else None,
            page_size=page_size,
        )
        self.stats = self._stream.stats
        self._pages: PageReader[Any] = PageReader(
            session.counting(self.stats), filters, codec.list_page, size=page_size
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stream.aclose()

    async def transcripts(self) -> AsyncGenerator[RawTranscript, None]:
        """Read the conversations of the shard, once.

        Raises:
            AlliError: What is wrong is not about one conversation.
        """
        given = 0
        async for transcript in self._stream:
            given += 1
            self._look_at_skipped(given)
            yield transcript
        self._look_at_skipped(given)

    @property
    def gone(self) -> Iterable[str]:
        """The ids of conversations that were deleted after the list had shown them."""
        return self._stream.gone

    def facts(self) -> PartitionFacts:
        """The facts about this shard that the last shard needs, once this one has been read."""
        partition = self._partition
        if partition is None:
            return PartitionFacts()
        return PartitionFacts(
            own_count=partition.own_count,
            last_own_id=partition.last_own_id,
            has_moved=partition.has_moved,
            ids=pack(partition.accounted_ids),
            deferred=self._deferred.ids,
        )

    # --- what is read -------------------------------------------------------------------------------------

    async def _read(self, emit: Emit, report: Callable[[BadRow], None]) -> None:
        try:
            await (self._read_end if self._shard.end is None else self._read_partition)(emit, report)
        except StuckError as stuck:
            raise stuck.error from None

    async def _read_partition(self, emit: Emit, report: Callable[[BadRow], None]) -> None:
        span, profile = self._span, self._profile
        assert span is not None and profile is not None and self._shard.end is not None  # noqa: S101, PT018
        # The engine's report would raise or skip; this reader sorts bad rows itself.
        del report
        self._partition = partition = PartitionReader(
            self._pages,
            span,
            self._shard.start,
            self._shard.end,
            emit=emit,
            report=self._report,
            others=self._deferred,
            offsets=profile.offsets,
            on_page=self._look_ahead if profile.cursor_accepts_nearer_end else None,
        )

        async def boundary() -> Container[str]:
            return await asking

        # Asked for beside the first page.
        asking = asyncio.create_task(boundary_ids(self._pages, span, self._shard.end))
        try:
            await partition.read(boundary)
        finally:
            await cancel_all(asking)

    async def _look_ahead(self, rows: int, position: float) -> None:
        if self._on_page is not None and self._partition is not None:
            await self._on_page(self._partition, position)

    async def _read_end(self, emit: Emit, report: Callable[[BadRow], None]) -> None:
        """Read what no other shard holds: what is new, what moved meanwhile, and the rows without chats."""
        # The engine's report would raise or skip; this reader sorts bad rows itself.
        del report
        span, profile = self._span, self._profile
        assert span is not None and profile is not None  # noqa: S101, PT018
        emitted = self._emitted
        for _, commit in self._commits:
            emitted.finished.update_packed(commit.ids)
            self._committed.update_packed(commit.ids)
        results = [_result_of(shard, commit, self._committed) for shard, commit in self._commits]

        async def take(rows: Sequence[ListEntry[Any]]) -> None:
            fresh = [row for row in rows if row.id not in emitted]
            emitted.finished.update(row.id for row in fresh)
            good = [row for row in fresh if not isinstance(row, BadRow)]
            for row in fresh:
                if isinstance(row, BadRow):
                    self._report(row)
            if good:
                await emit(good)

        await Closing(
            pages=self._pages,
            span=span,
            profile=profile,
            empty_first=await self._is_empty_first(profile),
            emitted=emitted,
            take=take,
            emit=emit,
            report=self._report,
            results=results,
        ).run()

    async def _is_empty_first(self, profile: ServerProfile) -> bool:
        """Whether the list begins with conversations without chats; rows that cannot be listed do not tell."""
        walk: Walk[Any] = Walk(self._pages, ASC, self._pages.filters, cursors=profile.offsets)
        try:
            entries = await walk.next() or []
        except StuckError:
            return False
        first = next((entry for entry in entries if not isinstance(entry, BadRow)), None)
        return first is not None and is_empty(first)

    def deferred_ids(self) -> list[str]:
        """The ids that the other shards have left to this one, and that no shard holds."""
        ids = dict.fromkeys(each for _, commit in self._commits for each in commit.deferred)
        return [each for each in ids if each not in self._emitted]

    # --- what cannot be had -------------------------------------------------------------------------------

    def _report(self, row: BadRow) -> None:
        """Add a row that cannot be read, once: a row that moved is met again in another place."""
        if row.id in self._committed or any(row.is_same(other) for other in self._reported):
            return
        self._reported.append(row)
        if row.raw:
            self.bad.append(row)
        else:
            self.skipped.append(row.skipped)

    def _look_at_skipped(self, given: int) -> None:
        """Add the newly skipped conversations, unless their errors are a fault of the server.

        Args:
            given: Number of conversations that were read so far.

        Raises:
            AlliError: The error is not about the conversation; the next run asks for it again.
        """
        for each in self._stream.skipped[self._looked_at :]:
            self._looked_at += 1
            self.skipped.append(each)
            if isinstance(each.error, CONVERSATION_ERRORS):
                continue
            ambiguous = sum(isinstance(one.error, AMBIGUOUS_ERRORS) for one in self.skipped)
            most = _MAX_AMBIGUOUS + given / _CONVERSATIONS_PER_AMBIGUOUS
            if not isinstance(each.error, AMBIGUOUS_ERRORS) or ambiguous > most:
                raise each.error


def _result_of(shard: Shard, commit: Commit, committed: SeenIds) -> PartitionResult:
    """The result of a committed shard. A deferred row counts unless another shard holds it."""
    deferred = sum(each not in committed for each in commit.deferred)
    return PartitionResult(
        start=shard.start,
        end=math.inf if shard.end is None else shard.end,
        own=(commit.own_count or 0) + deferred,
        last_own_id=commit.last_own_id,
        has_moved=commit.has_moved or deferred < len(commit.deferred),
    )


def why(error: Exception) -> str:
    """The message of an error, in one sentence."""
    return error.message if isinstance(error, AlliError) else str(error)
