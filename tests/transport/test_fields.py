"""Decoding: every field of every answer, null, missing, and of every other type."""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from alli_async import APIError, DecodeError
from alli_async._transcripts.codec import STRUCT_CODEC
from tests.sandbox.client import CONTRACT, or_null
from tests.support.documents import ANSWERS, FULL, FULL_CHAT
from tests.support.servers import fact

pytestmark = pytest.mark.wire


def places(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where there is a value, as the keys that lead to it."""
    pairs: Any = enumerate(document) if isinstance(document, list) else document.items()
    found = []
    for key, value in pairs:
        found.append((*at, key))
        if isinstance(value, (dict, list)):
            found += places(value, (*at, key))
    return found


def path(at: tuple[Any, ...]) -> str:
    return "$" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in at)


# --- what the contract promises ---------------------------------------------------------------------------

OPERATIONS = {
    "conversation": "getConversation",
    "list": "listConversations",
    "chats": "listConversationChats",
    "feedback": "postChatFeedback",
    "running": "getConversationRunning",
    "daily": "getDailyConversationCount",
}
# Of the daily counts the contract says little; what it lets be missing may be null as well.
TAKEN = {("$.result.state", None), ("$.result.campaignCount", None)}


def _promises() -> dict[str, Draft202012Validator]:
    contract = or_null(_without_enumerations(json.loads(CONTRACT.read_bytes())))
    operations = {each["operationId"]: each for path in contract["paths"].values() for each in path.values()}
    answers = {name: operations[each]["responses"]["200"]["content"] for name, each in OPERATIONS.items()}
    days = answers["daily"]["application/json"]["schema"]["properties"]["result"]["properties"]["dailyTotalCount"]
    days["items"]["required"] = ["date", "activeCount"]  # a day without its date, or its count, is none
    return {
        name: Draft202012Validator({**each["application/json"]["schema"], "components": contract["components"]})
        for name, each in answers.items()
    }


def _without_enumerations(node: Any) -> Any:
    """Values that are not known yet are no errors."""
    if isinstance(node, list):
        return [_without_enumerations(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: _without_enumerations(value) for key, value in node.items() if key != "enum"}


PROMISES = _promises()


def holding(document: Any, at: tuple[Any, ...], value: Any) -> Any:
    """A document with this value in a place, or with nothing there."""
    changed = copy.deepcopy(document)
    parent = changed
    for key in at[:-1]:
        parent = parent[key]
    if value is MISSING:
        del parent[at[-1]]
    else:
        parent[at[-1]] = value
    return changed


def promised(name: str, document: Any, at: tuple[Any, ...], value: Any) -> bool:
    """Whether the contract lets this value be there; what it lets be null may also be missing."""
    promise = PROMISES[name.removeprefix("raw ")]
    if value is MISSING and promise.is_valid(holding(document, at, None)):
        return True
    return bool(promise.is_valid(holding(document, at, value)))


def is_mended(name: str, document: Any, at: tuple[Any, ...], value: Any) -> bool:
    """Whether a null that the contract does not allow costs nothing here: it is left out of a list, or filled."""
    *above, last = at
    if value == [None]:
        return promised(name, document, at, []) and last != "conversations"
    if value is not None or last in (
        "conversations",
        "isRunning",
        "result",
        "dailyTotalCount",
        "date",
        "activeCount",
    ):
        return False
    if last == "id":  # the id of a conversation or chat stays an error
        return bool(above) and (len(above) < 2 or above[-2] not in ("chats", "conversations"))
    return (name.removeprefix("raw "), at) != ("chats", ("chats",)) and above != ["conversations"]


def costs_nothing(name: str, document: Any, at: tuple[Any, ...]) -> bool:
    """Whether a null may stand in this place of an answer."""
    return promised(name, document, at, None) or is_mended(name, document, at, None)


PLACES = [(name, at) for name, (_, document) in ANSWERS.items() for at in places(document)]
EACH = [fact(f"{name} {path(at)}", name, at) for name, at in PLACES]
MISSING = object()


@pytest.mark.parametrize(("name", "at"), EACH)
def test_each_field_null_missing_or_of_any_other_type_is_taken_as_the_contract_says_or_refused_by_its_path(
    name: str, at: tuple[Any, ...]
) -> None:
    decode, document = ANSWERS[name]
    decode(msgspec.json.encode(document))
    here = path(at)
    for value in (MISSING, None, 5, -1.5, 2**70, True, "x", "", [], {}, [None], [[]], {"x": None}):
        right = promised(name, document, at, value) or is_mended(name, document, at, value)
        try:
            decode(msgspec.json.encode(holding(document, at, value)))
        except DecodeError as error:
            assert not right, value
            assert not error.malformed
            if value is MISSING:
                assert error.path == path(at[:-1])
                assert f"`{at[-1]}`" in error.message
            else:
                assert error.path.startswith(here)
        except APIError as error:
            assert (name, at) == ("daily", ("errors",)), error
            assert value is not MISSING
            assert value is not None
        else:
            # Of bytes that are passed on as they came, only what is needed is read.
            assert right or name.startswith("raw ") or (here, value) in TAKEN, value


@pytest.mark.parametrize("name", ANSWERS)
def test_nulls_in_all_places_where_one_costs_nothing_cost_nothing_together(name: str) -> None:
    decode, document = ANSWERS[name]
    free = [at for each, at in PLACES if each == name and costs_nothing(name, document, at)]
    assert free or name == "running"
    for at in sorted(free, key=len, reverse=True):
        document = holding(document, at, None)
        decode(msgspec.json.encode(document))


@pytest.mark.parametrize("value", ["ALIEN", "", "user", "日本"])
def test_values_of_an_enumeration_that_are_not_known_yet_are_no_errors(value: str) -> None:
    source = {**FULL_CHAT["source"], "includingHashtagsOperator": value}
    document = {**FULL, "chats": [{**FULL_CHAT, "sender": value, "source": source}]}
    found = STRUCT_CODEC.conversation(msgspec.json.encode(document))
    (read,) = found.chats
    assert read.source is not None
    assert (read.sender, read.source.including_hashtags_operator) == (value, value)
