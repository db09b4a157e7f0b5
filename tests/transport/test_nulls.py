"""Nulls where the contract has none."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from alli_async import Conversation, DecodeError, FolderInfo, IncompleteError, Transcript
from alli_async._transport import wire
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer, chat, conversation
from tests.support.replies import replying

NULLS = {
    "title": ("title", ""),
    "createdAt": ("created_at", 0),
    "isEnd": ("is_end", False),
    "chats": ("chats", []),
    "chatCount": ("chat_count", -1),
}


@pytest.mark.parametrize("field", NULLS)
async def test_a_null_field_costs_no_page_and_no_conversation(make_client: ClientFactory, field: str) -> None:
    name, stand_in = NULLS[field]
    with Sandbox(conversations=70) as sandbox:
        ids = sandbox.conversation_ids()
        sandbox.override(ids[60], {field: None})
        api = make_client(sandbox).conversations
        found = {each.id: each async for each in api.list()}
        assert getattr(found[ids[60]], name) == getattr(await api.get(ids[60]), name) == stand_in
        whole = {each.id: [chat.id for chat in each.chats] async for each in api.transcripts()}
        raw = {each.id: json.loads(each.json) async for each in api.transcripts(raw=True)}
        wanted = {each: sandbox.chat_ids(each) for each in ids}
    assert found.keys() == set(ids)
    assert whole == {each: [chat["id"] for chat in raw[each]["chats"]] for each in ids} == wanted
    assert field == "chats" or raw[ids[60]][field] is None


async def test_nulls_inside_of_chats_cost_nothing_either(make_client: ClientFactory) -> None:
    nulls = {"sender": None, "message": None, "timestamp": None, "citations": [{"clueId": None, "title": "t"}]}
    body = {"chats": [chat(1, **nulls, source={"searchAllSharedDocument": None}), chat(2)]}
    async with ScriptedServer(answer(200, {**body, "pageNo": 1, "totalCount": 2})) as server:
        first, second = (await make_client(server).conversations.list_chats("a")).chats
    assert (first.sender, first.message, first.timestamp) == ("", "", 0)
    assert first.citations is not None
    assert (first.citations[0].clue_id, first.citations[0].title) == ("", "t")
    assert first.source is not None
    assert first.source.search_all_shared_document is False
    assert second.message == "message 2"


async def test_nulls_in_what_belongs_to_a_conversation_cost_nothing_either(make_client: ClientFactory) -> None:
    app = {"id": None, "name": None, "type": None, "creatorEmail": None}
    row = conversation(id="a", llmApp=app, chats=[chat(1)], chatCount=1)
    body = {"conversations": [row, conversation(id="b")], "cursor": None}
    async with ScriptedServer(answer(200, body)) as server:
        first, second = (await make_client(server).conversations.list()).conversations
    assert first.llm_app is not None
    assert (first.llm_app.id, first.llm_app.name) == ("", "")
    assert second.id == "b"


async def test_a_title_that_was_set_to_null_is_an_empty_one(make_client: ClientFactory) -> None:
    body = msgspec.json.encode(conversation(title=None))
    async with ScriptedServer(answer(200, body)) as server:
        found = await make_client(server).conversations.update("a", title=None)
    assert (found.title, found.raw) == ("", body)


def page(**changes: Any) -> dict[str, Any]:
    return {"conversations": [conversation(chats=[chat(1)])], "cursor": None, **changes}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (page(conversations=None), "$.conversations"),
        (page(conversations=[None]), "$.conversations[0]"),
        (page(conversations=[conversation(id=None)]), "$.conversations[0].id"),
        (
            page(conversations=[conversation(title=None, chats=[chat(1, id=None)])]),
            "$.conversations[0].chats[0].id",
        ),
    ],
)
async def test_a_null_that_could_hide_rows_is_an_error(make_client: ClientFactory, body: Any, path: str) -> None:
    async with ScriptedServer(answer(200, body)) as server:
        with pytest.raises(DecodeError) as raised:
            await make_client(server).conversations.list()
    assert raised.value.path.startswith("$.conversations")
    assert raised.value.path in (path, "$.conversations[0].title")


async def test_a_page_with_null_in_place_of_its_chats_is_an_error(make_client: ClientFactory) -> None:
    async with ScriptedServer(answer(200, {"pageNo": 1, "chats": None, "totalCount": 0})) as server:
        with pytest.raises(DecodeError):
            await make_client(server).conversations.list_chats("a")


# --- nulls among the items of a list ----------------------------------------------------------------------


async def test_nulls_among_the_items_of_lists_are_left_out(make_client: ClientFactory) -> None:
    source = {"folderIds": [None, "f"], "sharedFolders": [None, {"id": "s", "name": None}]}
    full = chat(1, citations=[None, {"clueId": "k"}, None], source=source)
    row = conversation(id="a", categories=[None, "c"], chats=[None, full], chatCount=2, variables={"v": [None]})
    body = {"conversations": [row, conversation(id="b")], "cursor": None}
    async with ScriptedServer(answer(200, body), answer(200, row)) as server:
        api = make_client(server).conversations
        first, second = (await api.list()).conversations
        assert await api.get("a") == first
    assert (first.categories, first.variables, first.chat_count) == (["c"], {"v": [None]}, 2)
    (read,) = first.chats
    assert read.citations is not None
    assert [each.clue_id for each in read.citations] == ["k"]
    assert read.source is not None
    assert read.source.folder_ids == ["f"]
    assert read.source.shared_folders == [FolderInfo(id="s", name="")]
    assert second.id == "b"


@pytest.mark.parametrize("raw", [False, True])
async def test_nulls_among_embedded_chats_cost_no_chat(make_client: ClientFactory, raw: bool) -> None:
    with Sandbox(conversations=30) as sandbox:
        ids = sandbox.conversation_ids()
        few, others = [each for each in ids if 1 < len(sandbox.chat_ids(each)) <= 20][:2]
        api = make_client(sandbox).conversations
        shown = json.loads((await api.get(few)).raw)["chats"]
        sandbox.override(few, {"chats": [None, *shown[1:]]})
        shown = json.loads((await api.get(others)).raw)["chats"]
        sandbox.override(others, {"chats": [shown[0], None, *shown[1:], None]})
        rows = [json.loads(each.to_json() if isinstance(each, Transcript) else each.json)
                async for each in api.transcripts(raw=raw)]  # fmt: skip
        wanted = {each: sandbox.chat_ids(each) for each in ids}
    rows = [{**row["conversation"], **row} if "conversation" in row else row for row in rows]
    assert {row["id"]: [each["id"] for each in row["chats"]] for row in rows} == wanted


async def test_a_null_chat_that_the_total_count_counts_makes_a_transcript_incomplete(
    make_client: ClientFactory,
) -> None:
    page = {"chats": [None, chat(1)], "pageNo": 1, "totalCount": 2}
    empty = {"chats": [], "pageNo": 2, "totalCount": 2}
    async with ScriptedServer(answer(200, page), answer(200, empty)) as server:
        assert [each.message async for each in make_client(server).conversations.list_chats("a")] == ["message 1"]
    row = conversation(id="a", chats=[], chatCount=2)

    def reply(path: str, query: dict[str, str]) -> bytes:
        return answer(200, page if path.endswith("/chats") else row)

    async with ScriptedServer(replying(reply)) as server:
        with pytest.raises(IncompleteError):
            await make_client(server).conversations.transcript("a")


async def test_pages_without_a_total_count_are_walked_to_an_empty_one(make_client: ClientFactory) -> None:
    bodies = [{"chats": chats, "pageNo": None, "totalCount": None} for chats in ([chat(1)], [chat(2)], [])]
    async with ScriptedServer(*(answer(200, body) for body in bodies)) as server:
        found = [each.message async for each in make_client(server).conversations.list_chats("a")]
    assert found == ["message 1", "message 2"]


async def test_feedback_that_was_taken_is_no_error_for_the_nulls_in_its_answer(make_client: ClientFactory) -> None:
    async with ScriptedServer(answer(200, {"conversationId": None, "chatId": None, "rating": True})) as server:
        found = await make_client(server).conversations.send_feedback("a", "b", rating=True)
    assert (found.conversation_id, found.chat_id, found.rating) == ("", "", True)


def test_variables_keep_their_nulls() -> None:
    body = msgspec.json.encode(conversation(title=None, variables={"title": None, "chats": [None]}))
    found = wire.decoder(Conversation)(body)
    assert (found.title, found.variables) == ("", {"title": None, "chats": [None]})
