"""Shards: walked by themselves, in any order, they give each conversation once, on any server."""

from __future__ import annotations

import asyncio
import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alli_async import ServerError
from alli_async._bulk.shards import Shard, Span, survey
from alli_async._bulk.shardwalk import walk_shard
from alli_async._transport.filters import Filters
from alli_async.export import export, running
from alli_async.export.ledger import check_cover
from alli_async.export.planning import Weight, cut, even_cuts, prospect
from alli_async.sandbox import Churn, Sandbox
from tests.conftest import QUICK, ClientFactory
from tests.support import chat

WAYS: list[dict[str, Any]] = [
    {},
    {"bounds": "open"},
    {"bounds": "open", "unit": "s"},
    {"nulls": "first"},
    {"nulls": "first", "cursor": "keyset", "unit": "s"},
    {"cursor": "keyset"},
    {"cursor": "keyset", "bounds": "open"},
    {"chat_count": "user", "embed": "all"},
    {"retry_after": "none", "faults": {"503": 0.03, "reset_after": 0.03, "truncated": 0.04}},
]


def name_of(way: dict[str, Any]) -> str:
    return "-".join(map(str, way)) or "plain"


async def walked(alli: Any, shard: Shard, span: Span | None, timed: int = 0) -> list[str]:
    walk = walk_shard(alli.conversations._session, Filters(()), shard, span, concurrency=8, timed=timed)
    async with walk:
        return [each.id async for each in walk.records()]


