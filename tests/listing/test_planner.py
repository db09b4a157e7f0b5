"""The planner: each row is read once whatever the rows, the profile, the bounds and the interleaving."""

from __future__ import annotations

import bisect
import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from alli_async._listing.planner import Partition, Planner, Weight, cut_span, even_cuts
from benchmarks.crowds import DAY, SHAPES, START, Rows
from benchmarks.simulate import PROFILES, measure
from tests.support.tiers import one_in


@dataclass(eq=False)
class Reader:
    """A cursor over a partition's window: the next row, and the rows that belong to the right."""

    partition: Partition
    row: int
    seen: set[int] = field(default_factory=set)
    right: range = range(0)


@dataclass
class Simulation:
    """Readers of rows that are only numbers, one page at a time, in any interleaving.

    A window reaches over its partition by the overlap on either side; a row in two windows belongs to the right.
    """

    times: list[float]
    planner: Planner
    overlap: float
    last_end: float
    closed: bool = True
    page: int = 10
    misled: float = 0.0
    requests: int = 0
    most_at_once: int = 0
    found: list[int] = field(default_factory=list)
    read: list[tuple[float | None, float]] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)

    def window(self, start: float | None, end: float) -> range:
        left, right = (bisect.bisect_left, bisect.bisect_right)
        if not self.closed:
            left, right = right, left
        low = 0 if start is None else left(self.times, start - self.overlap)
        return range(low, max(low, right(self.times, end + self.overlap)))

    def run(self, readers: int, draw: random.Random) -> None:
        while True:
            self._take(readers)
            if not self.readers:
                return
            self.most_at_once = max(self.most_at_once, len(self.readers))
            reader = draw.choice(self.readers)
            if self._is_read_to_its_end(reader):
                self.readers.remove(reader)
                self.read.append((reader.partition.start, reader.partition.end))
                self.planner.finish(reader.partition)

    def _take(self, readers: int) -> None:
        while len(self.readers) < readers:
            partition = self.planner.next_partition()
            if partition is not None:
                reader = Reader(partition, self.window(partition.start, partition.end).start)
                if partition.end < self.last_end:
                    reader.right = self.window(partition.end, partition.end)
                self.readers.append(reader)
            elif (best := self.planner.best_split()) is None or not self._cut(*best):
                return

    def _cut(self, partition: Partition, at: float) -> bool:
        reader = next(each for each in self.readers if each.partition is partition)
        behind = self.window(at, partition.end)
        self.requests += 2
        if not reader.seen.isdisjoint(behind):
            return False
        self.planner.cut(partition, at)
        reader.right = behind
        return True

    def _is_read_to_its_end(self, reader: Reader) -> bool:
        self.requests += 1
        partition = reader.partition
        window = self.window(partition.start, partition.end)
        rows = range(reader.row, min(reader.row + self.page, max(reader.row, window.stop)))
        reader.seen.update(rows)
        self.found += [row for row in rows if row not in reader.right]
        reader.row = rows.stop
        position = self.times[rows[-1]] + self.misled if rows else partition.position
        self.planner.progress(partition, len(rows), position)
        if reader.row >= window.stop:
            return True
        at = self.planner.dense_cut(partition)
        if at is not None:
            self._cut(partition, at)
        return reader.row >= self.window(partition.start, partition.end).stop


def tiles(read: list[tuple[float | None, float]], end: float) -> bool:
    """Whether partitions lie side by side from the begin of the list to an end."""
    pieces = sorted(read, key=lambda piece: piece[1])
    starts = [start for start, _ in pieces]
    return starts == [None, *(piece[1] for piece in pieces[:-1])] and pieces[-1][1] == end


def spread(bursts: list[tuple[int, int, float]]) -> list[float]:
    return sorted(float(start + number * step) for start, count, step in bursts for number in range(count))


