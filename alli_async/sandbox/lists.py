"""Lists of conversations: filters, orders and cursors."""

from __future__ import annotations

from array import array
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from .errors import bad_parameter
from .options import Options
from .orders import View
from .params import Filters, ListQuery, Window
from .render import profile
from .store import By, Store

_NO_WINDOW: Window = (None, None)
_KEPT_VIEWS = 8


class Lists:
    """Answers which conversations stand on a page, and what cursor leads on."""

    def __init__(self, store: Store, options: Options) -> None:
        self._store = store
        self._options = options
        self._views: OrderedDict[tuple[Filters, str], View] = OrderedDict()
        self._version = 0

    def page(self, query: ListQuery) -> tuple[list[int], str | None]:
        """The conversations of a page, and the cursor of the next one."""
        by: By = "first" if query.order.startswith("FIRST") else "last"
        if by == "first" and self._options.first_chat_orders == "refused":
            raise bad_parameter(f"order {query.order} is not supported")
        view = self._view(query.filters, query.order, by)
        start = 0 if query.cursor is None else self._position(view, query.cursor, by)
        stop = start + query.page_size
        rows = view.rows(start, stop)
        return rows, self._cursor(rows[-1], stop, by) if stop < len(view) else None

    def _cursor(self, last: int, stop: int, by: By) -> str:
        if self._options.cursor == "offset":
            return _opaque(f"offset:{stop}")
        return _opaque(f"after:{self._store.time_of(by)(last)}:{last}")

    def _position(self, view: View, cursor: str, by: By) -> int:
        try:
            kind, *values = b64decode(cursor, validate=True).decode("ascii").split(":")
            if kind == "offset" == self._options.cursor:
                (offset,) = map(int, values)
                if offset >= 0:
                    return offset
            elif kind == "after" and self._options.cursor == "keyset":
                time, index = values
                key = None if time == "None" else float(time)
                return view.after(key, int(index), self._store.time_of(by))
        except (Base64Error, ValueError):
            pass
        raise bad_parameter("cursor is not one that was given out")

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
        windows: dict[By, Window] = {
            "first": filters.first_window,
            "last": filters.last_window,
        }
        if self._options.first_chat_filters == "ignored":
            windows["first"] = _NO_WINDOW
        used = {field: window for field, window in windows.items() if window != _NO_WINDOW}
        # The rows are cut from the order they are asked in, unless only the other one can cut them short.
        source: By = by if by in used or not used else next(iter(used))
        order = self._store.order(source)
        ids: Sequence[int] = order.ids
        low, high = order.window(*windows[source], closed=self._options.bounds == "closed")
        empty: Sequence[int] = array("I") if used else order.empty
        used.pop(source, None)
        if used or _selective(filters) or source != by:
            kept = self._matching(filters, ids[low:high], used)
            if source != by:
                time_of = self._store.time_of(by)
                kept.sort(key=lambda row: (time_of(row), row))
            ids, low, high = array("I", kept), 0, len(kept)
            empty = array("I", self._matching(filters, empty, {}))
        return View(ids, low, high, empty, descending, self._options.nulls == "first")

    def _matching(self, filters: Filters, rows: Iterable[int], windows: dict[By, Window]) -> list[int]:
        return [row for row in rows if self._matches(filters, row) and self._within(row, windows)]

    def _within(self, row: int, windows: dict[By, Window]) -> bool:
        closed = self._options.bounds == "closed"
        return all(_inside(self._store.time_of(by)(row), window, closed) for by, window in windows.items())

    def _matches(self, filters: Filters, row: int) -> bool:
        running = filters.background_running
        if running is not None and self._store.is_running(row) is not running:
            return False
        shown = profile(row, self._store.data.word(row), self._store.edits(row))
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


def _opaque(text: str) -> str:
    return b64encode(text.encode()).decode()
