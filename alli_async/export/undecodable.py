"""What cannot be decoded, kept with its error, so that it can be quarantined."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .._transcripts.codec import RawChatPage, RawCodec, RawRow
from ..errors import DecodeError

T = TypeVar("T")


class UndecodableError(DecodeError):
    """An answer that does not follow the contract, with its body.

    Attributes:
        body: The body as it was received.
    """

    body: bytes = b""


def keeping_body(decode: Callable[[bytes], T]) -> Callable[[bytes], T]:
    """The same decoder, whose errors keep the body that could not be decoded."""

    def decode_body(body: bytes) -> T:
        try:
            return decode(body)
        except DecodeError as error:
            failure = UndecodableError(error.message, path=error.path, malformed=error.malformed)
        failure.body = body
        raise failure

    return decode_body


class BodyKeepingCodec(RawCodec):
    """The codec of bytes, whose errors keep the body that could not be decoded."""

    _decode_conversation = staticmethod(keeping_body(RawCodec().conversation))
    _decode_chats = staticmethod(keeping_body(RawCodec().chats))

    def conversation(self, body: bytes) -> RawRow:
        """Decode a single conversation."""
        return self._decode_conversation(body)

    def chats(self, body: bytes) -> RawChatPage:
        """Decode a page of chats."""
        return self._decode_chats(body)
