"""The public list: the server's pages as they are, and an error where they do not end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from alli_async import (
    AlliError,
    APIError,
    BadRequestError,
    ConfigurationError,
    NotFoundError,
    Order,
    PaginationError,
    RetryPolicy,
    ServerError,
)
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer
from tests.support.endless import ENDING, ENDLESS, Place, page, serving, up_to
from tests.support.replies import replying
from tests.support.servers import fact


def three_pages(path: str, query: dict[str, str]) -> bytes:
    number = int(query.get("cursor", "0"))
    return page(range(number * 2, number * 2 + 2), number + 1 if number < 2 else None)


async def test_a_list_is_walked_by_item_by_page_and_awaited_for_its_first_page(make_client: ClientFactory) -> None:
    async with ScriptedServer(replying(three_pages)) as server:
        pages = make_client(server).conversations.list()
        assert not server.requests
        assert [each.id async for each in pages] == [f"c{n}" for n in range(6)]
        assert [len(each.conversations) async for each in pages.pages()] == [2, 2, 2]
        first = await pages
        assert (first.cursor, len(first.conversations)) == ("1", 2)
        assert json.loads(first.raw)["cursor"] == "1"


async def test_what_is_none_is_not_sent_and_the_rest_is_sent_as_the_wire_wants_it(
    make_client: ClientFactory,
) -> None:
    async with ScriptedServer(page(range(0), None)) as server:
        client = make_client(server)
        await client.conversations.list(user_ids=None, active_only=None, cursor=None, order=None)
        await client.conversations.list(
            user_ids=["a&b", "日本"],
            llm_app_id="app=",
            category_id="c",
            started_at=1704067200123.5,
            end_at=1704067300123,
            first_chat_started_at=1,
            first_chat_end_at=2.25,
            search_term="x y+z",
            variables=["one", "two"],
            active_only=False,
            background_running=True,
            cursor="cur==",
            page_size=7,
            order=Order.FIRST_CHAT_TIME_ASC,
        )
        plain, full = (request.target.partition("?")[2] for request in server.requests)
        assert plain == "pageSize=50"
        assert full.split("&") == [
            "userIds=a%26b",
            "userIds=%E6%97%A5%E6%9C%AC",
            "llmAppId=app%3D",
            "categoryId=c",
            "startedAt=1704067200123.5",
            "endAt=1704067300123",
            "firstChatStartedAt=1",
            "firstChatEndAt=2.25",
            "searchTerm=x%20y%2Bz",
            "variables=one,two",
            "activeOnly=false",
            "backgroundRunning=true",
            "pageSize=7",
            "order=FIRST_CHAT_TIME_ASC",
            "cursor=cur%3D%3D",
        ]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"page_size": 0}, "page_size"),
        ({"page_size": 51}, "page_size"),
        ({"page_size": "5"}, "page_size"),
        ({"order": "NEWEST"}, "order.*FIRST_CHAT_TIME_ASC"),
        ({"cursor": ""}, "cursor"),
        ({"user_ids": "u1"}, "user_ids"),
        ({"user_ids": []}, "user_ids"),
        ({"user_ids": [1]}, "user_ids"),
        ({"user_ids": 7}, "user_ids"),
        ({"llm_app_id": ""}, "llm_app_id"),
        ({"search_term": "\ud800"}, "search_term"),
        ({"variables": ["a,b"]}, "variables"),
        ({"active_only": "yes"}, "active_only"),
        ({"started_at": "2026"}, "started_at"),
        ({"started_at": 5, "end_at": 4}, "started_at"),
    ],
)
async def test_an_argument_that_cannot_be_right_is_refused_before_anything_is_sent(
    make_client: ClientFactory, arguments: dict[str, Any], named: str
) -> None:
    async with ScriptedServer(page(range(0), None)) as server:
        client = make_client(server)
        with pytest.raises(ConfigurationError, match=named):
            client.conversations.list(**arguments)
        if not set(arguments) & {"page_size", "order", "cursor"}:
            with pytest.raises(ConfigurationError, match=named):
                client.conversations.transcripts(**arguments)
        assert not server.requests


async def test_an_unknown_filter_is_a_type_error(make_client: ClientFactory) -> None:
    async with ScriptedServer(page(range(0), None)) as server:
        with pytest.raises(TypeError, match="app_id"):
            make_client(server).conversations.list(app_id="x")  # type: ignore[call-arg]


async def test_an_empty_page_does_not_end_a_list_but_an_empty_cursor_does(make_client: ClientFactory) -> None:
    def reply(path: str, query: dict[str, str]) -> bytes:
        number = int(query.get("cursor", "0"))
        return page(range(0) if number in (0, 1) else range(3), str(number + 1) if number < 2 else "")

    async with ScriptedServer(replying(reply)) as server:
        assert len([each async for each in make_client(server).conversations.list()]) == 3


async def test_an_error_in_mid_walk_carries_the_cursor_to_go_on_from(make_client: ClientFactory) -> None:
    broken = True

    def reply(path: str, query: dict[str, str]) -> bytes:
        return answer(500) if broken and query.get("cursor") == "2" else three_pages(path, query)

    async with ScriptedServer(replying(reply)) as server:
        conversations = make_client(server).conversations
        seen = []
        with pytest.raises(ServerError) as raised:
            async for each in conversations.list():
                seen.append(each.id)
        broken = False
        seen += [each.id async for each in conversations.list(cursor=raised.value.cursor)]
        assert seen == [f"c{n}" for n in range(6)]


# --- lists that do not end --------------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "requests", "why"), ENDLESS)
async def test_a_list_without_end_is_an_error_that_says_so(
    make_client: ClientFactory, place: Place, requests: int, why: str
) -> None:
    async with ScriptedServer(serving(place)) as server:
        seen = []
        with pytest.raises(PaginationError, match=f"the list does not end: {why}") as raised:
            async for each in make_client(server).conversations.list():
                seen.append(each.id)
        assert len(server.requests) <= requests
        assert raised.value.attempts == len(server.requests)
        assert raised.value.outcome == "unknown"
        assert "GET /webapi/v2/conversations" in str(raised.value)


@pytest.mark.parametrize(("place", "rows"), ENDING)
async def test_a_list_ends_where_there_is_no_cursor_and_nowhere_else(
    make_client: ClientFactory, place: Place, rows: int
) -> None:
    async with ScriptedServer(serving(place)) as server:
        assert len([each async for each in make_client(server).conversations.list()]) == rows


# --- cursors that expire ----------------------------------------------------------------------------------

EXPIRED = [
    fact("400 and 7003", answer(400, {"type": "APIError", "code": 7003, "message": "cursor"}), BadRequestError),
    fact("404", answer(404), NotFoundError),
    fact("410", answer(410), BadRequestError),
    fact("an error that calls itself a success", answer(200, {"errors": "cursor expired"}), APIError),
]


@pytest.mark.parametrize(("refusal", "kind"), EXPIRED)
async def test_a_cursor_that_expires_in_mid_walk_is_an_error_with_the_cursor_and_nothing_is_lost_silently(
    make_client: ClientFactory, refusal: bytes, kind: type[AlliError]
) -> None:
    expired = True

    def place(number: int) -> bytes:
        return refusal if expired and number == 3 else page([number], up_to(5, number))

    async with ScriptedServer(serving(place)) as server:
        api = make_client(server).conversations
        seen = []
        with pytest.raises(kind) as raised:
            async for each in api.list():
                seen.append(each.id)
        assert (seen, raised.value.cursor) == (["c0", "c1", "c2"], "3")
        with pytest.raises(kind) as raised:
            [each async for each in api.list(cursor="3")]
        assert raised.value.cursor == "3"
        expired = False
        seen += [each.id async for each in api.list(cursor="3")]
        assert seen == [f"c{n}" for n in range(6)]


async def test_an_error_on_the_first_page_carries_no_cursor(make_client: ClientFactory) -> None:
    async with ScriptedServer(answer(404)) as server:
        with pytest.raises(NotFoundError) as raised:
            await make_client(server).conversations.list()
        assert raised.value.cursor is None


async def test_a_server_that_ignores_its_cursor_is_an_error_soon(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=200, cursor="endless") as sandbox:
        with pytest.raises(PaginationError, match="the same page came again and again"):
            [each async for each in make_client(sandbox).conversations.list()]
        assert sandbox.count() < 20


@pytest.mark.parametrize("fault", ["errors", "errors_rows"])
async def test_errors_beside_the_rows_are_an_error_that_carries_the_cursor(
    make_client: ClientFactory, fault: str
) -> None:
    async with Sandbox(conversations=200) as sandbox:
        sandbox.script("listConversations", ["ok", "ok", *[fault] * 4])
        api = make_client(sandbox).conversations
        seen = []
        with pytest.raises(APIError) as raised:
            async for each in api.list(order=Order.FIRST_CHAT_TIME_ASC):
                seen.append(each.id)
        assert len(seen) == 100
        assert raised.value.cursor
        rest = api.list(order=Order.FIRST_CHAT_TIME_ASC, cursor=raised.value.cursor)
        seen += [each.id async for each in rest]
        assert sorted(seen) == sorted(sandbox.conversation_ids())


@pytest.mark.parametrize(
    "beside", [{"error": "internal"}, {"type": "APIError", "code": 7000, "message": "internal"}]
)
@pytest.mark.parametrize("use", ["list", "stream", "raw"])
async def test_an_error_of_any_form_beside_an_empty_list_is_no_end(
    make_client: ClientFactory, beside: dict[str, Any], use: str
) -> None:
    body = {"conversations": [], "cursor": None, **beside}
    async with ScriptedServer(answer(200, body)) as server:
        api = make_client(server, retry=RetryPolicy(max_attempts=2, base=0.001)).conversations
        walk: Any = api.list() if use == "list" else api.transcripts(raw=use == "raw")
        with pytest.raises(APIError, match="internal"):
            [each async for each in walk]


@pytest.mark.parametrize("mode", [{}, {"ragged": True}, {"page_cap": 7}, {"cursor": "opaque"}])
async def test_pages_are_given_as_the_server_sends_them(make_client: ClientFactory, mode: dict[str, Any]) -> None:
    async with Sandbox(conversations=160, **mode) as sandbox:
        pages = [each async for each in make_client(sandbox).conversations.list().pages()]
        assert len(pages) == sandbox.count()
        assert all(json.loads(each.raw)["cursor"] == each.cursor for each in pages)
        ids = [row["id"] for each in pages for row in json.loads(each.raw)["conversations"]]
        assert ids == [row.id for each in pages for row in each.conversations]
        assert sorted(ids) == sorted(sandbox.conversation_ids())


async def test_a_fractional_filter_is_sent_as_it_was_given(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=20, filter_numbers="whole") as sandbox:
        api = make_client(sandbox).conversations
        with pytest.raises(BadRequestError):
            await api.list(started_at=1704067200123.5)
        assert len((await api.list(started_at=1)).conversations) > 10
