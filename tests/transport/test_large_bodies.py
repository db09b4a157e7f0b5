"""Large answers are decoded row by row, with turns of the event loop in between. Turns are counted, not timed."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from alli_async import APIError, DecodeError
from alli_async._aio.turns import Turns
from alli_async._listing.pages import decode_conversations
from alli_async._transcripts.chats import decode_chats
from alli_async._transcripts.codec import RAW_CODEC
from alli_async._transport.decoding import RowDecoder, decoder_for
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer, chat, conversation

LARGE = "x" * 40_000
ROWS = [conversation(id=f"c{number}", chats=[chat(number, message=LARGE)], chatCount=1) for number in range(50)]
LIST = msgspec.json.encode({"conversations": ROWS, "cursor": "next", "unknown": 1})
CHATS = {"chats": [chat(number, message=LARGE) for number in range(100)], "pageNo": 1, "totalCount": 100}
DECODERS: dict[str, tuple[RowDecoder[Any], bytes]] = {
    "a list": (decode_conversations, LIST),
    "a list, raw": (RAW_CODEC.list_page, LIST),
    "chats": (decode_chats, msgspec.json.encode(CHATS)),
}


@pytest.mark.parametrize("name", DECODERS)
async def test_a_body_decoded_in_turns_is_the_same_as_one_decoded_at_once(name: str) -> None:
    decode, body = DECODERS[name]
    found = await decode.in_turns(body, Turns())
    assert found == decode(body)
    assert getattr(found, "raw", None) == getattr(decode(body), "raw", None)


@pytest.mark.parametrize("name", DECODERS)
async def test_other_tasks_get_turns_while_a_large_body_is_decoded(name: str) -> None:
    decode, body = DECODERS[name]
    turn = 0

    async def other() -> None:
        nonlocal turn
        while True:
            await asyncio.sleep(0)
            turn += 1

    task = asyncio.create_task(other())
    await asyncio.sleep(0)
    before = turn
    found = (await decoder_for(decode, body))(body)
    assert turn - before >= len(body) // 200_000
    assert found == decode(body)
    task.cancel()


def wrong(**changes: Any) -> bytes:
    """A page of a list whose fourth row has changes, and so cannot be decoded."""
    rows = [*ROWS[:3], {**ROWS[3], **changes}, *ROWS[4:]]
    return msgspec.json.encode({"conversations": rows, "cursor": None})


async def test_a_row_of_a_large_body_that_cannot_be_decoded_is_named(make_client: ClientFactory) -> None:
    async with ScriptedServer(answer(200, wrong(title=7))) as server:
        with pytest.raises(DecodeError) as raised:
            await make_client(server).conversations.list()
    assert raised.value.path == "$.conversations[3].title"


async def test_an_error_beside_the_rows_of_a_large_body_is_an_error(make_client: ClientFactory) -> None:
    body = msgspec.json.encode({"conversations": ROWS, "cursor": None, "errors": "a shard is down"})
    async with ScriptedServer(answer(200, body)) as server:
        with pytest.raises(APIError, match="a shard is down"):
            await make_client(server).conversations.list()


async def test_a_lone_surrogate_in_a_large_body_is_repaired(make_client: ClientFactory) -> None:
    body = LIST.replace(LARGE[:3].encode(), rb"\ud800", 1)
    async with ScriptedServer(answer(200, body)) as server:
        page = await make_client(server).conversations.list()
    assert "\ufffd" in page.conversations[0].chats[0].message
    assert page.raw == body


@pytest.mark.parametrize("raw", [False, True])
async def test_a_stream_over_large_pages_is_whole(make_client: ClientFactory, raw: bool) -> None:
    page = answer(200, {"conversations": ROWS, "cursor": None})

    async def serve(exchange: Any) -> None:
        await exchange.send(
            page if "/chats" not in exchange.request.target else chat_page(exchange.request.target)
        )

    def chat_page(target: str) -> bytes:
        number = int(target.split("/c", 2)[2].split("/")[0])
        return answer(200, {"chats": [chat(number, message=LARGE)], "pageNo": 1, "totalCount": 1})

    async with ScriptedServer(serve) as server:
        stream: Any = make_client(server).conversations.transcripts(raw=raw)
        assert sorted([each.id async for each in stream]) == sorted(row["id"] for row in ROWS)
