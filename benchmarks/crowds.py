"""Lists of any size that are never made: how many rows began up to a time, and when a row began, by arithmetic."""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

HOUR = 3_600_000.0
DAY = 24 * HOUR
DAYS = 5 * 365
START = 1_577_836_800_000.0  # 2020-01-01, a Wednesday, in milliseconds


class Rows:
    """Rows in the order of their first chat times.

    Args:
        total: How many.
        pieces: How they lie: from a time, for so long (in milliseconds; 0 for one instant), with so much weight,
            spread evenly. What no piece covers is silent.
    """

    def __init__(self, total: int, pieces: Iterable[tuple[float, float, float]]) -> None:
        pieces = sorted(pieces)
        edges = sorted({edge for start, length, _ in pieces for edge in (start, start + length)})
        slope = [0.0] * len(edges)
        jump = [0.0] * len(edges)
        for start, length, weight in pieces:
            low, high = bisect_left(edges, start), bisect_left(edges, start + length)
            if low == high:
                jump[low] += weight
            for each in range(low, high):
                slope[each] += weight / length
        self._times: list[float] = []
        gains: list[float] = []
        for each, edge in enumerate(edges):
            self._times += [edge, edge]
            gains += [slope[each - 1] * (edge - edges[each - 1]) if each else 0.0, jump[each]]
        sums = list(accumulate(gains))
        self._counts = [total * each / sums[-1] for each in sums]
        self._counts[-1] = float(total)
        self.total = total
        self.most_at_once = math.ceil(
            max(b - a for a, b in zip(self._counts[::2], self._counts[1::2], strict=True))
        )

    def before(self, time: float) -> int:
        """How many began before a time."""
        return self._count(bisect_left(self._times, time), time)

    def up_to(self, time: float) -> int:
        """How many began before it or at it."""
        return self._count(bisect_right(self._times, time), time)

    def time(self, row: int) -> float:
        """When a row began."""
        counts, times = self._counts, self._times
        place = bisect_left(counts, row + 0.5)
        low, high = counts[place - 1], counts[place]
        return times[place - 1] + (times[place] - times[place - 1]) * (row + 0.5 - low) / (high - low)

    def _count(self, place: int, time: float) -> int:
        counts, times = self._counts, self._times
        if place == 0 or place == len(times):
            return 0 if place == 0 else self.total
        low = times[place - 1]
        part = (time - low) / (times[place] - low) if times[place] > low else 0.0
        return int(counts[place - 1] + (counts[place] - counts[place - 1]) * part + 0.5)

    def by_day(self) -> list[tuple[float, float]]:
        """Each day's midnight and how many began on it: what the daily counts tell."""
        first, last = self.time(0), self.time(self.total - 1)
        midnights = [first - (first - START) % DAY + DAY * day for day in range(int((last - first) // DAY) + 2)]
        return [(each, float(self.before(each + DAY) - self.before(each))) for each in midnights]


def _uniform(total: int) -> Sequence[tuple[float, float, float]]:
    return [(START, DAYS * DAY, 1.0)]


def _diurnal(total: int) -> Sequence[tuple[float, float, float]]:
    """Twice as many each year; few at night, and on the weekend."""
    by_hour = [max(0.03, math.sin((hour - 6) / 15 * math.pi)) if 6 <= hour <= 21 else 0.03 for hour in range(24)]
    return [
        (START + day * DAY + hour * HOUR, HOUR, 2 ** (day / 365) * (0.3 if day % 7 in (3, 4) else 1) * weight)
        for day in range(DAYS)
        for hour, weight in enumerate(by_hour)
    ]


def _crowded(total: int) -> Sequence[tuple[float, float, float]]:
    """One hundredth of the time holds nine tenths of the rows."""
    return [(START, DAYS * DAY, 0.1), (START + 0.6 * DAYS * DAY, 0.01 * DAYS * DAY, 0.9)]


def _instant(total: int) -> Sequence[tuple[float, float, float]]:
    """100,000 rows, or a tenth, at one instant."""
    crowd = min(100_000, total // 10)
    return [(START, DAYS * DAY, total - crowd), (START + 0.3 * DAYS * DAY, 0.0, crowd)]


def _bursts(total: int) -> Sequence[tuple[float, float, float]]:
    """A third of the rows come in bursts, some days apart, of a few thousand at one instant or within seconds."""
    draw = random.Random(5)
    bursts = min(DAYS, max(1, total // 9_000))
    return [
        (START, DAYS * DAY, 2.0),
        *(
            (START + each * DAYS / bursts * DAY + draw.uniform(0, DAY), draw.choice([0, 0, 900, 4_000]), weight)
            for each in range(bursts)
            for weight in [draw.uniform(0.5, 1.5) / bursts]
        ),
    ]


def _silent(total: int) -> Sequence[tuple[float, float, float]]:
    """A few, three silent years, and then a crowd within a month."""
    return [(START, 100 * DAY, 0.01), (START + (DAYS - 30) * DAY, 30 * DAY, 0.99)]


def _exponential(total: int) -> Sequence[tuple[float, float, float]]:
    """A thousand times as many in the end as in the beginning."""
    return [(START + day * DAY, DAY, 1000 ** (day / DAYS)) for day in range(DAYS)]


SHAPES: dict[str, Callable[[int], Sequence[tuple[float, float, float]]]] = {
    "even": _uniform,
    "days and nights": _diurnal,
    "90 % in 1 %": _crowded,
    "one instant": _instant,
    "bursts": _bursts,
    "silence, crowd": _silent,
    "exponential": _exponential,
}
