"""The end of reading in partitions: what moved meanwhile, what is new, and the conversations without chats.

Rows without chats are in no window of first chat times. They stand at the begin of the list or at its end. So they
are read last, without a window: a row that got its first chat meanwhile stands at the end of those with chats, and
one that lost its only chat among those without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from .._aio.tasks import concurrently
from ..errors import BadRequestError
from .cursors import OffsetCursors
from .filters import Filters
from .page_reader import BadRow, Entry, PageFaultError, PageReader
from .pages import Row
from .partition_reader import ASC, Give, GivenRows, PartitionReader
from .survey import LONG_AGO, ServerProfile, Span, is_empty, moment
from .walks import StuckError, Walk

RowT = TypeVar("RowT", bound=Row)

# How often a partition, or the end of the list, is read again because something new was found in it; and how many
# passes must bring nothing new where the order of rows is not stable.
_MOST_PASSES, _QUIET_PASSES = 20, 5
# Partitions that are looked at again at a time.
_AT_ONCE = 16
# Rows to go back at first to find a row with chats.
_FIRST_STEP = 10
# By how much, in resolutions, the end of the span is widened to find a cursor near the end of the list.
_WIDENINGS = (4.0, 256.0, 16_384.0)


class KnownRows(GivenRows, Protocol):
    """What was given of a list."""

    def __contains__(self, conversation_id: str) -> bool:
        """Whether a row was given."""
        ...

    def begin(self, reader: PartitionReader[Any]) -> None:
        """Count what a partition gives from now on."""
        ...

    def finish(self, reader: PartitionReader[Any]) -> None:
        """Take over what a partition has given, which is read to its end."""
        ...


@dataclass(frozen=True, slots=True)
class PartitionResult:
    """What was read of a partition.

    Attributes:
        start: Where it begins; None for the begin of the list.
        end: Where it ends.
        own: Rows that belong to it, and that no other partition has given.
        last_own_id: The last row that belongs to it.
        has_moved: Whether rows left or came while it was read, or another partition had given a row of it before.
    """

    start: float | None
    end: float
    own: int
    last_own_id: str | None = None
    has_moved: bool = False

    @classmethod
    def of(cls, reader: PartitionReader[RowT], start: float | None, end: float) -> PartitionResult:
        """What a reader has read, in numbers."""
        return cls(start, end, reader.own, reader.last_own_id, reader.has_moved or reader.crossed > 0)


@dataclass(slots=True)
class Closing(Generic[RowT]):
    """What is left to read once all partitions were.

    Args:
        pages: Fetches the pages of the list.
        span: The span of the list.
        profile: How the server behaves.
        empty_first: Whether the list begins with conversations without chats.
        given: What the partitions have given.
        take: Takes rows; those given before are dropped by it.
        give: Takes rows that were not given before.
        report: Takes rows that cannot be had.
        results: What was read of the partitions.
    """

    pages: PageReader[RowT]
    span: Span
    profile: ServerProfile
    empty_first: bool
    given: KnownRows
    take: Callable[[Sequence[Entry[RowT]]], Awaitable[object]]
    give: Give[RowT]
    report: Callable[[BadRow], None]
    results: Sequence[PartitionResult]

    async def run(self) -> None:
        """Read it.

        Raises:
            AlliError: A page could not be had.
        """
        if self.profile.offsets is not None:
            await self._by_count(self.profile.offsets)
        else:
            await self._by_passes()

    async def _take_all(self, walk: Walk[RowT], seen: set[str]) -> tuple[int, set[str]]:
        """Read a walk to its end.

        What began after the survey is given as well, but is no reason to read once more: of that there may be no
        end.

        Args:
            walk: The walk.
            seen: Takes the ids of the rows.

        Returns:
            How many rows are new, of those that were there before; and the ids of rows that were given before, and
            are not among those seen.
        """
        found, known = 0, set[str]()
        while True:
            try:
                entries = await walk.next()
            except StuckError as stuck:
                self.report(BadRow("rows that no cursor leads past", stuck.error))
                await walk.from_other_end(self.take)
                return found, known
            if entries is None:
                return found, known
            known.update(entry.id for entry in entries if entry.id in self.given and entry.id not in seen)
            found += sum(entry.id not in self.given and self._is_old(entry) for entry in entries)
            seen.update(entry.id for entry in entries)
            await self.take(entries)

    def _is_old(self, entry: Entry[RowT]) -> bool:
        time = None if isinstance(entry, BadRow) else moment(entry, self.span.units_per_second)
        return time is None or time <= self.span.high

    # --- where cursors are offsets ------------------------------------------------------------------------

    async def _by_count(self, cursors: OffsetCursors) -> None:
        """Begin with the last row of the last partition, by the count of all rows: then nothing has moved.

        Otherwise all partitions are read again, and after them the end once more, since a row that was missed may
        have lost its only chat meanwhile. Counting each partition would not tell which of them to read again: as
        many rows may have left a partition as others have moved into it.
        """
        has_moved = any(result.has_moved for result in self.results)
        for _ in range(_MOST_PASSES):
            before = await self._empty_at_begin() if self.empty_first and not self.span.bounded else 0
            total = before + sum(result.own for result in self.results)
            has_moved = await self._read_end(cursors, total) or has_moved
            if not has_moved or not await self._read_partitions_again():
                return
            has_moved = True

    async def _read_end(self, cursors: OffsetCursors, total: int) -> bool:
        """Read from the last row of the last partition to the end of the list.

        Returns:
            Whether anything has moved: the last row does not stand at the index of all rows, or rows left or came.
        """
        at = max(total - 1, 0)
        last_id = self._last_id()
        entries = await self._entries_at(cursors, at)
        is_proved = bool(entries) and entries[0].id == last_id
        if not is_proved:
            # Rows that were given may have moved to the end, among others that are new: no index tells where to
            # begin, but the time does.
            await self._read_until_quiet(self._newest(), 0, last_id)
            at = await self._last_with_chats(cursors, at)
        moved = await self._read_until_quiet(self.pages.filters, at, last_id)
        return moved or not is_proved

    async def _read_until_quiet(self, filters: Filters, at: int, last_id: str | None) -> bool:
        """Read a list to its end, and again where rows came in behind the walk or have no stable order.

        Args:
            filters: The filters of the list.
            at: The index to begin at.
            last_id: The id of the last row of the last partition.

        Returns:
            Whether rows left or came, or a row behind the last partition was given by one.
        """
        seen: set[str] = set()
        quiet = 0
        has_moved = False
        for _ in range(_MOST_PASSES):
            walk: Walk[RowT] = Walk(self.pages, ASC, filters, cursors=self.profile.offsets, at=at)
            found, known = await self._take_all(walk, seen)
            crossed = not known <= {last_id}
            has_moved = has_moved or crossed or walk.rows_left or walk.rows_came or walk.is_disturbed
            quiet = 0 if found else quiet + 1
            is_counted = not walk.rows_left and len(seen) == walk.rows_before - at
            if is_counted or not (walk.rows_came or walk.is_disturbed):
                break
            if quiet >= (_QUIET_PASSES if walk.is_disturbed else 1):
                break
        return has_moved

    def _newest(self) -> Filters:
        """The filters of what lies behind the last partition."""
        return self.pages.filters.within(self.span.last_cut - self.span.resolution, None)

    def _last_id(self) -> str | None:
        """The id of the last row of the last partition that has any."""
        ordered = sorted(self.results, key=lambda each: each.end)
        return next((each.last_own_id for each in reversed(ordered) if each.last_own_id), None)

    async def _last_with_chats(self, cursors: OffsetCursors, at: int) -> int:
        """The index of a row before the rows without chats at the end of the list, or 0."""
        step = _FIRST_STEP
        while at > 0:
            entries = await self._entries_at(cursors, at)
            if entries and self._has_chats(entries[0]):
                return at
            at = max(0, at - step)
            step *= 4
        return 0

    async def _entries_at(self, cursors: OffsetCursors, at: int) -> Sequence[Entry[RowT]]:
        """The rows from an index on; none where there are none, or they cannot be had."""
        try:
            page = await self.pages.page(ASC, cursors.cursor(at) if at else None, size=1)
        except (BadRequestError, PageFaultError):
            return ()
        return page.entries

    def _has_chats(self, entry: Entry[RowT]) -> bool:
        return not isinstance(entry, BadRow) and not is_empty(entry)

    async def _empty_at_begin(self) -> int:
        """Read the rows without chats at the begin of the list; gives how many there are."""
        walk: Walk[RowT] = Walk(self.pages, ASC, self.pages.filters, cursors=self.profile.offsets)
        count = 0
        while True:
            try:
                entries = await walk.next()
            except StuckError as stuck:
                self.report(BadRow("rows that no cursor leads past", stuck.error))
                return count
            if entries is None:
                return count
            begin = next((n for n, entry in enumerate(entries) if self._has_chats(entry)), len(entries))
            count += begin
            await self.take(entries[:begin])
            if begin < len(entries):
                return count

    # --- partitions once more -----------------------------------------------------------------------------

    async def _read_partitions_again(self) -> int:
        """Read all partitions once more; gives how many rows were found."""
        slots = asyncio.Semaphore(_AT_ONCE)

        async def read(result: PartitionResult) -> int:
            async with slots:
                reader = self._reader(result)
                self.given.begin(reader)
                await reader.read()
                self.given.finish(reader)
                return reader.new

        return sum(await concurrently([read(result) for result in self.results]))

    def _reader(self, result: PartitionResult) -> PartitionReader[RowT]:
        reader = PartitionReader(
            self.pages,
            self.span,
            result.start,
            result.end,
            give=self.give,
            report=self.report,
            given=self.given,
            offsets=self.profile.offsets,
        )
        reader.checks_all = True
        return reader

    # --- where cursors are not offsets --------------------------------------------------------------------

    async def _by_passes(self) -> None:
        """Read everything again until nothing new comes: the partitions, what is new, the rows without chats."""
        seen: set[str] = set()
        for _ in range(_MOST_PASSES):
            found = await self._read_partitions_again()
            for _ in range(_MOST_PASSES):
                if self.span.bounded or not await self._read_empty(seen):
                    break
            # Last, since a row without chats that gets its first one moves there.
            await self._take_all(Walk(self.pages, ASC, self._newest()), set())
            if not found:
                return

    async def _read_empty(self, seen: set[str]) -> int:
        """Read the rows without chats; gives how many of them were new."""
        if self.empty_first:
            await self._empty_at_begin()
            return 0
        walk: Walk[RowT] = Walk(self.pages, ASC, self.pages.filters)
        if (cursor := await self._cursor_near_end()) is not None:
            walk.begin_at(cursor)
        found, _ = await self._take_all(walk, seen)
        return found

    async def _cursor_near_end(self) -> str | None:
        """A cursor near the end of the list, where one made within a window serves without the window as well."""
        low = LONG_AGO * self.span.units_per_second
        for widening in _WIDENINGS:
            start = max(self.span.high - self.span.resolution * widening, low)
            window = self.pages.filters.within(start, None)
            try:
                first = await self.pages.row(ASC, None, window)
                if first.cursor is None:
                    continue
                cursor = first.cursor
                here = await self.pages.page(ASC, cursor, window)
                while here.cursor is not None:
                    cursor = here.cursor
                    here = await self.pages.page(ASC, cursor, window)
                there = await self.pages.page(ASC, cursor)
            except (BadRequestError, PageFaultError):
                return None
            ids, all_ids = ([entry.id for entry in page.entries] for page in (here, there))
            # A server may go on with the window that the cursor was made in: then both are the same.
            goes_on = there.cursor is not None or len(all_ids) > len(ids)
            return cursor if ids and ids == all_ids[: len(ids)] and goes_on else None
        return None
