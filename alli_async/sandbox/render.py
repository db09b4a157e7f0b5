"""Conversations and chats as JSON, joined from parts that are encoded once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from . import texts
from .data import Data
from .kept import Kept
from .options import Options
from .timeline import Timeline

_MASK = (1 << 64) - 1
_MIX = 0xD6E8_FEB8_6659_FD93
# The states of a conversation that has ended; with any other state, or none, it goes on.
ENDED_STATES = frozenset({"eb", "ea", "eu", "eo"})
encode = msgspec.json.Encoder().encode


class Edits(msgspec.Struct):
    """Fields of a conversation that were written; None if they were set to null."""

    title: str | UnsetType = UNSET
    categories: list[str] | UnsetType | None = UNSET
    state: str | UnsetType | None = UNSET
    assignee: str | UnsetType | None = UNSET
    is_end: bool | UnsetType = UNSET


NO_EDITS = Edits()


class Profile(NamedTuple):
    """The fields of a conversation, apart from its chats."""

    title: str
    person: texts.Person | None
    app: texts.App | None
    is_end: bool
    categories: list[str] | None
    memo: str | None
    variables: dict[str, Any] | None
    extras: bytes


def profile(index: int, word: int, edits: Edits) -> Profile:
    """The generated fields of a conversation with the edited ones in their place."""
    bits = word * _MIX & _MASK
    title = texts.TITLES[bits >> 60]
    is_end = bool(bits >> 59 & 1)
    categories = texts.CATEGORIES[bits >> 56 & 7]
    made = Profile(
        title=f"{title} #{index}" if title else "",
        person=texts.people()[bits >> 47 & 511],
        app=texts.apps()[bits >> 44 & 7],
        is_end=is_end,
        categories=categories,
        memo=texts.MEMOS[bits >> 41 & 7],
        variables=texts.VARIABLES[(bits >> 36 & 31) % len(texts.VARIABLES)],
        extras=texts.extras()[bits >> 33 & 7],
    )
    return made if edits is NO_EDITS else edited(made, edits)


def edited(made: Profile, edits: Edits) -> Profile:
    """The fields with the edited ones in their place."""
    return made._replace(
        title=made.title if edits.title is UNSET else edits.title,
        categories=made.categories if edits.categories is UNSET else edits.categories,
        is_end=made.is_end if edits.is_end is UNSET else edits.is_end,
    )


class OwnChat(NamedTuple):
    """A chat that was put into the sandbox: its id, its time, and its JSON without either and without braces."""

    id: str
    time: float
    body: bytes
    is_users: bool


class Row(NamedTuple):
    """A conversation as it is now.

    Attributes:
        number: The index.
        id: The id.
        timeline: The chats that it has.
        profile: The fields apart from the chats.
        edits: What was written to it.
        ratings: The ratings given to chats, by the chat's sequence.
        own_chats: The chats that were put into the sandbox with it; those that follow are generated.
    """

    number: int
    id: str
    timeline: Timeline
    profile: Profile
    edits: Edits
    ratings: Mapping[int, bool | None]
    own_chats: Sequence[OwnChat]

    def users_chats(self) -> int:
        """The number of the user's chats. Of the generated ones these have even numbers."""
        own = self.own_chats
        return sum(
            own[sequence].is_users if sequence < len(own) else sequence % 2 == 0
            for sequence in self.timeline.sequences
        )


