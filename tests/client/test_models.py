"""Models: plain builtins, JSON, reprs, and the answers that they came in."""

from __future__ import annotations

import copy
import dataclasses
import gc
import json
import pickle
import pprint
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils import json as kombu_json
from multidict import CIMultiDictProxy

from alli_async import (
    UNSET,
    Chat,
    Conversation,
    ConversationPage,
    ConversationState,
    ConversationUpdate,
    DailyCounts,
    RawTranscript,
    Request,
    Response,
    Transcript,
    models,
)
from alli_async._model import Model
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer
from tests.support.examples import FULL, LONG, PAGE, TRANSCRIPT, WIRE, converted

KOMBU_DUMPS: Callable[[object], str] = kombu_json.dumps  # it has no types

# --- plain builtins and JSON ------------------------------------------------------------------------------


def kinds(value: Any) -> set[type]:
    """The types of a value and of everything in it."""
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return {type(value)}.union(*map(kinds, inner))


@pytest.mark.parametrize("wire_names", [False, True])
def test_a_dict_holds_plain_builtins_all_the_way_down(wire_names: bool) -> None:
    update = ConversationUpdate(state=ConversationState.EO, title=None)
    for model in (FULL, PAGE, TRANSCRIPT, update):
        assert kinds(model.to_dict(wire_names=wire_names)) <= {dict, list, str, int, float, bool, type(None)}
    assert update.to_dict(wire_names=wire_names) == {"state": "eo", "title": None}


def test_names_are_those_of_python_or_of_the_wire() -> None:
    found = FULL.to_dict()
    assert found["created_at"] == WIRE["createdAt"]
    assert found["chats"][0]["citations"][0]["clue_id"] == "clue"
    assert found["chats"][0]["source"]["shared_folders"] == [{"id": "f", "name": "Folder"}]
    assert found["variables"] == WIRE["variables"]
    as_sent = FULL.to_dict(wire_names=True)
    assert {**as_sent, "chats": 0, "llmApp": 0} == {**WIRE, "chats": 0, "llmApp": 0}
    assert json.loads(FULL.to_json()) == found
    assert json.loads(FULL.to_json(wire_names=True)) == as_sent
    assert TRANSCRIPT.to_dict() == {"conversation": found, "chats": found["chats"]}
    assert DailyCounts().to_dict() == {"daily_total_count": [], "state": None, "campaign_count": None}


def test_a_dict_shares_nothing_with_the_model() -> None:
    found = FULL.to_dict()
    found["variables"]["list"].append(1)
    found["chats"].clear()
    found["categories"].clear()
    assert converted() == FULL


def test_serialisers_that_know_dataclasses_get_the_data() -> None:
    for model in (FULL, PAGE, TRANSCRIPT):
        assert dataclasses.is_dataclass(model)
        assert dataclasses.asdict(model) == model.to_dict()
        assert json.loads(orjson.dumps(model)) == model.to_dict()
        assert json.loads(KOMBU_DUMPS({"result": [model]})) == {"result": [model.to_dict()]}
    assert dataclasses.replace(FULL, title="new") == converted(title="new")
    assert json.loads(json.dumps([FULL], default=Conversation.to_dict)) == [FULL.to_dict()]


def test_serialisers_that_look_for_a_dictionary_fail_loudly() -> None:
    serialisers: list[Callable[[Any], object]] = [vars, dict, json.dumps, partial(json.dumps, default=vars)]
    for serialise in serialisers:
        with pytest.raises(TypeError):
            serialise(FULL)


def test_every_model_lists_its_own_fields_as_a_dataclass_does() -> None:
    found = [each for name in models.__all__ if isinstance(each := getattr(models, name), type)]
    declared = [each for each in found if issubclass(each, Model)]
    assert len(declared) > 15
    for kind in declared:
        assert [each.name for each in dataclasses.fields(kind)] == list(kind.__struct_fields__)


# --- reprs ------------------------------------------------------------------------------------------------


def test_a_repr_is_short_whatever_is_in_it() -> None:
    raw = RawTranscript("id", b"x" * 100_000, 20)
    for model in (FULL, PAGE, TRANSCRIPT, FULL.chats[0], FULL.user, raw, ConversationUpdate(title=LONG)):
        assert len(repr(model)) < 300
        assert "\n" not in repr(model)
    assert "chats=<20 chats>" in repr(FULL)
    assert "conversations=<50 conversations>" in repr(PAGE)
    assert "<100,000 bytes>" in repr(raw)


@given(st.text(), st.text(), st.integers())
def test_a_repr_shows_where_the_chats_are_whatever_the_texts_hold(id_: str, title: str, time: int) -> None:
    shown = repr(converted(id=id_ * 99, title=title * 99, createdAt=time))
    assert "chats=<20 chats>" in shown
    assert len(shown) < 300


