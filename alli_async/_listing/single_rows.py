"""Rows of a list one by one, where the server can make no page of several rows."""

from __future__ import annotations

from itertools import groupby
from typing import Generic, TypeVar

from ..errors import AlliError, BadRequestError
from ..models import Order
from .cursors import OffsetCursors
from .filters import Filters
from .page_reader import MAX_BAD_ROWS, BadRow, ListEntry, Page, PageFaultError, PageReader
from .pages import Row

RowT = TypeVar("RowT", bound=Row)

# Rows that are requested one by one where no page of ten rows can be read.
_ONE_BY_ONE = 10
# Times that rows are fetched one by one until no row leaves or comes meanwhile.
_MAX_TRIES = 4


class StuckError(Exception):
    """The row after a cursor cannot be listed, and no cursor past it can be made.

    Attributes:
        error: Why the row cannot be listed.
    """

    def __init__(self, error: AlliError) -> None:
        super().__init__(str(error))
        self.error = error


class SingleRows(Generic[RowT]):
    """Fetches rows one by one, and steps over rows that cannot be read.

    Single rows have no overlap. So they are fetched once more afterwards, together, and all again where rows have
    left or come meanwhile.

    Args:
        pages: Fetches the pages.
        order: The order of the list.
        filters: The filters of the list.
        cursors: How this server makes offset cursors; None where that is not known, or cursors are no offsets.

    Attributes:
        is_proved: Whether the rows are proved to be contiguous, unless they have moved.
        has_moved: Whether rows left or came at each try.
    """

    def __init__(
        self, pages: PageReader[RowT], order: Order, filters: Filters, cursors: OffsetCursors | None
    ) -> None:
        self.is_proved, self.has_moved = True, False
        self._pages = pages
        self._order = order
        self._filters = filters
        self._cursors = cursors

    async def read(self, index: int, cursor: str | None, *, refused_is_end: bool) -> Page[RowT]:
        """Fetch ten rows, or more where the tenth cannot be read.

        Args:
            index: The index of the first row.
            cursor: Its cursor; None for the first of the list.
            refused_is_end: Whether a cursor that the server refuses is taken for the end of the list.

        Raises:
            StuckError: The first row cannot be listed, and no cursor past it can be made.
            AlliError: The server is at fault, and not the rows.
        """
        page = await self._fetch(index, cursor, refused_is_end=refused_is_end)
        if self._cursors is None:
            # Rows that left meanwhile may have moved others past the cursor.
            self.is_proved = len(page.entries) <= 1
            return page
        for _ in range(_MAX_TRIES):
            if await self._is_still_there(page, index, self._cursors):
                return page
            page = await self._fetch(index, cursor, refused_is_end=refused_is_end)
        self.has_moved = True
        return page

    async def _is_still_there(self, page: Page[RowT], index: int, cursors: OffsetCursors) -> bool:
        """Whether the rows still have the same indexes, as far as a request can show."""
        for is_bad, group in groupby(enumerate(page.entries, index), key=lambda each: isinstance(each[1], BadRow)):
            rows = list(group)
            if is_bad or len(rows) == 1 == len(page.entries):
                continue
            first, ids = rows[0][0], [entry.id for _, entry in rows]
            try:
                cursor = cursors.cursor(first) if first else None
                again = await self._pages.page(self._order, cursor, self._filters, size=len(ids))
            except BadRequestError:
                return False  # The end of the list has come nearer.
            except PageFaultError:
                self.is_proved = False
                return True
            if [entry.id for entry in again.entries] != ids[: len(again.entries)] or not again.entries:
                return False
            self.is_proved = self.is_proved and len(again.entries) == len(ids)
        return True

    async def _fetch(self, index: int, cursor: str | None, *, refused_is_end: bool) -> Page[RowT]:
        entries: list[ListEntry[RowT]] = []
        bad = all_bad = 0
        next_cursor = cursor
        while len(entries) < _ONE_BY_ONE or bad:
            try:
                page = await self._pages.row(self._order, next_cursor, self._filters)
            except BadRequestError:
                if not refused_is_end:
                    raise
                return Page(entries, None)
            except PageFaultError as fault:
                failure = fault.error
                bad, all_bad = bad + 1, all_bad + 1
                if bad > MAX_BAD_ROWS:
                    raise failure from None
                if self._cursors is None:
                    if not entries:
                        raise StuckError(failure) from None
                    return Page(entries, next_cursor)
                entries.append(BadRow(f"row {index + len(entries)} of {self._filters.pairs}", failure))
                next_cursor, refused_is_end = self._cursors.cursor(index + len(entries)), True
                self._pages.restore_size()
                continue
            bad, refused_is_end = 0, False
            entries += page.entries
            if page.cursor is None:
                return Page(entries, None)
            next_cursor = page.cursor
        if not all_bad:
            self._pages.use_single_rows()
        return Page(entries, next_cursor)
