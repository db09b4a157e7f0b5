"""Conversations sorted by a time, in arrays that hold a million rows, and pages cut from them."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass


class TimeOrder:
    """Indices of conversations sorted by (time, index), beside the indices of conversations without a time.

    Attributes:
        keys: The times, ascending.
        ids: The index of the conversation for each time.
        empty: The indices of the conversations without a time, ascending.
    """

    def __init__(self, keys: array[float], ids: array[int], empty: array[int]) -> None:
        self.keys = keys
        self.ids = ids
        self.empty = empty

    def add(self, time: float | None, index: int) -> None:
        """Put a conversation in."""
        if time is None:
            insort(self.empty, index)
            return
        place = self._place(time, index)
        self.keys.insert(place, time)
        self.ids.insert(place, index)

    def remove(self, time: float | None, index: int) -> None:
        """Take out a conversation that was put in with this time."""
        if time is None:
            del self.empty[bisect_left(self.empty, index)]
            return
        place = self._place(time, index)
        del self.keys[place], self.ids[place]

    def fill_empty(self, time_of: Callable[[int], float]) -> None:
        """Give a time to every conversation that has none."""
        rows = list(zip(self.keys, self.ids, strict=True))
        rows += [(time_of(index), index) for index in self.empty]
        rows.sort()
        self.keys = array("d", (time for time, _ in rows))
        self.ids = array("I", (index for _, index in rows))
        self.empty = array("I")

    def clear_times(self, chosen: Callable[[int], bool]) -> None:
        """Take the time from the conversations that are chosen."""
        cleared = set(filter(chosen, self.ids))
        rows = [(time, index) for time, index in zip(self.keys, self.ids, strict=True) if index not in cleared]
        self.empty = array("I", sorted([*self.empty, *cleared]))
        self.keys = array("d", (time for time, _ in rows))
        self.ids = array("I", (index for _, index in rows))

    def window(self, start: float | None, end: float | None, *, closed: bool) -> tuple[int, int]:
        """The slice of the rows from start to end."""
        low, high = 0, len(self.keys)
        if start is not None:
            low = (bisect_left if closed else bisect_right)(self.keys, start)
        if end is not None:
            high = (bisect_right if closed else bisect_left)(self.keys, end)
        return low, max(low, high)

    def _place(self, time: float, index: int) -> int:
        low = bisect_left(self.keys, time)
        return bisect_left(self.ids, index, low, bisect_right(self.keys, time, low))


@dataclass(frozen=True, slots=True)
class View:
    """The rows of one filtered list. A position in a view is the number of rows before it.

    Attributes:
        ids: Rows that have a time, ascending; the slice from `low` to `high` belongs to the view.
        low: The start of the slice.
        high: The end of the slice.
        empty: Rows without a time, ascending by index.
        descending: Whether rows are given from the last to the first.
        nulls_first: Whether the rows without a time come first, whatever the direction.
    """

    ids: Sequence[int]
    low: int
    high: int
    empty: Sequence[int]
    descending: bool
    nulls_first: bool

    def __len__(self) -> int:
        return self.high - self.low + len(self.empty)

    def rows(self, start: int, stop: int) -> list[int]:
        """The rows between two positions."""
        timed = (self.ids, self.low, self.high)
        empty = (self.empty, 0, len(self.empty))
        found: list[int] = []
        for ids, low, high in (empty, timed) if self.nulls_first else (timed, empty):
            size = high - low
            first, last = max(0, min(start, size)), max(0, min(stop, size))
            if self.descending:
                found.extend(reversed(ids[high - last : high - first]))
            else:
                found.extend(ids[low + first : low + last])
            start, stop = start - size, stop - size
        return found

    def after(self, time: float | None, index: int, time_of: Callable[[int], float | None]) -> int:
        """The position behind the row (time, index), which may have left the view."""
        if time is None:
            offset = 0 if self.nulls_first else self.high - self.low
            if self.descending:
                return offset + len(self.empty) - bisect_left(self.empty, index)
            return offset + bisect_right(self.empty, index)
        offset = len(self.empty) if self.nulls_first else 0

        def key(row: int) -> tuple[float, int]:
            return time_of(row) or 0.0, row  # every row of `ids` has a time

        if self.descending:
            return offset + self.high - bisect_left(self.ids, (time, index), self.low, self.high, key=key)
        return offset + bisect_right(self.ids, (time, index), self.low, self.high, key=key) - self.low

    def ties(self, row: int, time_of: Callable[[int], float | None]) -> tuple[int, int]:
        """The positions before and behind the rows that have the same time as this row, or have none either."""
        time = time_of(row)
        if time is None:
            offset = 0 if self.nulls_first else self.high - self.low
            return offset, offset + len(self.empty)
        offset = len(self.empty) if self.nulls_first else 0

        def key(row: int) -> float:
            return time_of(row) or 0.0  # every row of `ids` has a time

        low = bisect_left(self.ids, time, self.low, self.high, key=key)
        high = bisect_right(self.ids, time, self.low, self.high, key=key)
        if self.descending:
            return offset + self.high - high, offset + self.high - low
        return offset + low - self.low, offset + high - self.low
