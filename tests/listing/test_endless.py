"""A stream over a list that does not end is an error, and one over a list that ends gives each row once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from alli_async import PaginationError
from tests.conformance.servers import fact
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer, conversation
from tests.support.replies import list_page, replying


def page(numbers: Any, cursor: object) -> bytes:
    return list_page([f"c{n}" for n in numbers], cursor)


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
        with pytest.raises(PaginationError, match="the list does not end"):
            async for each in make_client(server).conversations.transcripts(**options):
                seen.append(id_of(each))
        assert len(seen) == len(set(seen))
        # What the survey asks, and what proves that conversations have no chats, comes on top.
        assert len(server.requests) <= 1.5 * requests + 10


@pytest.mark.parametrize("options", STREAMS)
@pytest.mark.parametrize(("place", "rows"), [row for row in ENDING if "999" not in str(row.id)])
async def test_a_stream_ends_where_there_is_no_cursor_and_nowhere_else(
    make_client: ClientFactory, place: Place, rows: int, options: dict[str, Any]
) -> None:
    async with ScriptedServer(serving_chats_too(place)) as server:
        found = [id_of(each) async for each in make_client(server).conversations.transcripts(**options)]
        assert len(found) == len(set(found)) == rows
