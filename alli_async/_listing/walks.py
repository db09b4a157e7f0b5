"""One cursor over one list or partition, whose pages are proved to be contiguous where cursors are offsets.

Behind an offset cursor every row that leaves the list, or comes into it, shifts the rows behind it. So each page
is asked for from one row before its cursor. There are these cases:

- It begins with the last row of the page before: nothing lies between the two pages.
- It holds no row that is known: rows have left. The walk goes back until it meets a known row; what follows that
  row is new.
- It begins with the last few rows of the page before: rows have come in behind the walk, which has not seen them.
- It begins otherwise: the order is not stable, rows of one instant come in another one at each request. Rows may
  have been missed, and the walk is disturbed.

A walk that ends undisturbed has seen every row that stayed where it was. Rows of a list in ascending order of
first chats only move towards its end, so it has seen those that moved as well, unless they came from another
partition.

Where cursors are not offsets the walk follows the server's own cursors, and proves nothing (`is_proved`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from itertools import groupby
from typing import Generic, TypeVar

from .._transport import wire
from ..errors import AlliError, BadRequestError, PaginationError
from ..models import Order
from .cursors import OffsetCursors
from .filters import Filters
from .page_reader import MAX_BAD_ROWS, BadRow, Entry, Page, PageFaultError, PageReader
from .pages import EndlessGuard, Row
from .seen import SeenIds

RowT = TypeVar("RowT", bound=Row)

# Rows that are asked for one by one where no page of ten can be had.
_ONE_BY_ONE = 10
# Rows to go back at first where rows have left: few leave between two pages, and most of a page is new then.
_FIRST_STEP = 4
# Pages in a row without a new row, before the list is taken for endless. Going back by doubled steps through a
# list of a hundred million rows takes fewer.
_MAX_IDLE = 100
# How often rows are fetched one by one until none leaves or comes in meanwhile.
_MAX_TRIES = 4
# Pages in a row that hold the overlapping row alone, before one is asked for without it. Ragged pages are longer
# the next time; where a page never holds more than one row, the overlap can prove nothing.
_MAX_STALLED = 3


_OPPOSITE = {
    Order.FIRST_CHAT_TIME_ASC: Order.FIRST_CHAT_TIME_DESC,
    Order.FIRST_CHAT_TIME_DESC: Order.FIRST_CHAT_TIME_ASC,
    Order.LAST_CHAT_TIME_ASC: Order.LAST_CHAT_TIME_DESC,
    Order.LAST_CHAT_TIME_DESC: Order.LAST_CHAT_TIME_ASC,
}


class StuckError(Exception):
    """The row behind a cursor cannot be listed, and no cursor behind it can be made.

    Attributes:
        error: Why the row cannot be listed.
    """

    def __init__(self, error: AlliError) -> None:
        super().__init__(str(error))
        self.error = error


class Walk(Generic[RowT]):
    """Reads the pages of a list one after the other and gives the rows that are new.

    Args:
        pages: Fetches the pages.
        order: The order of the list.
        filters: The filters of the list or partition.
        cursors: How this server makes offset cursors; None to find out by the list's own cursors.
        follow: Go from page to page by the server's own cursors. Made ones only lead past rows that cannot be had.
        at: Rows before the place to begin; only with `cursors`.
        ids: Where to keep the ids of the rows that were seen.

    Attributes:
        ids: The ids of the rows that were seen.
        last_id: The id of the last row that was seen.
        rows_left: Whether rows left the list behind the walk.
        rows_came: Whether rows came into the list behind the walk.
        is_disturbed: Whether the order of the rows is not stable, so that rows may have been missed.
        is_proved: Whether the pages are proved to be contiguous, unless the walk is disturbed.
        has_ended: Whether the end of the list was reached.
        first_cursor: The server's cursor behind the first page.
        listed: The rows that were on its pages, each time they were: with no overlap, the length of the list.
    """

    def __init__(
        self,
        pages: PageReader[RowT],
        order: Order,
        filters: Filters,
        *,
        cursors: OffsetCursors | None = None,
        follow: bool = False,
        at: int = 0,
        ids: set[str] | SeenIds | None = None,
    ) -> None:
        self.filters = filters
        self.ids: set[str] | SeenIds = set() if ids is None else ids
        self.last_id: str | None = None
        self.rows_left = self.rows_came = self.is_disturbed = self.has_ended = False
        self.is_proved = True
        self.listed = 0
        self._pages = pages
        self._order = order
        self._cursors = cursors
        self._is_confirmed = cursors is not None
        self._follow = follow
        self._at = at
        self._cursor: str | None = None
        self.first_cursor: str | None = None
        self._first_rows = 0
        self._shown: str | None = None
        self._found: OffsetCursors | None = None
        self._begun = False
        self._latest: list[str] = []
        self._idle = self._stalled = 0
        self._was_refused = False
        self._beyond: Collection[str] = frozenset()
        self._ready: Page[RowT] | None = None
        self._guard = EndlessGuard()

    @property
    def cursors(self) -> OffsetCursors | None:
        """How to make offset cursors for this list; None when its cursors are not known to be offsets."""
        return self._cursors if self._is_confirmed and not self._follow else self._found

    @property
    def rows_before(self) -> int:
        """How many rows of the list are before the next page."""
        return self._at

    def seed(self, walk: Walk[RowT]) -> None:
        """Go on where another walk over the begin of the same list has stopped."""
        self.last_id, self._latest = walk.last_id, list(walk._latest)
        self.rows_left, self.rows_came, self.is_disturbed = walk.rows_left, walk.rows_came, walk.is_disturbed
        self._at, self._cursors, self._begun, self._is_confirmed = walk._at, walk._cursors, True, True

    def begin_at(self, cursor: str) -> None:
        """Begin at a cursor of the server's."""
        self._cursor, self._begun, self._follow = cursor, True, True

    def begin_with(self, page: Page[RowT]) -> None:
        """Begin with a page that is there already."""
        self._ready = page

    def end_before(self, filters: Filters, beyond: Collection[str]) -> None:
        """Let the list end earlier, at a row that was not read yet.

        Args:
            filters: The filters with the nearer end.
            beyond: The ids of the first rows behind that end. A page that was asked for with the end before may
                show them.
        """
        self.filters, self._beyond = filters, beyond

    async def next(self) -> list[Entry[RowT]] | None:
        """Read the next page.

        Returns:
            Its rows that are new, which may be none; None when the list has ended.

        Raises:
            StuckError: A row cannot be listed, and there is no way past it.
            PaginationError: The list does not end.
            AlliError: The page could not be had.
        """
        if self.has_ended:
            return None
        if not self._begun:
            entries = await self._first()
        elif self._follow or self._cursors is None:
            entries = await self._following()
        else:
            entries = await self._overlapping(self._cursors)
        known = self.ids
        fresh = [entry for entry in entries if entry.id not in known]
        known.update([entry.id for entry in fresh])
        if entries:
            self._latest = [entry.id for entry in entries]
            self.last_id = self._latest[-1]
        self._idle = 0 if fresh else self._idle + 1
        if self._idle > _MAX_IDLE:
            self._fail(f"{self._idle} pages in a row brought nothing new")
        return fresh

    def _last_known(self, page: Page[RowT]) -> int:
        """The place on a page of the last row that was seen before; -1 when there is none."""
        known = self.ids
        return max([n for n, entry in enumerate(page.entries) if entry.id in known], default=-1)

    async def _first(self) -> Sequence[Entry[RowT]]:
        at = self._at
        page = await self._page(
            at, self._cursors.cursor(at) if at and self._cursors else None, refused_is_end=True
        )
        self._begun = True
        self._note(page, at + len(page.entries))
        self.first_cursor, self._first_rows = page.cursor, at + len(page.entries)
        if page.cursor:
            rows, known = at + len(page.entries), self._cursors
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
        """Find out from the server's first two cursors whether they are offsets after all; for other walks."""
        if self.first_cursor is not None and self._shown is None:
            self._shown = cursor
            self._found = OffsetCursors.agreeing([(self.first_cursor, self._first_rows), (cursor, rows)])

    def _note(self, page: Page[RowT], rows_before: int) -> None:
        self._at, self._cursor = rows_before, page.cursor
        self.has_ended = page.cursor is None
        self.listed += len(page.entries)

    # --- by the server's own cursors ----------------------------------------------------------------------

    async def _following(self) -> Sequence[Entry[RowT]]:
        self.is_proved = False
        asked = self._cursor
        page = await self._page(self._at, asked)
        last_known = self._last_known(page)
        if last_known >= 0:
            came = self._follows(page, last_known)
            self.rows_came, self.is_disturbed = self.rows_came or came, self.is_disturbed or not came
        self._note(page, self._at + len(page.entries))
        if page.cursor:
            self._look_for_offsets(page.cursor, self._at)
            self._guard.check(asked, page.cursor, [entry.id for entry in page.entries])
        return page.entries

    # --- from one row before the cursor -------------------------------------------------------------------

    async def _overlapping(self, cursors: OffsetCursors) -> Sequence[Entry[RowT]]:
        expected = max(self._at - 1, 0) if self._stalled < _MAX_STALLED else self._at
        at, step = expected, _FIRST_STEP
        while True:
            page = await self._page(at, cursors.cursor(at) if at else None, refused_is_end=True)
            last_known = self._last_known(page)
            if not self._is_confirmed and (last_known < 0 or not self._follows(page, last_known)):
                # The number was no offset after all, or only the server's own cursors are taken.
                self._give_up_offsets()
                return await self._following()
            if last_known >= 0 or at == 0:
                break
            if at == self._at:  # asked for without the overlap
                self.is_proved = False
                break
            if not page.entries and page.cursor and cursors.rows_before(page.cursor) == at:
                return self._stay(page)
            if at == expected and await self._takes_own_cursors_only():
                return await self._following()
            self.rows_left = True
            at = max(0, at - step)
            step *= 4
        self._look_for_disturbance(page, last_known, at == expected)
        holds_overlap_alone = at == expected and last_known == 0 and len(page.entries) == 1
        return self._take(cursors, page, at, is_stalled=holds_overlap_alone)

    def _look_for_disturbance(self, page: Page[RowT], last_known: int, as_expected: bool) -> None:
        known = page.entries[: last_known + 1]
        if as_expected and len(known) > 1:
            if self._follows(page, last_known):
                self.rows_came = True
            else:
                self.is_disturbed = True
        elif not all(entry.id in self.ids for entry in known):
            self.is_disturbed = True

    def _follows(self, page: Page[RowT], last_known: int) -> bool:
        """Whether a page begins with the last rows of the page before, up to the last one that is known."""
        known = [entry.id for entry in page.entries[: last_known + 1]]
        return known == self._latest[-len(known) :]

    def _take(
        self, cursors: OffsetCursors, page: Page[RowT], at: int, *, is_stalled: bool
    ) -> Sequence[Entry[RowT]]:
        following = at + len(page.entries)
        if page.cursor and cursors.rows_before(page.cursor) != following:
            # The number counts something else than the rows that are shown, or the encoding is another one.
            self._give_up_offsets()
            self._look_for_offsets(page.cursor, following)
        else:
            self._is_confirmed = True
        self._stalled = self._stalled + 1 if is_stalled else 0
        overlap = max(0, self._at - at)
        self._note(page, following)
        self.listed -= min(overlap, len(page.entries))
        return page.entries

    def _stay(self, page: Page[RowT]) -> Sequence[Entry[RowT]]:
        self._cursor = page.cursor
        return page.entries

    async def _takes_own_cursors_only(self) -> bool:
        """Whether the server refuses a cursor that it did not give, and takes its own; then its own are used."""
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

    async def _page(self, at: int, cursor: str | None, *, refused_is_end: bool = False) -> Page[RowT]:
        """Fetch the page at a cursor, up to the end of the list, which may have come nearer meanwhile."""
        page = await self._whole_page(at, cursor, refused_is_end=refused_is_end)
        if not self._beyond:
            return page
        end = next((n for n, entry in enumerate(page.entries) if entry.id in self._beyond), None)
        return page if end is None else Page(page.entries[:end], None)

    async def _whole_page(self, at: int, cursor: str | None, *, refused_is_end: bool) -> Page[RowT]:
        """Fetch the page at a cursor, in smaller pages or row by row where the server cannot make it."""
        self._was_refused = False
        if self._ready is not None:
            page, self._ready = self._ready, None
            return page
        try:
            return await self._pages.page(self._order, cursor, self.filters)
        except BadRequestError:
            if not (refused_is_end and at):
                raise
            # Some servers refuse a cursor beyond the end of the list.
            self._was_refused = True
            return Page((), None)
        except PageFaultError:
            return await self._row_by_row(at, cursor, refused_is_end=refused_is_end and at > 0)

    async def _row_by_row(self, at: int, cursor: str | None, *, refused_is_end: bool) -> Page[RowT]:
        """Fetch rows one by one, again where rows have left or come in meanwhile: single rows have no overlap."""
        page = await self._single_rows(at, cursor, refused_is_end=refused_is_end)
        for _ in range(_MAX_TRIES):
            if await self._is_still_there(page, at):
                return page
            page = await self._single_rows(at, cursor, refused_is_end=refused_is_end)
        self.is_disturbed = True
        return page

    async def _is_still_there(self, page: Page[RowT], at: int) -> bool:
        """Whether the rows that were fetched one by one stand where they stood then, if that can be found out."""
        cursors = self._cursors
        if cursors is None or not self._is_confirmed:
            return True  # then the walk is not proved anyway
        for is_bad, group in groupby(enumerate(page.entries, at), key=lambda each: isinstance(each[1], BadRow)):
            rows = list(group)
            if is_bad or len(rows) == 1 == len(page.entries):
                continue
            first, ids = rows[0][0], [entry.id for _, entry in rows]
            try:
                cursor = cursors.cursor(first) if first else None
                again = await self._pages.page(self._order, cursor, self.filters, size=len(ids))
            except BadRequestError:
                return False  # beyond the end, which has come nearer
            except PageFaultError:
                self.is_proved = False
                return True
            if [entry.id for entry in again.entries] != ids[: len(again.entries)] or not again.entries:
                return False
            self.is_proved = self.is_proved and len(again.entries) == len(ids)
        return True

    async def _single_rows(self, at: int, cursor: str | None, *, refused_is_end: bool) -> Page[RowT]:
        """Fetch rows one by one, and step over those that cannot be read, up to one that can."""
        entries: list[Entry[RowT]] = []
        bad = all_bad = 0
        following = cursor
        while len(entries) < _ONE_BY_ONE or bad:
            try:
                page = await self._pages.row(self._order, following, self.filters)
            except BadRequestError:
                if not refused_is_end:
                    raise
                return Page(entries, None)
            except PageFaultError as fault:
                failure = fault.error
                bad, all_bad = bad + 1, all_bad + 1
                if bad > MAX_BAD_ROWS:
                    raise failure from None
                if self._cursors is None or not self._is_confirmed:
                    if not entries:
                        raise StuckError(failure) from None
                    return Page(entries, following)
                entries.append(BadRow(f"row {at + len(entries)} of {self.filters.pairs}", failure))
                following, refused_is_end = self._cursors.cursor(at + len(entries)), True
                self._pages.restore_size()
                continue
            bad, refused_is_end = 0, False
            entries += page.entries
            if page.cursor is None:
                return Page(entries, None)
            following = page.cursor
        if not all_bad:
            self._pages.use_single_rows()
        return Page(entries, following)

    async def from_other_end(self, take: Callable[[Sequence[Entry[RowT]]], Awaitable[object]]) -> None:
        """Read the list from its other end, up to the row that this walk cannot get past."""
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
