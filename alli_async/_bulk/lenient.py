"""Decoding a page although a record in it cannot be decoded: the others are not lost with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from ..errors import DecodeError

T = TypeVar("T")
Note = Callable[[bytes, DecodeError], None]


class UndecodableError(DecodeError):
    """An answer that is not what the contract says, with the answer itself.

    Attributes:
        body: The answer, as it came.
    """

    body: bytes = b""


class _Page(Struct, gc=False):
    conversations: list[Raw]
    cursor: Raw = Raw(b"null")


_decode_page = msgspec.json.Decoder(_Page).decode


def lenient(decode: Callable[[bytes], T], note: Note) -> Callable[[bytes], T]:
    """A decoder of list pages that leaves out the conversations it cannot decode, and tells `note` of each."""

    def decode_body(body: bytes) -> T:
        try:
            return decode(body)
        except DecodeError as error:
            if error.malformed or not error.path.startswith("$.conversations["):
                raise
        page = _decode_page(body)
        good = [raw for raw in map(bytes, page.conversations) if _decodes(decode, raw, note)]
        return decode(page_of(good, bytes(page.cursor)))

    return decode_body


def keeping_body(decode: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """The same decoder, whose errors keep what could not be decoded."""

    def decode_body(body: bytes) -> T:
        try:
            return decode(body)
        except DecodeError as error:
            if error.malformed:
                raise
            failure = UndecodableError(error.message, path=error.path)
        failure.body = body
        raise failure

    return decode_body


def page_of(records: Sequence[bytes], cursor: bytes = b"null") -> bytes:
    """The body of a page of these conversations."""
    return b'{"conversations":[%b],"cursor":%b}' % (b",".join(records), cursor)


def raw_records(body: bytes) -> list[bytes]:
    """The conversations of a page, as they were sent."""
    return [bytes(raw) for raw in _decode_page(body).conversations]


def _decodes(decode: Callable[[bytes], Any], raw: bytes, note: Note) -> bool:
    try:
        decode(page_of([raw]))
    except DecodeError as error:
        note(raw, error)
        return False
    return True