spans = st.lists(
    st.tuples(st.integers(0, 20_000), st.integers(1, 400), st.sampled_from([0, 0, 0.01, 1, 7])),
    min_size=1,
    max_size=10,
).map(spread)
numbers = st.floats(allow_nan=True, allow_infinity=True)
profiles: st.SearchStrategy[list[tuple[float, float]]] = st.one_of(
    st.just([]),
    st.lists(st.tuples(st.floats(-5_000, 30_000), st.floats(0, 1e6)), max_size=30),
    st.lists(st.tuples(numbers, numbers), max_size=8),
)


@settings(deadline=None, max_examples=150, phases=[Phase.explicit, Phase.generate])
@given(
    spans, profiles, st.booleans(), st.integers(1, 20), st.booleans(), st.integers(),
    st.sampled_from([0.0, -500.0, 500.0, 1e9]), st.floats(0, 2), st.sampled_from([0.01, 1.0, 30.0]),
    st.floats(0.2, 1.5), st.sampled_from([60, 5_000]),
)  # fmt: skip
@example([5.0] * 500, [], True, 16, False, 1, 0.0, 0.0, 1.0, 1.0, 60)
@example([0.0] + [1000.0] * 300 + [2000.0], [(0.0, 1.0), (500.0, 0.0)], True, 8, False, 2, 0.0, 0.5, 1.0, 1.0, 60)
@example([1.0, 2.0], [(-1e308, 1e308), (1e308, 1e308), (0.0, 5e-324)], True, 3, True, 0, 0.0, 0.0, 1.0, 1.0, 60)
def test_every_row_is_read_once_and_partitions_tile_the_span(
    times: list[float],
    profile: list[tuple[float, float]],
    may_cut: bool,
    readers: int,
    closed: bool,
    seed: int,
    misled: float,
    density: float,
    overlap: float,
    guess: float,
    max_rows: int,
) -> None:
    # The span is only about right, and so is what a row says of its place.
    low, high = times[0] * guess, max(times[0], times[-1]) * guess + 1
    planner = Planner(low, high, readers, overlap=overlap, density=density, activity=profile, max_rows=max_rows)
    planner.may_cut = may_cut
    simulation = Simulation(times, planner, overlap, max(low, high), closed, misled=misled)
    simulation.run(readers, random.Random(seed))
    behind = simulation.window(None, max(low, high)).stop
    assert sorted(simulation.found) == list(range(behind))
    assert tiles(simulation.read, max(low, high))
    assert not planner.active


def crowded(rows: int) -> list[float]:
    """A few over a year, and nearly all within a thousandth of it."""
    draw = random.Random(3)
    return sorted(draw.uniform(0, 1e8) if each % 50 == 0 else draw.uniform(6e7, 6.01e7) for each in range(rows))


@pytest.mark.parametrize("may_cut", [True, False])
def test_a_crowd_is_read_once_whether_or_not_partitions_can_be_cut(may_cut: bool) -> None:
    times = crowded(60_000)
    planner = Planner(times[0], times[-1], 16, overlap=1.0)
    planner.may_cut = may_cut
    simulation = Simulation(times, planner, 1.0, times[-1], page=50)
    simulation.run(16, random.Random(1))
    assert sorted(simulation.found) == list(range(len(times)))
    assert simulation.requests <= 60_000 / 50 * 1.08
    assert len(simulation.read) > (20 if may_cut else 1)


def test_a_crowd_at_one_instant_costs_few_pages_more_than_a_plain_walk() -> None:
    times = sorted([-1e9] * 200 + [0.0] * 3000 + [1e9] * 10)
    planner = Planner(-1e9, 1e9, 16, overlap=1000.0)
    planner.may_cut = True
    simulation = Simulation(times, planner, 1000.0, 1e9, page=50)
    simulation.run(16, random.Random(1))
    assert len(simulation.found) == len(times)
    assert simulation.requests <= len(times) / 50 + 50


def test_no_partition_is_cut_where_cursors_do_not_keep_to_a_nearer_end() -> None:
    planner = Planner(0.0, 1e6, 1, overlap=1.0, density=1.0)
    partition = planner.next_partition()
    assert partition is not None
    for page in range(1, 50):
        planner.progress(partition, 50, page * 10.0)
    assert planner.dense_cut(partition) is None
    assert planner.best_split() is None
    planner.may_cut = True
    assert planner.dense_cut(partition) is not None


