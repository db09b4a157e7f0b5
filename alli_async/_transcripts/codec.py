"""The two forms a transcript can take: structs, or the bytes that the server sent.

Either codec decodes what the stream needs (id, chat count, embedded chats, pages of chats) and joins a
conversation and its chats to a transcript.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import msgspec
from msgspec import Raw, Struct

from .._listing.page_reader import ListPage
from .._listing.pages import Row, decode_conversations
from .._transport import wire
from .._transport.decoding import row_decoder
from ..models import ChatPage, Conversation, RawTranscript, Transcript
from .chats import AnyChatPage, ChatHead, Chats, decode_chats

# The types that bytes.join accepts; a memoryview or a Raw is copied only there.
Buffer: TypeAlias = bytes | memoryview | Raw

ResultT = TypeVar("ResultT", Transcript, RawTranscript)

decode_conversation = wire.decoder(Conversation)


class Codec(Protocol[ResultT]):
    """How conversations and chats are decoded, and how a transcript is joined.

    Attributes:
        list_page: Decodes a page of a list.
        conversation: Decodes a single conversation.
        chats: Decodes a page of chats.
    """

    @property
    def list_page(self) -> Callable[[bytes], ListPage]:
        """Decodes a page of a list."""
        ...

    @property
    def conversation(self) -> Callable[[bytes], Any]:
        """Decodes a single conversation."""
        ...

    @property
    def chats(self) -> Callable[[bytes], AnyChatPage]:
        """Decodes a page of chats."""
        ...

    def from_embedded(self, row: Any, newest_first: bool) -> ResultT:
        """The transcript of a conversation whose embedded chats are all its chats."""
        ...

    def join(self, row: Any, chats: Chats[Any], newest_first: bool) -> ResultT:
        """The transcript of a conversation and its chats, some of which may be the embedded ones."""
        ...

    def size(self, result: ResultT) -> int:
        """The number of chats in a transcript."""
        ...

    def content_size(self, row: Any) -> int:
        """Size of the content of the embedded chats, by which most changes are noticed."""
        ...

    def agrees(self, row: Any, chats: Chats[Any]) -> bool:
        """Whether the embedded chats have the same content as those of the pages with the same ids."""
        ...


def is_newest_first(chats: Sequence[ChatHead]) -> bool | None:
    """Whether embedded chats came in descending order of time (pages ascend); None where they do not show it."""
    if len(chats) < 2 or chats[0].timestamp == chats[-1].timestamp:
        return None
    return bool(chats[0].timestamp > chats[-1].timestamp)


# --- structs ----------------------------------------------------------------------------------------------


class StructCodec:
    """Decodes to structs; the methods are described in `Codec`."""

    list_page = decode_conversations
    conversation = staticmethod(decode_conversation)
    chats = decode_chats

    def from_embedded(self, row: Conversation, newest_first: bool) -> Transcript:
        return Transcript(row, row.chats[::-1] if newest_first else row.chats)

    def join(self, row: Conversation, chats: Chats[ChatPage], newest_first: bool) -> Transcript:
        if len(chats.pages) == 1 and not chats.tail:
            return Transcript(row, chats.pages[0].chats)
        joined = [chat for page in chats.pages for chat in page.chats]
        if chats.tail:
            joined += (row.chats[::-1] if newest_first else row.chats)[-chats.tail :]
        return Transcript(row, joined)

    def size(self, result: Transcript) -> int:
        return len(result.chats)

    def content_size(self, row: Conversation) -> int:
        size = 0
        for chat in row.chats:  # This runs for each conversation of a list, and `sum` of a generator takes longer.
            size += len(chat.message)
            if chat.citations is not None:
                size += len(chat.citations)
        return size

    def agrees(self, row: Conversation, chats: Chats[ChatPage]) -> bool:
        # The last page nearly always ends with the embedded chats.
        shown = row.chats[::-1] if is_newest_first(row.chats) else row.chats
        if chats.pages[-1].chats[-len(shown) :] == shown:
            return True
        fetched = {chat.id: chat for page in chats.pages[-2:] for chat in page.chats}
        return all(fetched.get(chat.id, chat) == chat for chat in row.chats)


# --- bytes ------------------------------------------------------------------------------------------------


class _ChatHead(Struct, gc=False):
    id: str
    timestamp: int | float


class _ConversationHead(Struct, rename="camel", gc=False):
    id: str
    created_at: int | float
    chat_count: int
    chats: list[_ChatHead | None]
    last_chat_time: int | float | None = None
    errors: object = None
    error: object = None
    type: object = None


class _ConversationHeads(Struct, gc=False):
    conversations: list[_ConversationHead]
    cursor: str | None = None
    errors: object = None
    error: object = None
    type: object = None


class _RawConversations(Struct, gc=False):
    conversations: list[Raw]


class _ChatHeads(Struct, rename="camel", gc=False):
    chats: list[_ChatHead | None]
    total_count: int
    errors: object = None
    error: object = None
    type: object = None


class _RawChats(Struct, gc=False):
    chats: Raw


class RawRow(Struct, gc=False):
    """A conversation as bytes, with the fields that the stream needs; `fields` is decoded on first use."""

    id: str
    chat_count: int
    chats: list[_ChatHead]
    json: bytes
    created_at: int | float
    last_chat_time: int | float | None
    fields: dict[str, Raw] | None = None


class RawListPage(Struct, gc=False):
    """A page of a list as bytes."""

    conversations: list[RawRow]
    cursor: str | None


class RawChatPage(Struct, gc=False):
    """A page of chats as bytes: `array` is the JSON array of the chats."""

    chats: list[_ChatHead]
    total_count: int
    array: Raw


_decode_conversation_bytes = wire.decoder(Raw)
_decode_conversation_head = wire.decoder(_ConversationHead)
_decode_list_heads = wire.decoder(_ConversationHeads)
_decode_row_head = msgspec.json.Decoder(_ConversationHead).decode
_decode_list_bytes = wire.decoder(_RawConversations, is_answer=False)
_decode_chats_bytes = wire.decoder(_RawChats, is_answer=False)
_decode_chat_heads = wire.decoder(_ChatHeads)
# Values are passed on even where they are not UTF-8, but names must be decoded: this decoder repairs them.
_decode_fields = wire.decoder(dict[str, Raw])
_decode_array = msgspec.json.Decoder(list[Raw]).decode

_NEWLINES = bytes.maketrans(b"\n\r", b"  ")


def _list_page(body: bytes) -> RawListPage:
    heads = _decode_list_heads(body)
    raws = _decode_list_bytes(body).conversations
    rows = [_raw_row(head, raw) for head, raw in zip(heads.conversations, raws, strict=True)]
    return RawListPage(rows, heads.cursor)


def _list_row(raw: Raw) -> RawRow:
    return _raw_row(_decode_row_head(raw), raw)


def _raw_row(head: _ConversationHead, json: Raw | bytes) -> RawRow:
    # The bytes are copied, so that one conversation that waits for its chats does not keep its page in memory.
    json, chats = bytes(json), cast("list[_ChatHead]", head.chats)
    if not all(chats):
        fields = _decode_fields(json)
        json, chats = _with_chats(fields, _without_nulls(fields["chats"])), [each for each in chats if each]
    return RawRow(head.id, head.chat_count, chats, json, head.created_at, head.last_chat_time)


def _without_nulls(array: Raw) -> list[Raw]:
    """The items of a JSON array that are not null."""
    return [each for each in _decode_array(array) if bytes(each) != b"null"]


decode_raw_list_page = row_decoder(RawListPage, "conversations", _list_row, _list_page)


class RawCodec:
    """Keeps the bytes that the server sent; the methods are described in `Codec`."""

    list_page = decode_raw_list_page

    def conversation(self, body: bytes) -> RawRow:
        head = _decode_conversation_head(body)
        # Not `body`: this decoder has repaired lone surrogates, without which the field names do not decode.
        return _raw_row(head, _decode_conversation_bytes(body))

    def chats(self, body: bytes) -> RawChatPage:
        heads, array = _decode_chat_heads(body), _decode_chats_bytes(body).chats
        chats = cast("list[_ChatHead]", heads.chats)
        if not all(chats):
            array, chats = Raw(b"".join(_bracketed(_without_nulls(array)))), [each for each in chats if each]
        return RawChatPage(chats, heads.total_count, array)

    def from_embedded(self, row: RawRow, newest_first: bool) -> RawTranscript:
        json = row.json
        if newest_first:
            fields = _fields_of(row)
            json = _with_chats(fields, _decode_array(fields["chats"])[::-1])
        return RawTranscript(row.id, one_line(json), len(row.chats))

    def join(self, row: RawRow, chats: Chats[RawChatPage], newest_first: bool) -> RawTranscript:
        fields = _fields_of(row)
        # A memoryview drops the brackets without a copy: a long conversation is copied once, when it is joined.
        parts: list[Buffer] = [memoryview(page.array)[1:-1] for page in chats.pages if page.chats]
        if chats.tail:
            embedded = _decode_array(fields["chats"])
            parts += (embedded[::-1] if newest_first else embedded)[-chats.tail :]
        count = sum(len(page.chats) for page in chats.pages) + chats.tail
        return RawTranscript(row.id, one_line(_with_chats(fields, parts)), count)

    def size(self, result: RawTranscript) -> int:
        return result.chat_count

    def content_size(self, row: RawRow) -> int:
        return len(row.json)

    def agrees(self, row: RawRow, chats: Chats[RawChatPage]) -> bool:
        if not row.chats or not chats.pages[-1].chats:
            return True
        embedded = _fields_of(row)["chats"]
        # The last page nearly always ends with the same bytes, which are compared without decoding them.
        shown_end = bytes(memoryview(embedded)[1:])
        if bytes(memoryview(chats.pages[-1].array)[-len(shown_end) :]) == shown_end:
            return True
        fetched = {
            head.id: raw
            for page in chats.pages[-2:]
            for head, raw in zip(page.chats, _decode_array(page.array), strict=True)
        }
        shown = zip(row.chats, _decode_array(embedded), strict=True)
        return all(_is_same(fetched.get(head.id, raw), raw) for head, raw in shown)


def _fields_of(row: RawRow) -> dict[str, Raw]:
    if row.fields is None:
        row.fields = _decode_fields(row.json)
    return row.fields


def _is_same(one: Raw, other: Raw) -> bool:
    return bytes(one) == bytes(other) or msgspec.json.decode(one) == msgspec.json.decode(other)


def one_line(json: bytes) -> bytes:
    """The same JSON without newlines, as a line of JSON Lines must be."""
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


class ConversationRow(Row, Protocol):
    """A conversation as a row of a list: what the stream needs to know of it, in either form."""

    @property
    def chats(self) -> Sequence[ChatHead]:
        """The chats that came embedded with the conversation."""
        ...


STRUCT_CODEC = StructCodec()
RAW_CODEC = RawCodec()
