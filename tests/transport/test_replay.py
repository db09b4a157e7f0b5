"""Fitting buckets and windows to what a simulated server served and refused."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alli_async._transport.pace import PaceEstimator
from alli_async._transport.replay import Entry, burst_at, fit_bucket, fit_window, fixed_size, merge
from benchmarks.limiters import FixedWindow, Limiter, SlidingLog, TokenBucket


def history_of(limiter: Limiter, paces: list[float], pause: float) -> list[Entry]:
    """What a limiter serves of requests that are sent evenly, at each pace until one is refused, then a pause."""
    return list(_entries(limiter, paces, pause))


def _entries(limiter: Limiter, paces: list[float], pause: float) -> Iterator[Entry]:
    now = 0.0
    for number, pace in enumerate(paces):
        while not limiter.take(now):
            yield Entry(now, now, 1)
            now += 1 / pace
        yield Entry(now, now, 0, number)
        now += pause


@pytest.mark.parametrize(("rate", "burst"), [(60, 20), (300, 100), (120, 40)])
def test_two_overruns_at_different_paces_tell_a_bucket(rate: float, burst: float) -> None:
    history = history_of(TokenBucket(rate, burst), [8 * rate, 1.5 * rate], 0.1)
    fit = fit_bucket(history)
    assert fit.error < 1
    assert fit.rate == pytest.approx(rate, rel=0.05)


def test_many_requests_between_two_refusals_tell_the_rate_to_a_percent() -> None:
    history = history_of(TokenBucket(60, 20), [400, 65], 0.1)
    fit = fit_bucket(history)
    assert fit.rate == pytest.approx(60, rel=0.01)
    assert burst_at(history, fit.rate) == pytest.approx(20, abs=1.5)


@pytest.mark.parametrize("period", [1, 10])
def test_a_count_that_refuses_twice_at_different_paces_is_a_window(period: float) -> None:
    history = history_of(SlidingLog(60, period), [400, 150 / period], period)
    window = fit_window(history, period / 2)
    assert window is not None
    assert (window.size, window.period) == (60, period)


@pytest.mark.parametrize("phase", [0.05, 0.35, 0.95])
def test_windows_that_begin_at_fixed_moments_tell_their_size_whenever_they_begin(phase: float) -> None:
    # The first window ends while it is used, so that more than its size is served before the first refusal.
    history = history_of(FixedWindow(60, 1, -phase), [300, 150], 2.0)
    size = fixed_size(history, 1.0)
    assert size is not None
    assert 57 <= size <= 60


def test_a_bucket_is_no_window() -> None:
    history = history_of(TokenBucket(60, 20), [400, 90], 0.5)
    assert fit_window(history, 0.0) is None
    assert fit_window(history, 0.0, other_rate=60.0) is None


@given(st.lists(st.tuples(st.floats(0.001, 1), st.booleans()), min_size=2, max_size=400))
def test_merging_keeps_every_request_and_every_refusal(steps: list[tuple[float, bool]]) -> None:
    now, history = 0.0, []
    for number, (gap, is_served) in enumerate(steps):
        now += gap
        history.append(Entry(now, now, int(is_served), 0 if is_served else number))
    merged = merge(history)
    assert sum(entry.requests for entry in merged) == sum(entry.requests for entry in history)
    assert [entry for entry in merged if not entry.requests] == [entry for entry in history if not entry.requests]
    assert (merged[0].first, merged[-1].last) == (history[0].first, history[-1].last)


def test_the_history_of_an_estimator_is_bounded() -> None:
    pace = PaceEstimator()
    for number in range(30_000):
        pace.served(number * 0.01)
    size = len(pickle.dumps(pace))
    for number in range(30_000, 60_000):
        pace.served(number * 0.01)
    assert len(pickle.dumps(pace)) < 1.5 * size
    for number in range(10):
        pace.refused(600.0 + number, 0.0, is_canary=False)
        pace.overrun(is_grown=True)
        pace.served(600.5 + number)
    assert len(pickle.dumps(pace)) < 1.5 * size
