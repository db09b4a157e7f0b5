"""What the columns do not hold: fields that this version does not know, and times that are no moments.

The server's unknown fields are the same in most conversations. So a decoder that skips the known fields is
taught the names of the others, as they are met. That costs a tenth of looking into every object. A conversation
with a name that the decoder does not know is looked through in full, once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, field

from .fields import CHAT, CONVERSATION, Field

# Microseconds: the end of the year 9999.
LATEST = 253_402_300_800_000_000.0
# Smaller numbers are seconds, larger ones milliseconds (see `models.in_milliseconds`).
SECONDS_END = 1e11
# Names that are taught for one kind of object. Where names are ids, there is no end of them.
_MOST_NAMES = 64
# What msgspec does not take in the name of a field.
_ODD = re.compile(r'["\\\x00-\x1f]')

Extra = tuple[str | None, list[str | None]]

_NULL = Raw(b"null")
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_members_or_none = msgspec.json.Decoder(dict[str, Raw] | None).decode
_items = msgspec.json.Decoder(list[Raw] | None).decode
_number = msgspec.json.Decoder(float).decode


class _Names(Struct):
    """The unknown names of one kind of object, and those of the objects inside it by their wire name."""

    own: dict[str, None] = field(default_factory=dict)
    inside: dict[str, _Names] = field(default_factory=dict)

    def learn(self, found: dict[str, Any], fields: tuple[Field, ...]) -> None:
        """Take in the names of what was found in an object."""
        known = _by_wire_name(fields)
        for name, value in found.items():
            if name not in known:
                self.own[name] = None
            elif isinstance(value, Raw):
                continue  # a time
            else:
                for each in value if isinstance(value, list) else [value]:
                    self.inside.setdefault(name, _Names()).learn(each, known[name].fields)

    @property
    def can_be_taught(self) -> bool:
        """Whether a decoder takes these names, and there are not too many of them."""
        return (
            len(self.own) <= _MOST_NAMES
            and not any(_ODD.search(name) for name in self.own)
            and all(each.can_be_taught for each in self.inside.values())
        )


class ExtraReader:
    """Reads the extra fields of conversations and of their chats, as JSON; learns the server's names."""

    def __init__(self) -> None:
        self._names = _Names()
        self._teach()

    def read(self, conversation: bytes) -> Extra:
        """The unknown fields of a conversation, and of each of its chats."""
        if self._decode is None:
            return extra_fields(conversation)
        try:
            found = self._decode(conversation)
        except msgspec.ValidationError:
            return self._learn(conversation)
        own = self._unknown(found)
        if not self._has_chat_names:
            return _shown(own), [None] * len(found.chats or ())
        return _shown(own), [
            None if chat is None else _shown(self._chat_unknown(chat)) for chat in found.chats or ()
        ]

    def _learn(self, conversation: bytes) -> Extra:
        own, chats = _all_extra(conversation)
        self._names.learn(own, CONVERSATION)
        chat_names = self._names.inside.setdefault("chats", _Names())
        for chat in chats:
            chat_names.learn(chat, CHAT)
        self._teach()
        return _shown(own), [_shown(chat) for chat in chats]

    def _teach(self) -> None:
        chat_names = self._names.inside.get("chats", _Names())
        self._has_chat_names = bool(chat_names.own or chat_names.inside)
        self._unknown = _reader(CONVERSATION, self._names)
        self._chat_unknown = _reader(CHAT, chat_names)
        self._decode: Callable[[bytes], Any] | None = None
        if self._names.can_be_taught:
            self._decode = msgspec.json.Decoder(_struct(CONVERSATION, self._names)).decode


def extra_fields(conversation: bytes) -> Extra:
    """The extra fields of a conversation and of each of its chats, whatever they are."""
    own, chats = _all_extra(conversation)
    return _shown(own), [_shown(chat) for chat in chats]


