"""Rows that leave a list while it is walked hide no other, whatever its cursors are."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alli_async import AlliClient, BadRequestError, ConversationState, Response
from alli_async._bulk.offsets import earlier_by
from alli_async._bulk.overlap import overlapping
from alli_async._bulk.pages import walk
from alli_async.export import export
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.export.support import chats_by_id

PAGE = 50


class Row(NamedTuple):
    id: str


class Page(NamedTuple):
    conversations: Sequence[Row]
    cursor: str | None


class List:
    """A list behind cursors that are offsets, which changes at each look at it."""

    def __init__(self, size: int, draw: random.Random, leave: int, come: int, *, strict: bool = False) -> None:
        self.numbers = [float(number) for number in range(size)]
        self.stayed = set(self.numbers)
        self.fetches = 0
        self._draw, self._leave, self._come, self._strict = draw, leave, come, strict
        self._given = {"0"}

    async def fetch(self, cursor: str | None) -> Page:
        self.fetches += 1
        at = int(cursor or 0)
        if self._strict and (str(at) not in self._given or at > len(self.numbers)):
            raise BadRequestError("cursor", status=400)
        some = [Row(str(number)) for number in self.numbers[at : at + PAGE]]
        more = at + PAGE < len(self.numbers)
        self._given.add(str(at + PAGE))
        self._change()
        return Page(some, str(at + PAGE) if more else None)

    def _change(self) -> None:
        leave = 3 * PAGE if self._leave and self._draw.random() < 0.1 else self._leave
        for _ in range(min(self._draw.randint(0, leave), len(self.numbers))):
            gone = self.numbers.pop(self._draw.randrange(len(self.numbers)))
            self.stayed.discard(gone)
        for _ in range(self._draw.randint(0, self._come)):
            self.numbers.append(self._draw.uniform(0, 1000))
        self.numbers.sort()


async def walked(rows: List) -> list[float]:
    pages = walk(lambda cursor: overlapping(rows.fetch, cursor))
    return [float(row.id) async for page in pages for row in page.conversations]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 40), st.integers(0, 10), st.integers())
def test_what_stays_in_a_list_is_found_whatever_leaves_it_and_comes(
    size: int, leave: int, come: int, seed: int
) -> None:
    rows = List(size, random.Random(seed), leave, come)
    found = asyncio.run(walked(rows))
    assert rows.stayed <= set(found)
    assert rows.fetches < 200


@pytest.mark.parametrize("size", [0, 1, 49, 50, 51, 100, 1000])
def test_a_list_that_does_not_change_comes_once_for_hardly_more_requests(size: int) -> None:
    rows = List(size, random.Random(1), 0, 0)
    assert asyncio.run(walked(rows)) == [float(number) for number in range(size)]
    assert rows.fetches <= max(1, -(-size // (PAGE - 3)))


@pytest.mark.parametrize("seed", range(20))
def test_a_server_that_takes_only_its_own_cursors_is_walked_with_them(seed: int) -> None:
    rows = List(300, random.Random(seed), 0, 2, strict=True)
    found = asyncio.run(walked(rows))
    assert rows.stayed <= set(found)
    assert rows.fetches < 30


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("at", "cursor", "rows", "ten_earlier"),
    [
        (None, "50", 50, "40"),
        ("50", "100", 50, "90"),
        (None, "o:50:x", 50, "o:40:x"),
        (coded("offset:50"), coded("offset:100"), 50, coded("offset:90")),
        (coded("2:50"), coded("2:100"), 50, coded("2:90")),
        ("47", "97", 50, "87"),
        (None, "8", 8, None),
        ("50", "100", 47, None),
        (None, "abc", 50, None),
        ("1704067200000", "1704067205000", 50, None),
        (coded("a:50"), coded("b:100"), 50, None),
    ],
)
def test_what_looks_like_an_offset_is_counted_back_from(
    at: str | None, cursor: str, rows: int, ten_earlier: str | None
) -> None:
    earlier = earlier_by(at, cursor, rows)
    assert (earlier(10) if earlier is not None else None) == ten_earlier


# --- against a server -------------------------------------------------------------------------------------


class Ending:
    """A middleware behind which, at each page of a list, some of the conversations on it end."""

    def __init__(self, other: AlliClient, each: int) -> None:
        self.ended: set[str] = set()
        self._other, self._each, self._draw = other, each, random.Random(1)

    async def __call__(self, request: Any, call_next: Any) -> Response:
        response: Response = await call_next(request)
        if request.operation == "listConversations":
            ids = [each["id"] for each in json.loads(response.body)["conversations"]]
            for one in self._draw.sample(
                sorted(set(ids) - self.ended), min(self._each, len(set(ids) - self.ended))
            ):
                self.ended.add(one)
                await self._other.conversations.update(one, state=ConversationState.EB)
        return response


@pytest.mark.parametrize("cursor", ["offset", "keyset"])
@pytest.mark.parametrize("nulls", ["last", "first"])
@pytest.mark.parametrize("way", ["windows", "ordered", "by last chat", "exported"])
async def test_conversations_that_end_while_the_active_ones_are_walked_hide_no_others(
    make_client: ClientFactory, tmp_path: Path, cursor: Any, nulls: Any, way: str
) -> None:
    async with Sandbox(conversations=2500, embed="all", cursor=cursor, nulls=nulls) as sandbox:
        other = make_client(sandbox)
        active = {each.id: each.last_chat_time async for each in other.conversations.list(active_only=True)}
        ending = Ending(other, 2)
        client = make_client(sandbox, middlewares=[ending])
        if way == "exported":
            await export(client, tmp_path, active_only=True)
            found = list(chats_by_id(tmp_path))
        else:
            filters: dict[str, Any] = {"started_at": 1.0} if way == "by last chat" else {}
            stream = client.conversations.transcripts(
                raw=True, active_only=True, ordered=way == "ordered", **filters
            )
            found = [each.id async for each in stream]
        assert len(ending.ended) > 40
        assert len(found) == len(set(found))
        missing = active.keys() - ending.ended - set(found)
        assert {each for each in missing if way != "by last chat" or active[each] is not None} == set()
