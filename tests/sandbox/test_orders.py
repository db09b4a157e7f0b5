from __future__ import annotations

from array import array
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from alli_async.sandbox.orders import TimeOrder, View

TIMES = st.one_of(st.none(), st.sampled_from([1.0, 2.0, 2.5, 4.0]))
ROWS = st.lists(TIMES, max_size=30)
PROVEN = settings(derandomize=True, database=None, deadline=None, max_examples=60)


def by_hand(times: list[float | None], descending: bool, nulls_first: bool) -> list[int]:
    timed = sorted((time, row) for row, time in enumerate(times) if time is not None)
    empty = [row for row, time in enumerate(times) if time is None]
    rows = [row for _, row in timed]
    parts = (rows[::-1], empty[::-1]) if descending else (rows, empty)
    return parts[1] + parts[0] if nulls_first else parts[0] + parts[1]


def order_of(times: list[float | None], places: list[int]) -> TimeOrder:
    order = TimeOrder(array("d"), array("I"), array("I"))
    for row in places:
        order.add(times[row], row)
    return order


@PROVEN
@given(times=ROWS, data=st.data())
def test_rows_stay_sorted_in_whatever_order_they_come_and_go(
    times: list[float | None], data: st.DataObject
) -> None:
    order = order_of(times, data.draw(st.permutations(range(len(times)))))
    gone = data.draw(st.sets(st.integers(0, len(times) - 1))) if times else set()
    for row in gone:
        order.remove(times[row], row)
    kept = sorted((time, row) for row, time in enumerate(times) if time is not None and row not in gone)
    assert list(zip(order.keys, order.ids, strict=True)) == kept
    assert list(order.empty) == [row for row, time in enumerate(times) if time is None and row not in gone]


@PROVEN
@given(times=ROWS, start=TIMES, end=TIMES)
def test_a_window_holds_what_lies_in_it(times: list[float | None], start: float | None, end: float | None) -> None:
    order = order_of(times, list(range(len(times))))
    low, high = order.window(start, end, closed=True)
    first, last = start or 0.0, end or 9.0
    assert list(order.keys[low:high]) == sorted(
        time for time in times if time is not None and first <= time <= last
    )
    low, high = order.window(start, end, closed=False)
    assert list(order.keys[low:high]) == sorted(time for time in times if time is not None and first < time < last)


@PROVEN
@given(times=ROWS, size=st.integers(1, 7))
def test_pages_add_up_to_the_whole_by_offset_and_by_place(times: list[float | None], size: int) -> None:
    order = order_of(times, list(range(len(times))))
    for descending, nulls_first in product((False, True), repeat=2):
        view = View(order.ids, 0, len(order.ids), order.empty, descending, nulls_first)
        whole = by_hand(times, descending, nulls_first)
        assert len(view) == len(whole)
        assert [row for start in range(0, len(whole), size) for row in view.rows(start, start + size)] == whole
        places = [view.after(times[row], row, times.__getitem__) for row in whole]
        assert places == list(range(1, len(whole) + 1))
