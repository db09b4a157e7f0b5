"""A scale of time on which rows lie about evenly, as far as the known daily activity is right."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import accumulate, pairwise

# Share of the scale that is spread evenly, so that a wrong activity leaves no range with zero width.
_UNIFORM_SHARE = 0.1


class Scale:
    """Maps times to scaled times and back; both ascend strictly, and without an activity they are the same.

    Args:
        low: Start of the span.
        high: End of the span.
        activity: Pairs of a time and a relative weight. A weight holds until the next time, and the last one for
            as long as the one before. Outside these times the average frequency of rows is assumed.
            A weight that is not a positive number counts as 0; if no weight is positive, the activity is ignored.
    """

    def __init__(self, low: float, high: float, activity: Sequence[tuple[float, float]] = ()) -> None:
        self._times: list[float] = []
        self._places: list[float] = []
        self._slopes: list[float] = []
        pieces = _pieces(low, high, activity)
        known = sum(end - start for start, end, _ in pieces)
        weight = sum((end - start) * density for start, end, density in pieces)
        if not weight > 0:
            return
        slopes = [_UNIFORM_SHARE + (1 - _UNIFORM_SHARE) * density * known / weight for _, _, density in pieces]
        steps = ((end - start) * slope for slope, (start, end, _) in zip(slopes, pieces, strict=True))
        self._times = [pieces[0][0], *(end for _, end, _ in pieces)]
        self._slopes = [1.0, *slopes, 1.0]
        self._places = list(accumulate(steps, initial=pieces[0][0]))

    def scaled(self, time: float) -> float:
        """The scaled time of a time."""
        return self._map(time, self._times, self._places, 1)

    def time(self, scaled: float) -> float:
        """The time of a scaled time."""
        return self._map(scaled, self._places, self._times, -1)

    def _map(self, value: float, knots: list[float], images: list[float], power: int) -> float:
        if not knots:
            return value
        piece = bisect_right(knots, value)
        knot = max(piece - 1, 0)
        return images[knot] + (value - knots[knot]) * self._slopes[piece] ** power


def _pieces(low: float, high: float, activity: Sequence[tuple[float, float]]) -> list[tuple[float, float, float]]:
    """The pieces of the activity that lie in the span: start, end, and density, where 1 is the densest."""
    known = sorted({time: weight for time, weight in activity if math.isfinite(time)}.items())
    if len(known) < 2:
        return []
    times = [time for time, _ in known]
    times.append(2 * times[-1] - times[-2])
    pieces = []
    for (_, weight), (start, end) in zip(known, pairwise(times), strict=True):
        density = weight / (end - start)
        start, end = max(start, low), min(end, high)
        if start < end:
            pieces.append((start, end, density if 0 < density < math.inf else 0.0))
    most = max((density for _, _, density in pieces), default=0.0)
    return [(start, end, density / most) for start, end, density in pieces] if most > 0 else []


class Density:
    """Rows per distance on the scale, measured on the latest pages.

    Args:
        pages: Number of pages that are remembered.
        believed: Density to assume before the first page.
    """

    __slots__ = ("_believed", "_distance", "_pages", "_rows")

    def __init__(self, pages: int, believed: float) -> None:
        self._believed = believed
        self._pages: deque[tuple[int, float]] = deque(maxlen=pages)
        self._rows = 0
        self._distance = 0.0

    def learn(self, rows: int, distance: float) -> None:
        """Note the number of rows of a page, and the distance that they cover."""
        if len(self._pages) == self._pages.maxlen:
            old_rows, old_distance = self._pages[0]
            self._rows -= old_rows
            self._distance -= old_distance
        self._pages.append((rows, distance))
        self._rows += rows
        self._distance += distance

    @property
    def value(self) -> float:
        """Rows per distance; 0 when no density is known."""
        return max(self._rows, 1) / self._distance if self._distance > 0 else self._believed
