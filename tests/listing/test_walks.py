"""A walk proves that its pages are contiguous, whatever leaves the list and comes into it meanwhile."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alli_async import BadRequestError, Order, PaginationError
from alli_async._listing.cursors import OffsetCursors
from alli_async._listing.filters import Filters
from alli_async._listing.page_reader import Page
from alli_async._listing.walks import Walk

PAGE = 50
CURSORS = OffsetCursors.guess(base64.b64encode(b"offset:50").decode(), 50)


class Row(NamedTuple):
    id: str


@dataclass
class MovingList:
    """A list behind cursors, which changes after each page; in place of a `PageReader`.

    Attributes:
        size: Number of rows.
        leave: The most rows that leave after a page.
        come: The most rows that come in after a page, anywhere.
        at_end: Whether rows come in at the end only.
        ties: Rows of one instant; they come in another order at each request.
        ragged: Whether pages hold a random number of rows, and sometimes none.
        cap: The most rows of a page.
        own_cursors: Whether only cursors are taken that were given out.
        refuses_beyond: Whether a cursor beyond the end is refused.
        cursor: "offset", "relay", "keyset" or "endless".
    """

    size: int
    seed: int = 1
    leave: int = 0
    come: int = 0
    at_end: bool = False
    ties: int = 1
    ragged: bool = False
    cap: int = PAGE
    own_cursors: bool = False
    refuses_beyond: bool = False
    cursor: str = "offset"
    rows: list[float] = field(default_factory=list)
    requests: int = 0

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.rows = [float(number) for number in range(self.size)]
        self.stayed = set(self.rows)
        self.given: set[str] = set()

    async def page(
        self, order: Order, cursor: str | None, filters: Any, *, size: int = PAGE, **_: Any
    ) -> Page[Any]:
        self.requests += 1
        if cursor is not None and self.own_cursors and cursor not in self.given:
            raise BadRequestError("cursor", status=400)
        at = 0 if cursor is None else self._place(cursor)
        if self.refuses_beyond and at >= len(self.rows) and at:
            raise BadRequestError("cursor", status=400)
        rows = self._in_some_order()
        count = min(self.cap, size)
        if self.ragged:
            count = 0 if cursor is not None and self.draw.random() < 0.1 else self.draw.randint(1, count)
        shown = rows[at : at + count]
        following = None
        if at + count < len(rows):
            following = self._cursor(at + count, rows[at + count - 1] if at + count else -1.0)
            self.given.add(following)
        self._change()
        return Page([Row(str(each)) for each in shown], following)

    def _place(self, cursor: str) -> int:
        text = base64.b64decode(cursor, validate=True).decode()
        kind, _, number = text.partition(":")
        if kind == "after":
            return sum(each <= float(number) for each in self.rows)
        return {"offset": int(number), "arrayconnection": int(number) + 1, "page": 0}[kind]

    def _cursor(self, at: int, last: float) -> str:
        text = {
            "offset": f"offset:{at}",
            "relay": f"arrayconnection:{at - 1}",
            "keyset": f"after:{last}",
            "endless": f"page:{self.requests + 1_000_000}",
        }[self.cursor]
        return base64.b64encode(text.encode()).decode()

    def _in_some_order(self) -> Sequence[float]:
        if self.ties == 1:
            return self.rows
        return sorted(self.rows, key=lambda each: (int(each) // self.ties, self.draw.random()))

    def _change(self) -> None:
        leave = 3 * PAGE if self.leave and self.draw.random() < 0.1 else self.leave
        for _ in range(min(self.draw.randint(0, leave), len(self.rows))):
            self.stayed.discard(self.rows.pop(self.draw.randrange(len(self.rows))))
        for _ in range(self.draw.randint(0, self.come)):
            self.rows.append(self.draw.uniform(self.size if self.at_end else 0, 1000 + self.size))
        self.rows.sort()


async def read_all(rows: MovingList, **options: Any) -> tuple[Walk[Any], list[float]]:
    pages: Any = rows
    walk: Walk[Any] = Walk(pages, Order.FIRST_CHAT_TIME_ASC, Filters(), **options)
    found: list[float] = []
    while (entries := await walk.next()) is not None:
        found += [float(entry.id) for entry in entries]
    assert len(found) == len(set(found))
    return walk, found


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 1000), st.integers(0, 40), st.integers(0, 10), st.booleans(), st.booleans(), st.booleans(),
    st.integers(),
)  # fmt: skip
def test_what_stays_in_a_list_is_found_whatever_leaves_it_and_comes(
    size: int, leave: int, come: int, at_end: bool, is_known: bool, refuses: bool, seed: int
) -> None:
    rows = MovingList(size, seed, leave, come, at_end, refuses_beyond=refuses and is_known)
    walk, found = asyncio.run(read_all(rows, cursors=CURSORS if is_known else None))
    is_whole = rows.stayed <= set(found)
    # How cursors are made is not known before the second page: what moves between these two ends the proof.
    assert is_whole or walk.is_order_unstable or not (walk.is_proved or is_known)
    assert rows.requests < 200


@settings(max_examples=100, deadline=None)
@example(size=463, leave=4, cap=50, ragged=False, seed=-307694)  # goes back over several pages of known rows
@given(
    st.integers(1, 600), st.integers(0, 10), st.sampled_from([1, 2, 3, 7, 20, 50]), st.booleans(), st.integers()
)
def test_ragged_and_capped_pages_hide_no_row_although_rows_leave(
    size: int, leave: int, cap: int, ragged: bool, seed: int
) -> None:
    rows = MovingList(size, seed, leave if cap > 1 else 0, cap=cap, ragged=ragged)
    walk, found = asyncio.run(read_all(rows, cursors=CURSORS))
    assert rows.stayed <= set(found) or not walk.is_proved
    assert cap < 20 or ragged or walk.is_proved


@pytest.mark.parametrize("size", [0, 1, 49, 50, 51, 99, 100, 1000])
@pytest.mark.parametrize("cursor", ["offset", "relay"])
async def test_a_list_that_does_not_change_is_proved_for_one_row_in_fifty(size: int, cursor: str) -> None:
    rows = MovingList(size, cursor=cursor)
    walk, found = await read_all(rows)
    assert found == [float(number) for number in range(size)]
    assert (walk.is_proved, walk.is_order_unstable, walk.rows_left, walk.rows_came) == (True, False, False, False)
    assert walk.listed == size
    assert rows.requests <= max(1, 1 + -(-(size - PAGE) // (PAGE - 1)))


async def test_rows_that_leave_are_noticed_and_cost_few_requests() -> None:
    rows = MovingList(1000, leave=3)
    walk, found = await read_all(rows)
    assert walk.rows_left
    assert rows.stayed <= set(found)
    assert rows.requests < 60


async def test_rows_that_come_in_behind_a_walk_are_noticed() -> None:
    rows = MovingList(500)
    pages: Any = rows
    walk: Walk[Any] = Walk(pages, Order.FIRST_CHAT_TIME_ASC, Filters())
    await walk.next()
    await walk.next()
    rows.rows[10:10] = [10.25, 10.5]
    while await walk.next() is not None:
        pass
    assert walk.rows_came
    assert not walk.is_order_unstable
    assert len(walk.ids) == 500


@pytest.mark.parametrize("ties", [30, 120])
async def test_rows_of_one_instant_in_another_order_at_each_request_disturb_a_walk(ties: int) -> None:
    walk, _ = await read_all(MovingList(600, ties=ties), cursors=CURSORS)
    assert walk.is_order_unstable


@pytest.mark.parametrize("seed", range(10))
async def test_a_server_that_takes_only_its_own_cursors_is_followed_and_proves_nothing(seed: int) -> None:
    rows = MovingList(300, seed, come=2, at_end=True, own_cursors=True)
    walk, found = await read_all(rows)
    assert not walk.is_proved
    assert rows.stayed <= set(found)
    assert rows.requests < 30


@pytest.mark.parametrize("seed", range(10))
async def test_a_cursor_that_is_refused_beyond_the_end_ends_no_walk_too_early(seed: int) -> None:
    rows = MovingList(300, seed, leave=20, refuses_beyond=True)
    _, found = await read_all(rows, cursors=CURSORS)
    assert rows.stayed <= set(found)


async def test_a_keyset_is_followed_by_the_servers_own_cursors() -> None:
    rows = MovingList(500, leave=5, come=2, cursor="keyset")
    walk, found = await read_all(rows)
    assert rows.stayed <= set(found)
    assert (walk.is_proved, walk.cursors) == (False, None)


async def test_cursors_that_never_end_are_an_error_soon() -> None:
    rows = MovingList(200, cursor="endless")
    with pytest.raises(PaginationError, match="the list does not end"):
        await read_all(rows)
    assert rows.requests < 120


async def test_a_walk_may_begin_at_an_index() -> None:
    rows = MovingList(500)
    cursors = OffsetCursors.guess(rows._cursor(50, 0), 50)
    walk, found = await read_all(rows, cursors=cursors, index=400)
    assert found == [float(number) for number in range(400, 500)]
    assert (walk.rows_left, 400 + walk.listed) == (False, 500)
