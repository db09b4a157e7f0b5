"""The planner: cuts the span of first chat times into partitions, so that many cursors can read at once.

Pure: it knows rows and numbers, no server. A span is taken from the left, a slice at a time, in slices that get
smaller towards the end. A partition that turns out to be dense is cut, and what lies behind the cut is taken
later; when nothing is left to take, the partition with most rows ahead is cut in two. Readers ask for a little
more than a partition on either side, so it does not matter whether the server's bounds are inclusive.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass

from .scale import Density, Scale

# Rows of a partition. Each costs about half a page and two small requests; smaller ones share the work better.
MOST_ROWS = 5_000
_LEAST_ROWS = (200, 500)
# Partitions that the rows of a list are worth for each reader.
_SLICES = 1.25
# A partition with so many of the least slices ahead is worth splitting when a reader has nothing to do.
_WORTH_SPLITTING = 2.0
# A partition is so many times wider than the overlap at its cuts, which is read twice.
_OVERLAPS = 50
# Pages, without those at one instant, that tell how dense a partition is.
_TELLING = 8
# The pages by which the density of an unread range is known.
_REMEMBERED = 64


@dataclass(eq=False, slots=True)
class UnreadRange:
    """A part of the span that no reader has taken yet.

    Attributes:
        start: Where it begins; None for no bound.
        end: Where it ends.
        low: About the first time in it: `start`, where that is a bound.
        density: What is known of its rows.
    """

    start: float | None
    end: float
    low: float
    density: Density


@dataclass(eq=False, slots=True)
class Partition:
    """A part of the span that one cursor reads, in ascending order of first chats.

    Attributes:
        start: Where it begins; None for no bound.
        end: Where it ends. It moves when the partition is cut.
        position: About where the reader is.
        origin: The range it was taken from.
        density: What its latest pages tell of its rows.
        rows: How many rows were read.
        pages: How many pages were read.
        telling: How many of these ended later than the one before. Of rows at one instant only the last page does.
    """

    start: float | None
    end: float
    position: float
    origin: UnreadRange
    density: Density
    rows: int = 0
    pages: int = 0
    telling: int = 0


class Planner:
    """Decides who reads what.

    Args:
        low: About the first chat time of the earliest conversation, in the server's unit.
        high: Where the last partition ends.
        readers: How many readers ask for partitions.
        overlap: By how much readers reach over a cut on either side.
        density: Rows per unit of time at the begin, about, where that is known; it is learnt on the way.
        profile: How the rows are spread, about, as `Scale` takes it. Slices are cut by it; nothing relies on it.
        most_rows: Rows of a partition at most, about.

    Attributes:
        active: The partitions that are being read.
        may_cut: Whether the end of a partition may be moved while it is read: where the server lets a cursor go on
            to a nearer end than it was made with.
    """

    def __init__(
        self,
        low: float,
        high: float,
        readers: int,
        *,
        overlap: float,
        density: float = 0.0,
        profile: Sequence[tuple[float, float]] = (),
        most_rows: int = MOST_ROWS,
    ) -> None:
        self.active: list[Partition] = []
        self.may_cut = False
        self._readers = readers
        self._overlap = overlap
        self._most = most_rows
        high = max(low, high)
        self._scale = Scale(low, high, profile)
        self._unread = [UnreadRange(None, high, low, Density(_REMEMBERED, 0.0 if profile else density))]
        self._least = float(_LEAST_ROWS[1])
        self._begun = False

    def take(self) -> Partition | None:
        """The next partition to read; None when there is none now, though there may be later."""
        if not self._unread:
            return None
        partition = self._slice()
        self.active.append(partition)
        self._begun = True
        return partition

    def progress(self, partition: Partition, rows: int, position: float) -> None:
        """Note that a page of a partition was read.

        Args:
            partition: The partition.
            rows: How many new rows were on the page.
            position: About where the page ended.
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
        if not self.may_cut or partition.telling < _TELLING:
            return None
        density = partition.density.value
        at = self._after(partition.position, self._most, density)
        if self._rows_ahead(partition) <= 2 * density * self._distance(partition.position, at):
            return None
        return at if partition.end - at >= 4 * self._overlap else None

    def best_split(self) -> tuple[Partition, float] | None:
        """The active partition with most rows ahead, and where to cut it in two, if that is worth it."""
        if not self.may_cut:
            return None
        best = max((each for each in self.active if each.pages > 1), key=self._rows_ahead, default=None)
        if best is None or self._rows_ahead(best) < _WORTH_SPLITTING * self._least:
            return None
        middle = self._middle(best)
        return (best, middle) if best.end - middle >= 4 * self._overlap else None

    def cut(self, partition: Partition, at: float) -> None:
        """Let a partition end at a cut; what lies behind is taken later."""
        # Between what is so here and what was so before: the crowd may end.
        density = math.sqrt(partition.density.value * partition.origin.density.value)
        insort(
            self._unread,
            UnreadRange(at, partition.end, at, Density(_REMEMBERED, density)),
            key=lambda each: each.low,
        )
        partition.end = at

    def _advance(self, partition: Partition, rows: int, position: float) -> None:
        """Move a partition's position on, and learn the density from it: gaps as well as crowds.

        Rows at one instant, however many, tell nothing of what lies behind it.
        """
        if position > partition.position:
            distance = self._scale.place(position) - self._scale.place(partition.position)
            partition.position = position
            partition.telling += 1
            partition.density.learn(rows, distance)
            partition.origin.density.learn(rows, distance)

    def _distance(self, low: float, high: float) -> float:
        return max(0.0, self._scale.place(high) - self._scale.place(low))

    def _rows_ahead(self, partition: Partition) -> float:
        return partition.density.value * self._distance(partition.position, partition.end)

    def _middle(self, partition: Partition) -> float:
        place = self._scale.place
        return self._scale.time((place(partition.position) + place(partition.end)) / 2)

    def _after(self, time: float, rows: float, density: float) -> float:
        """The time about so many rows later, and not so near that much of a partition would be read twice."""
        later = self._scale.time(self._scale.place(time) + rows / density)
        return later + _OVERLAPS * 2 * self._overlap if rows >= self._most else later

    def _slice(self) -> Partition:
        unread = self._unread[0]
        cut = max(self._slice_end(unread), unread.low + 4 * self._overlap)
        # What would be left is not worth a partition of its own.
        if unread.end - cut < 4 * self._overlap or 2 * self._distance(cut, unread.end) < self._distance(
            unread.low, cut
        ):
            del self._unread[0]
            cut = unread.end
        partition = Partition(unread.start, cut, unread.low, unread, Density(_TELLING, unread.density.value))
        unread.low = unread.start = cut
        return partition

    def _slice_end(self, unread: UnreadRange) -> float:
        density = unread.density.value
        if density == 0:
            width = self._distance(unread.low, unread.end) / (2 * self._readers)
            return self._scale.time(self._scale.place(unread.low) + width)
        ahead = sum(self._distance(each.low, each.end) * each.density.value for each in self._unread)
        rows = ahead / (_SLICES * self._readers)
        if not self._begun:
            # In a list of a few hundred rows, reading at once is worth some half-full pages.
            self._least = min(max(rows, _LEAST_ROWS[0]), _LEAST_ROWS[1])
        return self._after(unread.low, min(max(rows, self._least), self._most), density)