@pytest.mark.parametrize("way", WAYS, ids=name_of)
async def test_whatever_the_cuts_each_conversation_is_in_one_shard(
    make_client: ClientFactory, way: dict[str, Any]
) -> None:
    async with Sandbox(conversations=700, **way) as sandbox:
        alli = make_client(sandbox, retry=QUICK.__class__(base=0.001, cap=0.002, max_attempts=12, quota=100_000))
        everything = [each async for each in alli.conversations.list(order="FIRST_CHAT_TIME_ASC")]
        span = (await survey(alli.conversations._session, Filters(()))).span
        assert span is not None
        # Through a burst, at an instant that many share, and between two that share one.
        times = sorted({each.created_at for each in everything if each.last_chat_time is not None})
        draw = random.Random(1)
        cuts = sorted({*draw.sample(times, 4), times[len(times) // 2], times[-1] - 3 * span.resolution})
        bounds = [None, *cuts, None]
        shards = [Shard(name=str(n), start=start, end=end) for n, (start, end) in enumerate(pairwise(bounds))]
        found: list[str] = []
        for shard in [*draw.sample(shards[:-1], len(shards) - 1), shards[-1]]:
            found += await walked(alli, shard, span, timed=len(found))
        assert len(found) == len(set(found)) == 700
        assert set(found) == set(sandbox.conversation_ids())


@pytest.mark.parametrize("first_to_last", [True, False])
async def test_who_gets_a_first_chat_meanwhile_is_in_the_last_shard_once_whenever_that_is_walked(
    make_client: ClientFactory, first_to_last: bool
) -> None:
    for way in ({"nulls": "last"}, {"nulls": "first"}, {"cursor": "keyset"}):
        async with Sandbox(conversations=900, churn=Churn(new_chats=8, new_conversations=1), **way) as sandbox:
            before = set(sandbox.conversation_ids())
            alli = make_client(sandbox)
            plan = (await prospect(alli.conversations._session, Filters(()))).plan
            found: list[str] = []
            for shard in plan.shards if first_to_last else plan.shards[::-1]:
                found += await walked(alli, shard, plan.span, timed=len(found))
            assert len(found) == len(set(found))
            assert before <= set(found)


async def test_a_server_that_fails_often_ends_the_walk_and_one_conversation_that_does_not_is_skipped(
    make_client: ClientFactory,
) -> None:
    broken: set[str] = set()

    async def failing(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        if request.path.endswith("/chats") and (len(broken) < limit or request.path in broken):
            broken.add(request.path)
            response.status, response.body = 500, b"{}"
        return response

    async with Sandbox(conversations=200, embed=0) as sandbox:
        alli = make_client(sandbox, middlewares=[failing])
        limit = 2
        walk = walk_shard(alli.conversations._session, Filters(()), Shard(name="0"), None, concurrency=8)
        async with walk:
            assert len([each async for each in walk.records()]) == 198
        assert len(walk.skipped) == 2
        limit = 100
        walk = walk_shard(alli.conversations._session, Filters(()), Shard(name="0"), None, concurrency=8)
        with pytest.raises(ServerError):
            async with walk:
                assert [each async for each in walk.records()]


# --- the plan ---------------------------------------------------------------------------------------------


def span_of(low: float, high: float) -> Span:
    return Span(
        low=low,
        high=high,
        second=1000.0,
        resolution=min(1000.0, max(1.0, (high - low) / 1e6)),
        density=0.0,
        bounded=False,
    )


@settings(deadline=None, max_examples=200)
@given(
    st.floats(1e12, 2e12),
    st.lists(st.tuples(st.floats(1, 1e10), st.integers(0, 20_000)), min_size=1, max_size=8),
)
def test_a_plan_covers_the_span_in_shards_that_are_not_too_short(
    low: float, pieces: list[tuple[float, int]]
) -> None:
    weights, at = [], low
    for width, rows in pieces:
        weights.append(Weight(at, at + width, rows))
        at += width
    span = span_of(low, at)
    shards = cut(span, weights)
    if not shards:
        assert at - low < 7 * span.resolution
        return
    check_cover(shards, None, None)
    cuts = [each.end for each in shards[:-1] if each.end is not None]
    assert all(after - before >= 4 * span.resolution for before, after in pairwise(cuts))
    assert low < cuts[0]
    # What begins after the plan is behind the last seam.
    assert cuts[-1] + span.resolution < at
    total = sum(rows for _, rows in pieces)
    assert len(shards) <= max(16, total / 1000 + 1) + 2


def test_even_cuts_are_never_too_near_to_each_other() -> None:
    span = span_of(0.0, 1e10)
    assert even_cuts(0.0, 100_000.0, 4, span) == [25_000.0, 50_000.0, 75_000.0]
    assert even_cuts(0.0, 5_000.0, 64, span) == []
    assert len(even_cuts(0.0, 20_000.0, 64, span)) == 4


@pytest.mark.parametrize(
    "way",
    [
        {"first_chat_filters": "ignored"},
        {"first_chat_orders": "refused"},
        {"conversations": 140},
        {"conversations": 0},
    ],
    ids=name_of,
)
async def test_where_windows_are_of_no_use_the_list_is_one_shard(
    make_client: ClientFactory, way: dict[str, Any]
) -> None:
    async with Sandbox(**{"conversations": 300, **way}) as sandbox:
        alli = make_client(sandbox)
        plan = (await prospect(alli.conversations._session, Filters(()))).plan
        assert (plan.span, [shard.whole for shard in plan.shards]) == (None, [True])


async def test_a_plan_tells_about_how_much_there_is_and_how_many_requests_it_takes(
    make_client: ClientFactory,
) -> None:
    async with Sandbox(conversations=4000) as sandbox:
        alli = make_client(sandbox)
        plan, requests = await prospect(alli.conversations._session, Filters(()))
        assert plan.expected == pytest.approx(4000, rel=0.05)
        assert sum(each.expected or 0 for each in plan.shards) == pytest.approx(4000, rel=0.05)
        assert requests == pytest.approx(620, rel=0.5)
        # Without the counts of days, by what was seen at both ends.
        sandbox.script("getDailyConversationCount", ["500"] * 4)
        plan, _ = await prospect(alli.conversations._session, Filters(()))
        assert plan.expected is not None
        assert 500 < plan.expected < 100_000
        check_cover(plan.shards, None, None)
        # They are a help, and asked for once.
        assert sandbox.count("getDailyConversationCount") == 2


async def test_a_plan_takes_the_time_of_four_requests(make_client: ClientFactory) -> None:
    done = [0]

    async def counting(request: Any, call_next: Any) -> Any:
        turn = 1 + max(done)
        response = await call_next(request)
        done.append(turn)
        return response

    async with Sandbox(conversations=4000, latency=0.01) as sandbox:
        alli = make_client(sandbox, middlewares=[counting])
        assert len((await prospect(alli.conversations._session, Filters(()))).plan.shards) > 4
        assert max(done) == 4


async def test_the_open_end_does_not_wait_for_the_last_windows_nor_for_their_turns(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "AT_FIRST", 1)
    monkeypatch.setattr(running, "_JOINS_AFTER", 60.0)
    earliest, written = "", list[Path]()

    async def holding(request: Any, call_next: Any) -> Any:
        # The first window does not end, and no other begins, before the open end is written.
        if unquote(request.path).split("/")[-2] == earliest:
            async with asyncio.timeout(20):
                while not written:
                    await asyncio.sleep(0.01)
                    written.extend(tmp_path.glob("_journal/run-00001-shard-*"))
        return await call_next(request)

    async with Sandbox(conversations=2500, embed=0) as sandbox:
        alli = make_client(sandbox, middlewares=[holding])
        earliest = (await alli.conversations.list(order="FIRST_CHAT_TIME_ASC")).conversations[0].id
        report = await export(alli, tmp_path)
        assert report.conversations == 2500
        assert len(written) == 1


async def test_counts_of_days_in_any_order_make_the_same_plan(make_client: ClientFactory) -> None:
    async def turned(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        if request.path.endswith("daily_count"):
            counts = json.loads(response.body)
            assert len(counts["result"]["dailyTotalCount"]) > 1
            counts["result"]["dailyTotalCount"].reverse()
            response.body = json.dumps(counts).encode()
        return response

    async with Sandbox(conversations=4000) as sandbox:
        plans = [
            (await prospect(make_client(sandbox, middlewares=more).conversations._session, Filters(()))).plan
            for more in ([], [turned])
        ]
        assert len(plans[0].shards) > 5
        assert plans[0].shards == plans[1].shards


@pytest.mark.parametrize("nulls", ["first", "last"])
@pytest.mark.parametrize("unit", ["ms", "s"])
async def test_a_span_is_that_of_the_conversations_with_chats_whatever_the_time_is_here(
    make_client: ClientFactory, nulls: Any, unit: Any
) -> None:
    async with Sandbox(conversations=8000, nulls=nulls, unit=unit) as sandbox:
        alli = make_client(sandbox)
        times = [each.created_at async for each in alli.conversations.list() if each.last_chat_time is not None]
        span = (await survey(alli.conversations._session, Filters(()))).span
        assert span is not None
        assert (span.low, span.high) == (min(times), max(times))
        assert span.density > 0


@pytest.mark.parametrize("nulls", ["first", "last"])
async def test_those_that_only_seem_to_have_no_chats_are_given_with_them(
    make_client: ClientFactory, nulls: Any
) -> None:
    async def hides(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        if request.path.endswith("/conversations"):
            page = json.loads(response.body)
            for each in page["conversations"]:
                # A server that counts otherwise: chats that are in no list, and a count that is of something else.
                if each["lastChatTime"] is None and each["id"] != counted:
                    each["chats"], each["chatCount"] = [], 0
                elif each["id"] == counted:
                    each["chatCount"] = 4
            response.body = json.dumps(page, indent=1).encode()
        elif request.path.endswith("/chats") and any(each.replace("=", "%3D") in request.path for each in empty):
            status = 404 if gone.replace("=", "%3D") in request.path else 200
            made = {"chats": [chat(1)], "pageNo": 1, "totalCount": 1}
            response.status, response.body = status, json.dumps(made).encode()
        return response

    async with Sandbox(conversations=400, nulls=nulls) as sandbox:
        empty = [each for each in sandbox.conversation_ids() if not sandbox.chat_ids(each)]
        assert len(empty) > 5
        counted, gone = empty[0], empty[-1]
        alli = make_client(sandbox, middlewares=[hides])
        span = (await survey(alli.conversations._session, Filters(()))).span
        assert span is not None
        shard = Shard(name="9", start=span.high - 3 * span.resolution)
        walk = walk_shard(
            alli.conversations._session, Filters(()), shard, span, concurrency=8, timed=400 - len(empty)
        )
        async with walk:
            found = {each.id: each async for each in walk.records()}
        assert {each: found[each].chat_count for each in empty[:-1]} == dict.fromkeys(empty[:-1], 1)
        assert all(b"message 1" in found[each].json and b"\n" not in found[each].json for each in empty[:-1])
        assert [each.id for each in walk.skipped] == [gone]
