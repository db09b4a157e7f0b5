"""Walks: cursors to the end, and the chats of one conversation."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from alli_async import AlliError, ConfigurationError, IncompleteError, Order, PaginationError, ServerError
from tests.conftest import ClientFactory
from tests.support import Exchange, Received, ScriptedServer, answer, chat, conversation

Reply = Callable[[str, dict[str, str]], bytes]


def replying(reply: Reply) -> Any:
    """An answer for every request, from its path and query."""

    async def send(exchange: Exchange) -> None:
        path, query = split(exchange.request)
        await exchange.send(reply(path, query))

    return send


def split(request: Received) -> tuple[str, dict[str, str]]:
    parts = urlsplit(request.target)
    return parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}


def page(numbers: range, cursor: str | None) -> bytes:
    return answer(200, {"conversations": [conversation(id=f"c{n}") for n in numbers], "cursor": cursor})


def three_pages(path: str, query: dict[str, str]) -> bytes:
    number = int(query.get("cursor", "0"))
    return page(range(number * 2, number * 2 + 2), str(number + 1) if number < 2 else None)


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


@pytest.mark.parametrize("length", [1, 2, 3, 7])
async def test_a_cycle_of_cursors_is_an_error_soon(make_client: ClientFactory, length: int) -> None:
    def reply(path: str, query: dict[str, str]) -> bytes:
        number = int(query.get("cursor", "-2"))
        return page(range(1), str((number + 1) % length if number >= 0 else number + 1))

    async with ScriptedServer(replying(reply)) as server:
        with pytest.raises(PaginationError, match="a cursor came again") as raised:
            [each async for each in make_client(server).conversations.list()]
        assert raised.value.cursor is not None
        assert "GET /webapi/v2/conversations" in str(raised.value)
        assert len(server.requests) <= 4 * length + 8


async def test_pages_that_stay_empty_for_ever_are_an_error(make_client: ClientFactory) -> None:
    def reply(path: str, query: dict[str, str]) -> bytes:
        return page(range(0), str(int(query.get("cursor", "0")) + 1))

    async with ScriptedServer(replying(reply)) as server:
        with pytest.raises(PaginationError, match="1000 empty pages"):
            [each async for each in make_client(server).conversations.list()]


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


# --- chats ------------------------------------------------------------------------------------------------


def chats(total: int, size: int = 100, **changes: Any) -> Reply:
    def reply(path: str, query: dict[str, str]) -> bytes:
        if not path.endswith("/chats"):
            return answer(200, conversation(chatCount=total))
        number = int(query["pageNo"])
        start = (number - 1) * size
        some = [chat(n) for n in range(start, min(start + size, total))]
        return answer(200, {"chats": some, "pageNo": number, "totalCount": total, **changes})

    return reply


@pytest.mark.parametrize(("total", "size"), [(0, 100), (1, 100), (100, 100), (101, 100), (1234, 100), (50, 7)])
async def test_chats_come_in_order_whatever_the_size_of_a_page(
    make_client: ClientFactory, total: int, size: int
) -> None:
    async with ScriptedServer(replying(chats(total, size))) as server:
        conversations = make_client(server).conversations
        assert [each.id async for each in conversations.list_chats("c")] == [f"chat-{n}" for n in range(total)]
        assert len(server.requests) == max(1, -(-total // size))
        found = await conversations.transcript("c")
        assert [each.id for each in found.chats] == [f"chat-{n}" for n in range(total)]
        assert found.id == found.conversation.id
        first = await conversations.list_chats("c")
        assert (first.page_no, first.total_count) == (1, total)


async def test_pages_of_chats_after_the_first_are_fetched_concurrently(make_client: ClientFactory) -> None:
    at_once = peak = 0

    async def slow(exchange: Exchange) -> None:
        nonlocal at_once, peak
        at_once += 1
        peak = max(peak, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        path, query = split(exchange.request)
        await exchange.send(chats(1000)(path, query))

    async with ScriptedServer(slow) as server:
        found = [each async for each in make_client(server).conversations.list_chats("c").pages()]
        assert [each.page_no for each in found] == list(range(1, 11))
        assert peak > 3


async def test_breaking_out_of_chats_leaves_no_task_behind(make_client: ClientFactory) -> None:
    async with ScriptedServer(replying(chats(5000))) as server:
        client = make_client(server)
        before = asyncio.all_tasks()
        async for each in client.conversations.list_chats("c"):
            if each.id == "chat-150":
                break
        async with asyncio.timeout(10):
            while {task for task in asyncio.all_tasks() - before if "ScriptedServer" not in repr(task)}:
                await asyncio.sleep(0.01)
        assert client._connection.throttle.in_flight == 0


async def test_chats_that_are_added_during_the_walk_are_walked_too(make_client: ClientFactory) -> None:
    def reply(path: str, query: dict[str, str]) -> bytes:
        return chats(150 if query["pageNo"] == "1" else 250)(path, query)

    async with ScriptedServer(replying(reply)) as server:
        found = [each.id async for each in make_client(server).conversations.list_chats("c")]
        assert found == [f"chat-{n}" for n in range(250)]


@pytest.mark.parametrize("sizes", [[100, 50, 50, 50], [10] * 9, [1, 99, 1], [50, 0, 50]])
async def test_pages_of_chats_are_walked_until_there_are_as_many_as_they_promise(
    make_client: ClientFactory, sizes: list[int]
) -> None:
    def reply(path: str, query: dict[str, str]) -> bytes:
        number = int(query["pageNo"])
        begin, size = sum(sizes[: number - 1]), (sizes[number - 1 : number] or [0])[0]
        some = [chat(n) for n in range(begin, begin + size)]
        return answer(200, {"chats": some, "pageNo": number, "totalCount": sum(sizes)})

    async with ScriptedServer(replying(reply)) as server:
        found = [each.id async for each in make_client(server).conversations.list_chats("c")]
        # An empty page ends the walk: what promises three million and holds one must not be asked for ever.
        assert found == [f"chat-{n}" for n in range(sum(sizes[: sizes.index(0)] if 0 in sizes else sizes))]


async def test_a_promise_of_millions_does_not_lead_on_through_empty_pages(make_client: ClientFactory) -> None:
    def reply(path: str, query: dict[str, str]) -> bytes:
        some = [chat(0)] if query["pageNo"] == "1" else []
        return answer(200, {"chats": some, "pageNo": int(query["pageNo"]), "totalCount": 3_000_000})

    async with ScriptedServer(replying(reply)) as server:
        assert len([each async for each in make_client(server).conversations.list_chats("c")]) == 1
        assert len(server.requests) < 20


async def test_an_error_on_a_later_page_of_chats_is_raised_in_its_place(make_client: ClientFactory) -> None:
    def reply(path: str, query: dict[str, str]) -> bytes:
        return answer(500) if query["pageNo"] == "3" else chats(500)(path, query)

    async with ScriptedServer(replying(reply)) as server:
        seen = 0
        with pytest.raises(ServerError):
            async for _ in make_client(server).conversations.list_chats("c"):
                seen += 1
        assert seen == 200


async def test_pages_that_do_not_belong_together_are_fetched_again_until_they_do(
    make_client: ClientFactory,
) -> None:
    asked = 0

    def reply(path: str, query: dict[str, str]) -> bytes:
        nonlocal asked
        asked += path.endswith("/chats")
        return chats(250 if asked > 2 else 249)(path, query)

    async with ScriptedServer(replying(reply)) as server:
        found = await make_client(server).conversations.transcript("c")
        assert len(found.chats) == 250
        assert asked == 6


@pytest.mark.parametrize("lie", [{"totalCount": 7}, {"totalCount": 3}, {"chats": [chat(1), chat(1), chat(2)]}])
async def test_chats_that_never_add_up_are_refused(make_client: ClientFactory, lie: dict[str, Any]) -> None:
    reply = chats(5) if "chats" not in lie else chats(3)
    async with ScriptedServer(replying(lambda path, query: _with(reply(path, query), lie))) as server:
        with pytest.raises(IncompleteError, match=re.escape("'c' do not add up")) as raised:
            await make_client(server).conversations.transcript("c")
        assert raised.value.attempts == 4


def _with(response: bytes, changes: dict[str, Any]) -> bytes:
    document = json.loads(response.partition(b"\r\n\r\n")[2])
    return answer(200, {**document, **changes} if "totalCount" in document else document)


async def test_a_transcripts_errors_are_raised_by_themselves(make_client: ClientFactory) -> None:
    async with ScriptedServer(answer(404)) as server:
        with pytest.raises(AlliError) as raised:
            await make_client(server).conversations.transcript("c")
        assert raised.value.outcome == "rejected"
