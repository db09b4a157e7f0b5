"""Reading one partition: every row in it once, without the rows of the next partition.

A partition is asked for with a little more on either side (`Span.resolution`). A row in the windows of two
partitions belongs to the right-hand one, which has the later times. Where the order of rows is not stable, so that
pages do not fit together, the partition is read again in windows that each fit one page: a page shows one moment,
and needs no order.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Container, Sequence
from typing import Generic, Protocol, TypeVar

from ..errors import AlliError, IncompleteError
from ..models import Order
from .cursors import OffsetCursors
from .filters import Filters
from .page_reader import BadRow, ListEntry, Page, PageFaultError, PageReader
from .pages import Row
from .quiet import CountProof
from .single_rows import StuckError
from .survey import LONG_AGO, Span, moment, moments, with_spans
from .walks import Walk

RowT = TypeVar("RowT", bound=Row)

ASC = Order.FIRST_CHAT_TIME_ASC
# Rows that a window of one page is made for: the rest of a page is left for new rows and for a wrong estimate.
_WINDOW_ROWS = 35
# Rows at the end of a page whose times show how far the page reaches: some may have been opened long before.
_LATEST = 5
# Most passes in which rows of one instant that do not fit a page are read.
_MAX_INSTANT_PASSES = 40
# Passes without a new row after which the proof by a count is given up. In 300 simulated cases of each size, 60 to
# 1,000 rows in random order had all come within 15 passes.
_QUIET_INSTANT_PASSES = 20

Emit = Callable[[list[RowT]], Awaitable[None]]


class ClaimedRows(Protocol):
    """The rows that other partitions of a list have emitted or claimed."""

    @property
    def before(self) -> Container[str]:
        """Ids of rows that were emitted before any partition was read."""
        ...

    @property
    def moved(self) -> Container[str]:
        """Ids of rows that were claimed recently, and may be on a page of another partition as well."""
        ...

    def claim(self, conversation_id: str) -> bool:
        """Claim a row that may have moved between partitions; False when another partition has it."""
        ...


class PartitionReader(Generic[RowT]):
    """Reads one partition.

    Args:
        pages: Fetches the pages of the list.
        span: The span of the list.
        start: Start of the partition; None for the start of the list.
        end: End of the partition; None for the end of the list.
        emit: Called with the rows, each once.
        report: Called with rows that cannot be read. It may raise.
        others: The rows that other partitions have emitted or claimed.
        offsets: How this server makes offset cursors; None to follow its own cursors, which proves nothing.
        on_page: Called after each page but the last, with the number of its new rows and about the time at which
            it ended.
        checks_all: Whether every row may have been emitted before, because the partition is read once more.

    Attributes:
        walk: The walk over the partition's pages.
        end: End of the partition; nearer once it was cut.
        ids: The ids of all rows that the partition's window has shown.
        own_count: Number of rows that belong to this partition and that no other partition emitted.
        crossed_count: Number of rows that belong to this partition now and that another partition emitted.
        last_own_id: The id of the last row that belongs to this partition, whoever emitted it.
        accounted_ids: The ids of the `own_count` rows: emitted by this reader, emitted before any partition was
            read, or reported.
        new_count: Number of rows that this reader emitted.
        overlap_read: Set once all rows were seen that the partition on the left may show as well.
    """

    def __init__(
        self,
        pages: PageReader[RowT],
        span: Span,
        start: float | None,
        end: float | None,
        *,
        emit: Emit[RowT],
        report: Callable[[BadRow], None],
        others: ClaimedRows,
        offsets: OffsetCursors | None,
        on_page: Callable[[int, float], Awaitable[None]] | None = None,
        checks_all: bool = False,
    ) -> None:
        self.end = end
        self.own_count = self.crossed_count = self.new_count = 0
        self.last_own_id: str | None = None
        self.accounted_ids: set[str] = set()
        self.overlap_read = asyncio.Event()
        self._pages = pages
        self._offsets = offsets
        self._span = span
        self._start = start
        self._emit = emit
        self._report = report
        self._others = others
        self._on_page = on_page
        self._checks_all = checks_all
        self._boundary: Container[str] = frozenset()
        self._position = span.low if start is None else start
        self.ids: set[str] = set()
        self.walk: Walk[RowT] = Walk(
            pages, ASC, self._window(start, end), cursors=offsets, follow=offsets is None, ids=self.ids
        )

    @property
    def has_moved(self) -> bool:
        """Whether rows left or came while the partition was read, or had no stable order."""
        return self.walk.rows_left or self.walk.rows_came or self.walk.is_order_unstable

    def seed(self, walk: Walk[RowT], emitted_ids: Collection[str]) -> None:
        """Continue a walk over the start of the list, whose rows were emitted."""
        self.walk.seed(walk)
        self.ids.update(emitted_ids)
        self.own_count += len(emitted_ids)
        self.last_own_id = walk.last_id

    async def read(self, boundary: Callable[[], Awaitable[Container[str]]] | None = None) -> None:
        """Read the partition to its end.

        Args:
            boundary: Returns the ids of rows that belong to the partition on the right; called once, before any
                row is emitted.

        Raises:
            AlliError: A page could not be read, and a single row is not the reason.
        """
        await self._read_pages(boundary)
        self.overlap_read.set()
        if self.walk.is_order_unstable:
            await self._read_again()

    async def _read_pages(self, boundary: Callable[[], Awaitable[Container[str]]] | None) -> None:
        while True:
            try:
                entries = await self.walk.next()
            except StuckError as stuck:
                await self._step_over(stuck.error)
                continue
            if entries is None:
                return
            before = self._position
            self._position = max([before, *self._moments(entries)])
            if self._position > (self._start or 0.0) + self._span.resolution or self.walk.has_ended:
                self.overlap_read.set()
            if boundary is not None:
                self._boundary, boundary = await boundary(), None
            await self._emit_own(entries, (before, self._position))
            if self._on_page is not None and not self.walk.has_ended:
                await self._on_page(len(entries), self._position)

    def _moments(self, entries: Sequence[ListEntry[RowT]]) -> list[float]:
        """About the first chat times of the last rows of a page, without times after the partition's end."""
        limit = self._span.high if self.end is None else self.end
        return [time for time in moments(entries[-_LATEST:], self._span.units_per_second) if time <= limit]

    async def _emit_own(self, entries: Sequence[ListEntry[RowT]], where: tuple[float, float]) -> None:
        """Emit the rows that belong to this partition, and report rows that cannot be read."""
        rows: list[RowT] = []
        accounted: list[str] = []
        boundary, before, moved = self._boundary, self._others.before, self._others.moved
        earliest = -math.inf if self._start is None else self._start - self._span.resolution
        for entry in with_spans(entries, self._span.units_per_second, where):
            row_id = entry.id
            if row_id in boundary:
                continue
            self.last_own_id = row_id
            if isinstance(entry, BadRow):
                if row_id not in before:
                    self._report(entry)
            elif row_id not in before:
                # A conversation that was opened before this partition starts may have had an earlier first chat,
                # which was deleted after another partition emitted the row.
                is_suspect = not entry.created_at >= earliest or self._checks_all or row_id in moved
                if is_suspect and not self._others.claim(row_id):
                    self.crossed_count += 1
                    continue
                rows.append(entry)
            accounted.append(row_id)
        self.own_count += len(accounted)
        self.accounted_ids.update(accounted)
        if rows:
            self.new_count += len(rows)
            await self._emit(rows)

    def _window(self, start: float | None, end: float | None) -> Filters:
        """The filters of a span of time, with a little more on either side."""
        resolution = self._span.resolution
        if start is None:
            # Without a bound at the start a server may send rows without chats as well.
            low = None if self._span.bounded else LONG_AGO * self._span.units_per_second
        else:
            low = start - resolution
        return self._pages.filters.within(low, None if end is None else end + resolution)

    # --- a nearer end -------------------------------------------------------------------------------------

    async def try_cut(self, cut_time: float) -> Page[RowT] | None:
        """Let the partition end at a cut, if no row later than the cut was read yet.

        Args:
            cut_time: The time of the cut, in the server's unit.

        Returns:
            The first page of the part after the cut; None when the partition was not cut.
        """
        end = self.end
        try:
            page = await self._pages.page(ASC, None, self._window(cut_time, end))
        except PageFaultError:
            return None
        ids = {entry.id for entry in page.entries}
        overlap = await self._rest_of_overlap(page, cut_time)
        right_ids = ids | overlap
        if not ids or self.end != end or self.walk.has_ended or not right_ids.isdisjoint(self.ids):
            return None
        beyond = {entry.id for entry in page.entries if self._is_after_overlap(entry, cut_time)}
        self.end, self._boundary = cut_time, right_ids
        self.walk.end_before(self._window(self._start, cut_time), beyond)
        return page

    async def _rest_of_overlap(self, page: Page[RowT], cut_time: float) -> frozenset[str]:
        """The ids of the rows in the overlap at a cut that the first page after the cut may not show."""
        times = self._moments(page.entries)
        # Rows are in the order of their first chats, and no first chat is earlier than its conversation.
        reaches_over = len(times) == _LATEST and min(times) > cut_time + self._span.resolution
        if page.cursor is None or reaches_over:
            return frozenset()
        return await boundary_ids(self._pages, self._span, cut_time)

    def _is_after_overlap(self, entry: ListEntry[RowT], cut_time: float) -> bool:
        """Whether a row is later than the overlap at a cut."""
        time = None if isinstance(entry, BadRow) else moment(entry, self._span.units_per_second)
        return time is not None and time > cut_time + self._span.resolution

    # --- rows that cannot be listed, where no cursor leads past them --------------------------------------

    async def _step_over(self, error: AlliError) -> None:
        """Continue after a row that cannot be listed, at the nearest time from which the list can be read."""
        units_per_second, stuck_time = self._span.units_per_second, self._position
        limit = self._span.high if self.end is None else self.end
        failing, step = stuck_time, units_per_second
        while failing + step < limit and not await self._can_list(failing + step):
            failing, step = failing + step, step * 2
        good = min(failing + step, limit)
        while good - failing > units_per_second:
            middle = (failing + good) / 2
            if await self._can_list(middle):
                good = middle
            else:
                failing = middle
        row = BadRow(f"a row between {stuck_time} and {good}", error, span=(stuck_time, good))
        if row.id in self.accounted_ids:
            raise error
        self.accounted_ids.add(row.id)
        self._report(row)

        async def take(entries: Sequence[ListEntry[RowT]]) -> None:
            await self._emit_unseen(entries, (stuck_time, good))

        # Rows after it at the same instant can be read from the other end.
        between = self._window(max(stuck_time - units_per_second, self._start or 0.0), good)
        walk: Walk[RowT] = Walk(self._pages, ASC, between, follow=True)
        await walk.read_from_other_end(take)
        window = self._window(good + self._span.resolution, self.end)
        self.walk = Walk(self._pages, ASC, window, follow=True, ids=self.ids)
        self._position = good

    async def _can_list(self, start: float) -> bool:
        """Whether the first row from a time on can be listed, and was not read yet."""
        try:
            page = await self._pages.row(ASC, None, self._window(start + self._span.resolution, self.end))
        except PageFaultError:
            return False
        return not any(entry.id in self.ids for entry in page.entries)

    # --- an order that is not stable ----------------------------------------------------------------------

    async def _read_again(self) -> None:
        """Read the partition in windows of one page each. Rows that were seen before are left out."""
        span = self._span
        low = span.low if self._start is None else self._start
        high = span.high if self.end is None else self.end
        start, width = low, max((high - low) * _WINDOW_ROWS / max(len(self.ids), 1), span.resolution)
        is_first = True
        while start < high or is_first:
            end = min(start + width, high)
            window = self._window(self._start if is_first else start, self.end if end >= high else end)
            try:
                page = await self._pages.page(ASC, None, window)
            except PageFaultError:
                await self._read_until_stable(window, (start, end))
                start, is_first = end, False
                continue
            await self._emit_unseen(page.entries, (start, end))
            if page.cursor is not None and end - start > span.resolution:
                width = max(span.resolution, (end - start) / 2)
                continue
            if page.cursor is not None:
                await self._read_until_stable(window, (start, end))
            start, is_first = end, False
            fill = _WINDOW_ROWS / max(len(page.entries), 1)
            width = max(span.resolution, width * min(max(fill, 0.5), 2.0))

    async def _emit_unseen(self, entries: Sequence[ListEntry[RowT]], where: tuple[float, float]) -> None:
        fresh = [entry for entry in entries if entry.id not in self.ids]
        self.ids.update(entry.id for entry in fresh)
        await self._emit_own(fresh, where)

    async def _read_until_stable(self, window: Filters, where: tuple[float, float]) -> None:
        """Read rows of one instant that do not fit a page, until a count proves that all of them were seen.

        Where it does not, and several passes bring no new row, it is reported that the rows may not be all.
        """
        seen: set[str] = set()
        proof, quiet = CountProof(), 0
        for _ in range(_MAX_INSTANT_PASSES):
            ids: set[str] = set()
            one_pass: Walk[RowT] = Walk(self._pages, ASC, window, cursors=self._offsets, follow=True, ids=ids)
            while (entries := await _next_of(one_pass)) is not None:
                await self._emit_unseen(entries, where)
            has_new = not ids <= seen
            seen |= ids
            if proof.is_reached(ids, listed=one_pass.listed, has_new=has_new):
                return
            quiet = 0 if has_new else quiet + 1
            if quiet >= _QUIET_INSTANT_PASSES:
                break
        seconds = (where[1] - where[0]) / self._span.units_per_second
        error = IncompleteError(
            f"{len(seen)} conversations began within {seconds:g} s, in an order "
            "that changes from request to request: it could not be proved that these are all of them"
        )
        self._report(BadRow(f"rows between {where[0]} and {where[1]}", error, span=where))


async def _next_of(walk: Walk[RowT]) -> list[ListEntry[RowT]] | None:
    """The next rows of a walk; where it cannot get past a row, only that row."""
    try:
        return await walk.next()
    except StuckError as stuck:
        walk.has_ended = True
        return [BadRow(f"a row of {walk.filters.pairs}", stuck.error)]


async def boundary_ids(pages: PageReader[RowT], span: Span, cut: float) -> frozenset[str]:
    """The ids of the rows in the windows of both partitions beside a cut."""
    window = pages.filters.within(cut - span.resolution, cut + span.resolution)
    ids: set[str] = set()
    walk: Walk[RowT] = Walk(pages, ASC, window, ids=ids)
    try:
        while await walk.next() is not None:
            pass
    except StuckError:
        # The partition on the right meets the same row, and reports it.
        pass
    return frozenset(ids)