def _all_extra(conversation: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    members = _members(conversation)
    chats = _items(members.pop("chats", _NULL)) or ()
    return _unknown(members, CONVERSATION), [_unknown_inside(chat, CHAT) for chat in chats]


def _unknown_inside(value: Raw, fields: tuple[Field, ...]) -> dict[str, Any]:
    return _unknown(_members_or_none(value) or {}, fields)


def _unknown(members: dict[str, Raw], fields: tuple[Field, ...]) -> dict[str, Any]:
    known = _by_wire_name(fields)
    found: dict[str, Any] = {}
    for name, value in members.items():
        each = known.get(name)
        if each is None or (each.kind == "time" and not _is_moment(value)):
            found[name] = value
        elif each.kind == "object" and (nested := _unknown_inside(value, each.fields)):
            found[name] = nested
        elif each.kind == "objects":
            items = [_unknown_inside(item, each.fields) for item in _items(value) or ()]
            if any(items):
                found[name] = items
    return found


def _is_moment(value: Raw) -> bool:
    if bytes(value) == b"null":
        return True
    number = _number(value)
    return abs(number) * (1e6 if abs(number) < SECONDS_END else 1e3) < LATEST


def _shown(found: dict[str, Any]) -> str | None:
    # In sorted order: a decoder finds names in the order in which other conversations taught it.
    return msgspec.json.encode(found, order="deterministic").decode() if found else None


@cache
def _by_wire_name(fields: tuple[Field, ...]) -> dict[str, Field]:
    return {each.wire_name: each for each in fields}


# --- decoders that were taught names ------------------------------------------------------------------------


def _struct(fields: tuple[Field, ...], names: _Names) -> type[Struct]:
    """A struct that skips the known fields, looks into objects, and keeps the unknown fields it was taught."""
    members: list[tuple[str, Any, Any]] = []
    for each in fields:
        kind: Any = Raw
        if each.fields:
            inner = _struct(each.fields, names.inside.get(each.wire_name, _Names()))
            kind = inner | None if each.kind == "object" else list[inner | None] | None  # type: ignore[valid-type]
        members.append((each.name, kind, None))
    members += [(f"unknown_{place}", Raw, UNSET) for place, _ in enumerate(names.own)]
    renamed = {each.name: each.wire_name for each in fields}
    renamed |= {f"unknown_{place}": name for place, name in enumerate(names.own)}
    return msgspec.defstruct("Known", members, rename=renamed, forbid_unknown_fields=True)


def _reader(fields: tuple[Field, ...], names: _Names) -> Callable[[Any], dict[str, Any]]:
    """A function that reads what a struct of `_struct` kept; the chats are read by their own."""
    own = [(f"unknown_{place}", name) for place, name in enumerate(names.own)]
    inside = [
        (each.name, each.wire_name, _reader(each.fields, names.inside[each.wire_name]))
        for each in fields
        if each.wire_name in names.inside and each.name != "chats"
    ]

    empty: dict[str, Any] = dict.fromkeys((attribute for attribute, _ in own), UNSET)
    empty |= dict.fromkeys(attribute for attribute, _, _ in inside)
    if not empty:
        return lambda _: {}
    # The first one twice: of several attributes there is a tuple.
    first = next(iter(empty))
    values_of, nothing = attrgetter(*empty, first), (*empty.values(), empty[first])

    def read(value: Any) -> dict[str, Any]:
        if values_of(value) == nothing:
            return {}  # as in most objects
        found = {name: kept for attribute, name in own if (kept := getattr(value, attribute)) is not UNSET}
        for attribute, name, inner in inside:
            for nested in _nested(getattr(value, attribute), inner):
                found[name] = nested
        return found

    return read


def _nested(value: Any, read: Callable[[Any], dict[str, Any]]) -> Iterator[Any]:
    """What an object, or the objects of a list, hold; nothing if they hold nothing."""
    if isinstance(value, list):
        each = [{} if item is None else read(item) for item in value]
        if any(each):
            yield each
    elif value is not None and (found := read(value)):
        yield found