def test_the_whole_span_is_one_partition_where_it_is_shorter_than_two_overlaps() -> None:
    planner = Planner(100.0, 105.0, 16, overlap=1000.0, density=50.0)
    partition = planner.next_partition()
    assert partition is not None
    assert (partition.start, partition.end) == (None, 105.0)
    assert planner.next_partition() is None


@pytest.mark.parametrize("shape", SHAPES)
def test_a_list_of_any_shape_costs_few_pages_more_than_it_has(shape: str) -> None:
    small, large = measure(shape, 10_000, "none"), measure(shape, 300_000, "none")
    assert small["whole"]
    assert large["whole"]
    assert small["over_least"] <= 1.25
    assert large["over_least"] <= 1.06


@pytest.mark.parametrize("seed", one_in(3, PROFILES))
def test_a_profile_that_is_wrong_costs_little(seed: str) -> None:
    for shape in ("even", "days and nights", "90 % in 1 %", "exponential"):
        found = measure(shape, 100_000, seed)
        assert found["whole"]
        assert found["over_least"] <= 1.1


def test_partitions_are_cut_by_the_profile_from_the_beginning() -> None:
    rows = Rows(1_000_000, [(START, 99 * DAY, 0.05), (START + 99 * DAY, DAY, 0.95)])

    def largest(profile: list[tuple[float, float]]) -> int:
        planner = Planner(START, START + 100 * DAY, 16, overlap=1000.0, activity=profile)
        partitions = [planner.next_partition() for _ in range(60)]
        ends = [partition.end for partition in partitions if partition is not None]
        return max(
            rows.before(end) - rows.before(start) for start, end in pairwise([START, *ends, START + 101 * DAY])
        )

    assert largest(rows.by_day()) < 200_000
    assert largest([]) > 900_000


# --- a plan that is written down before it is begun -------------------------------------------------------

weights = st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1e4)), max_size=10)


@settings(deadline=None)
@example([(1.0, 5e-324)], 1e6, 1.0, 1000, 40)  # a fortieth of it is 0
@given(weights, st.floats(0, 1e6), st.sampled_from([1.0, 1000.0]), st.integers(50, 20_000), st.integers(1, 40))
def test_cuts_ascend_end_with_the_last_one_and_leave_room_for_the_overlaps(
    pieces: list[tuple[float, float]], length: float, overlap: float, rows: int, min_count: int
) -> None:
    known, at = [], 0.0
    for width, count in pieces:
        known.append(Weight(at, at + width, count))
        at += width
    cuts = cut_span(known, 0.0, length, overlap, rows, min_count)
    assert (cuts == []) is (length < 4 * overlap)
    assert all(later - earlier >= 4 * overlap for earlier, later in pairwise([0.0, *cuts]))
    assert cuts[-1:] in ([], [length])


def test_a_span_is_cut_into_partitions_of_about_equal_size() -> None:
    known = [Weight(0.0, 1e6, 1_000.0), Weight(1e6, 2e6, 9_000.0)]
    cuts = cut_span(known, 0.0, 2e6, 1.0, 1_000, 1)
    assert len(cuts) == 10
    assert cuts[0] == pytest.approx(1e6)
    assert cuts[1] == pytest.approx(1e6 + 1e6 / 9, rel=1e-5)


@settings(deadline=None)
@given(st.floats(0, 1e9), st.floats(0, 1e9), st.integers(1, 30), st.sampled_from([1.0, 1000.0]))
def test_even_cuts_make_no_piece_too_short_to_be_a_partition(
    start: float, length: float, pieces: int, overlap: float
) -> None:
    cuts = even_cuts(start, start + length, pieces, overlap)
    assert len(cuts) < pieces
    bounds = [start, *cuts, start + length]
    assert not cuts or all(later - earlier >= 3 * overlap for earlier, later in pairwise(bounds))
