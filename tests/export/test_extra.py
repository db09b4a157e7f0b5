"""The column `extra`: what no other column of a Parquet export holds."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from alli_async.export.formats.extra import ExtraReader, extra_fields
from tests.support import chat, conversation

NAMES = st.sampled_from(["channel", "class", "x-trace", "한국어", "unknown_0", 'quoted"name', "", "id ", "chats2"])
VALUES = st.one_of(
    st.none(), st.integers(), st.text(max_size=5), st.lists(st.integers(), max_size=2), st.just({"id": 1})
)
UNKNOWN = st.dictionaries(NAMES, VALUES, max_size=2)


def record(
    own: dict[str, Any], user: dict[str, Any], in_chat: dict[str, Any], in_citation: dict[str, Any]
) -> dict[str, Any]:
    citations = [{"clueId": "c", **in_citation}, None]
    first = chat(1, citations=citations, source={"sharedFolders": [{"id": "f", **in_citation}], **user})
    return conversation(chats=[first | in_chat, chat(2), None], user={"userId": "u", **user}, llmApp=None) | own


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN), min_size=1, max_size=6))
def test_the_extra_fields_of_a_record_do_not_depend_on_the_records_before_it(draws: list[Any]) -> None:
    reader = ExtraReader()
    for draw in draws:
        made = record(*draw)
        text = json.dumps(made, ensure_ascii=False).encode()
        own, (first, second, third) = reader.read(text)
        assert (own, [first, second, third]) == extra_fields(text)
        unknown, user, in_chat, in_citation = draw
        assert json.loads(own or "{}") == unknown | ({"user": user} if user else {})
        assert (second, third) == (None, None)
        inside = json.loads(first or "{}")
        assert {name: value for name, value in inside.items() if name not in ("citations", "source")} == in_chat
        assert inside.get("citations", [{}])[0] == in_citation


def test_ever_new_names_of_unknown_fields_are_read() -> None:
    reader = ExtraReader()
    for number in range(200):
        text = json.dumps(conversation(chats=[chat(1, byId={"a": 1})]) | {f"name-{number}": number}).encode()
        assert reader.read(text) == (f'{{"name-{number}":{number}}}', ['{"byId":{"a": 1}}'])
