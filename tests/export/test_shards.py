"""Shards: walked by themselves, in any order, they give each conversation once, on any server."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alli_async import RetryPolicy, ServerError
from alli_async._listing.filters import Filters
from alli_async._listing.planner import Weight, even_cuts
from alli_async._listing.survey import Span
from alli_async.export import export
from alli_async.export.commit_log import check_cover
from alli_async.export.planning import cut_into_shards, plan_run
from alli_async.export.records import Shard
from alli_async.export.shard_reader import ShardReader
from alli_async.sandbox import Churn, Sandbox
from tests.conftest import ClientFactory
from tests.export.support import planned, read_last_shard, read_shards, surveyed
from tests.support import chat
from tests.support.tiers import one_in

WAYS: list[dict[str, Any]] = [
    {},
    {"bounds": "open"},
    {"bounds": "open", "unit": "s"},
    {"nulls": "first"},
    {"nulls": "first", "cursor": "keyset", "unit": "s"},
    {"cursor": "keyset"},
    {"cursor": "keyset", "bounds": "open"},
    {"cursor": "relay", "filter_numbers": "whole"},
    {"cursor": "opaque", "filter_numbers": "seconds"},
    {"cursor": "opaque", "nulls": "first"},
    {"ties": "shuffled"},
    {"ties": "shuffled", "cursor": "opaque"},
    {"page_cap": 20},
    {"ragged": True},
    {"heavy_page": 10},
    {"first_chat_fallback": True},
    {"null_last_chat": 0.1},
    {"chat_count": "user", "embed": "all"},
    {"retry_after": "none", "faults": {"503": 0.03, "reset_after": 0.03, "truncated": 0.04}},
]
MANY_TRIES = RetryPolicy(base=0.001, cap=0.002, max_attempts=12, quota=100_000)


def name_of(way: dict[str, Any]) -> str:
    return "-".join(map(str, way)) or "plain"


@pytest.mark.parametrize("way", one_in(3, WAYS), ids=name_of)
async def test_whatever_the_cuts_each_conversation_is_in_one_shard(
    make_client: ClientFactory, way: dict[str, Any]
) -> None:
    async with Sandbox(conversations=700, **way) as sandbox:
        alli = make_client(sandbox, retry=MANY_TRIES)
        everything = [each async for each in alli.conversations.list(order="FIRST_CHAT_TIME_ASC", page_size=10)]
        plan = await planned(alli)
        assert plan.span is not None
        # Through a burst, at an instant that many share, and between two that share one.
        times = sorted({each.created_at for each in everything if each.last_chat_time is not None})
        draw = random.Random(1)
        cuts = sorted({*draw.sample(times, 4), times[len(times) // 2], times[-1] - 3 * plan.span.resolution})
        bounds = [None, *cuts, None]
        shards = [Shard(name=str(n), start=start, end=end) for n, (start, end) in enumerate(pairwise(bounds))]
        found = await read_shards(alli, plan, [*draw.sample(shards[:-1], len(shards) - 1), shards[-1]])
        assert len(found) == len(set(found)) == 700
        assert set(found) == set(sandbox.conversation_ids())


@pytest.mark.parametrize("first_to_last", [True, False])
@pytest.mark.parametrize(
    "way", [{"nulls": "last"}, {"nulls": "first"}, {"cursor": "keyset"}, {"cursor": "opaque"}], ids=str
)
async def test_who_gets_a_first_chat_meanwhile_is_in_one_shard_whichever_is_read_first(
    make_client: ClientFactory, first_to_last: bool, way: dict[str, Any]
) -> None:
    async with Sandbox(conversations=900, churn=Churn(new_chats=8, new_conversations=1), **way) as sandbox:
        before = set(sandbox.conversation_ids())
        alli = make_client(sandbox)
        plan = await planned(alli)
        others = plan.shards[:-1]
        assert others
        found = await read_shards(alli, plan, [*(others if first_to_last else others[::-1]), plan.shards[-1]])
        assert len(found) == len(set(found))
        assert before <= set(found)


async def test_a_server_that_fails_often_ends_the_reading_and_one_conversation_that_does_not_is_skipped(
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
        session = make_client(sandbox, middlewares=[failing]).conversations._session
        limit = 2
        reader = ShardReader(session, Filters(), Shard(name="0"), None, concurrency=8)
        async with reader:
            assert len([each async for each in reader.transcripts()]) == 198
        assert len(reader.skipped) == 2
        limit = 100
        reader = ShardReader(session, Filters(), Shard(name="0"), None, concurrency=8)
        with pytest.raises(ServerError):
            async with reader:
                assert [each async for each in reader.transcripts()]


# --- the plan ---------------------------------------------------------------------------------------------


def span_of(low: float, high: float) -> Span:
    return Span(
        low=low,
        high=high,
        units_per_second=1000.0,
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
    shards = cut_into_shards(span, weights)
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
    assert even_cuts(0.0, 100_000.0, 4, 1000.0) == [25_000.0, 50_000.0, 75_000.0]
    assert even_cuts(0.0, 5_000.0, 64, 1000.0) == []
    assert len(even_cuts(0.0, 20_000.0, 64, 1000.0)) == 4


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
        plan = await planned(alli)
        assert (plan.span, [shard.is_whole_list for shard in plan.shards]) == (None, [True])


async def test_a_plan_tells_about_how_much_there_is_and_how_many_requests_it_takes(
    make_client: ClientFactory,
) -> None:
    async with Sandbox(conversations=4000) as sandbox:
        alli = make_client(sandbox)
        plan, requests = await plan_run(alli.conversations._session, Filters())
        assert plan.expected == pytest.approx(4000, rel=0.05)
        assert sum(each.expected or 0 for each in plan.shards) == pytest.approx(4000, rel=0.05)
        assert requests == pytest.approx(620, rel=0.5)
        # Without the counts of days, by what was seen at both ends.
        sandbox.script("getDailyConversationCount", ["500"] * 4)
        plan, _ = await plan_run(alli.conversations._session, Filters())
        assert plan.expected is not None
        assert 500 < plan.expected < 100_000
        check_cover(plan.shards, None, None)
        # They are a help, and asked for once.
        assert sandbox.count("getDailyConversationCount") == 2


async def test_a_plan_takes_the_time_of_five_requests(make_client: ClientFactory) -> None:
    done = [0]

    async def counting(request: Any, call_next: Any) -> Any:
        turn = 1 + max(done)
        response = await call_next(request)
        done.append(turn)
        return response

    async with Sandbox(conversations=4000, latency=0.01) as sandbox:
        alli = make_client(sandbox, middlewares=[counting])
        assert len((await planned(alli)).shards) > 4
        assert max(done) == 5


async def test_the_last_shard_is_read_when_all_others_are_committed(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    """It takes what moved while the others were read."""
    committed: list[int] = []

    async def watching(request: Any, call_next: Any) -> Any:
        if request.path.endswith("/conversations") and "firstChat" not in request.query:
            committed.append(len(list(tmp_path.glob("_journal/run-00001-shard-*"))))
        return await call_next(request)

    async with Sandbox(conversations=2500) as sandbox:
        report = await export(make_client(sandbox, middlewares=[watching]), tmp_path)
        assert report.conversations == 2500
        # Pages without bounds: those of the survey, and then those of the last shard.
        assert set(committed) == {0, report.parts - 1}


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
        plans = [await planned(make_client(sandbox, middlewares=more)) for more in ([], [turned])]
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
        span = (await surveyed(alli)).span
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

    async with Sandbox(conversations=700, nulls=nulls) as sandbox:
        empty = [each for each in sandbox.conversation_ids() if not sandbox.chat_ids(each)]
        assert len(empty) > 5
        counted, gone = empty[0], empty[-1]
        alli = make_client(sandbox, middlewares=[hides])
        plan = await planned(alli)
        transcripts, reader = await read_last_shard(alli, plan)
        found = {each.id: each for each in transcripts}
        assert {each: found[each].chat_count for each in empty[:-1]} == dict.fromkeys(empty[:-1], 1)
        assert all(b"message 1" in found[each].json and b"\n" not in found[each].json for each in empty[:-1])
        assert [each.id for each in reader.skipped] == [gone]
