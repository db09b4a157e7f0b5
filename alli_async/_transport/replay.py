"""Which rate limits explain what was served and what was refused: pure functions over a history.

A history is a sequence of (time, number of served requests sent then), in the order of time. A count of 0 is a
refusal: a moment at which the limit was used up.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

History = Sequence[tuple[float, int]]

# Bursts that are tried, as shares of what was served before the first refusal.
_SHARES = (0.0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
# Seconds of a window that services use.
_PERIODS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
# Requests by which fits may differ and be equally good, and the most that one refusal counts against a fit.
_EQUAL, _MOST_OVER = 1.5, 10.0
_LOWEST, _HIGHEST, _STEPS = 0.1, 20_000.0, 20


class Bucket(NamedTuple):
    """A token bucket, and by how many requests the history contradicts it."""

    error: float
    rate: float
    burst: float


class Window(NamedTuple):
    """So many requests in any period, and by how many requests the history contradicts that."""

    error: float
    size: float
    period: float


def round_period(low: float, high: float) -> float:
    """The length of a window that is above `low` seconds and about at most `high`, as services choose it."""
    return next((period for period in _PERIODS if low < period <= 1.5 * high), high)


def first_burst(history: History) -> int:
    """Number of requests that were served before the first refusal, or between two if the history begins later."""
    refusals = [time for time, count in history if not count]
    before = sum(count for time, count in history if time <= refusals[0])
    if before or len(refusals) < 3:
        return max(1, before)
    return max(sum(n for time, n in history if low < time <= high) for low, high in pairwise(refusals))


def fit_bucket(history: History) -> Bucket:
    """The bucket that explains a history best; of those that are equally good, the one with the lowest rate."""
    fits = []
    for share in _SHARES:
        burst = max(1.0, share * first_burst(history))
        rate = lowest_rate(history, burst)
        fits.append(Bucket(sum(_replay(history, burst, rate)), rate, burst))
    close = min(fits).error + _EQUAL
    return min((fit for fit in fits if fit.error <= close), key=lambda fit: fit.rate)


def fit_window(history: History) -> Window:
    """The window that explains a history best; its error is infinite where the history is too short for any."""
    times = [time for time, _ in history]
    sums = [0]
    for _, count in history:
        sums.append(sums[-1] + count)

    def served(time: float, period: float) -> int:
        return sums[bisect_right(times, time)] - sums[bisect_right(times, time - period)]

    best = Window(math.inf, math.inf, 0.0)
    refusals = [time for time, count in history if not count]
    for period in _PERIODS:
        if period < refusals[-1] - times[0]:
            counts = [served(time, period) for time in refusals]
            size = min(counts)
            # A window that begins at a fixed moment may serve twice its size around that moment.
            over = max(0, max(served(time, period) for time in times) - 2 * size)
            best = min(best, Window(sum(counts) - size * len(counts) + over, float(size), period))
    return best


def lowest_rate(history: History, burst: float) -> float:
    """The lowest rate at which a bucket serves everything that was served, but for about one request."""
    low, high = _LOWEST, _HIGHEST
    most = _replay(history, burst, high)[1] + min(1.0, 0.25 * burst)
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)
        if _replay(history, burst, middle)[1] > most:
            low = middle
        else:
            high = middle
    return high


def _replay(history: History, burst: float, rate: float) -> tuple[float, float]:
    """Tokens that were left at refusals, and that were missing for what was served.

    A bucket is full at first, unless the history begins with a refusal, and empty after each refusal.
    """
    level = burst if history[0][1] else 0.0
    at, over, under = history[0][0], 0.0, 0.0
    for time, count in history:
        unbounded = level + (time - at) * rate
        level, at = min(burst, unbounded) - count, time
        if count == 0:
            # Not bounded by the burst: a refusal long after the last request contradicts a small bucket too.
            over += min(max(0.0, unbounded - 0.5), _MOST_OVER)
            level = min(level, 0.0)
        elif level < 0:
            under, level = under - level, 0.0
    return over, under
