"""Reading one partition: every row in it once, those of the next partition left to that one.

A partition is asked for with a little more on either side (`Span.resolution`). A row that stands in the windows of
two partitions belongs to the right-hand one. Where the order of rows is not stable, so that pages do not fit
together, the partition is read again in windows of which each fits one page: a page is one moment, and needs no
order.
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
from .page_reader import BadRow, Entry, Page, PageFaultError, PageReader
from .pages import Row
from .survey import LONG_AGO, Span, moment, moments, with_spans
from .walks import StuckError, Walk

RowT = TypeVar("RowT", bound=Row)

ASC = Order.FIRST_CHAT_TIME_ASC
# Rows that a window of one page is made for: some room is left for what comes, and for what the guess was off.
_ROOMY = 35
# Rows at the end of a page that tell how far it reaches: some of them may have been opened long before.
_LATEST = 5
# How often rows of one instant that do not fit a page are read, and how many passes must bring nothing new where
# no count proves that all were seen: a row of 120 in random order is missed by five passes in 1 of 3,000 cases.
_MOST_PASSES, _QUIET_PASSES = 40, 5

Give = Callable[[list[RowT]], Awaitable[None]]


class GivenRows(Protocol):
    """What the other partitions of a list have given."""

    @property
    def before(self) -> Container[str]:
        """Ids of rows that were given before any partition was read."""
        ...

    @property
    def moved(self) -> Container[str]:
        """Ids of rows that were claimed lately, and may be on a page of another partition as well."""
        ...

    def claim(self, conversation_id: str) -> bool:
        """Claim a row that may have moved between partitions; False when it is another one's."""
        ...


