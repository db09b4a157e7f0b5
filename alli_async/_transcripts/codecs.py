"""The two forms a transcript can take: structs, or the bytes that the server sent.

Either codec gives the stream what it needs (id, chat count, embedded chats, pages of chats) and joins it at the
end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec import Raw, Struct

from .._listing.page_reader import ListPage
from .._listing.pages import Row, decode_conversations
from .._transport import wire
from .._transport.decoding import row_decoder
from ..models import ChatPage, Conversation, RawTranscript, Transcript
from .chats import ChatHead, Chats, ChatsPage, decode_chats

# What bytes.join takes; a memoryview or a Raw leaves the copying to it.
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
    def chats(self) -> Callable[[bytes], ChatsPage]:
        """Decodes a page of chats."""
        ...

    def whole(self, item: Any, newest_first: bool) -> ResultT:
        """The transcript of a conversation whose embedded chats are all there are."""
        ...

    def join(self, item: Any, chats: Chats[Any], newest_first: bool) -> ResultT:
        """The transcript of a conversation and its chats, some of which may be the embedded ones."""
        ...

    def size(self, result: ResultT) -> int:
        """The number of chats in a transcript."""
        ...

    def extent(self, item: Any) -> int:
        """A number that changes when the texts or citations of the embedded chats do."""
        ...

    def agrees(self, item: Any, chats: Chats[Any]) -> bool:
        """Whether the embedded chats have the same content as those of the pages with the same ids."""
        ...


def is_newest_first(chats: Sequence[ChatHead]) -> bool | None:
    """Whether embedded chats came in descending order of time (pages ascend); None when they do not tell."""
    if len(chats) < 2 or chats[0].timestamp == chats[-1].timestamp:
        return None
    return bool(chats[0].timestamp > chats[-1].timestamp)


# --- structs ----------------------------------------------------------------------------------------------


class StructCodec:
    """Transcripts as structs."""

    list_page = decode_conversations
    conversation = staticmethod(decode_conversation)
    chats = decode_chats

    def whole(self, item: Conversation, newest_first: bool) -> Transcript:
        """The transcript of a conversation whose embedded chats are all there are."""
        return Transcript(item, item.chats[::-1] if newest_first else item.chats)

    def join(self, item: Conversation, chats: Chats[ChatPage], newest_first: bool) -> Transcript:
        """The transcript of a conversation and its chats, some of which may be the embedded ones."""
        if len(chats.pages) == 1 and not chats.tail:
            return Transcript(item, chats.pages[0].chats)
        joined = [chat for page in chats.pages for chat in page.chats]
        if chats.tail:
            joined += (item.chats[::-1] if newest_first else item.chats)[-chats.tail :]
        return Transcript(item, joined)

    def size(self, result: Transcript) -> int:
        """The number of chats in a transcript."""
        return len(result.chats)

    def extent(self, item: Conversation) -> int:
        """A number that changes when the texts or citations of the embedded chats do."""
        extent = 0
        for chat in item.chats:  # asked for each conversation of a list: `sum` of a generator takes longer
            extent += len(chat.message)
            if chat.citations is not None:
                extent += len(chat.citations)
        return extent

    def agrees(self, item: Conversation, chats: Chats[ChatPage]) -> bool:
        """Whether the embedded chats have the same content as those of the pages with the same ids."""
        # What nearly always is so: the last page ends with them.
        shown = item.chats[::-1] if is_newest_first(item.chats) else item.chats
        if chats.pages[-1].chats[-len(shown) :] == shown:
            return True
        fetched = {chat.id: chat for page in chats.pages[-2:] for chat in page.chats}
        return all(fetched.get(chat.id, chat) == chat for chat in item.chats)


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
    errors: object = None


class _HeadList(Struct, gc=False):
    conversations: list[_Head]
    cursor: str | None = None
    errors: object = None


class _RawList(Struct, gc=False):
    conversations: list[Raw]


class _ChatHeads(Struct, rename="camel", gc=False):
    chats: list[_ChatHead]
    total_count: int
    errors: object = None


class _RawChats(Struct, gc=False):
    chats: Raw


class RawItem(Struct, gc=False):
    """A conversation as bytes, with what had to be read of it; `fields` is read when it is needed."""

    id: str
    chat_count: int
    chats: list[_ChatHead]
    json: bytes
    created_at: int | float
    last_chat_time: int | float | None
    fields: dict[str, Raw] | None = None


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
_decode_list_head = msgspec.json.Decoder(_Head).decode
_decode_raw_list = wire.decoder(_RawList, is_answer=False)
_decode_raw_chats = wire.decoder(_RawChats, is_answer=False)
_decode_chat_heads = wire.decoder(_ChatHeads)
# Bytes that are no UTF-8 are passed on, but a field's name has to be read.
_decode_fields = wire.decoder(dict[str, Raw])
_decode_array = msgspec.json.Decoder(list[Raw]).decode

_NEWLINES = bytes.maketrans(b"\n\r", b"  ")


def _whole_list_page(body: bytes) -> RawListPage:
    heads = _decode_head_list(body)
    raws = _decode_raw_list(body).conversations
    items = [_raw_item(head, raw) for head, raw in zip(heads.conversations, raws, strict=True)]
    return RawListPage(items, heads.cursor)


def _list_row(raw: Raw) -> RawItem:
    return _raw_item(_decode_list_head(raw), raw)


def _raw_item(head: _Head, json: Raw | bytes) -> RawItem:
    # Copied, so that one conversation that waits for its chats does not hold its whole page in memory.
    return RawItem(head.id, head.chat_count, head.chats, bytes(json), head.created_at, head.last_chat_time)


decode_raw_list_page = row_decoder(RawListPage, "conversations", _list_row, _whole_list_page)


class RawCodec:
    """Transcripts as the bytes that the server sent."""

    list_page = decode_raw_list_page

    def conversation(self, body: bytes) -> RawItem:
        """Decode a single conversation."""
        head = _decode_head(body)
        # Not the body itself: a lone surrogate in it has been repaired here, or its fields could not be told
        # apart.
        return _raw_item(head, _decode_raw(body))

    def chats(self, body: bytes) -> RawChatPage:
        """Decode a page of chats."""
        heads = _decode_chat_heads(body)
        return RawChatPage(heads.chats, heads.total_count, _decode_raw_chats(body).chats)

    def whole(self, item: RawItem, newest_first: bool) -> RawTranscript:
        """The transcript of a conversation whose embedded chats are all there are."""
        json = item.json
        if newest_first:
            fields = _fields_of(item)
            json = _with_chats(fields, _decode_array(fields["chats"])[::-1])
        return RawTranscript(item.id, one_line(json), len(item.chats))

    def join(self, item: RawItem, chats: Chats[RawChatPage], newest_first: bool) -> RawTranscript:
        """The transcript of a conversation and its chats, some of which may be the embedded ones."""
        fields = _fields_of(item)
        # Without the brackets, and without a copy: a long conversation is copied once, when it is joined.
        parts: list[Buffer] = [memoryview(page.array)[1:-1] for page in chats.pages if page.chats]
        if chats.tail:
            embedded = _decode_array(fields["chats"])
            parts += (embedded[::-1] if newest_first else embedded)[-chats.tail :]
        count = sum(len(page.chats) for page in chats.pages) + chats.tail
        return RawTranscript(item.id, one_line(_with_chats(fields, parts)), count)

    def size(self, result: RawTranscript) -> int:
        """The number of chats in a transcript."""
        return result.chat_count

    def extent(self, item: RawItem) -> int:
        """A number that changes when the texts or citations of the embedded chats do."""
        return len(item.json)

    def agrees(self, item: RawItem, chats: Chats[RawChatPage]) -> bool:
        """Whether the embedded chats have the same content as those of the pages with the same ids."""
        if not item.chats or not chats.pages[-1].chats:
            return True
        embedded = _fields_of(item)["chats"]
        # What nearly always is so, compared without looking into it: the same bytes at the end of the last page.
        shown_end = bytes(memoryview(embedded)[1:])
        if bytes(memoryview(chats.pages[-1].array)[-len(shown_end) :]) == shown_end:
            return True
        fetched = {
            head.id: raw
            for page in chats.pages[-2:]
            for head, raw in zip(page.chats, _decode_array(page.array), strict=True)
        }
        shown = zip(item.chats, _decode_array(embedded), strict=True)
        return all(_is_same(fetched.get(head.id, raw), raw) for head, raw in shown)


def _fields_of(item: RawItem) -> dict[str, Raw]:
    if item.fields is None:
        item.fields = _decode_fields(item.json)
    return item.fields


def _is_same(one: Raw, other: Raw) -> bool:
    return bytes(one) == bytes(other) or msgspec.json.decode(one) == msgspec.json.decode(other)


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


class Summary(Row, Protocol):
    """What the stream needs to know of a conversation, in either form."""

    @property
    def chats(self) -> Sequence[ChatHead]:
        """The chats that came with it."""
        ...


STRUCT_CODEC = StructCodec()
RAW_CODEC = RawCodec()