# --- a plan that is written down before it is begun -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Weight:
    """A piece of a span, and about how many conversations it holds."""

    start: float
    end: float
    rows: float


def cut_span(
    weights: Sequence[Weight], low: float, last: float, overlap: float, rows: int, least: int
) -> list[float]:
    """Where to cut a span into partitions of about equal size, the last of which begins at `last`.

    Args:
        weights: About how many rows lie where, in order.
        low: Where the span begins.
        last: The last cut: what begins after the plan was made lies behind it.
        overlap: By how much readers reach over a cut.
        rows: Rows of a partition.
        least: How many partitions there should be at least.

    Returns:
        The cuts, ascending; none where the span is too short to cut.
    """
    total = sum(weight.rows for weight in weights)
    count = max(least, round(total / rows), 1)
    narrowest = 4 * overlap
    if last - low < narrowest:
        return []
    cuts: list[float] = []
    for at in _quantiles(weights, total / count):
        at = _on_grid(at, overlap)
        if at - (cuts[-1] if cuts else low) >= narrowest and last - at >= narrowest:
            cuts.append(at)
    return [*cuts, last]


def even_cuts(start: float, end: float, pieces: int, overlap: float) -> list[float]:
    """The cuts, if there are any, that make so many pieces of a partition, none too short to be one."""
    pieces = max(1, min(pieces, int((end - start) / (4 * overlap))))
    return [_on_grid(start + (end - start) * number / pieces, overlap) for number in range(1, pieces)]


def _quantiles(weights: Sequence[Weight], goal: float) -> list[float]:
    """Where every `goal` rows are full."""
    found: list[float] = []
    if goal <= 0:  # nothing lies anywhere, or so little that a share of it is no number
        return found
    piled = 0.0
    for weight in weights:
        at, left = weight.start, weight.rows
        while left > 0 and piled + left >= goal:
            taken = goal - piled
            at += (weight.end - at) * taken / left
            left -= taken
            piled = 0.0
            found.append(at)
        piled += left
    return found


def _on_grid(time: float, step: float) -> float:
    """A time on whole steps: readable, and the same however it was computed."""
    return round(round(time / step) * step, 6)