class PartitionReader(Generic[RowT]):
    """Reads one partition.

    Args:
        pages: Fetches the pages of the list.
        span: The span of the list.
        start: Where the partition begins; None for the begin of the list.
        end: Where it ends; None for the end of the list.
        give: Takes the rows, each once.
        report: Takes the rows that cannot be had. It may raise.
        given: Knows what the other partitions have given.
        offsets: How this server makes offset cursors; None to follow its own cursors, which proves nothing.

    Attributes:
        walk: The walk over the partition's pages.
        end: Where the partition ends; nearer once it was cut.
        ids: The ids of all rows that its window has shown.
        own: Rows that belong to this partition, but for those that another one has given.
        crossed: Rows that belong to this partition now and that another one has given.
        last_own_id: The last row of both kinds that was read.
        given: The ids of these rows, whether they were given by this reader, before it, or reported.
        new: Rows that were given by this reader.
        checks_all: Whether every row may have been given before: when a partition is read once more.
        overlap_read: Set once all rows that the partition on the left may show as well were seen.
    """

    def __init__(
        self,
        pages: PageReader[RowT],
        span: Span,
        start: float | None,
        end: float | None,
        *,
        give: Give[RowT],
        report: Callable[[BadRow], None],
        given: GivenRows,
        offsets: OffsetCursors | None,
    ) -> None:
        self.end = end
        self.own = self.crossed = self.new = 0
        self.last_own_id: str | None = None
        self.given: set[str] = set()
        self.overlap_read = asyncio.Event()
        self.on_page: Callable[[int, float], Awaitable[None]] | None = None
        self._pages = pages
        self._offsets = offsets
        self._span = span
        self._start = start
        self._give = give
        self._report = report
        self._others = given
        self.checks_all = False
        self._boundary: Container[str] = frozenset()
        self._position = span.low if start is None else start
        self.ids: set[str] = set()
        self.walk: Walk[RowT] = Walk(
            pages, ASC, self._window(start, end), cursors=offsets, follow=offsets is None, ids=self.ids
        )

    @property
    def has_moved(self) -> bool:
        """Whether rows left or came while the partition was read, or had no stable order."""
        return self.walk.rows_left or self.walk.rows_came or self.walk.is_disturbed

    def seed(self, walk: Walk[RowT], given: Collection[str]) -> None:
        """Go on where a walk over the begin of the list has stopped, whose rows were given."""
        self.walk.seed(walk)
        self.ids.update(given)
        self.walk.ids = self.ids
        self.own += len(given)
        self.last_own_id = walk.last_id

    async def read(self, boundary: Callable[[], Awaitable[Container[str]]] | None = None) -> None:
        """Read the partition to its end.

        Args:
            boundary: Gives the ids of rows that belong to the partition on the right; called once, before any row
                is given.

        Raises:
            AlliError: What is wrong is not about one row.
        """
        await self._read_pages(boundary)
        self.overlap_read.set()
        if self.walk.is_disturbed:
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
            await self._take(entries, (before, self._position))
            if self.on_page is not None and not self.walk.has_ended:
                await self.on_page(len(entries), self._position)

    def _moments(self, entries: Sequence[Entry[RowT]]) -> list[float]:
        """When rows began, as far as they say so within the partition."""
        limit = self._span.high if self.end is None else self.end
        return [time for time in moments(entries[-_LATEST:], self._span.units_per_second) if time <= limit]

    async def _take(self, entries: Sequence[Entry[RowT]], where: tuple[float, float]) -> None:
        """Give the rows that belong to this partition, and report those that cannot be had."""
        rows: list[RowT] = []
        own: list[str] = []
        boundary, before, moved = self._boundary, self._others.before, self._others.moved
        earliest = -math.inf if self._start is None else self._start - self._span.resolution
        for entry in with_spans(entries, self._span.units_per_second, where):
            name = entry.id
            if name in boundary:
                continue
            self.last_own_id = name
            if isinstance(entry, BadRow):
                if name not in before:
                    self._report(entry)
            elif name not in before:
                # A row that was opened before this partition begins may have had an earlier first chat, which was
                # deleted since another partition has given it.
                is_suspect = not entry.created_at >= earliest or self.checks_all or name in moved
                if is_suspect and not self._others.claim(name):
                    self.crossed += 1
                    continue
                rows.append(entry)
            own.append(name)
        self.own += len(own)
        self.given.update(own)
        if rows:
            self.new += len(rows)
            await self._give(rows)

    def _window(self, start: float | None, end: float | None) -> Filters:
        """The filters of a part of the list, with a little more on either side."""
        resolution = self._span.resolution
        if start is None:
            # Without any bound at the start a server may give rows without chats as well.
            low = None if self._span.bounded else LONG_AGO * self._span.units_per_second
        else:
            low = start - resolution
        return self._pages.filters.within(low, None if end is None else end + resolution)

    # --- a nearer end -------------------------------------------------------------------------------------

    async def try_cut(self, at: float) -> Page[RowT] | None:
        """Let the partition end at a cut ahead of it, if no row behind the cut was read yet.

        Returns:
            The first page of what lies behind the cut; None when the partition was not cut.
        """
        end = self.end
        try:
            page = await self._pages.page(ASC, None, self._window(at, end))
        except PageFaultError:
            return None
        ids = {entry.id for entry in page.entries}
        overlap = await self._rest_of_overlap(page, at)
        behind = ids | overlap
        if not ids or self.end != end or self.walk.has_ended or not behind.isdisjoint(self.ids):
            return None
        beyond = {entry.id for entry in page.entries if self._is_behind(entry, at)}
        self.end, self._boundary = at, behind
        self.walk.end_before(self._window(self._start, at), beyond)
        return page

    async def _rest_of_overlap(self, page: Page[RowT], at: float) -> frozenset[str]:
        """The ids of the rows in the overlap at a cut that the first page behind it may not show."""
        times = self._moments(page.entries)
        # Rows stand in the order of their first chats, which are no earlier than the conversations themselves.
        reaches_over = len(times) == _LATEST and min(times) > at + self._span.resolution
        if page.cursor is None or reaches_over:
            return frozenset()
        return await boundary_ids(self._pages, self._span, at)

    def _is_behind(self, entry: Entry[RowT], at: float) -> bool:
        """Whether a row cannot lie in the overlap at a cut, but only behind it."""
        time = None if isinstance(entry, BadRow) else moment(entry, self._span.units_per_second)
        return time is not None and time > at + self._span.resolution

    # --- rows that cannot be listed, where no cursor leads past them --------------------------------------

    async def _step_over(self, error: AlliError) -> None:
        """Go on behind a row that cannot be listed: at the nearest time from which on the list can be had."""
        units_per_second, begin = self._span.units_per_second, self._position
        limit = self._span.high if self.end is None else self.end
        failing, step = begin, units_per_second
        while failing + step < limit and not await self._can_list(failing + step):
            failing, step = failing + step, step * 2
        good = min(failing + step, limit)
        while good - failing > units_per_second:
            middle = (failing + good) / 2
            if await self._can_list(middle):
                good = middle
            else:
                failing = middle
        row = BadRow(f"a row between {begin} and {good}", error, span=(begin, good))
        if row.id in self.given:
            raise error
        self.given.add(row.id)
        self._report(row)

        async def take(entries: Sequence[Entry[RowT]]) -> None:
            await self._take_new(entries, (begin, good))

        # What stands behind it at the same instant can be had from the other side.
        between = self._window(max(begin - units_per_second, self._start or 0.0), good)
        walk: Walk[RowT] = Walk(self._pages, ASC, between, follow=True)
        await walk.from_other_end(take)
        window = self._window(good + self._span.resolution, self.end)
        self.walk = Walk(self._pages, ASC, window, follow=True, ids=self.ids)
        self._position = good

    async def _can_list(self, start: float) -> bool:
        """Whether the first row from a time on can be listed, and lies behind all that was read."""
        try:
            page = await self._pages.row(ASC, None, self._window(start + self._span.resolution, self.end))
        except PageFaultError:
            return False
        return not any(entry.id in self.ids for entry in page.entries)

    # --- an order that is not stable ----------------------------------------------------------------------

    async def _read_again(self) -> None:
        """Read the partition in windows of one page each; what was seen before is known."""
        span = self._span
        low = span.low if self._start is None else self._start
        high = span.high if self.end is None else self.end
        own = max(len(self.ids), 1)
        at, width = low, max((high - low) * _ROOMY / own, span.resolution)
        is_first = True
        while at < high or is_first:
            to = min(at + width, high)
            window = self._window(self._start if is_first else at, self.end if to >= high else to)
            try:
                page = await self._pages.page(ASC, None, window)
            except PageFaultError:
                await self._read_until_stable(window, (at, to))
                at, is_first = to, False
                continue
            await self._take_new(page.entries, (at, to))
            if page.cursor is not None and to - at > span.resolution:
                width = max(span.resolution, (to - at) / 2)
                continue
            if page.cursor is not None:
                await self._read_until_stable(window, (at, to))
            at, is_first = to, False
            fill = _ROOMY / max(len(page.entries), 1)
            width = max(span.resolution, width * min(max(fill, 0.5), 2.0))

    async def _take_new(self, entries: Sequence[Entry[RowT]], where: tuple[float, float]) -> None:
        fresh = [entry for entry in entries if entry.id not in self.ids]
        self.ids.update(entry.id for entry in fresh)
        await self._take(fresh, where)

    async def _read_until_stable(self, window: Filters, where: tuple[float, float]) -> None:
        """Read rows of one instant, more than fit a page, until their count is reached or nothing new comes."""
        seen: set[str] = set()
        quiet = 0
        for _ in range(_MOST_PASSES):
            one_pass: Walk[RowT] = Walk(self._pages, ASC, window, cursors=self._offsets, follow=True)
            quiet += 1
            while (entries := await _next_of(one_pass)) is not None:
                if any(entry.id not in seen for entry in entries):
                    quiet = 0
                seen.update(entry.id for entry in entries)
                await self._take_new(entries, where)
            if len(seen) == one_pass.listed:
                return
            if quiet >= _QUIET_PASSES:
                break
        seconds = (where[1] - where[0]) / self._span.units_per_second
        error = IncompleteError(
            f"{len(seen)} conversations began within {seconds:g} s, in an order "
            "that changes from request to request: it could not be proved that these are all of them"
        )
        self._report(BadRow(f"rows between {where[0]} and {where[1]}", error, span=where))


async def _next_of(walk: Walk[RowT]) -> list[Entry[RowT]] | None:
    """The next rows of a walk; where it cannot get past a row, that row and no more."""
    try:
        return await walk.next()
    except StuckError as stuck:
        walk.has_ended = True
        return [BadRow(f"a row of {walk.filters.pairs}", stuck.error)]


async def boundary_ids(pages: PageReader[RowT], span: Span, cut: float) -> frozenset[str]:
    """The ids of the rows that stand in the windows on both sides of a cut."""
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
