"""One cursor over one list or partition, whose pages are proved to be contiguous where cursors are offsets.

Where cursors are offsets, a row that leaves the part already read, or comes into it, shifts all rows after the
cursor. So each page is asked for from one row before its cursor. There are these cases:

- It begins with the last row of the page before: no row lies between the two pages.
- It holds no known row: rows have left. The walk goes back until it meets a known row; the rows after that one are
  new.
- It begins with the last few rows of the page before: rows have come into the part already read, and the walk has
  not seen them.
- It begins otherwise: the order is not stable, so that rows of one instant come in another order at each request.
  Rows may have been missed, and the walk is disturbed.

A walk that ends undisturbed has seen every row that stayed in its place. Rows of a list in ascending order of
first chats only move towards its end, so the walk has seen rows that moved as well, unless they came from another
partition.

Where cursors are not offsets the walk follows the server's own cursors, and proves nothing (`is_proved`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Generic, TypeVar

from .._transport import wire
from ..errors import BadRequestError, PaginationError
from ..models import Order
from .cursors import OffsetCursors
from .filters import Filters
from .page_reader import BadRow, ListEntry, Page, PageFaultError, PageReader, good_rows
from .pages import EndlessGuard, Row
from .seen import SeenIds
from .single_rows import SingleRows, StuckError

RowT = TypeVar("RowT", bound=Row)

# Rows to go back at first where rows have left: few leave between two pages, and most of a page is new then.
_FIRST_STEP = 4
# Pages in a row without a new row after which the list counts as endless. Going back by growing steps through a
# list of a hundred million rows takes fewer.
_MAX_IDLE = 100
# Pages in a row with the overlapping row alone after which a page is requested without overlap. A ragged page is
# longer the next time; where a page never holds more than one row, the overlap can prove nothing.
_MAX_STALLED = 3


_OPPOSITE = {
    Order.FIRST_CHAT_TIME_ASC: Order.FIRST_CHAT_TIME_DESC,
    Order.FIRST_CHAT_TIME_DESC: Order.FIRST_CHAT_TIME_ASC,
    Order.LAST_CHAT_TIME_ASC: Order.LAST_CHAT_TIME_DESC,
    Order.LAST_CHAT_TIME_DESC: Order.LAST_CHAT_TIME_ASC,
}


class Walk(Generic[RowT]):
    """Reads the pages of a list one after the other, and returns the rows that are new.

    Args:
        pages: Fetches the pages.
        order: The order of the list.
        filters: The filters of the list or partition.
        cursors: How this server makes offset cursors; None to find out from the list's own cursors.
        follow: Whether to go from page to page by the server's own cursors, and to use made ones only to get past
            rows that cannot be read.
        index: Index of the row to start with; only with `cursors`.
        ids: The set to which the ids of the rows are added; None for a new set.

    Attributes:
        ids: The ids of the rows that were seen.
        last_id: The id of the last row that was seen.
        rows_left: Whether rows left the part already read.
        rows_came: Whether rows came into the part already read.
        is_order_unstable: Whether the order of the rows is not stable, so that rows may have been missed.
        is_proved: Whether each page was compared with the page before. If the order is not unstable, the pages
            are then contiguous.
        has_ended: Whether the end of the list was reached.
        first_cursor: The server's cursor after the first page.
        listed: Number of rows on the pages without the overlap of each page: the length of the list, unless rows
            came or left. A row that is on two pages for another reason counts twice.
    """

    def __init__(
        self,
        pages: PageReader[RowT],
        order: Order,
        filters: Filters,
        *,
        cursors: OffsetCursors | None = None,
        follow: bool = False,
        index: int = 0,
        ids: set[str] | SeenIds | None = None,
    ) -> None:
        self.filters = filters
        self.ids: set[str] | SeenIds = set() if ids is None else ids
        self.last_id: str | None = None
        self.rows_left = self.rows_came = self.is_order_unstable = self.has_ended = False
        self.is_proved = True
        self.listed = 0
        self._pages = pages
        self._order = order
        self._cursors = cursors
        self._is_confirmed = cursors is not None
        self._follow = follow
        self._index = index
        self._cursor: str | None = None
        self.first_cursor: str | None = None
        self._first_rows = 0
        self._second_cursor: str | None = None
        self._found_offsets: OffsetCursors | None = None
        self._has_started = False
        self._last_page_ids: list[str] = []
        self._idle = self._stalled = 0
        self._was_refused = False
        self._beyond: Collection[str] = frozenset()
        # Rows of pages that showed no known row, so that the walk went back: they are met again further on.
        self._set_aside: dict[str, ListEntry[RowT]] = {}
        self._ready: Page[RowT] | None = None
        self._guard = EndlessGuard()

    @property
    def cursors(self) -> OffsetCursors | None:
        """How this list's offset cursors are made; None where its cursors are not known to be offsets."""
        return self._cursors if self._is_confirmed and not self._follow else self._found_offsets

    @property
    def is_contiguous(self) -> bool:
        """Whether the pages are proved to be contiguous, and the order of rows was stable."""
        return self.is_proved and not self.is_order_unstable

    def seed(self, walk: Walk[RowT]) -> None:
        """Continue where another walk over the start of the same list has stopped."""
        self.last_id, self._last_page_ids = walk.last_id, list(walk._last_page_ids)
        self.rows_left, self.rows_came = walk.rows_left, walk.rows_came
        self.is_order_unstable = walk.is_order_unstable
        self._index, self._cursors, self._has_started, self._is_confirmed = walk._index, walk._cursors, True, True

    def begin_at(self, cursor: str) -> None:
        """Start at one of the server's cursors."""
        self._cursor, self._has_started, self._follow = cursor, True, True

    def begin_with(self, page: Page[RowT]) -> None:
        """Start with a page that was read already."""
        self._ready = page

    def end_before(self, filters: Filters, beyond: Collection[str]) -> None:
        """Let the list end earlier, at a row that was not read yet.

        Args:
            filters: The filters with the nearer end.
            beyond: The ids of the first rows after the nearer end. A page that was requested with the former end
                may show them.
        """
        self.filters, self._beyond = filters, beyond

    async def next(self) -> list[ListEntry[RowT]] | None:
        """Read the next page.

        Returns:
            The new rows of the page, which may be none; None when the list has ended.

        Raises:
            StuckError: A row cannot be listed, and there is no way past it.
            PaginationError: The list does not end.
            AlliError: The page could not be fetched.
        """
        if self.has_ended:
            return None
        if not self._has_started:
            entries = await self._first_page()
        elif self._follow or self._cursors is None:
            entries = await self._next_by_cursor()
        else:
            entries = await self._next_by_offset(self._cursors)
        by_id = {entry.id: entry for entry in entries}
        if len(by_id) < len(entries):
            # A row moved while the page was made, or its rows were fetched one by one.
            self.is_order_unstable = True
            entries = list(by_id.values())
        known = self.ids
        fresh = [entry for entry in entries if entry.id not in known]
        known.update([entry.id for entry in fresh])
        if entries:
            self._last_page_ids = [entry.id for entry in entries]
            self.last_id = self._last_page_ids[-1]
        fresh += self._not_met_again()
        self._idle = 0 if fresh else self._idle + 1
        if self._idle > _MAX_IDLE:
            self._fail(f"{self._idle} pages in a row brought nothing new")
        return fresh

    async def next_rows(self) -> list[ListEntry[RowT]]:
        """Read on until a page brings new rows: an empty page does not end a list.

        Returns:
            The new rows of that page; none when the list has ended.

        Raises:
            StuckError: A row cannot be listed, and there is no way past it.
            PaginationError: The list does not end.
            AlliError: A page could not be fetched.
        """
        while (entries := await self.next()) is not None:
            if entries:
                return entries
        return []

    def _last_known(self, page: Page[RowT]) -> int:
        """The index on a page of the last row that was seen before; -1 when there is none."""
        known = self.ids
        return max([n for n, entry in enumerate(page.entries) if entry.id in known], default=-1)

    async def _first_page(self) -> Sequence[ListEntry[RowT]]:
        index = self._index
        page = await self._page(
            index, self._cursors.cursor(index) if index and self._cursors else None, refused_is_end=True
        )
        self._has_started = True
        self._move_past(page, index + len(page.entries))
        self.first_cursor, self._first_rows = page.cursor, index + len(page.entries)
        if page.cursor:
            rows, known = index + len(page.entries), self._cursors
            if known is not None:
                self._cursors = known.learn(page.cursor, rows)
                self._is_confirmed = self._is_confirmed and self._cursors is not None
            elif not self._follow:
                self._cursors = OffsetCursors.guess(page.cursor, rows)
            if self._cursors is None and not self._follow:
                self._give_up_offsets()
        return page.entries

    def _give_up_offsets(self) -> None:
        self._follow, self._is_confirmed, self.is_proved = True, False, False

    def _look_for_offsets(self, cursor: str, rows: int) -> None:
        """Find out, for other walks, from the server's first two cursors whether they are offsets after all."""
        if self.first_cursor is not None and self._second_cursor is None:
            self._second_cursor = cursor
            self._found_offsets = OffsetCursors.agreeing([(self.first_cursor, self._first_rows), (cursor, rows)])

    def _move_past(self, page: Page[RowT], rows_before: int) -> None:
        self._index, self._cursor = rows_before, page.cursor
        self.has_ended = page.cursor is None
        self.listed += len(page.entries)

    # --- by the server's own cursors ----------------------------------------------------------------------

    async def _next_by_cursor(self) -> Sequence[ListEntry[RowT]]:
        """Read the page at the server's cursor."""
        self.is_proved = False
        asked = self._cursor
        page = await self._page(self._index, asked)
        last_known = self._last_known(page)
        if last_known >= 0:
            came = self._is_seamless(page, last_known)
            self.rows_came, self.is_order_unstable = self.rows_came or came, self.is_order_unstable or not came
        self._move_past(page, self._index + len(page.entries))
        if page.cursor:
            self._look_for_offsets(page.cursor, self._index)
            self._guard.check(asked, page.cursor, [entry.id for entry in page.entries])
        return page.entries

    # --- from one row before the cursor -------------------------------------------------------------------

    async def _next_by_offset(self, cursors: OffsetCursors) -> Sequence[ListEntry[RowT]]:
        """Read the page from one row before the cursor; from further back, if that page shows no known row."""
        expected = max(self._index - 1, 0) if self._stalled < _MAX_STALLED else self._index
        index, step = expected, _FIRST_STEP
        while True:
            page = await self._page(index, cursors.cursor(index) if index else None, refused_is_end=True)
            last_known = self._last_known(page)
            if not self._is_confirmed and (last_known < 0 or not self._is_seamless(page, last_known)):
                # The number was no offset after all, or the server accepts only its own cursors.
                self._give_up_offsets()
                return await self._next_by_cursor()
            if last_known >= 0 or index == 0:
                break
            if index == self._index:  # asked for without the overlap
                self.is_proved = False
                break
            if not page.entries and page.cursor and cursors.rows_before(page.cursor) == index:
                return self._stay_before(page)
            if index == expected and await self._takes_own_cursors_only():
                return await self._next_by_cursor()
            self.rows_left = True
            self._set_aside.update((entry.id, entry) for entry in page.entries)
            index = max(0, index - step)
            step *= 4
        overlap = self._index - expected
        self._look_for_disturbance(page, last_known, overlap if index == expected else None)
        holds_overlap_alone = index == expected and last_known == 0 and len(page.entries) == 1
        return self._advance(cursors, page, index, is_stalled=holds_overlap_alone)

    def _look_for_disturbance(self, page: Page[RowT], last_known: int, overlap: int | None) -> None:
        """Look for rows that came into the part already read, and for an order that is not stable.

        Args:
            page: The page.
            last_known: The index on the page of the last row that was seen before.
            overlap: Number of known rows that the page must begin with; None if the walk has gone back.
        """
        known = page.entries[: last_known + 1]
        if overlap is not None and len(known) > overlap:
            if self._is_seamless(page, last_known):
                self.rows_came = True
            else:
                self.is_order_unstable = True
        elif not all(entry.id in self.ids for entry in known):
            self.is_order_unstable = True

    def _not_met_again(self) -> list[ListEntry[RowT]]:
        """At the end of the list, the rows of pages that were set aside and that the walk has not met again.

        They have left since, or rows of one instant come in another order at each request.
        """
        if not self.has_ended:
            return []
        missed = [entry for entry in self._set_aside.values() if entry.id not in self.ids]
        self.is_order_unstable = self.is_order_unstable or bool(missed)
        self.ids.update([entry.id for entry in missed])
        return missed

    def _is_seamless(self, page: Page[RowT], last_known: int) -> bool:
        """Whether a page begins with the last rows of the page before, up to the last one that is known."""
        known = [entry.id for entry in page.entries[: last_known + 1]]
        return known == self._last_page_ids[-len(known) :]

    def _advance(
        self, cursors: OffsetCursors, page: Page[RowT], index: int, *, is_stalled: bool
    ) -> Sequence[ListEntry[RowT]]:
        """Move past a page, after its cursor has been compared with the index of its end."""
        next_index = index + len(page.entries)
        if page.cursor and cursors.rows_before(page.cursor) != next_index:
            # The number in the cursor counts something else than these rows, or the encoding is another one.
            self._give_up_offsets()
            self._look_for_offsets(page.cursor, next_index)
        else:
            self._is_confirmed = True
        self._stalled = self._stalled + 1 if is_stalled else 0
        overlap = max(0, self._index - index)
        self._move_past(page, next_index)
        self.listed -= min(overlap, len(page.entries))
        return page.entries

    def _stay_before(self, page: Page[RowT]) -> Sequence[ListEntry[RowT]]:
        """Stay at the same index after an empty page that is not the last one."""
        self._cursor = page.cursor
        return page.entries

    async def _takes_own_cursors_only(self) -> bool:
        """Switch to the server's own cursors, if it refuses the cursors of others; return whether it does."""
        if self._cursor is None or not self._was_refused:
            return False
        try:
            page = await self._pages.page(self._order, self._cursor, self.filters, size=1)
        except BadRequestError:
            return False
        if page.entries:
            self._give_up_offsets()
        return bool(page.entries)

    # --- a page, whatever is wrong with its rows ----------------------------------------------------------

    async def _page(self, index: int, cursor: str | None, *, refused_is_end: bool = False) -> Page[RowT]:
        """Fetch the page at a cursor, without rows after the end of the list, which may have come nearer."""
        page = await self._whole_page(index, cursor, refused_is_end=refused_is_end)
        if not self._beyond:
            return page
        end = next((n for n, entry in enumerate(page.entries) if entry.id in self._beyond), None)
        return page if end is None else Page(page.entries[:end], None)

    async def _whole_page(self, index: int, cursor: str | None, *, refused_is_end: bool) -> Page[RowT]:
        """Fetch the page at a cursor, in smaller pages or row by row where the server cannot make it."""
        self._was_refused = False
        if self._ready is not None:
            page, self._ready = self._ready, None
            return page
        try:
            return await self._pages.page(self._order, cursor, self.filters)
        except BadRequestError:
            if not (refused_is_end and index):
                raise
            # Some servers refuse a cursor beyond the end of the list.
            self._was_refused = True
            return Page((), None)
        except PageFaultError:
            rows = SingleRows(
                self._pages, self._order, self.filters, self._cursors if self._is_confirmed else None
            )
            page = await rows.read(index, cursor, refused_is_end=refused_is_end and index > 0)
            self.is_proved = self.is_proved and rows.is_proved
            self.is_order_unstable = self.is_order_unstable or rows.has_moved
            return page

    async def drain(self, take: Callable[[Sequence[ListEntry[RowT]]], Awaitable[object]]) -> None:
        """Read to the end of the list.

        If a row cannot be listed and no cursor leads past it, a `BadRow` is taken for all such rows, and the list
        is read from its other end.

        Args:
            take: Called with the new rows of each page.

        Raises:
            PaginationError: The list does not end.
            AlliError: A page could not be fetched.
        """
        while True:
            try:
                entries = await self.next()
            except StuckError as stuck:
                await take([BadRow("rows that no cursor leads past", stuck.error)])
                await self.read_from_other_end(take)
                return
            if entries is None:
                return
            await take(entries)

    async def read_from_other_end(self, take: Callable[[Sequence[ListEntry[RowT]]], Awaitable[object]]) -> None:
        """Read the list from its other end, as far as the row that this walk cannot get past."""
        back: Walk[RowT] = Walk(self._pages, _OPPOSITE[self._order], self.filters, follow=True)
        while True:
            try:
                entries = await back.next()
            except (StuckError, BadRequestError):
                return
            if entries is None:
                return
            await take(entries)

    def _fail(self, why: str) -> None:
        error = PaginationError(f"the list does not end: {why}")
        error.locate("GET", wire.CONVERSATIONS, self._idle, 0.0)
        error.cursor = self._cursor
        raise error


async def first_rows(pages: PageReader[RowT], order: Order, filters: Filters) -> list[RowT]:
    """The rows of the first page that has rows; none where the server cannot list any in this order."""
    try:
        return good_rows(await Walk(pages, order, filters).next_rows())
    except (BadRequestError, StuckError):
        return []
