"""Chats of one conversation: every page, each chat once, proved to be whole or refused."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any
from urllib.parse import quote

import pytest

from alli_async import AlliError, IncompleteError, PaginationError, ServerError
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.support import Exchange, ScriptedServer, answer, chat, conversation
from tests.support.chats import chat_pages
from tests.support.replies import replying, split
from tests.support.servers import fact
from tests.support.streams import chats_in, read_chats
from tests.support.tiers import one_in


@pytest.mark.parametrize(("total", "size"), [(0, 100), (1, 100), (100, 100), (101, 100), (1234, 100), (50, 7)])
async def test_chats_come_in_order_whatever_the_size_of_a_page(
    make_client: ClientFactory, total: int, size: int
) -> None:
    async with ScriptedServer(replying(chat_pages(total, size))) as server:
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
        await exchange.send(chat_pages(1000)(path, query))

    async with ScriptedServer(slow) as server:
        found = [each async for each in make_client(server).conversations.list_chats("c").pages()]
        assert [each.page_no for each in found] == list(range(1, 11))
        assert peak > 3


async def test_breaking_out_of_chats_leaves_no_task_behind(make_client: ClientFactory) -> None:
    async with ScriptedServer(replying(chat_pages(5000))) as server:
        client = make_client(server)
        before = asyncio.all_tasks()
        async for each in client.conversations.list_chats("c"):
            if each.id == "chat-150":
                break
        async with asyncio.timeout(10):
            while {task for task in asyncio.all_tasks() - before if "ScriptedServer" not in repr(task)}:
                await asyncio.sleep(0.01)
        assert client.limits.in_flight == 0


async def test_chats_that_are_added_during_the_walk_are_walked_too(make_client: ClientFactory) -> None:
    def reply(path: str, query: dict[str, str]) -> bytes:
        return chat_pages(150 if query["pageNo"] == "1" else 250)(path, query)

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
        return answer(500) if query["pageNo"] == "3" else chat_pages(500)(path, query)

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
        return chat_pages(250 if asked > 2 else 249)(path, query)

    async with ScriptedServer(replying(reply)) as server:
        found = await make_client(server).conversations.transcript("c")
        assert len(found.chats) == 250
        assert asked == 6


@pytest.mark.parametrize("lie", [{"totalCount": 7}, {"totalCount": 3}, {"chats": [chat(1), chat(1), chat(2)]}])
async def test_chats_that_never_add_up_are_refused(make_client: ClientFactory, lie: dict[str, Any]) -> None:
    reply = chat_pages(5) if "chats" not in lie else chat_pages(3)
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


# --- pages and counts of every kind ---------------------------------------------------------------------


def uneven_pages(sizes: list[int], totals: list[int]) -> Any:
    """Pages of such sizes; each request, in its order of arrival, is told the next of these totals."""
    told = 0

    def reply(path: str, query: dict[str, str]) -> bytes:
        nonlocal told
        if not path.endswith("/chats"):
            return answer(200, conversation(chatCount=sum(sizes)))
        number = int(query["pageNo"])
        start = sum(sizes[: number - 1])
        size = sizes[number - 1] if number <= len(sizes) else 0
        some = [chat(n) for n in range(start, start + size)]
        total = totals[min(told, len(totals) - 1)]
        told += 1
        return answer(200, {"chats": some, "pageNo": number, "totalCount": total})

    return replying(reply)


WHOLE = [
    fact("100 on a page", [100, 100, 50], [250], 3),
    fact("exactly full pages", [100, 100], [200], 2),
    fact("7 on a page", [7] * 14 + [2], [100], 15),
    fact("500 on a page", [500, 120], [620], 2),
    fact("all on one page", [1234], [1234], 1),
    fact("one on a page", [1] * 30, [30], 30),
    fact("none", [0], [0], 1),
    fact("totalCount wrong on the first try", [100, 50], [149, 150, 150, 150], 4),
    fact("totalCount grows while they are fetched", [100, 50], [149, 150, 150], 4),
    fact("totalCount shrinks while they are fetched", [100, 50], [151, 150, 150, 150], 4),
]


@pytest.mark.parametrize(("sizes", "totals", "requests"), WHOLE)
async def test_a_transcript_is_whole_or_fetched_again(
    make_client: ClientFactory, sizes: list[int], totals: list[int], requests: int
) -> None:
    async with ScriptedServer(uneven_pages(sizes, totals)) as server:
        found = await make_client(server).conversations.transcript("c")
        assert [each.id for each in found.chats] == [f"chat-{n}" for n in range(sum(sizes))]
        assert len(server.requests) - 1 == requests


LYING = [
    fact("totalCount is one too many", [100, 50], [151]),
    fact("totalCount is one too few", [100, 50], [149]),
    fact("totalCount is zero", [100, 50], [0]),
    fact("totalCount is negative", [100, 50], [-1]),
    fact("totalCount is three million", [100, 50], [3_000_000]),
    fact("totalCount grows for ever", [100, 50], [*range(150, 1000)]),
    fact("totalCount shrinks for ever", [100, 50], [*range(1000, 150, -1)]),
    fact("an empty first page of many", [0, 100], [100]),
    fact("pages that get smaller", [100, 50, 50, 50], [250]),
]


@pytest.mark.parametrize(("sizes", "totals"), LYING)
async def test_chats_that_never_add_up_are_refused_and_not_given_for_the_whole(
    make_client: ClientFactory, sizes: list[int], totals: list[int]
) -> None:
    async with ScriptedServer(uneven_pages(sizes, totals)) as server:
        with pytest.raises(IncompleteError, match="'c' do not add up") as raised:
            async with asyncio.timeout(30):
                await make_client(server).conversations.transcript("c")
        assert raised.value.attempts == 4
        assert raised.value.outcome == "unknown"


def busy(added: int, deleted: int) -> Any:
    """A conversation of 250 chats, to which so many are added at each look at it, and so many old ones deleted."""
    numbers = list(range(250))

    def reply(path: str, query: dict[str, str]) -> bytes:
        if not path.endswith("/chats"):
            return answer(200, conversation(chatCount=len(numbers)))
        start = 100 * (int(query["pageNo"]) - 1)
        page = {"chats": [chat(n) for n in numbers[start : start + 100]], "pageNo": 1, "totalCount": len(numbers)}
        numbers.extend(range(numbers[-1] + 1, numbers[-1] + 1 + added))
        del numbers[:deleted]
        return answer(200, page)

    return replying(reply)


@pytest.mark.parametrize("added", [1, 3, 10])
async def test_a_transcript_is_whole_although_a_chat_is_added_at_each_look(
    make_client: ClientFactory, added: int
) -> None:
    async with ScriptedServer(busy(added, 0)) as server:
        found = await make_client(server).conversations.transcript("c")
        assert len(found.chats) > 250
        assert [each.id for each in found.chats] == [f"chat-{n}" for n in range(len(found.chats))]
        assert len(server.requests) <= 1 + 3 + 4


@pytest.mark.parametrize(("added", "deleted"), [(0, 1), (2, 1), (3, 1), (3, 2)])
async def test_no_transcript_with_a_gap_is_given_while_chats_are_added_and_deleted(
    make_client: ClientFactory, added: int, deleted: int
) -> None:
    async with ScriptedServer(busy(added, deleted)) as server:
        with pytest.raises(IncompleteError, match="'c' do not add up"):
            await make_client(server).conversations.transcript("c")


@pytest.mark.parametrize(("sizes", "totals", "requests"), [row for row in WHOLE if len(row.values[1]) == 1])
async def test_chats_are_listed_in_order_whatever_the_size_of_a_page(
    make_client: ClientFactory, sizes: list[int], totals: list[int], requests: int
) -> None:
    async with ScriptedServer(uneven_pages(sizes, totals)) as server:
        found = [each.id async for each in make_client(server).conversations.list_chats("c")]
        assert found == [f"chat-{n}" for n in range(sum(sizes))]
        assert len(server.requests) == requests


# --- what a server does to its pages ----------------------------------------------------------------------


async def test_a_server_that_ignores_page_numbers_gives_no_transcript_and_no_endless_list(
    make_client: ClientFactory,
) -> None:
    async with Sandbox(conversations=200, page_no="ignored") as sandbox:
        api = make_client(sandbox).conversations
        long = max(sandbox.conversation_ids(), key=lambda each: len(sandbox.chat_ids(each)))
        assert len(sandbox.chat_ids(long)) > 100
        with pytest.raises(PaginationError, match="the first one again") as raised:
            [each async for each in api.list_chats(long)]
        assert raised.value.request == f"GET /webapi/v2/conversations/{quote(long, safe='')}/chats"
        assert raised.value.attempts >= 2
        assert raised.value.elapsed > 0
        with pytest.raises(IncompleteError, match="do not add up"):
            await api.transcript(long)
        assert sandbox.count() < 60


async def test_chats_that_lag_behind_the_conversation_are_joined_from_it(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=200, chat_lag=2) as sandbox:
        api = make_client(sandbox).conversations
        for each in sandbox.conversation_ids()[:40]:
            found = await api.transcript(each)
            assert [one.id for one in found.chats] == sandbox.chat_ids(each)


@pytest.mark.parametrize("raw", [False, True], ids=["structs", "raw"])
@pytest.mark.parametrize("embed", one_in(2, [20, "all", 5]))
async def test_a_stream_whose_chat_pages_lag_lacks_no_chat_that_the_list_showed(
    make_client: ClientFactory, embed: Any, raw: bool
) -> None:
    async with Sandbox(conversations=200, chat_lag=2, embed=embed) as sandbox:
        assert await read_chats(make_client(sandbox), raw=raw) == chats_in(sandbox)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_page_that_says_once_that_there_are_no_chats_is_not_believed(
    make_client: ClientFactory, times: int
) -> None:
    async with Sandbox(conversations=120) as sandbox:
        api = make_client(sandbox).conversations
        one = next(each for each in sandbox.conversation_ids() if len(sandbox.chat_ids(each)) > 30)
        sandbox.script("listConversationChats", ["empty_chats"] * times)
        assert [each.id for each in (await api.transcript(one)).chats] == sandbox.chat_ids(one)
        sandbox.script("listConversationChats", ["empty_chats"] * times)
        assert await read_chats(make_client(sandbox)) == chats_in(sandbox)


async def test_a_chat_that_is_on_two_pages_comes_once_and_the_last_come_too(
    make_client: ClientFactory,
) -> None:
    # Seven chats came in before the cut of each page: it begins with the last seven of the page before.
    def reply(path: str, query: dict[str, str]) -> bytes:
        number = int(query["pageNo"])
        rows = [chat(n) for n in range(max(0, (number - 1) * 100 - 7 * (number - 1)), min(250, number * 93 + 7))]
        return answer(200, {"chats": rows, "pageNo": number, "totalCount": 250})

    async with ScriptedServer(replying(reply)) as server:
        found = [each.id async for each in make_client(server).conversations.list_chats("c")]
    assert found == [chat(n)["id"] for n in range(250)]


async def test_a_total_that_is_too_small_once_ends_no_walk(make_client: ClientFactory) -> None:
    def reply(path: str, query: dict[str, str]) -> bytes:
        number = int(query["pageNo"])
        rows = [chat(n) for n in range((number - 1) * 100, min(250, number * 100))]
        return answer(200, {"chats": rows, "pageNo": number, "totalCount": 0 if number == 1 else 250})

    async with ScriptedServer(replying(reply)) as server:
        found = [each.id async for each in make_client(server).conversations.list_chats("c")]
    assert found == [chat(n)["id"] for n in range(250)]
