"""The end of reading in partitions: rows that moved meanwhile, new rows, and conversations without chats.

Rows without chats are in no window of first chat times. They stand at the start of the list or at its end. So they
are read last, without a window: a row that got its first chat meanwhile stands after the other rows with chats,
and a row that lost its only chat stands among the rows without chats.
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
from .page_reader import BadRow, ListEntry, PageFaultError, PageReader
from .pages import Row
from .partition_reader import ASC, ClaimedRows, Emit, PartitionReader
from .quiet import MAX_PASSES, QuietPasses, changes_too_fast
from .single_rows import StuckError
from .survey import LONG_AGO, ServerProfile, Span, is_empty, moment
from .walks import Walk

RowT = TypeVar("RowT", bound=Row)

# Partitions that are read again at a time.
_AT_ONCE = 16
# Number of rows to go back at first to find a row with chats.
_FIRST_STEP = 10
# Multiples of the span's resolution by which its end is widened to find a cursor near the end of the list.
_WIDENINGS = (4.0, 256.0, 16_384.0)


class TrackedRows(ClaimedRows, Protocol):
    """The rows of a list that were emitted, those of partitions that are being read included."""

    def __contains__(self, conversation_id: str) -> bool:
        """Whether a row was emitted."""
        ...

    def track(self, reader: PartitionReader[Any]) -> None:
        """Include the rows that a reader emits from now on."""
        ...

    def finish(self, reader: PartitionReader[Any]) -> None:
        """Keep the ids of a reader that has read its partition to the end."""
        ...


@dataclass(frozen=True, slots=True)
class PartitionResult:
    """The result of reading a partition.

    Attributes:
        start: Start of the partition; None for the start of the list.
        end: End of the partition.
        own: Number of rows that belong to the partition and that no other partition emitted.
        last_own_id: The id of the last row that belongs to the partition.
        has_moved: Whether rows left or came while it was read, or another partition had emitted one of its rows.
    """

    start: float | None
    end: float
    own: int
    last_own_id: str | None = None
    has_moved: bool = False

    @classmethod
    def of(cls, reader: PartitionReader[RowT], start: float | None, end: float) -> PartitionResult:
        """The result of a reader that has read its partition."""
        has_moved = reader.has_moved or reader.crossed_count > 0
        return cls(start, end, reader.own_count, reader.last_own_id, has_moved)


@dataclass(slots=True)
class Closing(Generic[RowT]):
    """Reads what is left once all partitions were read.

    Args:
        pages: Fetches the pages of the list.
        span: The span of the list.
        profile: How the server behaves.
        empty_first: Whether the list begins with conversations without chats.
        emitted: The rows that the partitions emitted.
        take: Called with the rows of a page; it drops rows that were emitted before.
        emit: Called with rows that were not emitted before.
        report: Called with rows that cannot be read.
        results: The results of the partitions.
    """

    pages: PageReader[RowT]
    span: Span
    profile: ServerProfile
    empty_first: bool
    emitted: TrackedRows
    take: Callable[[Sequence[ListEntry[RowT]]], Awaitable[object]]
    emit: Emit[RowT]
    report: Callable[[BadRow], None]
    results: Sequence[PartitionResult]

    async def run(self) -> None:
        """Read the rows that moved or are new, and the conversations without chats.

        Raises:
            AlliError: A page could not be fetched.
        """
        if self.profile.offsets is not None:
            await self._by_count(self.profile.offsets)
        else:
            await self._by_passes()

    async def _read_walk(self, walk: Walk[RowT], seen: set[str]) -> tuple[int, set[str]]:
        """Read a walk to its end.

        Conversations that started after the survey are taken as well, but are not counted: they are no reason to
        read once more, since new ones may never end.

        Args:
            walk: The walk.
            seen: The ids of rows that earlier walks saw; the ids of this walk's rows are added.

        Returns:
            The number of rows that were missed before; and the ids of rows that were emitted before, and that no
            earlier walk saw.
        """
        found, known = 0, set[str]()

        async def take(entries: Sequence[ListEntry[RowT]]) -> None:
            nonlocal found
            known.update(entry.id for entry in entries if entry.id in self.emitted and entry.id not in seen)
            found += sum(entry.id not in self.emitted and self._is_old(entry) for entry in entries)
            seen.update(entry.id for entry in entries)
            await self.take(entries)

        await walk.drain(take)
        return found, known

    def _is_old(self, entry: ListEntry[RowT]) -> bool:
        time = None if isinstance(entry, BadRow) else moment(entry, self.span.units_per_second)
        return time is None or time <= self.span.high

    # --- where cursors are offsets ------------------------------------------------------------------------

    async def _by_count(self, cursors: OffsetCursors) -> None:
        """Read the end of the list, and everything again unless a count proves that no row has moved.

        The proof is that the last row of the last partition stands at the index that is the count of all rows.
        Otherwise all partitions are read again, and after them the end once more, since a row that was missed may
        have lost its only chat meanwhile. Counting each partition would not show which of them to read again: as
        many rows may have left a partition as have moved into it.
        """
        has_moved = any(result.has_moved for result in self.results)
        for _ in range(MAX_PASSES):
            before = await self._read_empty_at_start() if self.empty_first and not self.span.bounded else 0
            total = before + sum(result.own for result in self.results)
            has_moved = await self._read_end(cursors, total) or has_moved
            if not has_moved or not await self._read_partitions_again():
                return
            has_moved = True
        raise changes_too_fast(MAX_PASSES)

    async def _read_end(self, cursors: OffsetCursors, total: int) -> bool:
        """Read from the last row of the last partition to the end of the list.

        Returns:
            Whether anything has moved: the last row does not stand at the index of all rows, or rows left or came.
        """
        index, last_id, seen = max(total - 1, 0), self._last_id(), set[str]()
        has_moved = await self._read_until_quiet(self.pages.filters, index, last_id, seen)
        if index == 0 or last_id in seen:
            return has_moved
        # Rows have left, so rows between the last partition and this index may not have been seen. The index at
        # which they start is not known, but the time is. They are read before and after the rest, since rows may
        # move from one to the other meanwhile.
        await self._read_until_quiet(self._newest(), 0, last_id, set())
        index = await self._last_with_chats(cursors, index)
        await self._read_until_quiet(self.pages.filters, index, last_id, set())
        await self._read_until_quiet(self._newest(), 0, last_id, set())
        return True

    async def _read_until_quiet(self, filters: Filters, index: int, last_id: str | None, seen: set[str]) -> bool:
        """Read a list to its end, and again where rows came into the part already read or have no stable order.

        Args:
            filters: The filters of the list.
            index: The index of the row to start with.
            last_id: The id of the last row of the last partition.
            seen: An empty set, to which the ids of the rows are added.

        Returns:
            Whether rows left or came, or a partition emitted a row that is now later than the last partition.
        """
        passes = QuietPasses()
        has_moved = False
        for _ in range(MAX_PASSES):
            walk: Walk[RowT] = Walk(self.pages, ASC, filters, cursors=self.profile.offsets, index=index)
            found, known = await self._read_walk(walk, seen)
            crossed = not known <= {last_id}
            has_moved = has_moved or crossed or walk.rows_left or walk.rows_came or walk.is_order_unstable
            is_quiet = passes.are_enough(walk, found=found > 0)
            if is_quiet or not (walk.rows_came or walk.is_order_unstable):
                return has_moved
        raise changes_too_fast(MAX_PASSES)

    def _newest(self) -> Filters:
        """The filters of the rows that are later than the last partition."""
        return self.pages.filters.within(self.span.last_cut - self.span.resolution, None)

    def _last_id(self) -> str | None:
        """The id of the last row of the last partition that has rows."""
        ordered = sorted(self.results, key=lambda each: each.end)
        return next((each.last_own_id for each in reversed(ordered) if each.last_own_id), None)

    async def _last_with_chats(self, cursors: OffsetCursors, index: int) -> int:
        """The index of a row before the rows without chats at the end of the list, or 0."""
        step = _FIRST_STEP
        while index > 0:
            entries = await self._entries_at(cursors, index)
            if entries and self._has_chats(entries[0]):
                return index
            index = max(0, index - step)
            step *= 4
        return 0

    async def _entries_at(self, cursors: OffsetCursors, index: int) -> Sequence[ListEntry[RowT]]:
        """The rows from an index on; none where there are none, or where they cannot be read."""
        try:
            page = await self.pages.page(ASC, cursors.cursor(index) if index else None, size=1)
        except (BadRequestError, PageFaultError):
            return ()
        return page.entries

    def _has_chats(self, entry: ListEntry[RowT]) -> bool:
        return not isinstance(entry, BadRow) and not is_empty(entry)

    async def _read_empty_at_start(self) -> int:
        """Read the rows without chats at the start of the list, and return their number."""
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
            empty_count = next((n for n, entry in enumerate(entries) if self._has_chats(entry)), len(entries))
            count += empty_count
            await self.take(entries[:empty_count])
            if empty_count < len(entries):
                return count

    # --- partitions once more -----------------------------------------------------------------------------

    async def _read_partitions_again(self) -> int:
        """Read all partitions once more, and return the number of rows that were missed before."""
        slots = asyncio.Semaphore(_AT_ONCE)

        async def read(result: PartitionResult) -> int:
            async with slots:
                reader = self._reader(result)
                self.emitted.track(reader)
                await reader.read()
                self.emitted.finish(reader)
                return reader.new_count

        return sum(await concurrently([read(result) for result in self.results]))

    def _reader(self, result: PartitionResult) -> PartitionReader[RowT]:
        return PartitionReader(
            self.pages,
            self.span,
            result.start,
            result.end,
            emit=self.emit,
            report=self.report,
            others=self.emitted,
            offsets=self.profile.offsets,
            checks_all=True,
        )

    # --- where cursors are not offsets --------------------------------------------------------------------

    async def _by_passes(self) -> None:
        """Read the partitions, the rows without chats and the newest rows again until no missed row is found.

        The newest rows are read before and after the rows without chats, since a row that gets its first chat or
        loses its only one moves from one to the other meanwhile.
        """
        seen: set[str] = set()
        for _ in range(MAX_PASSES):
            found = await self._read_partitions_again()
            await self._read_newest()
            if not self.span.bounded:
                await self._read_empty_until_quiet(seen)
            await self._read_newest()
            if not found:
                return
        raise changes_too_fast(MAX_PASSES)

    async def _read_empty_until_quiet(self, seen: set[str]) -> None:
        for _ in range(MAX_PASSES):
            if not await self._read_empty(seen):
                return
        raise changes_too_fast(MAX_PASSES)

    async def _read_newest(self) -> None:
        """Read the rows that are later than the last partition."""
        await self._read_walk(Walk(self.pages, ASC, self._newest()), set())

    async def _read_empty(self, seen: set[str]) -> int:
        """Read the rows without chats, and return the number of rows that were missed before."""
        if self.empty_first:
            await self._read_empty_at_start()
            return 0
        walk: Walk[RowT] = Walk(self.pages, ASC, self.pages.filters)
        if (cursor := await self._cursor_near_end()) is not None:
            walk.begin_at(cursor)
        found, _ = await self._read_walk(walk, seen)
        return found

    async def _cursor_near_end(self) -> str | None:
        """A cursor near the end of the list, made within a window; None where it does not serve without one."""
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
            # A server may keep to the window that the cursor was made in: then both pages are the same.
            goes_on = there.cursor is not None or len(all_ids) > len(ids)
            return cursor if ids and ids == all_ids[: len(ids)] and goes_on else None
        return None
