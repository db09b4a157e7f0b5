"""The planner: cuts the span of first chat times into partitions, so that many cursors can read at once.

It is pure: it knows rows and numbers, no server. Partitions are sliced off the start of the unread span, and get
smaller towards its end. A partition that turns out to be dense is cut, and the part after the cut is read later;
when nothing is unread, the partition with most rows ahead is cut in two. Readers ask for a little more than a
partition on either side, so it does not matter whether the server's bounds are inclusive.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass

from .scale import Density, Scale

# Rows of a partition. Each costs about half a page and two small requests; smaller ones share the work better.
MAX_ROWS = 5_000
_MIN_ROWS = (200, 500)
# Partitions for each reader into which the unread rows are divided.
_SLICES = 1.25
# Multiple of the smallest partition that must be ahead to split a partition for a reader that has nothing to do.
_WORTH_SPLITTING = 2.0
# Multiple of the overlap at its cuts, which is read twice, by which a partition is wider.
_OVERLAPS = 50
# Pages that a density is estimated from, not counting pages that end at the instant at which they start.
_MIN_SAMPLE_PAGES = 8
# Pages by which the density of an unread range is known.
_REMEMBERED = 64


@dataclass(eq=False, slots=True)
class UnreadRange:
    """A part of the span that no reader has taken yet.

    Attributes:
        start: Start of the range; None for no bound.
        end: End of the range.
        low: About the first time in the range: `start`, where that is a bound.
        density: Density of its rows, as far as known.
    """

    start: float | None
    end: float
    low: float
    density: Density


@dataclass(eq=False, slots=True)
class Partition:
    """A part of the span that one cursor reads, in ascending order of first chats.

    Attributes:
        start: Start of the partition; None for no bound.
        end: End of the partition. It moves when the partition is cut.
        position: About the time that the reader has reached.
        origin: The unread range that the partition was sliced off.
        density: Density of the rows on its latest pages.
        rows: Number of rows read.
        pages: Number of pages read.
        sample_pages: Number of pages that ended later than the page before. Of several pages of rows at one
            instant only the last does.
    """

    start: float | None
    end: float
    position: float
    origin: UnreadRange
    density: Density
    rows: int = 0
    pages: int = 0
    sample_pages: int = 0


class Planner:
    """Decides which partition a reader reads next, and where partitions are cut.

    Args:
        low: About the first chat time of the earliest conversation, in the server's unit.
        high: End of the last partition.
        readers: Number of readers that ask for partitions.
        overlap: By how much readers reach over a cut on either side.
        density: About the number of rows per unit of time at the start, where it is known; it is learnt further
            on.
        activity: About how the rows are spread, as `Scale` takes it. Slices are cut by it; nothing relies on it.
        max_rows: About the largest number of rows of a partition.

    Attributes:
        active: The partitions that are being read.
        may_cut: Whether the end of a partition may be moved while it is read, because a cursor of this server also
            serves with a nearer end than it was made with.
    """

    def __init__(
        self,
        low: float,
        high: float,
        readers: int,
        *,
        overlap: float,
        density: float = 0.0,
        activity: Sequence[tuple[float, float]] = (),
        max_rows: int = MAX_ROWS,
    ) -> None:
        self.active: list[Partition] = []
        self.may_cut = False
        self._readers = readers
        self._overlap = overlap
        self._max_rows = max_rows
        high = max(low, high)
        self._scale = Scale(low, high, activity)
        self._unread = [UnreadRange(None, high, low, Density(_REMEMBERED, 0.0 if activity else density))]
        self._min_rows = float(_MIN_ROWS[1])
        self._has_started = False

    def next_partition(self) -> Partition | None:
        """The next partition to read; None when there is none now. A cut may make one later."""
        if not self._unread:
            return None
        partition = self._slice()
        self.active.append(partition)
        self._has_started = True
        return partition

    def progress(self, partition: Partition, rows: int, position: float) -> None:
        """Note that a page of a partition was read.

        Args:
            partition: The partition.
            rows: Number of new rows on the page.
            position: About the time at which the page ended.
        """
        partition.rows += rows
        partition.pages += 1
        self._advance(partition, rows, min(position, partition.end))

    def finish(self, partition: Partition) -> None:
        """Note that a partition was read to its end."""
        self.active.remove(partition)
        self._advance(partition, 0, partition.end)

    def dense_cut(self, partition: Partition) -> float | None:
        """Where to cut a partition that has far more rows ahead than a partition should have."""
        if not self.may_cut or partition.sample_pages < _MIN_SAMPLE_PAGES:
            return None
        density = partition.density.value
        cut_time = self._after(partition.position, self._max_rows, density)
        if self._rows_ahead(partition) <= 2 * density * self._distance(partition.position, cut_time):
            return None
        return cut_time if partition.end - cut_time >= 4 * self._overlap else None

    def best_split(self) -> tuple[Partition, float] | None:
        """The active partition with most rows ahead, and where to cut it in two, if that is worth it."""
        if not self.may_cut:
            return None
        best = max((each for each in self.active if each.pages > 1), key=self._rows_ahead, default=None)
        if best is None or self._rows_ahead(best) < _WORTH_SPLITTING * self._min_rows:
            return None
        middle = self._middle(best)
        return (best, middle) if best.end - middle >= 4 * self._overlap else None

    def cut(self, partition: Partition, cut_time: float) -> None:
        """Let a partition end at a cut; the part after the cut is read later."""
        # Geometric mean of the densities here and before: the dense stretch may end.
        density = math.sqrt(partition.density.value * partition.origin.density.value)
        insort(
            self._unread,
            UnreadRange(cut_time, partition.end, cut_time, Density(_REMEMBERED, density)),
            key=lambda each: each.low,
        )
        partition.end = cut_time

    def _advance(self, partition: Partition, rows: int, position: float) -> None:
        """Move a partition's position on, and learn the density from the distance, gaps and dense stretches alike.

        Rows at one instant, however many, say nothing about the rows after it.
        """
        if position > partition.position:
            distance = self._scale.scaled(position) - self._scale.scaled(partition.position)
            partition.position = position
            partition.sample_pages += 1
            partition.density.learn(rows, distance)
            partition.origin.density.learn(rows, distance)

    def _distance(self, low: float, high: float) -> float:
        return max(0.0, self._scale.scaled(high) - self._scale.scaled(low))

    def _rows_ahead(self, partition: Partition) -> float:
        return partition.density.value * self._distance(partition.position, partition.end)

    def _middle(self, partition: Partition) -> float:
        scaled = self._scale.scaled
        return self._scale.time((scaled(partition.position) + scaled(partition.end)) / 2)

    def _after(self, time: float, rows: float, density: float) -> float:
        """About the time this number of rows later, but late enough that little of a partition is read twice."""
        later = self._scale.time(self._scale.scaled(time) + rows / density)
        return later + _OVERLAPS * 2 * self._overlap if rows >= self._max_rows else later

    def _slice(self) -> Partition:
        unread = self._unread[0]
        cut = max(self._slice_end(unread), unread.low + 4 * self._overlap)
        # The rest of the range would not be worth a partition of its own.
        if unread.end - cut < 4 * self._overlap or 2 * self._distance(cut, unread.end) < self._distance(
            unread.low, cut
        ):
            del self._unread[0]
            cut = unread.end
        density = Density(_MIN_SAMPLE_PAGES, unread.density.value)
        partition = Partition(unread.start, cut, unread.low, unread, density)
        unread.low = unread.start = cut
        return partition

    def _slice_end(self, unread: UnreadRange) -> float:
        density = unread.density.value
        if density == 0:
            width = self._distance(unread.low, unread.end) / (2 * self._readers)
            return self._scale.time(self._scale.scaled(unread.low) + width)
        ahead = sum(self._distance(each.low, each.end) * each.density.value for each in self._unread)
        rows = ahead / (_SLICES * self._readers)
        if not self._has_started:
            # In a list of a few hundred rows, reading at once is worth some half-full pages.
            self._min_rows = min(max(rows, _MIN_ROWS[0]), _MIN_ROWS[1])
        return self._after(unread.low, min(max(rows, self._min_rows), self._max_rows), density)


# --- a plan that is written down before the reading starts ------------------------------------------------


@dataclass(frozen=True, slots=True)
class Weight:
    """A piece of a span, and about the number of conversations in it."""

    start: float
    end: float
    rows: float


def cut_span(
    weights: Sequence[Weight], low: float, last: float, overlap: float, rows: int, min_count: int
) -> list[float]:
    """Where to cut a span into partitions of about equal size, the last of which begins at `last`.

    Args:
        weights: About how many rows lie in each piece of the span, in order.
        low: Start of the span.
        last: The last cut: conversations that start after the plan was made are later than it.
        overlap: By how much readers reach over a cut.
        rows: Number of rows of a partition.
        min_count: Least number of partitions.

    Returns:
        The cuts, ascending; an empty list where the span is too short to cut.
    """
    total = sum(weight.rows for weight in weights)
    count = max(min_count, round(total / rows), 1)
    narrowest = 4 * overlap
    if last - low < narrowest:
        return []
    cuts: list[float] = []
    for cut in _quantiles(weights, total / count):
        cut = _on_grid(cut, overlap)
        if cut - (cuts[-1] if cuts else low) >= narrowest and last - cut >= narrowest:
            cuts.append(cut)
    return [*cuts, last]


def even_cuts(start: float, end: float, pieces: int, overlap: float) -> list[float]:
    """The cuts of a partition into this number of equal pieces, or fewer where they would be too short."""
    pieces = max(1, min(pieces, int((end - start) / (4 * overlap))))
    return [_on_grid(start + (end - start) * number / pieces, overlap) for number in range(1, pieces)]


def _quantiles(weights: Sequence[Weight], goal: float) -> list[float]:
    """The times at which each further `goal` rows are reached."""
    found: list[float] = []
    if goal <= 0:  # There are no rows, or so few that a share of them underflows to 0.
        return found
    piled = 0.0
    for weight in weights:
        time, left = weight.start, weight.rows
        while left > 0 and piled + left >= goal:
            taken = goal - piled
            time += (weight.end - time) * taken / left
            left -= taken
            piled = 0.0
            found.append(time)
        piled += left
    return found


def _on_grid(time: float, step: float) -> float:
    """A time rounded to a multiple of `step`: readable, and the same however it was computed."""
    return round(round(time / step) * step, 6)
