"""Fuzz: whatever a server sends, it is an answer or an error of ours. Bounded, and the same every time."""

from __future__ import annotations

import asyncio
import html
import json
from typing import Any
from urllib.parse import quote

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alli_async import (
    AlliClient,
    AlliError,
    APIError,
    DecodeError,
    ResponseTooLargeError,
    RetryPolicy,
    TransportError,
)
from alli_async.config import ClientConfig, Secret
from tests.support import ScriptedServer, fuzz
from tests.support.servers import OK, closing

FUZZED = settings(max_examples=100, deadline=None, derandomize=True)


PIECES = [b'"', b"\\", b"\\ud800", b"{", b"]", b"\r\n", b"\0", b"9" * 400]


@st.composite
def damaged(draw: st.DrawFn, wholes: list[bytes]) -> bytes:
    """A right answer with bytes changed, taken out, put in, repeated or cut off."""
    data = bytearray(draw(st.sampled_from(wholes)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(0, 8))
        piece = draw(st.binary(max_size=4) | st.sampled_from(PIECES))
        match draw(st.integers(0, 3)):
            case 0:
                data[at : at + length] = piece
            case 1:
                data[at:at] = data[at : at + length] * draw(st.integers(1, 50))
            case 2:
                del data[at:]
            case _:
                data[at:at] = piece
    return bytes(data)


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "chats", "conversations", "error", "cursor", "x"]), inner)
    ),
    max_leaves=20,
)


@FUZZED
@given(damaged(fuzz.SEEDS) | DOCUMENTS.map(msgspec.json.encode))
@example(b'{"code": 1e400}')
@example(b'{"error": {"a": [1]}}')
def test_no_damaged_body_gets_past_the_decoders(body: bytes) -> None:
    fuzz.decode(body)


@FUZZED
@given(damaged([fuzz.SEEDS[0]]))
def test_no_damaged_conversation_is_passed_on_but_as_json_on_one_line(body: bytes) -> None:
    fuzz.pass_on(body)


@FUZZED
@given(st.binary(max_size=300) | damaged(fuzz.WAITS))
def test_no_headers_are_an_error_that_cannot_be_told(data: bytes) -> None:
    fuzz.headers(data)


SPELLINGS: list[Any] = [
    str,
    quote,
    lambda key: quote(key, safe=""),
    lambda key: quote(quote(key, safe=""), safe=""),
    json.dumps,
    lambda key: json.dumps(json.dumps(key)),
    lambda key: json.dumps(key).replace("/", r"\/"),
    repr,
    lambda key: repr(key.encode()),
    html.escape,
    lambda key: "".join(f"&#x{ord(char):X};" for char in key),
    lambda key: "".join(f"\\u{ord(char):04x}" for char in key),
    lambda key: key[:8],
    lambda key: key[:-1],
]


@FUZZED
@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=10, max_size=60),
    st.sampled_from(SPELLINGS),
    st.text(max_size=30),
    st.text(max_size=30),
)
def test_a_key_is_taken_out_however_it_is_spelt_and_nothing_of_it_stays(
    key: str, spell: Any, before: str, after: str
) -> None:
    config = ClientConfig(base_url="", headers={"API-KEY": Secret(key)})
    left = config.redact(f"{before}\n{spell(key)}\n{after}")
    middle = left[left.index("\n") + 1 : left.rindex("\n")] if left.count("\n") >= 2 else left
    assert "***" in middle
    assert key[:8] not in left
    assert not any(spell(key)[place : place + 8] in middle for place in range(1, max(1, len(spell(key)) - 8)))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(damaged([OK, OK.replace(b"Content-Length", b"X-Length"), OK.replace(b"200 X", b"500 X\r\nRetry-After: 7")]))
def test_no_damaged_answer_is_more_than_a_value_or_an_error_of_ours(data: bytes) -> None:
    async def call() -> None:
        async with ScriptedServer(closing(data)) as server:
            options: dict[str, Any] = {"timeout": 20, "retry": RetryPolicy(max_attempts=1)}
            async with AlliClient(fuzz.KEY, base_url=server.url, **options) as client:
                try:
                    await client.conversations.get("a")
                except AlliError as error:
                    assert isinstance(error, (TransportError, APIError, DecodeError, ResponseTooLargeError))
                    assert error.attempts == 1
                assert len(server.requests) == 1

    asyncio.run(call())
