"""Pagination: lists that do not end, cursors that expire, and counts that lie."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from alli_async import AlliError, APIError, BadRequestError, IncompleteError, NotFoundError, PaginationError
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer, chat, conversation
from tests.test_pages import replying

from .servers import fact

# --- conversations ----------------------------------------------------------------------------------------


def page(ids: Any, cursor: int | None) -> bytes:
    rows = [conversation(id=f"c{each}") for each in ids]
    return answer(200, {"conversations": rows, "cursor": None if cursor is None else str(cursor)})


def up_to(last: int, number: int) -> int | None:
    return number + 1 if number < last else None


Place = Callable[[int], bytes]


def serving(place: Place, *, start: int = 0) -> Any:
    """The page at each cursor, where cursors are numbers and the list begins at `start`."""
    return replying(lambda path, query: place(int(query.get("cursor", start))))


AGAIN = "a cursor came again"
ENDLESS = [
    fact("a page that names itself", lambda n: page([n], n), 2, AGAIN),
    fact("a cycle of two", lambda n: page([n], (n + 1) % 2), 8, AGAIN),
    fact("a cycle of three", lambda n: page([n], (n + 1) % 3), 11, AGAIN),
    fact("a cycle of three after ten pages", lambda n: page([n], n + 1 if n < 12 else 10), 40, AGAIN),
    fact("a cycle of a hundred", lambda n: page([n], (n + 1) % 100), 400, AGAIN),
    fact("a cycle of empty pages", lambda n: page([], (n + 1) % 3), 11, AGAIN),
    fact("empty pages for ever", lambda n: page([], n + 1), 1000, "1000 empty pages"),
    fact("ten rows, then no more", lambda n: page([n] if n < 10 else [], n + 1), 1010, "1000 empty pages"),
]


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


NO_CURSOR = answer(200, {"conversations": [conversation()]})
ENDING = [
    fact("null", lambda n: page([n], up_to(4, n)), 5),
    fact("an empty cursor", lambda n: page([n], n + 1) if n < 4 else page([n], 7).replace(b'"7"', b' ""'), 5),
    fact("no cursor", lambda n: page([n], n + 1) if n < 4 else NO_CURSOR, 5),
    fact("an empty page and null", lambda n: page([n] if n < 5 else [], up_to(5, n)), 5),
    fact("nothing at all", lambda n: page([], None), 0),
    fact("null, after an empty page in the middle", lambda n: page([n] if n != 2 else [], up_to(5, n)), 5),
    fact("null, after 999 empty pages", lambda n: page([n] if n in (0, 1000) else [], up_to(1000, n)), 2),
    fact("null, after pages larger than asked for", lambda n: page(range(n * 60, n * 60 + 60), up_to(2, n)), 180),
]


@pytest.mark.parametrize(("place", "rows"), ENDING)
async def test_a_list_ends_where_there_is_no_cursor_and_nowhere_else(
    make_client: ClientFactory, place: Place, rows: int
) -> None:
    async with ScriptedServer(serving(place)) as server:
        assert len([each async for each in make_client(server).conversations.list()]) == rows


# --- streams over them ------------------------------------------------------------------------------------

STREAMS = [
    fact("in any order", {}),
    fact("ordered", {"ordered": True}),
    fact("filtered by the last chat", {"started_at": 1.0}),
    fact("as bytes", {"raw": True}),
]
CHATLESS = answer(200, {"chats": [], "pageNo": 1, "totalCount": 0})


def serving_chats_too(place: Place) -> Any:
    def reply(path: str, query: dict[str, str]) -> bytes:
        return CHATLESS if path.endswith("/chats") else place(int(query.get("cursor", 0)))

    return replying(reply)


def id_of(transcript: Any) -> str:
    return str(getattr(transcript, "id", None) or transcript.conversation.id)


@pytest.mark.parametrize("options", STREAMS)
@pytest.mark.parametrize(("place", "requests", "why"), [row for row in ENDLESS if row.values[1] < 500])
async def test_a_stream_over_a_list_without_end_is_an_error_that_says_so_and_repeats_nothing(
    make_client: ClientFactory, place: Place, requests: int, why: str, options: dict[str, Any]
) -> None:
    async with ScriptedServer(serving_chats_too(place)) as server:
        seen = []
        with pytest.raises(PaginationError, match=f"the list does not end: {why}"):
            async for each in make_client(server).conversations.transcripts(**options):
                seen.append(id_of(each))
        assert len(seen) == len(set(seen))
        # What shows how the server counts, and whether its counts can be trusted, comes on top.
        assert len(server.requests) <= requests + 5


@pytest.mark.parametrize("options", STREAMS)
@pytest.mark.parametrize(("place", "rows"), [row for row in ENDING if "999" not in str(row.id)])
async def test_a_stream_ends_where_there_is_no_cursor_and_nowhere_else(
    make_client: ClientFactory, place: Place, rows: int, options: dict[str, Any]
) -> None:
    async with ScriptedServer(serving_chats_too(place)) as server:
        found = [id_of(each) async for each in make_client(server).conversations.transcripts(**options)]
        assert len(found) == len(set(found)) == rows


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


# --- chats ------------------------------------------------------------------------------------------------


def chats(sizes: list[int], totals: list[int]) -> Any:
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
    async with ScriptedServer(chats(sizes, totals)) as server:
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
    async with ScriptedServer(chats(sizes, totals)) as server:
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
    async with ScriptedServer(chats(sizes, totals)) as server:
        found = [each.id async for each in make_client(server).conversations.list_chats("c")]
        assert found == [f"chat-{n}" for n in range(sum(sizes))]
        assert len(server.requests) == requests
