"""Lists of conversations: filters, orders and pages."""

from __future__ import annotations

import random
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import groupby

from .cursors import make_cursors
from .errors import bad_parameter, gateway_timeout
from .options import Options
from .orders import View
from .params import DEFAULT_ORDER, Filters, ListQuery, Window
from .store import By, Store

_NO_WINDOW: Window = (None, None)
_KEPT_VIEWS = 8
# The share of pages without rows in a ragged list; often enough to be met in a walk of a few dozen pages.
_EMPTY_PAGES = 0.125


class Lists:
    """Finds the rows of a page and the cursor of the next page."""

    def __init__(self, store: Store, options: Options) -> None:
        self._store = store
        self._options = options
        self._cursors = make_cursors(options)
        self._tie_draw = random.Random(f"{options.seed}:ties")  # noqa: S311 - made-up data
        self._size_draw = random.Random(f"{options.seed}:pages")  # noqa: S311 - made-up data
        self._views: OrderedDict[tuple[Filters, str], View] = OrderedDict()
        self._version = 0

    def page(self, query: ListQuery) -> tuple[list[int], str | None]:
        """The conversations of a page, and the cursor of the next one.

        Raises:
            Refusal: The cursor or the order is refused, or the page is too large for the gateway.
        """
        if self._options.heavy_page is not None and query.page_size > self._options.heavy_page:
            raise gateway_timeout()
        order = query.order if self._options.order == "honoured" else DEFAULT_ORDER
        by: By = "first" if order.startswith("FIRST") else "last"
        if by == "first" and self._options.first_chat_orders == "refused":
            raise bad_parameter(f"order {order} is not supported")
        view = self._view(query.filters, order, by)
        start = self._start(view, query.cursor, by)
        stop = start + self._page_size(query)
        if stop == start < len(view):
            return [], self._empty_page_cursor(query, start)
        rows = self._rows(view, start, stop, by)
        if stop >= len(view):
            return rows, None
        last = self._store.time_of(by)(rows[-1]), rows[-1]
        return rows, self._cursors.write(stop, last)

    def _start(self, view: View, cursor: str | None, by: By) -> int:
        """The position in the view at which the page of a cursor begins."""
        if cursor is None:
            return 0
        try:
            place = self._cursors.read(cursor)
        except ValueError:
            raise bad_parameter("cursor is not one that was given out") from None
        return place if isinstance(place, int) else view.after(*place, self._store.time_of(by))

    def _page_size(self, query: ListQuery) -> int:
        size = min(query.page_size, self._options.page_cap or query.page_size)
        if not self._options.ragged:
            return size
        # There is no row for a keyset cursor to name before the first page.
        may_be_empty = query.cursor is not None or self._options.cursor != "keyset"
        if self._size_draw.random() < _EMPTY_PAGES and may_be_empty:
            return 0
        return self._size_draw.randint(1, size)

    def _empty_page_cursor(self, query: ListQuery, start: int) -> str:
        """A cursor to where the page began, in another text: a repeated cursor would look like an endless list."""
        if query.cursor is None:
            return self._cursors.write(start, None)
        return self._cursors.respell(query.cursor, start)

    def _rows(self, view: View, start: int, stop: int, by: By) -> list[int]:
        stop = min(stop, len(view))
        if self._options.ties == "stable" or start >= stop:
            return view.rows(start, stop)
        # Shuffle whole groups of equal rows, those that reach beyond the page too.
        time_of = self._store.time_of(by)
        first, _ = view.ties(view.rows(start, start + 1)[0], time_of)
        _, end = view.ties(view.rows(stop - 1, stop)[0], time_of)
        rows: list[int] = []
        for _, group in groupby(view.rows(first, end), time_of):
            tied = list(group)
            rows += self._tie_draw.sample(tied, len(tied))
        return rows[start - first : stop - first]

    def _view(self, filters: Filters, order: str, by: By) -> View:
        if self._version != self._store.version:
            self._views.clear()
            self._version = self._store.version
        key = filters, order
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = self._make(filters, by, descending=order.endswith("DESC"))
            if len(self._views) > _KEPT_VIEWS:
                self._views.popitem(last=False)
        self._views.move_to_end(key)
        return view

    def _make(self, filters: Filters, by: By, *, descending: bool) -> View:
        windows: dict[By, Window] = {"first": filters.first_window, "last": filters.last_window}
        if self._options.first_chat_filters == "ignored":
            windows["first"] = _NO_WINDOW
        used: dict[By, Window] = {field: window for field, window in windows.items() if window != _NO_WINDOW}
        # The rows are cut from the order they are asked in, unless only the other order has a window.
        source: By = by if by in used or not used else next(iter(used))
        order = self._store.order(source)
        ids: Sequence[int] = order.ids
        low, high = order.window(*windows[source], closed=self._options.bounds == "closed")
        empty: Sequence[int] = array("I") if used else order.empty
        used.pop(source, None)
        if used or _selective(filters) or source != by:
            kept = self._matching(filters, ids[low:high], used)
            unsorted_empty = self._matching(filters, empty, {})
            if source != by:
                kept, without = self._sorted(kept, by)
                unsorted_empty += without
            ids, low, high = array("I", kept), 0, len(kept)
            empty = array("I", sorted(unsorted_empty))
        return View(ids, low, high, empty, descending, self._options.nulls == "first")

    def _sorted(self, rows: list[int], by: By) -> tuple[list[int], list[int]]:
        """The rows that have a time, in its order, and the rows that have none."""
        time_of = self._store.time_of(by)
        timed, without = [], []
        for row in rows:
            time = time_of(row)
            if time is None:
                without.append(row)
            else:
                timed.append((time, row))
        return [row for _, row in sorted(timed)], without

    def _matching(self, filters: Filters, rows: Iterable[int], windows: dict[By, Window]) -> list[int]:
        return [row for row in rows if self._matches(filters, row) and self._within(row, windows)]

    def _within(self, row: int, windows: dict[By, Window]) -> bool:
        closed = self._options.bounds == "closed"
        return all(_inside(self._store.time_of(by)(row), window, closed) for by, window in windows.items())

    def _matches(self, filters: Filters, row: int) -> bool:
        running = filters.background_running
        if running is not None and self._store.is_running(row) is not running:
            return False
        shown = self._store.profile(row)
        person, app = shown.person, shown.app
        if filters.active_only and shown.is_end:
            return False
        if filters.user_ids is not None and (person is None or person.user_id not in filters.user_ids):
            return False
        if filters.llm_app_id is not None and (app is None or app.app_id != filters.llm_app_id):
            return False
        if filters.category_id is not None and filters.category_id not in (shown.categories or ()):
            return False
        term = None if filters.search_term is None else filters.search_term.casefold()
        return term is None or term in shown.title.casefold() or (person is not None and term in person.folded)


def _inside(time: float | None, window: Window, closed: bool) -> bool:
    start, end = window
    if closed:
        return time is not None and (start is None or start <= time) and (end is None or time <= end)
    return time is not None and (start is None or start < time) and (end is None or time < end)


def _selective(filters: Filters) -> bool:
    others = (filters.user_ids, filters.llm_app_id, filters.category_id, filters.search_term)
    return filters.active_only or filters.background_running is not None or any(one is not None for one in others)
