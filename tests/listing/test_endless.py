"""A stream over a list that does not end is an error, and one over a list that ends gives each row once."""

from __future__ import annotations

from typing import Any

import pytest

from alli_async import PaginationError
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer
from tests.support.endless import ENDING, ENDLESS, Place
from tests.support.replies import replying
from tests.support.servers import fact

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
