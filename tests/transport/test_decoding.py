"""Decoding: what is taken for an answer, and what is refused by its path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from alli_async import AlliError, APIError, DecodeError
from alli_async._listing.page_reader import page_of
from alli_async._transcripts.codec import RAW_CODEC
from alli_async._transport import wire
from alli_async.export import export
from alli_async.export.formats.utf8 import is_utf8
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer, chat, conversation, fuzz
from tests.support.replies import replying
from tests.support.servers import ONCE, fact

pytestmark = pytest.mark.wire

HERE = "@@"
WHOLE = msgspec.json.encode(conversation())


def holding(field: str, literal: bytes) -> bytes:
    """A conversation with these very bytes as the value of a field."""
    return msgspec.json.encode(conversation(**{field: HERE})).replace(b'"@@"', literal)


def text(escaped: bytes) -> bytes:
    """A conversation with this title, as it is escaped in JSON."""
    return holding("title", b'"%b"' % escaped)


def beside(literal: bytes) -> bytes:
    """A conversation with these very bytes as the value of a field that nobody knows."""
    return WHOLE[:-1] + b',"new":' + literal + b"}"


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return opening * depth + closing * depth


NO_JSON = [
    fact("nothing", b""),
    fact("white space", b" \r\n\t"),
    fact("HTML", b"<!DOCTYPE html><html><body>busy</body></html>"),
    fact("a byte order mark before it", b"\xef\xbb\xbf" + WHOLE),
    fact("UTF-16", WHOLE.decode().encode("utf-16")),
    fact("a byte that is no UTF-8", holding("title", b'"\xff"')),
    fact("a surrogate in UTF-8", holding("title", b'"\xed\xa0\x80"')),
    fact("an overlong null", holding("title", b'"\xc0\x80"')),
    fact("a character cut in two", holding("title", '"é'.encode()[:-1] + b'"')),
    fact("half of it", WHOLE[: len(WHOLE) // 2]),
    fact("two of it", WHOLE + WHOLE),
    fact("something behind it", WHOLE + b";"),
    fact("a comment", b"/* */" + WHOLE),
    fact("single quotes", b"{'id': 1}"),
    fact("a comma at the end", WHOLE[:-1] + b",}"),
    fact("NaN", holding("createdAt", b"NaN")),
    fact("NaN in a field nobody knows", beside(b"NaN")),
    fact("Infinity", holding("createdAt", b"-Infinity")),
    fact("a number with a leading zero", holding("chatCount", b"01")),
    fact("a line break in a text", holding("title", b'"a\nb"')),
    fact("a null byte in a text", holding("title", b'"a\0b"')),
    fact("an escape that is none", holding("title", rb'"\x41"')),
    fact("a surrogate cut in its escape", holding("title", rb'"\ud8"')),
]


@pytest.mark.parametrize("body", NO_JSON)
async def test_what_is_no_json_is_a_decode_error_that_may_be_whole_the_next_time(
    make_client: ClientFactory, body: bytes
) -> None:
    async with ScriptedServer(answer(200, body), answer(200, WHOLE)) as server:
        api = make_client(server, retry=ONCE).conversations
        with pytest.raises(DecodeError, match="the answer is no JSON: ") as raised:
            await api.get("a")
        assert (raised.value.path, raised.value.malformed, raised.value.outcome) == ("$", True, "unknown")
        assert len(str(raised.value)) < 1000
        assert raised.value.__cause__ is raised.value.__context__ is None
        server.answers = [*server.answers, answer(200, body), answer(200, WHOLE)]
        assert (await make_client(server).conversations.get("a")).title == "t"


TOO_DEEP = [
    fact("200,000 open brackets in a field nobody knows", beside(b"[" * 200_000)),
    fact("200,000 arrays deep in a field nobody knows", beside(nested(200_000))),
    fact("200,000 arrays deep in a variable", holding("variables", b'{"a":%b}' % nested(200_000))),
    fact("200,000 objects deep", nested(200_000, b'{"a":', b"}")),
]


@pytest.mark.parametrize("body", TOO_DEEP)
async def test_what_is_nested_too_deeply_is_a_decode_error_that_is_not_asked_for_again(
    make_client: ClientFactory, body: bytes
) -> None:
    async with ScriptedServer(answer(200, body)) as server:
        with pytest.raises(DecodeError, match="the answer is no JSON: nested too deeply") as raised:
            await make_client(server).conversations.get("a")
        assert (raised.value.path, raised.value.malformed, raised.value.attempts) == ("$", False, 1)
        assert len(str(raised.value)) < 1000
        assert raised.value.__cause__ is raised.value.__context__ is None


DIGITS = b"9" * 5000
ANOTHER = [
    fact("an array for an object", b"[]", "$"),
    fact("a text", b'"x"', "$"),
    fact("null", b"null", "$"),
    fact("a number", b"5", "$"),
    fact("an empty object", b"{}", "$"),
    fact("errors that are none", b'{"errors": null}', "$"),
    fact("an object for an array", holding("chats", b"{}"), "$.chats"),
    fact("a number in an array of objects", holding("chats", b"[5]"), "$.chats[0]"),
    fact("a number for a text", holding("title", b"5"), "$.title"),
    fact("a text for a number", holding("createdAt", b'"1704067200"'), "$.createdAt"),
    fact("a number for a truth", holding("isEnd", b"1"), "$.isEnd"),
    fact("a truth for a number", holding("chatCount", b"true"), "$.chatCount"),
    fact("a fraction for a count", holding("chatCount", b"1.5"), "$.chatCount"),
    fact("5,000 digits for a count", holding("chatCount", DIGITS), "$.chatCount"),
    fact("5,000 digits for a time", holding("createdAt", DIGITS), "$.createdAt"),
    fact("5,000 digits in a variable", holding("variables", b'{"a": %b}' % DIGITS), "$.variables[...]"),
    fact("a time beyond all floats", holding("createdAt", b"1e400"), "$.createdAt"),
    fact("an exponent of nine digits", holding("createdAt", b"-1e999999999"), "$.createdAt"),
    fact("the last of two ids is null", WHOLE[:-1] + b',"id":null}', "$.id"),
    fact("200,000 open brackets", b"[" * 200_000, "$"),
    fact("an id in an object of its own", holding("id", b'{"a": 1}'), "$.id"),
    fact("a chat that is a text", holding("chats", b'["x"]'), "$.chats[0]"),
]


@pytest.mark.parametrize(("body", "path"), ANOTHER)
async def test_json_of_another_shape_is_a_decode_error_with_its_path_and_not_asked_for_again(
    make_client: ClientFactory, body: bytes, path: str
) -> None:
    async with ScriptedServer(answer(200, body)) as server:
        with pytest.raises(DecodeError, match="the answer is not what the contract says: ") as raised:
            await make_client(server).conversations.get("a")
        assert (raised.value.path, raised.value.malformed, len(server.requests)) == (path, False, 1)
        assert raised.value.__cause__ is raised.value.__context__ is None


ACCEPTED = [
    fact("a field nobody knows", beside(b'{"a": [1, null]}'), "title", "t"),
    fact(
        "a field of a chat that nobody knows",
        holding("chats", msgspec.json.encode([chat(1, new=2)])),
        "title",
        "t",
    ),
    fact("500 arrays deep in a field nobody knows", beside(nested(500)), "title", "t"),
    fact("5,000 digits in a field nobody knows", beside(DIGITS), "title", "t"),
    fact("a number beyond all floats in a field nobody knows", beside(b"1e400"), "title", "t"),
    fact("a key twice: the last counts", WHOLE[:-1] + b',"title":"last"}', "title", "last"),
    fact("white space around it", b" \r\n" + WHOLE + b"\n\t", "title", "t"),
    fact(
        "lone and paired surrogates and escapes together",
        holding("title", rb'"\ud800 \udc00 \ud83d\ude00 \\ud800 \u00e9 \n"'),
        "title",
        "\ufffd \ufffd \U0001f600 \\ud800 \u00e9 \n",
    ),
    fact("a lone high surrogate", holding("title", rb'"a\ud800b"'), "title", "a\ufffdb"),
    fact("a lone low surrogate", holding("title", rb'"\uDFFF"'), "title", "\ufffd"),
    fact("two surrogates the wrong way round", holding("title", rb'"\udc00\ud800"'), "title", "\ufffd\ufffd"),
    fact("a pair of surrogates", holding("title", rb'"\ud83d\ude00"'), "title", "\U0001f600"),
    fact("an escaped backslash before ud800", holding("title", rb'"\\ud800"'), "title", r"\ud800"),
    fact("a lone surrogate in an id", holding("id", rb'"\ud800"'), "id", "\ufffd"),
    fact("a lone surrogate in a key", holding("variables", rb'{"\ud800": 1}'), "variables", {"\ufffd": 1}),
    fact("a lone surrogate in a field nobody knows", beside(rb'"\ud800"'), "title", "t"),
    fact("50,000 lone surrogates", text(rb"\ud800" * 50_000), "title", "\ufffd" * 50_000),
    fact("300,000 escaped backslashes", text(rb"\\" * 300_000), "title", "\\" * 300_000),
    fact("a negative count", holding("chatCount", b"-1"), "chat_count", -1),
    fact("a count beyond 64 bits", holding("chatCount", b"36893488147419103232"), "chat_count", 2**65),
    fact("a time of the year 40,000", holding("createdAt", b"1200097632000000"), "created_at", 1200097632000000),
    fact("an id of nothing", holding("id", b'""'), "id", ""),
    fact("an id with line breaks", holding("id", rb'"a\r\nb"'), "id", "a\r\nb"),
    fact("no variables", holding("variables", b"{}"), "variables", {}),
    fact("variables of any kind", holding("variables", b'{"a": [1.5, null]}'), "variables", {"a": [1.5, None]}),
]


@pytest.mark.parametrize(("body", "field", "value"), ACCEPTED)
async def test_what_is_strange_but_right_is_taken_as_it_is(
    make_client: ClientFactory, body: bytes, field: str, value: Any
) -> None:
    async with ScriptedServer(answer(200, body)) as server:
        found = await make_client(server, retry=ONCE).conversations.get("a")
        assert getattr(found, field) == value
        assert found.raw == body


@pytest.mark.parametrize(
    ("body", "fails"),
    [
        fact("nothing", b"", None),
        fact("white space", b" \r\n", None),
        fact("a text", b"OK", None),
        fact("null", b"null", None),
        fact("an object", b'{"result": true}', None),
        fact("errors that are none", b'{"errors": null}', None),
        fact("errors", b'{"errors": "no"}', APIError),
        fact("an error", b'{"error": {"title": ["too long"]}}', APIError),
        fact("a documented error", b'{"type": "APIError", "code": 7003, "message": "no"}', APIError),
        fact("a code alone", b'{"code": 7000}', APIError),
        fact("a page of a gateway", b"\n<!doctype html><html>", DecodeError),
        fact("half an object", b'{"result": ', DecodeError),
    ],
)
def test_where_no_answer_is_expected_any_will_do_but_an_error_or_half_of_one(
    body: bytes, fails: type[AlliError] | None
) -> None:
    if fails is None:
        wire.nothing(body)
    else:
        with pytest.raises(fails, match=r"200(/\d+)? with an error inside|the answer is no JSON"):
            wire.nothing(body)


# --- what is passed on as it came -------------------------------------------------------------------------

NO_UTF8 = [
    fact("in a text", holding("title", b'"\xff"')),
    fact("in a field nobody knows", beside(b'"\xff"')),
    fact("in the name of one", WHOLE[:-1] + b',"\xff":1}'),
    fact("in a variable", holding("variables", b'{"a": {"b": "\xc3"}}')),
    fact("in a chat", holding("chats", b'[{"id":"x","timestamp":1,"message":"\xe4\xb8"}]')),
    fact("a surrogate", beside(b'"\xed\xa0\x80"')),
    fact("behind 200 KB of text", holding("title", b'"%b\xff"' % ("한" * 70_000).encode())),
]


@pytest.mark.parametrize("body", NO_UTF8)
@pytest.mark.parametrize("turn", [False, True])
def test_bytes_that_are_no_text_are_passed_on_as_they_came_where_no_name_is_read(body: bytes, turn: bool) -> None:
    items = RAW_CODEC.list_page(page_of([WHOLE, body])).conversations
    assert [item.json for item in items] == [WHOLE, body]
    if b'"\xff":1' in body and turn:
        with pytest.raises(DecodeError, match="the answer is no JSON"):
            RAW_CODEC.from_embedded(items[1], turn)
    else:
        assert not is_utf8(RAW_CODEC.from_embedded(items[1], turn).json)


@pytest.mark.parametrize("chats", [0, 2])
async def test_a_stream_goes_on_past_a_name_that_is_no_text_and_says_so(
    make_client: ClientFactory, chats: int
) -> None:
    """It is read where chats are turned round, or joined."""
    heads = [chat(3 - n) for n in range(chats)]
    rows = [msgspec.json.encode(conversation(id=f"c{n}", chats=heads, chatCount=chats or 3)) for n in range(9)]
    rows[5] = rows[5][:-1] + b',"\xff":1}'

    def reply(path: str, query: dict[str, str]) -> bytes:
        if path.endswith("/chats"):
            found = [chat(4 - (chats or 3) + n) for n in range(chats or 3)]
            return answer(200, {"chats": found, "pageNo": 1, "totalCount": len(found)})
        return answer(200, page_of(rows)) if path.endswith("/conversations") else answer(404)

    async with ScriptedServer(replying(reply)) as server:
        stream = make_client(server).conversations.transcripts(raw=True, on_error="skip")
        found = [each.id async for each in stream]
        assert sorted(found) == [f"c{n}" for n in range(9) if n != 5]
        assert [(each.id, type(each.error)) for each in stream.skipped] == [("c5", DecodeError)]
        with pytest.raises(DecodeError):
            [each async for each in make_client(server).conversations.transcripts(raw=True)]


def one_of_three_is_no_text(path: str, query: dict[str, str]) -> bytes:
    rows = [msgspec.json.encode(conversation(id=f"c{n}", title=HERE)) for n in range(3)]
    rows[1] = rows[1].replace(b'"@@"', b'"\xff"')
    if path.endswith("/chats"):
        return answer(200, {"chats": [], "pageNo": 1, "totalCount": 0})
    return answer(200, page_of(rows)) if path.endswith("/conversations") else answer(404)


async def test_an_export_puts_what_is_no_text_aside_and_writes_the_rest(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with ScriptedServer(replying(one_of_three_is_no_text)) as server:
        report = await export(make_client(server), tmp_path / "all", compression="none")
    assert (report.conversations, report.quarantined) == (2, 1)
    lines = [each.read_bytes().splitlines() for each in (tmp_path / "all" / "conversations").iterdir()]
    assert sorted(msgspec.json.decode(line)["id"] for some in lines for line in some) == ["c0", "c2"]
    (aside,) = (tmp_path / "all" / "quarantine.jsonl").read_text("utf-8").splitlines()
    assert "no UTF-8" in aside
    assert "c1" in aside


async def test_an_export_into_a_file_skips_what_is_no_text_or_ends_there(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with ScriptedServer(replying(one_of_three_is_no_text)) as server:
        report = await export(make_client(server), tmp_path / "all.jsonl", on_error="skip")
        assert (report.conversations, [each.id for each in report.skipped]) == (2, ["c1"])
        assert len((tmp_path / "all.jsonl").read_text("utf-8").splitlines()) == 2
        with pytest.raises(DecodeError, match="no UTF-8"):
            await export(make_client(server), tmp_path / "none.jsonl")
        assert not (tmp_path / "none.jsonl").exists()


@pytest.mark.parametrize("offset", range(4))
def test_text_is_text_wherever_it_is_taken_apart(offset: int) -> None:
    long = b"a" * offset + "한국어😀".encode() * 20_000
    assert is_utf8(long)
    assert not is_utf8(long[:-1])
    assert not is_utf8(long + b"\xff" + long)


@pytest.mark.parametrize(
    "body",
    [*NO_JSON, *NO_UTF8, *(fact(str(row.id), row.values[0]) for row in [*ANOTHER, *ACCEPTED])],
)
def test_what_is_passed_on_as_bytes_is_json_on_one_line_or_refused(body: bytes) -> None:
    fuzz.pass_on(body)
