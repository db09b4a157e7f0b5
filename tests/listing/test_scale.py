"""The scale on which rows lie evenly, and the density that is learnt on it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alli_async._listing.scale import Density, Scale

numbers = st.floats(allow_nan=True, allow_infinity=True)
profiles = st.one_of(
    st.lists(st.tuples(st.floats(-5_000, 30_000), st.floats(0, 1e6)), max_size=30),
    st.lists(st.tuples(numbers, numbers), max_size=8),
)


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), profiles)
def test_a_scale_leads_back_to_where_it_came_from_and_ascends(
    low: float, length: float, profile: list[tuple[float, float]]
) -> None:
    scale = Scale(low, low + length, profile)
    times = [low + length * part / 7 for part in range(-3, 11)]
    places = [scale.scaled(time) for time in times]
    assert places == sorted(places)
    for time, place in zip(times, places, strict=True):
        assert scale.time(place) == pytest.approx(time, abs=1e-3)


@pytest.mark.parametrize(
    "profile",
    [
        [],
        [(5.0, 1.0)],
        [(1.0, 0.0), (2.0, 0.0)],
        [(1.0, -3.0), (2.0, math.nan), (3.0, math.inf)],
        [(math.nan, 1.0), (math.inf, 1.0), (2.0, 1.0)],
        [(20.0, 1.0), (30.0, 1.0)],
        [(-1.7e308, 1.0), (1.7e308, 1.0)],
    ],
)
def test_a_profile_that_tells_nothing_leaves_time_as_it_is(profile: list[tuple[float, float]]) -> None:
    scale = Scale(0.0, 10.0, profile)
    assert [scale.scaled(time) for time in (-1.0, 3.25, 12.0)] == [-1.0, 3.25, 12.0]
    assert scale.time(7.5) == 7.5


def test_a_day_of_half_the_rows_takes_about_half_of_the_scale() -> None:
    scale = Scale(0.0, 4.0, [(0.0, 1.0), (1.0, 3.0), (2.0, 1.0), (3.0, 1.0)])
    assert scale.scaled(2.0) - scale.scaled(1.0) == pytest.approx(0.1 + 0.9 * 2)
    assert scale.scaled(4.0) == pytest.approx(4.0)
    assert scale.scaled(6.0) == pytest.approx(6.0)


def test_density_is_that_of_the_latest_pages() -> None:
    density = Density(2, 7.0)
    assert density.value == 7.0
    for rows, distance in ((50, 1.0), (50, 2.0), (0, 3.0)):
        density.learn(rows, distance)
    assert density.value == 10.0
