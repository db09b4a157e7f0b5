"""The plan of windows: whatever the rows, the profile and the server's mind, each row is given exactly once."""

from __future__ import annotations

import bisect
import math
import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from alli_async._bulk.scale import Density, Scale
from alli_async._bulk.windows import Plan, Window
from benchmarks.crowds import DAY, SHAPES, START, Rows
from benchmarks.simulate import _SEEDS, _found

MINDS = ("keeps", "minds")


@dataclass
class Walker:
    """A window's cursor: the next row, and the end that the page on its way was asked for with."""

    window: Window
    row: int
    asked: float | None


@dataclass
class Server:
    """Rows that are only numbers, behind cursors that keep to the end they come with; or the server minds one that
    is not that which they were made with, and then no window is cut.
    """

    times: list[float]
    plan: Plan
    mind: str
    closed: bool
    page: int = 10
    misled: float = 0.0
    requests: int = 0
    most: int = 0
    found: list[int] = field(default_factory=list)
    walked: list[tuple[float | None, float | None]] = field(default_factory=list)

    def low(self, window: Window) -> int:
        cut = bisect.bisect_left if self.closed else bisect.bisect_right
        return 0 if window.start is None else cut(self.times, window.start)

    def high(self, end: float | None) -> int:
        cut = bisect.bisect_right if self.closed else bisect.bisect_left
        return len(self.times) if end is None else cut(self.times, end)

    def run(self, walkers: int, choose: random.Random) -> None:
        at: list[Walker] = []
        while True:
            while len(at) < walkers and (window := self.plan.take()) is not None:
                at.append(Walker(window, self.low(window), window.end))
            if not at:
                return
            walker = choose.choice(at)
            if self._answered(walker):
                at.remove(walker)
                self.walked.append((walker.window.start, walker.asked))
                self.plan.finish(walker.window)

    def _answered(self, walker: Walker) -> bool:
        """A page is there; whether it was the last. The next is asked for with the end that there is then."""
        self.requests += 1
        window = walker.window
        high = max(walker.row, self.high(walker.asked))
        rows = range(walker.row, min(walker.row + self.page, high))
        fresh = window.family.fresh(map(str, rows))
        self.found += [row for row in rows if str(row) in fresh]
        self.most = max(self.most, self.plan.remembered)
        position = self.times[rows[-1]] + self.misled if rows else window.position
        self.plan.walked(window, len(rows), position, narrowed=walker.asked == window.end)
        walker.row = rows.stop if rows else walker.row
        if walker.row >= high:
            return True
        if self.mind == "keeps" and window.pages > 1:
            self.plan.may_cut = True
        if self.plan.may_cut:
            walker.asked = window.end
        return False


def spread(bursts: list[tuple[int, int, float]]) -> list[float]:
    return sorted(float(start + number * step) for start, count, step in bursts for number in range(count))


spans = st.lists(
    st.tuples(st.integers(0, 20_000), st.integers(1, 400), st.sampled_from([0, 0, 0.01, 1, 7])),
    min_size=1,
    max_size=10,
).map(spread)
numbers = st.floats(allow_nan=True, allow_infinity=True)
profiles = st.one_of(
    st.just([]),
    st.lists(st.tuples(st.floats(-5_000, 30_000), st.floats(0, 1e6)), max_size=30),
    st.lists(st.tuples(numbers, numbers), max_size=8),
)


@settings(deadline=None, max_examples=400, phases=[Phase.explicit, Phase.generate])
@given(
    spans, profiles, st.sampled_from(MINDS), st.integers(1, 20), st.booleans(), st.integers(),
    st.sampled_from([0.0, -500.0, 500.0, 1e9]), st.floats(0, 2), st.sampled_from([0.01, 1.0, 30.0]),
    st.floats(0.2, 1.5),
)  # fmt: skip
@example([5.0] * 500, [], "keeps", 16, False, 1, 0.0, 0.0, 1.0, 1.0)
@example([0.0] + [1000.0] * 300 + [2000.0], [(0.0, 1.0), (500.0, 0.0)], "keeps", 8, False, 2, 0.0, 0.5, 1.0, 1.0)
@example([1.0, 2.0], [(-1e308, 1e308), (1e308, 1e308), (0.0, 5e-324)], "keeps", 3, True, 0, 0.0, 0.0, 1.0, 1.0)
def test_whatever_the_profile_every_row_is_given_once_and_windows_overlap_at_every_cut(
    times: list[float],
    profile: list[tuple[float, float]],
    mind: str,
    walkers: int,
    closed: bool,
    seed: int,
    misled: float,
    density: float,
    overlap: float,
    guess: float,
) -> None:
    plan = Plan(
        times[0] * guess, times[-1] * guess + 1, walkers, overlap=overlap, density=density, profile=profile
    )
    server = Server(times, plan, mind, closed, misled=misled)
    server.run(walkers, random.Random(seed))
    assert sorted(server.found) == list(range(len(times)))
    assert not plan.active
    covers_the_line(server.walked, overlap)


