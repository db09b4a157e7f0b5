"""What an export holds: a version of a conversation is known by its content, however its JSON is spaced."""

from __future__ import annotations

import json

import pytest

from alli_async._listing.seen import digest
from alli_async.export.holdings import Holdings, Version, pack_versions

RECORD = {
    "id": "c1",
    "title": 'said: "a": b',
    "user": {"id": "u", "n": 1},
    "chats": [{"id": "x", "message": 'an "a": b'}],
}
COMPACT = json.dumps(RECORD, separators=(",", ":")).encode()


# As it is joined of a row and of a page of chats: the names of the conversation are written anew.
JOINED = (
    '{"id":"c1","title":"said: \\"a\\": b","user":{"id": "u", "n": 1},'
    '"chats":[{"id": "x", "message": "an \\"a\\": b"}]}'
)


@pytest.mark.parametrize("spaced", [json.dumps(RECORD), JOINED])
def test_a_version_is_the_same_however_its_json_is_spaced(spaced: str) -> None:
    assert Version.of(spaced.encode(), 1) == Version.of(COMPACT, 1)


def test_a_version_is_another_one_where_a_text_or_the_number_of_chats_is() -> None:
    assert Version.of(COMPACT.replace(b"said: ", b"said:  "), 1) != Version.of(COMPACT, 1)
    assert Version.of(COMPACT, 2) != Version.of(COMPACT, 1)


def test_of_several_versions_the_one_of_the_later_commit_holds() -> None:
    first = pack_versions({"a": Version(1, 2), "b": Version(3, 4)})
    later = pack_versions({"b": Version(5, 6), "c": Version(7, 8)})
    merged = Holdings([first, later])
    assert (merged.conversations, merged.chats) == (3, 16)
    assert (merged.get("a"), merged.get("b"), merged.get("d")) == (Version(1, 2), Version(5, 6), None)
    assert Holdings([later]).keys_not_in(Holdings([first])) == {digest("c")}
