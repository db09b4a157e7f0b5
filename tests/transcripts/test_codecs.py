"""The two forms of a transcript: structs, and the bytes that the server sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from alli_async import AlliError
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer, chat
from tests.support.chats import embedded


async def test_raw_is_what_the_server_sent_but_for_the_chats(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=150) as sandbox:
        client = make_client(sandbox)
        sent = {}
        async for page in client.conversations.list(order="FIRST_CHAT_TIME_ASC").pages():
            for each in json.loads(page.raw)["conversations"]:
                sent[each["id"]] = each
        chats: dict[str, list[Any]] = {}
        for each in sent:
            pages = [json.loads(page.raw)["chats"] async for page in client.conversations.list_chats(each).pages()]
            chats[each] = [one for page in pages for one in page]
        async for each in client.conversations.transcripts(raw=True):
            assert json.loads(each.json) == {**sent[each.id], "chats": chats[each.id]}
            assert list(json.loads(each.json)) == list(sent[each.id])
            assert each.chat_count == len(chats[each.id])
            assert b"\n" not in each.json


async def test_raw_keeps_numbers_and_escapes_to_the_letter_and_holds_no_newline(
    make_client: ClientFactory,
) -> None:
    body = b"""{"conversations": [
      {"id": "c0", "title": "\\u00e9\\/ \\n", "createdAt": 1704067200123.4500, "isEnd": false,
       "big": 123456789012345678901234567890, "chats": [{"id":"a","timestamp":2}, {"id":"b","timestamp":1}],
       "chatCount": 2}
    ], "cursor": null}"""
    pages = b'{"pageNo": 1, "chats": [\r\n {"id":"b","timestamp":1.50},{"id":"a","timestamp":2}], "totalCount": 2}'

    one = b'{"id": "c0", "title": "", "createdAt": 1704067200123, "chats": [], "chatCount": 2}'

    async def send(exchange: Any) -> None:
        target = exchange.request.target
        await exchange.send(answer(200, pages if "/chats" in target else one if target.endswith("/c0") else body))

    async with ScriptedServer(send) as served:
        (found,) = [each async for each in make_client(served).conversations.transcripts(raw=True)]
        assert b"\n" not in found.json
        assert b"\r" not in found.json
        assert b'"\\u00e9\\/ \\n"' in found.json
        assert b"1704067200123.4500" in found.json
        assert b"123456789012345678901234567890" in found.json
        assert b'{"id":"b","timestamp":1.50},{"id":"a","timestamp":2}' in found.json


async def test_a_lone_surrogate_in_one_message_does_not_cost_its_page(make_client: ClientFactory) -> None:
    conversations = [embedded(n, 1) for n in range(5)]
    conversations[2]["chats"] = [chat(0, message="@")]
    body = json.dumps({"conversations": conversations, "cursor": None}).replace('"@"', r'"a\ud800b"').encode()

    async def send(exchange: Any) -> None:
        number = exchange.request.target.rpartition("/c")[2]
        if "/chats" in exchange.request.target:
            await exchange.send(answer(200, {"chats": [chat(0)], "pageNo": 1, "totalCount": 1}))
        elif number.isdigit():
            await exchange.send(answer(200, conversations[int(number)]))
        else:
            await exchange.send(answer(200, body))

    async with ScriptedServer(send) as served:
        api = make_client(served).conversations
        found = {each.id: each.conversation.chats[0].message async for each in api.transcripts()}
        assert found["c2"] == "a�b"
        assert len(found) == 5
        assert len([each async for each in api.transcripts(raw=True)]) == 5


async def test_a_page_that_is_not_what_the_contract_says_names_the_record(make_client: ClientFactory) -> None:
    conversations = [embedded(n, 1) for n in range(5)]
    conversations[3]["chats"][0]["timestamp"] = "noon"
    async with ScriptedServer(answer(200, {"conversations": conversations, "cursor": None})) as served:
        with pytest.raises(AlliError, match=r"\$\.conversations\[\d\]\.chats\[0\]\.timestamp"):
            async for _ in make_client(served).conversations.transcripts(raw=True):
                pass
