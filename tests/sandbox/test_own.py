"""Conversations of one's own in the sandbox, and answers scripted for one id."""

from __future__ import annotations

import json
from typing import Any

import pytest

from alli_async import APIError, Chat, NotFoundError, Order
from alli_async.export import export
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.support.examples import FULL, WIRE

CHATS = ["Where is my order?", "On its way.", "Thanks!"]


async def test_a_conversation_of_ones_own_is_served_by_every_operation(make_client: ClientFactory) -> None:
    with Sandbox(conversations=60) as sandbox:
        id_ = sandbox.put({"id": "order/1", "title": "Orders", "user": {"user_id": "u-1"}}, chats=CHATS)
        api = make_client(sandbox).conversations
        found = await api.get(id_)
        assert (id_, found.id, found.title) == ("order/1", "order/1", "Orders")
        assert found.user is not None
        assert (found.user.user_id, found.chat_count) == ("u-1", 3)
        assert [chat.message for chat in found.chats] == CHATS
        assert [chat.sender for chat in found.chats] == ["USER", "BOT", "USER"]
        assert [each.id async for each in api.list(user_ids=["u-1"])] == [id_]
        assert [each.id async for each in api.list(search_term="orders")] == [id_]
        assert (await api.list(order=Order.LAST_CHAT_TIME_DESC)).conversations[0] == found
        assert (await api.transcript(id_)).chats == found.chats
        streamed = {each.id: each async for each in api.transcripts()}
        assert len(streamed) == 61
        assert streamed[id_].chats == found.chats
        assert (await api.set_title(id_, "New")).title == "New"
        await api.send_feedback(id_, found.chats[1].id, rating=True)
        await api.delete_chat(id_, found.chats[0].id)
        assert [chat.message async for chat in api.list_chats(id_)] == CHATS[1:]
        assert [chat.rating async for chat in api.list_chats(id_)] == [True, None]


async def test_a_model_or_a_dict_of_the_wire_comes_back_as_it_was_put(make_client: ClientFactory) -> None:
    with Sandbox(conversations=0) as sandbox:
        api = make_client(sandbox).conversations
        sandbox.put(FULL)
        assert await api.get(FULL.id) == FULL
        sandbox.put({**WIRE, "id": "wire", "new": [1]}, chats=FULL.chats)
        found = await api.get("wire")
        assert found.chats == FULL.chats
        assert found.variables == FULL.variables
        assert json.loads(found.raw)["new"] == [1]
        assert sandbox.chat_ids("wire") == [chat.id for chat in FULL.chats]


async def test_what_is_left_out_has_a_default_and_ids_are_given(make_client: ClientFactory) -> None:
    with Sandbox(conversations=3) as sandbox:
        api = make_client(sandbox).conversations
        one, other = sandbox.put({}), sandbox.put({}, chats=[{"message": "hi"}])
        assert len({one, other, *sandbox.conversation_ids()}) == 5
        empty, short = await api.get(one), await api.get(other)
        assert (empty.title, empty.user, empty.chats, empty.last_chat_time) == ("", None, [], None)
        assert short.last_chat_time == short.created_at == short.chats[0].timestamp
        assert short.created_at > empty.created_at


async def test_chats_are_in_the_order_of_their_times_and_later_ones_follow(make_client: ClientFactory) -> None:
    late = Chat(id="late", sender="BOT", message="b", timestamp=1_900_000_000_000)
    early = {"id": "early", "sender": "USER", "message": "a", "timestamp": 1_800_000_000_000.5}
    with Sandbox(conversations=0) as sandbox:
        id_ = sandbox.put({"created_at": 1_800_000_000_000}, chats=[late, early])
        (added,) = sandbox.add_chats(1, id_)
        api = make_client(sandbox).conversations
        chats = [chat async for chat in api.list_chats(id_)]
        assert [chat.id for chat in chats] == ["early", "late", added]
        assert chats[2].timestamp > late.timestamp
        assert [chat.message for chat in chats[:2]] == ["a", "b"]


async def test_one_with_the_same_id_is_replaced_and_a_generated_one_too(make_client: ClientFactory) -> None:
    with Sandbox(conversations=5) as sandbox:
        generated = sandbox.conversation_ids()[2]
        api = make_client(sandbox).conversations
        await api.list()  # the orders of lists are made before the change
        for number in range(3):
            for id_ in ("mine", generated):
                sandbox.put({"id": id_, "title": f"version {number}"}, chats=["a"] * (number + 1))
        found = {each.id: each async for each in api.list()}
        assert len(found) == 6
        for id_ in ("mine", generated):
            assert (found[id_].title, found[id_].chat_count) == ("version 2", 3)
        sandbox.delete_conversations(conversation_id="mine")
        with pytest.raises(NotFoundError):
            await api.get("mine")
        assert len([each async for each in api.list()]) == 5


