"""Conversations in the order of a time: sorted arrays that bear a million rows, and pages cut from them."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass


class TimeOrder:
    """Indices of conversations sorted by (time, index), and apart from them those that have no time."""

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
        """Take a conversation out that was put in with this time."""
        if time is None:
            del self.empty[bisect_left(self.empty, index)]
            return
        place = self._place(time, index)
        del self.keys[place], self.ids[place]

    def window(self, start: float | None, end: float | None, *, closed: bool) -> tuple[int, int]:
        """The rows from start to end, as a slice."""
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
    """The rows that a list answers from.

    Attributes:
        ids: Rows that have a time, ascending; those from `low` to `high` belong to the view.
        low: The first of them.
        high: Behind the last of them.
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
        """The rows of a page."""
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
        """How many rows come before what follows the row (time, index), which need not be there any more."""
        if time is None:
            offset = 0 if self.nulls_first else self.high - self.low
            if self.descending:
                return offset + len(self.empty) - bisect_left(self.empty, index)
            return offset + bisect_right(self.empty, index)
        offset = len(self.empty) if self.nulls_first else 0

        def key(row: int) -> tuple[float, int]:
            return time_of(row) or 0.0, row  # rows of `ids` do have a time

        if self.descending:
            return offset + self.high - bisect_left(self.ids, (time, index), self.low, self.high, key=key)
        return offset + bisect_right(self.ids, (time, index), self.low, self.high, key=key) - self.low