class Renderer:
    """Makes the JSON of answers, with the habits that the options choose."""

    def __init__(self, data: Data, options: Options) -> None:
        self._data = data
        self._embed: int | Literal["all"] = options.embed
        self._newest_first = options.embed_order == "newest_first"
        self._users_chats_only = options.chat_count == "user"
        self._bodies = self._embedded_bodies = texts.bodies()
        self._abridged = options.embed_abridged
        if self._abridged is not None:
            asked, answered = texts.bodies()
            self._embedded_bodies = (_abridged(asked, self._abridged), _abridged(answered, self._abridged))
        habits = (options.embed, options.embed_order, options.chat_count, options.embed_abridged)
        self._kept = Kept((data.source, *habits, options.null_last_chat))

    def chats(self, row: Row, sequences: Sequence[int]) -> bytes:
        """Chats of a conversation, in the order given, joined by commas."""
        # The sequences are a range as long as no chat was added or deleted.
        if isinstance(sequences, range) and not (row.ratings or row.own_chats):
            return self._kept.get((row.number, sequences), lambda: self._chats(row, sequences))
        return self._chats(row, sequences)

    def _chats(self, row: Row, sequences: Sequence[int], *, embedded: bool = False) -> bytes:
        index, own, ratings = row.number, row.own_chats, row.ratings
        word = self._data.word(index)
        chat_id, time = self._data.chat_id, row.timeline.time
        asked, answered = self._embedded_bodies if embedded else self._bodies
        joined = []
        for sequence in sequences:
            if sequence < len(own):
                id_, body = encode(own[sequence].id), own[sequence].body
                if embedded and self._abridged is not None:
                    body = _abridged([body], self._abridged)[0]
            else:
                pick = (word + sequence * _MIX) * _MIX >> 50 & 0x1FF
                id_ = b'"%b"' % chat_id(index, sequence)
                body = answered[pick] if sequence & 1 else asked[pick & 0xFF]
            if sequence in ratings:
                body = _rated(body, ratings[sequence])
            joined.append(b'{"id":%b,%b,"timestamp":%b}' % (id_, body, repr(time(sequence)).encode()))
        return b",".join(joined)

    def conversation(self, row: Row, variables: Collection[str] | None) -> bytes:
        """A conversation with its embedded chats; `variables` are the names to show, None for all."""
        shown, timeline = row.profile, row.timeline
        chosen = shown.variables
        if chosen is not None and variables is not None:
            chosen = {name: value for name, value in chosen.items() if name in variables}
        embedded = self._embedded(timeline.sequences)
        count = row.users_chats() if self._users_chats_only else len(timeline.sequences)
        return b"".join(
            (
                b'{"id":%b,"title":' % encode(row.id),
                encode(shown.title),
                b',"user":',
                shown.person.json if shown.person else b"null",
                b',"createdAt":%b,"lastChatTime":' % repr(timeline.created).encode(),
                b"null" if timeline.last is None else repr(timeline.last).encode(),
                b',"isEnd":true' if shown.is_end else b',"isEnd":false',
                b',"categories":%b,"memo":%b,"chats":[' % (encode(shown.categories), encode(shown.memo)),
                self._chats(row, embedded, embedded=True),
                b'],"chatCount":%d,"llmApp":' % count,
                shown.app.json if shown.app else b"null",
                b',"variables":',
                encode(chosen),
                shown.extras,
                _edited_extras(row.edits),
                b"}",
            )
        )

    def generated_conversation(self, index: int, row: Callable[[int], Row]) -> bytes:
        """A conversation that nothing was written to, with all its variables."""
        return self._kept.get(index, lambda: self.conversation(row(index), None))

    def _embedded(self, sequences: Sequence[int]) -> Sequence[int]:
        if self._embed != "all":
            sequences = sequences[max(0, len(sequences) - self._embed) :]
        return sequences[::-1] if self._newest_first else sequences


def _abridged(bodies: Sequence[bytes], length: int) -> tuple[bytes, ...]:
    """Bodies of chats with their message cut to a number of characters, and without citations."""
    cut = []
    for body in bodies:
        fields: dict[str, Any] = msgspec.json.decode(b"{%b}" % body)
        fields |= {"message": fields["message"][:length], "citations": None}
        cut.append(encode(fields)[1:-1])
    return tuple(cut)


def _rated(body: bytes, rating: bool | None) -> bytes:
    fields: dict[str, Any] = msgspec.json.decode(b"{%b}" % body)
    fields["rating"] = rating
    return encode(fields)[1:-1]


def _edited_extras(edits: Edits) -> bytes:
    """State and assignee, which the contract does not know; they are shown once they are set."""
    parts = []
    if edits.state is not UNSET:
        parts.append(b',"state":' + encode(edits.state))
    if edits.assignee is not UNSET:
        parts.append(b',"assignee":' + encode(edits.assignee))
    return b"".join(parts)
