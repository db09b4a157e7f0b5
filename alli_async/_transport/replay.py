"""Which token bucket explains what was served and what was refused: pure functions over a history.

A bucket of `burst` tokens that refills at `rate` a second is the same as a basin that drains at that rate, that
each served request fills by one, and that refuses what would fill it beyond `burst`. So a rate explains a history
if all refusals came at the same level of the basin, and nothing was served above it. That level is the burst.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple


class Entry(NamedTuple):
    """Requests that were served, or one that was refused.

    Attributes:
        first: When the first of them was sent.
        last: When the last of them was sent; the others were sent evenly in between.
        requests: Number of requests that were served; 0 for a refusal.
        overrun: The number of the overrun that a refusal belongs to.
    """

    first: float
    last: float
    requests: int
    overrun: int = 0


History = Sequence[Entry]

# Requests just before a refusal that tell the pace at it, and what is added to that.
_JUST_BEFORE, _JUST_ABOVE = 8, 1.1
# Seconds between two requests that count as none, and the share of one request that is less than one.
_NO_GAP, _SHORT = 0.001, 0.998
# Entries that the time between two overruns is merged into.
_ENTRIES = 100
# Rates that are tried at first, and again between the neighbours of the best ones, so many times.
_LOWEST, _HIGHEST, _TRIED, _ZOOMED, _ZOOMS, _VALLEYS = 0.1, 20_000.0, 48, 7, 3, 3
# Requests by which fits may differ and be about as good, or as good.
_EQUAL, _SAME = 0.5, 0.05
# Seconds of the windows that services use, the smallest size that is looked for, and how much the counts at
# refusals may differ: a window that begins at fixed moments may serve more than its size in `period` seconds.
PERIODS, _LEAST_SIZE, _SAME_SIZE = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0), 20, 1.6
# Phases of windows that are tried, and requests by which the counts of one phase may differ.
_PHASES, _SAME_COUNT = 40, 2
# By how much more a window has to allow than the bucket that explains the same.
_MUCH_MORE = 1.1
# What counts as the level of an empty basin: a refusal by a full bucket is worse than one by a token.
_EMPTY = -3.0


class Bucket(NamedTuple):
    """A token bucket, and how well it is known.

    Attributes:
        error: Requests by which the history contradicts it.
        rate: The rate that explains the history best.
        lowest: The lowest rate that explains it about as well.
        highest: The highest such rate.
    """

    error: float
    rate: float
    lowest: float
    highest: float


class Window(NamedTuple):
    """So many requests in any period of so many seconds."""

    size: int
    period: float


def fit_bucket(history: History) -> Bucket:
    """The bucket that explains a history best. A history that begins with no refusal begins with a full bucket."""
    history = merge(history)
    rates = [*_spread(_LOWEST, _pace_at_refusal(history), _TRIED), *_rates_without_burst(history)]
    tried = {rate: _contradiction(history, rate) for rate in rates}
    for _ in range(_ZOOMS):
        rates = sorted(tried)
        triples = zip([rates[0], *rates], rates, [*rates[1:], rates[-1]], strict=False)
        # The valley around the right rate may be narrow, so that the bottom of each counts.
        valleys = [each for each in triples if tried[each[1]] <= min(tried[each[0]], tried[each[2]])]
        for low, _, high in sorted(valleys, key=lambda each: tried[each[1]])[:_VALLEYS]:
            tried |= {rate: _contradiction(history, rate) for rate in _spread(low, high, _ZOOMED)}
    best = min(tried.values())
    close = [rate for rate, error in tried.items() if error <= best + _EQUAL]
    closest = [rate for rate, error in tried.items() if error <= best + _SAME]
    return Bucket(best, math.sqrt(min(closest) * max(closest)), min(close), max(close))


def fit_window(
    history: History, shortest: float, overruns: int = 2, *, other_rate: float = math.inf
) -> Window | None:
    """The shortest window that explains a history; None if none does.

    Args:
        history: The history.
        shortest: Seconds that the window is longer than.
        overruns: Number of overruns that it has to explain at least.
        other_rate: Requests per second of something else that explains the history. A window that allows much
            more, and explains it at some phase only, is more likely.
    """
    refusals = {entry.overrun: entry.first for entry in reversed(history) if not entry.requests}
    moments = [moment for moment in refusals.values() if moment > history[0].first]
    for period in PERIODS:
        counts = [
            sum(entry.requests for entry in history if moment - period < entry.first < moment)
            for moment in moments
        ]
        is_long = period < history[-1].first - history[0].first or overruns == 1
        if period <= shortest or not is_long or not counts or len(counts) < overruns:
            continue
        is_alike = _LEAST_SIZE <= max(counts) <= _SAME_SIZE * min(counts)
        size = fixed_size(history, period) if overruns > 1 else None
        if is_alike or (size and size > _MUCH_MORE * other_rate * period):
            return Window(size or min(counts), period)
    return None


def fixed_size(history: History, period: float) -> int | None:
    """The size of windows of so many seconds that begin at fixed moments; None if none explains a history.

    Where they begin is not known: of all phases, those count in which each refusal came after as many requests,
    and no window served more.
    """
    start, sizes = history[0].first, []
    for step in range(_PHASES):
        counts: dict[int, int] = {}
        full: dict[int, int] = {}
        for entry in history:
            window = int((entry.first - start) / period + step / _PHASES)
            counts[window] = counts.get(window, 0) + entry.requests
            if not entry.requests:
                full.setdefault(entry.overrun, counts[window])
        size = min(full.values())
        if size >= _LEAST_SIZE and max(counts.values()) <= size + _SAME_COUNT:
            sizes.append(size)
    return sorted(sizes)[len(sizes) // 2] if sizes else None


def burst_at(history: History, rate: float) -> float:
    """The burst of a bucket of a rate that explains a history: the highest level of its basin."""
    return _levels(history, rate)[0]


def _pace_at_refusal(history: History) -> float:
    """Requests per second just before the last overrun, which a bucket cannot refill faster than."""
    number = history[-1].overrun or max(entry.overrun for entry in history)
    end = next(entry.first for entry in history if entry.overrun == number and not entry.requests)
    count = 0
    for entry in reversed(history):
        if entry.requests and entry.first < end:
            count += entry.requests
            if count >= _JUST_BEFORE:
                return min(_HIGHEST, _JUST_ABOVE * count / (end - entry.first))
    return _HIGHEST


def _rates_without_burst(history: History) -> Iterator[float]:
    """The highest rates at which a bucket of one token was empty at a refusal: they are hard to find by trying."""
    for before, refused in pairwise(history):
        gap = refused.first - before.last
        if before.requests and not refused.requests and gap > _NO_GAP:
            yield _SHORT / gap


def merge(history: History) -> list[Entry]:
    """Merge entries, so that there are not many more than a hundred between two refusals."""
    merged: list[Entry] = []
    for is_served, entries in groupby(history, lambda entry: entry.requests > 0):
        interval = list(entries)
        width = (interval[-1].last - interval[0].first) / _ENTRIES
        for number, entry in enumerate(interval):
            if number and is_served and entry.last <= merged[-1].first + width:
                merged[-1] = Entry(merged[-1].first, entry.last, merged[-1].requests + entry.requests)
            else:
                merged.append(entry)
    return merged


def _spread(low: float, high: float, count: int) -> Iterable[float]:
    return (low * (high / low) ** (step / (count - 1)) for step in range(count))


def _contradiction(history: History, rate: float) -> float:
    """By how many requests refusals came too early, below the highest level; of an overrun the mean counts."""
    top, levels = _levels(history, rate)
    # A request is refused if it would fill the basin beyond the burst: at most one below it.
    return sum(sum(max(0.0, top - 1 - each) for each in overrun) / len(overrun) for overrun in levels.values())


def _levels(history: History, rate: float) -> tuple[float, dict[int, list[float]]]:
    """The highest level of a basin that drains at a rate, and its levels at the refusals of each overrun."""
    top, levels = _run(history, rate, 0.0)
    # A history that begins with a refusal begins with a full basin.
    return (top, levels) if history[0].requests else _run(history, rate, top)


def _run(history: History, rate: float, level: float) -> tuple[float, dict[int, list[float]]]:
    # Conditions, since max() takes twice as long: a fit replays a history a hundred times.
    top, at = max(level, 1.0), history[0].first
    levels: dict[int, list[float]] = {}
    for first, last, count, overrun in history:
        # A refusal may have been sent between the requests of an entry.
        if first > at:
            level -= (first - at) * rate
            level = max(0.0, level)
        if last > at:
            at = last
        if count:
            level += count - (last - first) * rate
            level = max(1.0, level)
            top = max(level, top)
        else:
            levels.setdefault(overrun, []).append(level or _EMPTY)
    return top, levels