def covers_the_line(walked: list[tuple[float | None, float | None]], overlap: float) -> None:
    """Both outermost windows are open, and each reaches over the beginning of the next, on both sides of a cut."""
    spans = sorted(
        (-math.inf if start is None else start, math.inf if end is None else end) for start, end in walked
    )
    reached = spans[0][1]
    assert spans[0][0] == -math.inf
    for start, end in spans[1:]:
        assert start <= reached - overlap
        reached = max(reached, end)
    assert reached == math.inf


def crowded(rows: int) -> list[float]:
    """A few over a year, and nearly all within a thousandth of it."""
    draw = random.Random(3)
    return sorted(draw.uniform(0, 1e8) if each % 50 == 0 else draw.uniform(6e7, 6.01e7) for each in range(rows))


@pytest.mark.parametrize("mind", MINDS)
def test_a_crowd_is_given_once_whether_or_not_windows_can_be_cut(mind: str) -> None:
    times = crowded(60_000)
    plan = Plan(times[0], times[-1], 16, overlap=1.0)
    server = Server(times, plan, mind, closed=True, page=50)
    server.run(16, random.Random(1))
    assert sorted(server.found) == list(range(len(times)))
    assert server.requests <= 60_000 / 50 * 1.06


def test_a_crowd_at_one_instant_costs_a_page_a_walker_more_than_to_walk_it() -> None:
    times = sorted([-1e9] * 200 + [0.0] * 3000 + [1e9] * 10)
    server = Server(times, Plan(-1e9, 1e9, 16, overlap=1000.0), "keeps", closed=True, page=50)
    server.run(16, random.Random(1))
    assert len(server.found) == len(times)
    assert server.requests <= len(times) / 50 + 17


def test_the_ids_of_a_crowd_are_forgotten_while_it_is_walked() -> None:
    times = crowded(200_000)
    plan = Plan(times[0], times[-1], 16, overlap=1.0)
    server = Server(times, plan, "keeps", closed=True, page=50)
    server.run(16, random.Random(1))
    assert len(server.found) == len(times)
    assert server.most < 80_000
    assert plan.last is not None
    # Without a gap: whoever meets one of them knows all that come after.
    tail = sorted(map(int, plan.last))
    assert tail == list(range(tail[0], len(times)))
    assert len(tail) >= 1_000
    assert plan.remembered < 10_000


@pytest.mark.parametrize("shape", SHAPES)
def test_a_list_of_any_shape_costs_few_pages_more_than_it_has(shape: str) -> None:
    small, large = _found(shape, 10_000, "none"), _found(shape, 300_000, "none")
    assert small["whole"]
    assert large["whole"]
    assert small["over_least"] <= 1.1
    assert large["over_least"] <= 1.03
    assert large["most_ids"] < 110_000


@pytest.mark.parametrize("seed", _SEEDS)
def test_a_profile_that_is_wrong_costs_little(seed: str) -> None:
    for shape in ("even", "days and nights", "90 % in 1 %", "exponential"):
        found = _found(shape, 100_000, seed)
        assert found["whole"]
        assert found["over_least"] <= 1.07


def test_slices_are_cut_by_the_profile_from_the_beginning() -> None:
    rows = Rows(1_000_000, [(START, 99 * DAY, 0.05), (START + 99 * DAY, DAY, 0.95)])

    def largest(profile: list[tuple[float, float]]) -> int:
        plan = Plan(START, START + 100 * DAY, 16, overlap=1000.0, profile=profile)
        windows = [plan.take() for _ in range(60)]
        cuts = [window.position for window in windows if window is not None]
        return max(rows.before(end) - rows.before(start) for start, end in pairwise([*cuts, START + 101 * DAY]))

    assert largest(rows.by_day()) < 200_000
    assert largest([]) > 900_000


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), profiles)
def test_a_scale_leads_back_to_where_it_came_from_and_ascends(low: float, length: float, profile: list) -> None:
    scale = Scale(low, low + length, profile)
    times = [low + length * part / 7 for part in range(-3, 11)]
    places = [scale.place(time) for time in times]
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
    assert [scale.place(time) for time in (-1.0, 3.25, 12.0)] == [-1.0, 3.25, 12.0]
    assert scale.time(7.5) == 7.5


def test_a_day_of_half_the_rows_takes_about_half_of_the_scale() -> None:
    scale = Scale(0.0, 4.0, [(0.0, 1.0), (1.0, 3.0), (2.0, 1.0), (3.0, 1.0)])
    assert scale.place(2.0) - scale.place(1.0) == pytest.approx(0.1 + 0.9 * 2)
    assert scale.place(4.0) == pytest.approx(4.0)
    assert scale.place(6.0) == pytest.approx(6.0)


def test_density_is_that_of_the_latest_pages() -> None:
    density = Density(2, 7.0)
    assert density.value == 7.0
    for rows, distance in ((50, 1.0), (50, 2.0), (0, 3.0)):
        density.learn(rows, distance)
    assert density.value == 10.0
    assert density.latest == pytest.approx(1 / 3)