async def test_they_are_exported(make_client: ClientFactory, tmp_path: Any) -> None:
    with Sandbox(conversations=10) as sandbox:
        sandbox.put({"id": "mine"}, chats=[f"text {number}" for number in range(250)])
        report = await export(make_client(sandbox), tmp_path / "all.jsonl")
        lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_bytes().splitlines()]
    assert report.conversations == 11
    (mine,) = [line for line in lines if line["id"] == "mine"]
    assert [chat["message"] for chat in mine["chats"]] == [f"text {number}" for number in range(250)]


async def test_options_hold_for_them_too(make_client: ClientFactory) -> None:
    with Sandbox(conversations=0, chat_count="user", embed=2, embed_abridged=3, unit="s") as sandbox:
        id_ = sandbox.put({"createdAt": 1_800_000_000}, chats=["first", "second", "third", "fourth", "fifth"])
        found = await make_client(sandbox).conversations.get(id_)
    assert (found.chat_count, [chat.message for chat in found.chats]) == (3, ["fou", "fif"])
    assert [chat.timestamp for chat in found.chats] == [1_800_000_003, 1_800_000_004]


@pytest.mark.parametrize(
    ("conversation", "chats", "message"),
    [
        ({"title": 7}, None, "conversation: Expected `str`, got `int` - at `$.title`"),
        ({}, [{"message": 7}], r"at `$.chats\[0\].message`"),
        ({}, [{"timestamp": "now"}], r"at `$.chats\[0\].timestamp`"),
        ({"id": ""}, None, "ids that are not empty"),
        ({}, [{"id": "a"}, {"id": "a"}], "each chat's its own"),
    ],
)
def test_a_value_that_cannot_be_right_is_refused_by_its_place(conversation: Any, chats: Any, message: str) -> None:
    sandbox = Sandbox(conversations=1)
    with pytest.raises(ValueError, match=message.replace("$", r"\$")):
        sandbox.put(conversation, chats)
    assert len(sandbox.conversation_ids()) == 1


@pytest.mark.parametrize(("conversation", "chats"), [("c-1", None), ({}, "hello"), ({}, {"id": "a"}), ({}, [7])])
def test_something_else_than_a_conversation_or_chats_is_a_type_error(conversation: Any, chats: Any) -> None:
    with pytest.raises(TypeError, match="expected a"):
        Sandbox(conversations=1).put(conversation, chats)


# --- scripts by id ----------------------------------------------------------------------------------------


async def test_a_script_with_an_id_answers_requests_for_that_id_only(make_client: ClientFactory) -> None:
    with Sandbox(conversations=5) as sandbox:
        one, other = sandbox.conversation_ids()[:2]
        sandbox.script("getConversation", [404], id=one)
        api = make_client(sandbox).conversations
        assert (await api.get(other)).id == other
        with pytest.raises(NotFoundError):
            await api.get(one)
        assert (await api.get(one)).id == one


async def test_a_script_of_a_chat_goes_before_its_conversations_and_that_before_any(
    make_client: ClientFactory,
) -> None:
    with Sandbox(conversations=0) as sandbox:
        id_ = sandbox.put({"id": "c"}, chats=[{"id": "x"}, {"id": "y"}])
        sandbox.script("deleteConversationChat", [403])
        sandbox.script("deleteConversationChat", [402], id=id_)
        sandbox.script("deleteConversationChat", [404], id="x")
        api = make_client(sandbox).conversations
        statuses = []
        for _ in range(3):
            with pytest.raises(APIError) as raised:
                await api.delete_chat(id_, "x")
            statuses.append(raised.value.status)
        assert statuses == [404, 402, 403]
        await api.delete_chat(id_, "x")


async def test_a_step_may_be_the_answer_itself(make_client: ClientFactory) -> None:
    with Sandbox(conversations=3) as sandbox:
        id_ = sandbox.conversation_ids()[0]
        sandbox.script("getConversation", [FULL, {**WIRE, "title": "t"}], id=id_)
        sandbox.script("getConversationRunning", [{"isRunning": True}, {"isRunning": True}], id=id_)
        api = make_client(sandbox).conversations
        assert await api.get(id_) == FULL
        assert (await api.get(id_)).title == "t"
        assert (await api.get(id_)).id == id_
        await api.wait_until_idle(id_, poll_interval=0.001)
        assert sandbox.count("getConversationRunning") == 3


def test_an_id_for_requests_that_have_none_is_refused() -> None:
    with pytest.raises(ValueError, match="requests of listConversations have none"):
        Sandbox().script("listConversations", [404], id="a")
