"""The reader gives every conversation once, whatever moves, and however the server behaves."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from alli_async import (
    AlliClient,
    APIError,
    BadRequestError,
    Conversation,
    ConversationState,
    IncompleteError,
    Order,
    PaginationError,
    Response,
)
from alli_async._listing.filters import Filters
from alli_async._listing.page_reader import BadRow, PageReader
from alli_async._listing.pages import decode_conversations
from alli_async._listing.reader import ListReader
from alli_async.export import export
from alli_async.sandbox import Churn, Sandbox
from tests.conftest import ClientFactory
from tests.export.support import chats_by_id
from tests.support import Exchange, ScriptedServer, answer
from tests.support.replies import split
from tests.support.rows import START, RowServer
from tests.support.streams import chats_in, missing, read_chats, read_ids
from tests.support.tiers import one_in

# Each pair of values stands in one row at least.
SWITCHES = [
    {"cursor": cursor, "nulls": nulls, "bounds": bounds, "unit": unit}
    for cursor, nulls, bounds, unit in (
        ("offset", "last", "closed", "ms"),
        ("offset", "first", "open", "s"),
        ("relay", "last", "open", "ms"),
        ("relay", "first", "closed", "s"),
        ("keyset", "last", "closed", "s"),
        ("keyset", "first", "open", "ms"),
        ("opaque", "last", "open", "s"),
        ("opaque", "first", "closed", "ms"),
    )
]
CHANGES = {
    "new chats": Churn(new_chats=3),
    "deleted chats": Churn(new_chats=0, deleted_chats=3),
    "deleted first chats": Churn(new_chats=0, deleted_first_chats=2),
    "deleted conversations": Churn(new_chats=0, deleted_conversations=2),
    "new conversations": Churn(new_chats=5, new_conversations=1),
    "everything": Churn(
        new_chats=2, deleted_chats=1, new_conversations=1, deleted_first_chats=1, deleted_conversations=1
    ),
}


def named(switches: dict[str, Any]) -> str:
    return "-".join(map(str, switches.values()))


# --- in partitions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("switches", SWITCHES, ids=named)
async def test_every_conversation_is_given_once_in_each_mode(
    make_client: ClientFactory, switches: dict[str, Any]
) -> None:
    async with Sandbox(conversations=1200, embed="all", **switches) as sandbox:
        assert sorted(await read_ids(make_client(sandbox))) == sorted(sandbox.conversation_ids())
        assert any("firstChatEndAt" in dict(each.query) for each in sandbox.received)
        # Where cursors prove nothing, everything is read twice.
        assert sandbox.count("listConversations") <= (
            24 + 24 if switches["cursor"] in ("offset", "relay") else 130
        )


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("nulls", ["last", "first"])
@pytest.mark.parametrize("cursor", ["offset", "relay", "keyset", "opaque"])
@pytest.mark.parametrize("ordered", [False, True], ids=["", "ordered"])
async def test_nothing_that_is_there_all_the_time_is_lost_while_the_list_moves(
    make_client: ClientFactory, cursor: Any, nulls: Any, change: str, ordered: bool
) -> None:
    async with Sandbox(conversations=1000, cursor=cursor, nulls=nulls, churn=CHANGES[change]) as sandbox:
        before = chats_in(sandbox)
        found = await read_chats(make_client(sandbox), ordered=ordered)
        assert missing(before, found, sandbox) == {}


@pytest.mark.parametrize("ordered", [False, True], ids=["", "ordered"])
@pytest.mark.parametrize("what", ["chats", "conversations"])
async def test_what_is_deleted_while_an_offset_list_is_walked_hides_no_other_row(
    make_client: ClientFactory, what: str, ordered: bool
) -> None:
    async with Sandbox(conversations=400, embed="all", first_chat_filters="ignored") as sandbox:
        ids = [
            each.id
            async for each in make_client(sandbox).conversations.list(order=Order.FIRST_CHAT_TIME_ASC)
            if each.chat_count
        ]

        def delete() -> None:
            for each in ids[10:14]:
                if what == "conversations":
                    sandbox.delete_conversations(conversation_id=each)
                else:
                    sandbox.delete_chats(1000, each)

        before = chats_in(sandbox)
        sandbox.after_pages(5, delete)
        found = await read_chats(make_client(sandbox), ordered=ordered)
        assert missing(before, found, sandbox) == {}
        assert set(sandbox.conversation_ids()) <= found.keys()


@pytest.mark.slow
@pytest.mark.parametrize("crowd", [64, 128])
@pytest.mark.parametrize(
    "cursor",
    ["offset", "relay", "opaque"],
)
@pytest.mark.parametrize("ordered", [False, True], ids=["", "ordered"])
async def test_rows_of_one_instant_in_another_order_at_each_request_are_all_given_once(
    make_client: ClientFactory, request: pytest.FixtureRequest, cursor: Any, crowd: int, ordered: bool
) -> None:
    async with Sandbox(conversations=900, crowd=crowd, cursor=cursor, ties="shuffled", embed="all") as sandbox:
        assert sorted(await read_ids(make_client(sandbox), ordered=ordered)) == sorted(sandbox.conversation_ids())


@pytest.mark.parametrize("at_once", [30, 120])
@pytest.mark.parametrize("ordered", [False, True], ids=["", "ordered"])
async def test_a_list_of_many_instants_in_another_order_at_each_request_is_given_once(
    make_client: ClientFactory, at_once: int, ordered: bool
) -> None:
    times = [START + number // at_once * 60_000.0 for number in range(900)]
    rows = RowServer(times, cursor="offset:%d", shuffle=random.Random(1))
    async with ScriptedServer(rows) as server:
        stream = make_client(server).conversations.transcripts(raw=True, ordered=ordered, on_error="skip")
        found = [each.id async for each in stream]
        assert sorted(found) == rows.ids
        assert all(isinstance(each.error, IncompleteError) for each in stream.skipped)


async def test_the_order_is_ignored_and_chats_arrive_behind_a_keyset(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=1000, order="ignored", cursor="keyset", churn=Churn(new_chats=3)) as sandbox:
        before = chats_in(sandbox)
        found = await read_chats(make_client(sandbox))
        assert missing(before, found, sandbox) == {}


@pytest.mark.parametrize("cursor", ["offset", "keyset", "opaque"])
@pytest.mark.parametrize("change", ["new chats", "deleted conversations", "new conversations"])
async def test_nothing_is_lost_where_the_order_is_ignored(
    make_client: ClientFactory, cursor: Any, change: str
) -> None:
    async with Sandbox(conversations=500, order="ignored", cursor=cursor, churn=CHANGES[change]) as sandbox:
        before = chats_in(sandbox)
        found = await read_chats(make_client(sandbox))
        assert missing(before, found, sandbox) == {}


@pytest.mark.parametrize(
    "switch", [{"first_chat_filters": "ignored"}, {"first_chat_orders": "refused"}], ids=named
)
@pytest.mark.parametrize("churn", [None, Churn(new_chats=3), Churn(new_chats=0, deleted_conversations=2)])
async def test_where_windows_cannot_be_used_one_cursor_serves(
    make_client: ClientFactory, switch: dict[str, Any], churn: Churn | None
) -> None:
    async with Sandbox(conversations=700, **switch, churn=churn) as sandbox:
        before = chats_in(sandbox)
        found = await read_chats(make_client(sandbox))
        assert missing(before, found, sandbox) == {}


@pytest.mark.parametrize(
    "switch",
    [
        {"ragged": True},
        {"ragged": True, "cursor": "keyset"},
        {"page_cap": 20},
        {"page_cap": 1, "conversations": 120},
        {"filter_numbers": "whole"},
        {"filter_numbers": "seconds", "bounds": "open"},
        {"first_chat_fallback": True},
        {"null_last_chat": 0.2},
        {"heavy_page": 10},
        {"chat_times": "kept", "churn": Churn(new_chats=0, deleted_chats=5)},
    ],
    ids=named,
)
async def test_a_servers_habits_cost_no_conversation(make_client: ClientFactory, switch: dict[str, Any]) -> None:
    async with Sandbox(**{"conversations": 700, **switch}) as sandbox:
        before = chats_in(sandbox)
        found = await read_chats(make_client(sandbox))
        assert missing(before, found, sandbox) == {}
        assert found.keys() <= before.keys()


# Each page asked for makes the list longer; and where those without chats stand first and get some, rows are
# passed over, and one cursor reads once more.
@pytest.mark.slow
@pytest.mark.parametrize("cursor", ["offset", "keyset"])
@pytest.mark.parametrize(
    ("nulls", "switch", "ordered", "most"),
    [
        ("last", {}, False, 9),
        ("first", {}, False, 9),
        ("last", {}, True, 7),
        ("first", {}, True, 18),
        ("last", {"first_chat_filters": "ignored"}, False, 7),
        ("first", {"first_chat_filters": "ignored"}, False, 18),
    ],
)
@pytest.mark.timeout(60)
async def test_reading_ends_although_conversations_begin_all_the_time(
    make_client: ClientFactory, cursor: Any, nulls: Any, switch: dict[str, Any], ordered: bool, most: float
) -> None:
    churn = Churn(new_chats=5, new_conversations=10)
    async with Sandbox(
        conversations=2000, embed="all", churn=churn, cursor=cursor, nulls=nulls, **switch
    ) as sandbox:
        before = sandbox.conversation_ids()
        found = await read_ids(make_client(sandbox), ordered=ordered)
        assert set(before) <= set(found)
        assert len(found) == len(set(found))
        assert sandbox.count("listConversations") <= 40 * most


# --- conversations without chats --------------------------------------------------------------------------


def without_chats(sandbox: Sandbox) -> int:
    return sum(not sandbox.chat_ids(each) for each in sandbox.conversation_ids())


@pytest.mark.slow
@pytest.mark.parametrize(
    "cursor",
    ["offset", "keyset"],
)
@pytest.mark.parametrize("ordered", [False, True], ids=["", "ordered"])
@pytest.mark.parametrize("filters", ["honoured", "ignored"])
async def test_a_first_chat_that_comes_while_the_empty_ones_are_read_at_the_end_hides_no_conversation(
    make_client: ClientFactory, request: pytest.FixtureRequest, cursor: Any, ordered: bool, filters: Any
) -> None:
    moved: list[str] = []

    async def one_moves_up(request: Any, call_next: Any) -> Response:
        response: Response = await call_next(request)
        if request.operation == "listConversations" and not moved and "_DESC" not in request.query:
            rows = json.loads(response.body)["conversations"]
            if len(rows) == 50 and rows[0].get("lastChatTime") is None:
                moved.append(last)
                sandbox.add_chats(1, last)
        return response

    async with Sandbox(conversations=4000, cursor=cursor, embed="all", first_chat_filters=filters) as sandbox:
        assert without_chats(sandbox) > 100
        listed = make_client(sandbox).conversations.list(order=Order.FIRST_CHAT_TIME_ASC)
        last = [each.id async for each in listed][-1]
        client = make_client(sandbox, middlewares=[one_moves_up])
        found = await read_ids(client, ordered=ordered)
        assert moved == [last]
        assert sorted(found) == sorted(sandbox.conversation_ids())


@pytest.mark.parametrize("cursor", ["offset", "keyset", "opaque"])
@pytest.mark.parametrize("nulls", ["last", "first"])
async def test_an_only_chat_that_is_deleted_in_mid_read_hides_no_conversation(
    make_client: ClientFactory, cursor: Any, nulls: Any
) -> None:
    async with Sandbox(conversations=1500, cursor=cursor, nulls=nulls, embed="all") as sandbox:
        some = [each for each in sandbox.conversation_ids() if sandbox.chat_ids(each)][::40]
        for number, each in enumerate(some):
            sandbox.after_pages(number + 5, lambda each=each: sandbox.delete_chats(1000, each))  # type: ignore[misc]
        assert sorted(await read_ids(make_client(sandbox))) == sorted(sandbox.conversation_ids())


CURSORS = [
    ("offset:%d", "nothing"),
    *(("token", each) for each in ("nothing", "refuses", "gives nothing", "starts anew", "goes on as before")),
]


# Each place with each kind of cursor, and each number of empty conversations with both.
@pytest.mark.parametrize(
    ("nulls", "cursor", "changed_filters", "empties"),
    [
        (nulls, *cursor, (0, 7, 120)[(row + column) % 3])
        for row, nulls in enumerate(("last", "first", "smallest", "largest"))
        for column, cursor in enumerate(CURSORS)
    ],
)
async def test_empty_conversations_are_found_wherever_they_stand_and_whatever_cursors_are(
    make_client: ClientFactory, nulls: str, cursor: str, changed_filters: str, empties: int
) -> None:
    draw = random.Random(3)
    times = sorted(START + draw.uniform(0, 1e9) for _ in range(600))
    rows = RowServer(times, changed_filters, empties, nulls, cursor)
    async with ScriptedServer(rows) as server:
        assert sorted(await read_ids(make_client(server))) == rows.ids
        assert any("firstChatEndAt" in query for query in rows.asked)


async def test_a_count_that_is_too_high_loses_no_empty_conversation(make_client: ClientFactory) -> None:
    draw = random.Random(3)
    rows = RowServer(sorted(START + draw.uniform(0, 1e9) for _ in range(1500)), empties=400, cursor="offset:%d")

    # After it was counted, most of the list goes: what is asked for lies beyond its end.
    async def shrinks(request: Any, call_next: Any) -> Response:
        if "cursor=offset%3A1450" in request.query or "cursor=offset%3A1499" in request.query:
            rows.times = rows.times[:600]
        response: Response = await call_next(request)
        return response

    async with ScriptedServer(rows) as server:
        found = await read_ids(make_client(server, middlewares=[shrinks]))
        assert {f"n{number}" for number in range(400)} <= set(found)


# --- filters ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cursor", ["offset", "keyset"])
async def test_filters_on_the_first_chat_are_kept_by_the_outermost_partitions(
    make_client: ClientFactory, cursor: Any
) -> None:
    async with Sandbox(conversations=1000, cursor=cursor) as sandbox:
        api = make_client(sandbox).conversations
        times = sorted([each.created async for each in api.list()])
        spans: tuple[dict[str, Any], ...] = (
            {"first_chat_started_at": times[100]},
            {"first_chat_end_at": times[750]},
            {"first_chat_started_at": times[100], "first_chat_end_at": times[750]},
        )
        for span in spans:
            expected = sorted([each.id async for each in api.list(**span)])
            assert sorted(await read_ids(make_client(sandbox), **span)) == expected
            assert any("firstChatStartedAt" in dict(each.query) for each in sandbox.received)
            assert 200 < len(expected) < 1000


@pytest.mark.parametrize("older", [0.0, 5e8, 5e9])
async def test_bounds_on_first_chats_hold_for_conversations_created_long_before(
    make_client: ClientFactory, older: float
) -> None:
    draw = random.Random(4)
    times = sorted(START + draw.uniform(0, 1e9) for _ in range(1500))
    async with ScriptedServer(RowServer(times, older=older)) as server:
        found = await read_ids(
            make_client(server), first_chat_started_at=times[200], first_chat_end_at=times[1300]
        )
        assert sorted(found) == sorted(f"c{number}" for number in range(200, 1301))


@pytest.mark.parametrize("unit", ["ms", "s"])
async def test_filters_on_the_last_chat_are_read_from_the_top_and_again_from_there(
    make_client: ClientFactory, unit: Any
) -> None:
    async with Sandbox(conversations=700, unit=unit) as quiet:
        client = make_client(quiet)
        api = client.conversations
        times = sorted([each.last_chat async for each in api.list() if each.last_chat is not None])
        span: dict[str, Any] = {"started_at": times[200], "end_at": times[500]}
        expected = {each.id async for each in api.list(**span)}
        assert set(await read_ids(client, **span)) == expected
        as_numbers = {name: moment.timestamp() * (1000 if unit == "ms" else 1) for name, moment in span.items()}
        assert set(await read_ids(client, **as_numbers)) == expected
        found = await read_ids(client, started_at=times[200])
        assert len(found) == len(set(found))
        assert expected < set(found)
    async with Sandbox(conversations=700, unit=unit, churn=Churn(new_chats=3)) as sandbox:
        found = await read_ids(make_client(sandbox), started_at=times[200])
        assert len(found) == len(set(found))
        assert {each for each in expected if each in set(sandbox.conversation_ids())} <= set(found)


@pytest.mark.parametrize("unit", ["ms", "s"])
@pytest.mark.parametrize("cursor", ["offset", "keyset", "opaque"])
@pytest.mark.timeout(60)
async def test_reading_from_the_top_ends_although_something_is_new_each_time_it_looks(
    make_client: ClientFactory, unit: Any, cursor: Any
) -> None:
    churn = Churn(new_chats=5, new_conversations=1)
    async with Sandbox(conversations=500, unit=unit, cursor=cursor, churn=churn) as sandbox:
        before = {each: chats for each, chats in chats_in(sandbox).items() if chats}
        found = await read_chats(make_client(sandbox), started_at=1.0)
        assert missing(before, found, sandbox) == {}
        assert sandbox.count("listConversations") < 60


class Ending:
    """A middleware behind which, at each page of a list, some of the conversations on it end."""

    def __init__(self, other: AlliClient, each: int) -> None:
        self.ended: set[str] = set()
        self._other, self._each, self._draw = other, each, random.Random(1)

    async def __call__(self, request: Any, call_next: Any) -> Response:
        response: Response = await call_next(request)
        if request.operation == "listConversations":
            ids = {each["id"] for each in json.loads(response.body)["conversations"]} - self.ended
            for one in self._draw.sample(sorted(ids), min(self._each, len(ids))):
                self.ended.add(one)
                await self._other.conversations.update(one, state=ConversationState.EB)
        return response


@pytest.mark.slow
@pytest.mark.parametrize("cursor", ["offset", "keyset"])
@pytest.mark.parametrize("nulls", ["last", "first"])
@pytest.mark.parametrize(
    "way",
    [
        "partitions",
        "ordered",
        "by last chat",
        "exported",
    ],
)
async def test_conversations_that_end_while_the_active_ones_are_read_hide_no_others(
    make_client: ClientFactory, request: pytest.FixtureRequest, tmp_path: Path, cursor: Any, nulls: Any, way: str
) -> None:
    async with Sandbox(conversations=1500, embed="all", cursor=cursor, nulls=nulls) as sandbox:
        other = make_client(sandbox)
        active = {each.id: each.last_chat_time async for each in other.conversations.list(active_only=True)}
        ending = Ending(other, 2)
        client = make_client(sandbox, middlewares=[ending])
        if way == "exported":
            await export(client, tmp_path, active_only=True)
            found = list(chats_by_id(tmp_path))
        else:
            filters: dict[str, Any] = {"started_at": 1.0} if way == "by last chat" else {}
            found = await read_ids(client, active_only=True, ordered=way == "ordered", **filters)
        assert len(ending.ended) > 20
        assert len(found) == len(set(found))
        lost = active.keys() - ending.ended - set(found)
        assert {each for each in lost if way != "by last chat" or active[each] is not None} == set()


# --- daily counts -----------------------------------------------------------------------------------------


def spaced(rows: int, *, fraction: bool = False) -> list[float]:
    draw = random.Random(4)
    return sorted(START + draw.uniform(0, 1e10) for _ in range(rows))


@pytest.mark.parametrize(
    "counts",
    [
        answer(200, {"result": {"dailyTotalCount": []}, "errors": None}),
        answer(200, {"result": {"dailyTotalCount": [{"date": "soon", "activeCount": 3}]}, "errors": None}),
        answer(200, {"result": {"dailyTotalCount": [{"date": "2024-01-05", "activeCount": 900}] * 3}}),
        answer(200, b"<html>busy</html>"),
        answer(400, {"error": "a GET has no body"}),
        answer(500),
    ],
    ids=["none", "no date", "one day", "html", "refused", "broken"],
)
async def test_a_long_list_is_asked_for_its_daily_counts_once_which_do_no_harm(
    make_client: ClientFactory, counts: bytes
) -> None:
    rows = RowServer(spaced(1500), cursor="offset:%d")
    found: list[str] = []
    asked = 0

    async def reply(exchange: Exchange) -> None:
        nonlocal asked
        if "daily" in exchange.request.target:
            asked += 1
            await exchange.send(counts)
        else:
            await rows(exchange)

    async def give(rows: list[Conversation]) -> None:
        found.extend(row.id for row in rows)

    def report(bad: BadRow) -> None:
        raise bad.error

    async with ScriptedServer(reply) as server:
        pages: PageReader[Conversation] = PageReader(
            make_client(server).conversations._session, Filters(), decode_conversations
        )
        await ListReader(pages, give, report, worth_asking=500).read(ordered=False)
        assert sorted(found) == rows.ids
        assert asked == 1


async def test_a_short_list_is_not_worth_asking_for_daily_counts(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=1500, embed="all") as sandbox:
        assert len(await read_ids(make_client(sandbox))) == 1500
        assert not sandbox.count("getDailyConversationCount")


# --- crowds, and other odd lists --------------------------------------------------------------------------


def skewed(rows: int) -> list[float]:
    """Nearly all within one minute of a year; a third at one instant."""
    draw = random.Random(7)
    crowd = [START + 2e10 + (0.0 if draw.random() < 0.4 else draw.uniform(0, 60_000)) for _ in range(rows)]
    return sorted([*crowd, *(START + draw.uniform(0, 3e10) for _ in range(rows // 8))])


@pytest.mark.parametrize("changed_filters", one_in(2, ["refuses", "nothing", "starts anew", "gives nothing"]))
async def test_a_crowd_is_read_once_whatever_becomes_of_a_cursor_with_other_filters(
    make_client: ClientFactory, changed_filters: str
) -> None:
    rows = RowServer(skewed(2500), changed_filters)
    async with ScriptedServer(rows) as server:
        assert sorted(await read_ids(make_client(server))) == rows.ids
        assert rows.changed


@pytest.mark.parametrize("switches", SWITCHES, ids=named)
async def test_hundreds_at_one_instant_come_once_in_each_mode(
    make_client: ClientFactory, switches: dict[str, Any]
) -> None:
    async with Sandbox(conversations=1600, crowd=640, embed="all", **switches) as sandbox:
        assert sorted(await read_ids(make_client(sandbox))) == sorted(sandbox.conversation_ids())


async def test_thousands_at_one_instant_cost_few_requests_more_than_a_plain_walk(
    make_client: ClientFactory,
) -> None:
    times = sorted([START] * 3000 + [START + 1e9] * 10 + [START - 1e9] * 200)
    rows = RowServer(times, cursor="offset:%d")
    async with ScriptedServer(rows) as server:
        assert sorted(await read_ids(make_client(server))) == rows.ids
        assert len(server.requests) < 64 * 3


async def test_a_list_of_one_instant_is_walked_plainly(make_client: ClientFactory) -> None:
    rows = RowServer([START] * 400)
    async with ScriptedServer(rows) as server:
        assert sorted(await read_ids(make_client(server))) == rows.ids


async def test_numbers_that_are_no_dates_are_walked_plainly(make_client: ClientFactory) -> None:
    rows = RowServer([float(number) for number in range(400)])
    async with ScriptedServer(rows) as server:
        assert sorted(await read_ids(make_client(server))) == rows.ids
        assert not any("firstChatEnd" in request.target for request in server.requests)


async def test_a_list_whose_first_page_is_empty_is_read(make_client: ClientFactory) -> None:
    rows = RowServer(spaced(400), cursor="offset:%d")

    async def behind_its_cursor(exchange: Exchange) -> None:
        path, query = split(exchange.request)
        if path.endswith("conversations") and query.keys() == {"pageSize", "order"} and "ASC" in query["order"]:
            await exchange.send(answer(200, {"conversations": [], "cursor": "offset:0"}))
        else:
            await rows(exchange)

    async with ScriptedServer(behind_its_cursor) as server:
        assert sorted(await read_ids(make_client(server))) == rows.ids


async def test_a_server_that_refuses_windows_beyond_the_end_is_walked_plainly(make_client: ClientFactory) -> None:
    async def refuses(request: Any, call_next: Any) -> Response:
        if "firstChat" in request.query and "Time" not in request.query:
            return Response(400, {}, b'{"type": "APIError", "code": 7003, "message": "no"}')
        response: Response = await call_next(request)
        return response

    async with Sandbox(conversations=500) as sandbox:
        found = await read_ids(make_client(sandbox, middlewares=[refuses]))
        assert sorted(found) == sorted(sandbox.conversation_ids())


async def test_an_error_that_is_no_refusal_of_the_order_is_raised(make_client: ClientFactory) -> None:
    async def strange(request: Any, call_next: Any) -> Response:
        return Response(409, {}, b'{"type": "APIError", "code": 7999, "message": "no"}')

    async with Sandbox(conversations=5) as sandbox:
        with pytest.raises(BadRequestError, match="no"):
            await read_ids(make_client(sandbox, middlewares=[strange]))


NONSENSE = [1e300, 1.7e18, 253_402_300_800_000.0, -1.0, 0.0]


@pytest.mark.parametrize("value", NONSENSE, ids=["1e300", "nanoseconds", "year 10000", "negative", "zero"])
@pytest.mark.parametrize("place", [0, 700, 1199], ids=["first", "middle", "last"])
async def test_a_time_that_is_nonsense_ends_no_job_and_decides_nothing(
    make_client: ClientFactory, value: float, place: int
) -> None:
    async with Sandbox(conversations=1200, embed="all") as sandbox:
        one = sandbox.conversation_ids()[place]
        sandbox.override(one, {"createdAt": value, "lastChatTime": value})
        client = make_client(sandbox)
        async with asyncio.timeout(30):
            assert sorted(await read_ids(client)) == sorted(sandbox.conversation_ids())
        assert sandbox.count("listConversations") < 100


async def test_a_fractional_bound_is_sent_whole_where_a_server_refuses_fractions(
    make_client: ClientFactory,
) -> None:
    async with Sandbox(conversations=1200, filter_numbers="whole", embed="all") as sandbox:
        assert sorted(await read_ids(make_client(sandbox))) == sorted(sandbox.conversation_ids())
        assert not sandbox.count(status=400)


@pytest.mark.parametrize("ordered", [False, True], ids=["", "ordered"])
async def test_a_list_without_end_is_an_error_soon(make_client: ClientFactory, ordered: bool) -> None:
    async with Sandbox(conversations=300, cursor="endless", embed="all") as sandbox:
        client = make_client(sandbox)
        with pytest.raises((PaginationError, IncompleteError), match=r"does not end|changes faster"):
            await read_ids(client, ordered=ordered)
        assert sandbox.count() < 300


@pytest.mark.parametrize("fault", ["errors", "errors_rows"])
@pytest.mark.parametrize("lasting", [False, True])
async def test_errors_beside_an_empty_list_or_ten_rows_are_errors_and_no_end(
    make_client: ClientFactory, fault: str, lasting: bool
) -> None:
    async with Sandbox(conversations=300, embed="all") as sandbox:
        sandbox.script("listConversations", ["ok", "ok", *[fault] * (40 if lasting else 1)])
        client = make_client(sandbox)
        if lasting:
            with pytest.raises(APIError):
                await read_ids(client)
        else:
            assert sorted(await read_ids(client)) == sorted(sandbox.conversation_ids())


async def test_another_server_with_another_unit_of_time_is_asked_in_its_own(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=300, unit="ms") as one, Sandbox(conversations=300, unit="s", seed=1) as other:
        client = make_client(one)
        times = sorted([each.created async for each in client.conversations.list()])
        span: dict[str, Any] = {"first_chat_started_at": times[50], "first_chat_end_at": times[200]}
        found = await read_ids(client, **span)
        derived = client.with_options(api_key=other.api_key, base_url=other.url)
        assert 100 < len(found) < 200
        assert sorted(await read_ids(derived, **span)) == sorted(found)
        assert sorted([each.id async for each in derived.conversations.list(**span)]) == sorted(found)
        assert sorted(await read_ids(client, **span)) == sorted(found)