def test_a_repr_shows_what_is_set_to_none_and_leaves_out_defaults() -> None:
    assert repr(ConversationUpdate(title=None)) == "ConversationUpdate(title=None)"
    made = Chat(id="c", sender="USER", message="hello", timestamp=1)
    assert repr(made) == "Chat(id='c', sender='USER', message='hello', timestamp=1)"


def test_pprint_and_rich_show_the_short_repr() -> None:
    assert len(pprint.pformat(PAGE)) < 300
    assert sum(len(repr(value)) for _, value in FULL.__rich_repr__()) < 600


# --- the answer of a model --------------------------------------------------------------------------------


async def test_a_whole_answer_has_its_bytes_and_tells_of_its_call(make_client: ClientFactory) -> None:
    body = msgspec.json.encode(WIRE)
    last = answer(200, body, headers=[("X-Request-Id", "r-2"), ("X-Shard", "7")])
    async with ScriptedServer(answer(503), last) as server:
        found = await make_client(server).conversations.get("a")
    assert found.raw == body
    assert found.response is not None
    assert (found.response.status, found.response.request_id, found.response.attempts) == (200, "r-2", 2)
    assert found.response.headers["x-shard"] == "7"
    assert found.response.elapsed > 0


async def test_every_kind_of_whole_answer_has_them_and_rows_of_lists_have_not(make_client: ClientFactory) -> None:
    with Sandbox(conversations=10) as sandbox:
        api = make_client(sandbox).conversations
        page = await api.list()
        row = next(each for each in page.conversations if each.chats)
        whole = [
            page,
            await api.get(row.id),
            await api.set_title(row.id, "t"),
            await api.update(row.id, title="u"),
        ]
        whole += [await api.list_chats(row.id), await api.daily_counts("2024-01-01", "2024-01-02")]
        whole.append(await api.send_feedback(row.id, row.chats[0].id, rating=True))
        transcript = await api.transcript(row.id)
        async for streamed in api.transcripts():
            assert streamed.conversation.raw == b""
    for each in [*whole, transcript.conversation]:
        assert each.raw
        assert each.response is not None
        assert each.response.status == 200
    assert (row.raw, row.response) == (b"", None)


async def test_the_key_in_an_answers_headers_is_not_shown(make_client: ClientFactory) -> None:
    last = answer(200, WIRE, headers=[("X-Request-Id", "for-the-key"), ("X-Echo", "the-key")])
    async with ScriptedServer(last) as server:
        found = await make_client(server).conversations.get("a")
    assert "the-key" not in repr(found.response)
    assert "the-key" not in str(found.response and dict(found.response.headers))


async def test_an_answer_of_a_middleware_has_its_bytes_too(make_client: ClientFactory) -> None:
    async def fake(request: Request, call_next: object) -> Response:
        return Response(200, {"x-request-id": "made"}, msgspec.json.encode(WIRE))

    async with ScriptedServer(answer(500)) as server:
        found = await make_client(server, middlewares=[fake]).conversations.get("a")
    assert found == FULL
    assert found.response is not None
    assert found.response.request_id == "made"


async def test_equality_pickle_copies_and_dicts_do_not_know_the_answer(make_client: ClientFactory) -> None:
    async with ScriptedServer(answer(200, WIRE)) as server:
        found = await make_client(server).conversations.get("a")
    assert found == FULL
    assert found.to_dict() == FULL.to_dict()
    assert repr(found) == repr(FULL)
    for again in (pickle.loads(pickle.dumps(found)), copy.copy(found), msgspec.structs.replace(found)):
        assert (again, again.raw, again.response) == (FULL, b"", None)
    assert copy.deepcopy(found) == found
    with pytest.raises(AttributeError):
        found._source = None  # type: ignore[assignment]


def test_models_have_no_dictionary_and_are_not_walked_by_the_collector() -> None:
    page = msgspec.json.decode(msgspec.json.encode({"conversations": [WIRE]}), type=ConversationPage)
    row = page.conversations[0]
    for each in (page, row, row.chats[0], Transcript(row, row.chats)):
        assert not gc.is_tracked(each)
        assert not hasattr(each, "__dict__")


async def test_a_whole_answer_is_not_walked_by_the_collector_either(make_client: ClientFactory) -> None:
    async with ScriptedServer(answer(200, WIRE)) as server:
        found = await make_client(server).conversations.get("a")
    assert not gc.is_tracked(found)
    assert isinstance(found.response and found._source.response.headers, CIMultiDictProxy)


def test_unset_is_left_out() -> None:
    update = ConversationUpdate(category_ids=["a"])
    assert update.title is UNSET
    assert update.to_dict() == {"category_ids": ["a"]} == dict(json.loads(update.to_json()))
    assert update.to_dict(wire_names=True) == {"categoryIds": ["a"]}
