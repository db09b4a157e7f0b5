"""The two shapes a transcript can take: structs, or the bytes that the server sent.

Either gives the stream what it needs (id, chat count, embedded chats, pages of chats) and joins them at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec import Raw, Struct

from .._transport import wire
from ..models import ChatPage, Conversation, RawTranscript, Transcript
from .chats import Chats, Chatted, decode_chats
from .pages import Listed, Row, decode_conversations

# What bytes.join takes; a memoryview or a Raw leaves the copying to it.
Buffer: TypeAlias = bytes | memoryview | Raw

ResultT = TypeVar("ResultT", Transcript, RawTranscript)
ItemT = TypeVar("ItemT")

decode_conversation = wire.decoder(Conversation)


class Summary(Row, Protocol):
    """What the stream needs to know of a conversation, in either shape."""

    @property
    def chat_count(self) -> int:
        """How many chats the server says it has."""
        ...

    @property
    def chats(self) -> Sequence[Any]:
        """The chats that came with it."""
        ...


@dataclass(frozen=True, slots=True)
class Shape(Generic[ResultT]):
    """How to decode and how to join.

    Attributes:
        conversations: Decodes a page of a list.
        conversation: Decodes a single conversation.
        chats: Decodes a page of chats.
        whole: Makes the result of a conversation whose embedded chats are all, and whether to turn them round.
        join: Makes the result of a conversation and its chats, and whether those that came with it are to be
            turned round.
        size: The number of chats in a result.
    """

    conversations: Callable[[bytes], Listed]
    conversation: Callable[[bytes], Any]
    chats: Callable[[bytes], Chatted]
    whole: Callable[[Any, bool], ResultT]
    join: Callable[[Any, Chats[Any], bool], ResultT]
    size: Callable[[ResultT], int]


def newest_first(chats: Sequence[Any]) -> bool | None:
    """Whether embedded chats came in descending order of time (pages ascend); None when they do not tell."""
    if len(chats) < 2 or chats[0].timestamp == chats[-1].timestamp:
        return None
    return bool(chats[0].timestamp > chats[-1].timestamp)


# --- structs ----------------------------------------------------------------------------------------------


def _whole(conversation: Conversation, turn: bool) -> Transcript:
    return Transcript(conversation, conversation.chats[::-1] if turn else conversation.chats)


def _join(conversation: Conversation, chats: Chats[ChatPage], turn: bool) -> Transcript:
    if len(chats.pages) == 1 and not chats.tail:
        return Transcript(conversation, chats.pages[0].chats)
    joined = [chat for page in chats.pages for chat in page.chats]
    if chats.tail:
        joined += (conversation.chats[::-1] if turn else conversation.chats)[-chats.tail :]
    return Transcript(conversation, joined)


STRUCTS: Shape[Transcript] = Shape(
    decode_conversations,
    decode_conversation,
    decode_chats,
    _whole,
    _join,
    lambda transcript: len(transcript.chats),
)


# --- bytes ------------------------------------------------------------------------------------------------


class _ChatHead(Struct, gc=False):
    id: str
    timestamp: int | float


class _Head(Struct, rename="camel", gc=False):
    id: str
    created_at: int | float
    chat_count: int
    chats: list[_ChatHead]
    last_chat_time: int | float | None = None


class _HeadList(Struct, gc=False):
    conversations: list[_Head]
    cursor: str | None = None


class _RawList(Struct, gc=False):
    conversations: list[Raw]


class _ChatHeads(Struct, rename="camel", gc=False):
    chats: list[_ChatHead]
    total_count: int


class _RawChats(Struct, gc=False):
    chats: Raw


class RawItem(Struct, gc=False):
    """A conversation as bytes, with what had to be read of it."""

    id: str
    chat_count: int
    chats: list[_ChatHead]
    json: bytes
    created_at: int | float
    last_chat_time: int | float | None


class RawListPage(Struct, gc=False):
    """A page of a list as bytes."""

    conversations: list[RawItem]
    cursor: str | None


class RawChatPage(Struct, gc=False):
    """A page of chats as bytes: `array` is the JSON array they came in."""

    chats: list[_ChatHead]
    total_count: int
    array: Raw


_decode_raw = wire.decoder(Raw)
_decode_head = wire.decoder(_Head)
_decode_head_list = wire.decoder(_HeadList)
_decode_raw_list = wire.decoder(_RawList)
_decode_raw_chats = wire.decoder(_RawChats)
_decode_chat_heads = wire.decoder(_ChatHeads)
# Bytes that are no UTF-8 are passed on, but a field's name has to be read.
_decode_fields = wire.decoder(dict[str, Raw])
_decode_array = msgspec.json.Decoder(list[Raw]).decode

_NEWLINES = bytes.maketrans(b"\n\r", b"  ")


def _raw_list(body: bytes) -> RawListPage:
    heads = _decode_head_list(body)
    raws = _decode_raw_list(body).conversations
    # Copied, so that one conversation that waits for its chats does not hold its whole page in memory.
    items = [_raw_item(head, bytes(raw)) for head, raw in zip(heads.conversations, raws, strict=True)]
    return RawListPage(items, heads.cursor)


def _raw_conversation(body: bytes) -> RawItem:
    head = _decode_head(body)
    # Not the body itself: a lone surrogate in it has been repaired here, or its fields could not be told apart.
    return _raw_item(head, bytes(_decode_raw(body)))


def _raw_item(head: _Head, json: bytes) -> RawItem:
    return RawItem(head.id, head.chat_count, head.chats, json, head.created_at, head.last_chat_time)


def _raw_chats(body: bytes) -> RawChatPage:
    heads = _decode_chat_heads(body)
    return RawChatPage(heads.chats, heads.total_count, _decode_raw_chats(body).chats)


def _raw_whole(item: RawItem, turn: bool) -> RawTranscript:
    json = item.json
    if turn:
        fields = _decode_fields(json)
        json = _with_chats(fields, _decode_array(fields["chats"])[::-1])
    return RawTranscript(item.id, one_line(json), len(item.chats))


def _raw_join(item: RawItem, chats: Chats[RawChatPage], turn: bool) -> RawTranscript:
    fields = _decode_fields(item.json)
    # Without the brackets, and without a copy: a long conversation is copied once, when it is joined.
    parts: list[Buffer] = [memoryview(page.array)[1:-1] for page in chats.pages if page.chats]
    if chats.tail:
        embedded = _decode_array(fields["chats"])
        parts += (embedded[::-1] if turn else embedded)[-chats.tail :]
    count = sum(len(page.chats) for page in chats.pages) + chats.tail
    return RawTranscript(item.id, one_line(_with_chats(fields, parts)), count)


def one_line(json: bytes) -> bytes:
    """A record without newlines, which is what a line of JSON Lines has to be."""
    # A newline in JSON can only be white space between two tokens: inside a string it is escaped.
    return json.translate(_NEWLINES) if b"\n" in json or b"\r" in json else json


def _with_chats(fields: dict[str, Raw], chats: Sequence[Buffer]) -> bytes:
    """The conversation with these chats in place of its own; every other value stays as it was sent."""
    parts: list[Buffer] = []
    for name, value in fields.items():
        parts += (b"," if parts else b"{", msgspec.json.encode(name), b":")
        parts += _bracketed(chats) if name == "chats" else (value,)
    parts.append(b"}")
    return b"".join(parts)


def _bracketed(chats: Sequence[Buffer]) -> Iterator[Buffer]:
    yield b"["
    for number, chat in enumerate(chats):
        if number:
            yield b","
        yield chat
    yield b"]"


RAW: Shape[RawTranscript] = Shape(
    _raw_list, _raw_conversation, _raw_chats, _raw_whole, _raw_join, lambda transcript: transcript.chat_count
)
