"""Which fields an export writes: `columns`, `redact`, and what they make of a conversation's JSON."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache

import msgspec
from msgspec import Raw, Struct

from ...errors import ConfigurationError
from .fields import CHAT, CONVERSATION, EXTRA, Field, camel_case, paths

Redact = Sequence[str] | Mapping[str, bytes | None]
# Bytes of a key. A shorter one could be found by trying all of them.
_LEAST_KEY = 16
_HASHABLE = ("text", "texts")
_NULL = Raw(b"null")


class Choice(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The fields of an export, as its destination remembers them.

    Attributes:
        columns: The names of the fields that are written, sorted; None for every field.
        removed: The names of the fields that are not written, sorted.
        hashed: The names of the fields that are replaced by a hash, sorted.
        key_check: A hash that tells another key from the same key; it does not reveal the key.
    """

    columns: list[str] | None = None
    removed: list[str] = []
    hashed: list[str] = []
    key_check: str = ""

    @property
    def is_everything(self) -> bool:
        """Whether conversations are written as the server sent them."""
        return self.columns is None and not self.removed and not self.hashed

    def __str__(self) -> str:
        said = [] if self.columns is None else [f"columns {','.join(self.columns)}"]
        said += [f"redacted {','.join(self.removed)}"] if self.removed else []
        said += [f"hashed {','.join(self.hashed)} (key {self.key_check})"] if self.hashed else []
        return " ".join(said) or "all columns"


class Projection:
    """Makes of a conversation's JSON what is written.

    Args:
        choice: The fields.
        key: The key of the hashed fields; None where nothing is hashed, or only the fields matter.

    Attributes:
        choice: The fields.
        fields: The known fields that are left, `chats` among them if any field of a chat is.
        has_extra: Whether unknown fields of a conversation are written.
        has_chat_extra: Whether unknown fields of a chat are written.
    """

    def __init__(self, choice: Choice, key: bytes | None = None) -> None:
        self.choice = choice
        self._key = key
        self._root = _Node.of(CONVERSATION, choice, "")
        self.fields = self._root.left(CONVERSATION)
        self.has_extra = self._root.keeps_unknown
        chats = self._root.children["chats"]
        self.has_chat_extra = chats is not None and (chats.is_whole or chats.keeps_unknown)

    def apply(self, conversation: bytes) -> bytes:
        """The JSON of a conversation with the chosen fields only.

        Raises:
            msgspec.DecodeError: The conversation is no JSON object.
        """
        return conversation if self._root.is_whole else bytes(self._object(Raw(conversation), self._root))

    def _object(self, value: Raw, node: _Node) -> Raw:
        try:
            members = _members(value)
        except msgspec.ValidationError:
            # Not an object. What it holds instead is not known to be harmless.
            return _NULL
        kept: dict[str, Raw] = {}
        for name, member in members.items():
            if name not in node.children:
                if node.keeps_unknown:
                    kept[name] = member
            elif (child := node.children[name]) is not None:
                kept[name] = self._value(member, child)
        return Raw(_encode(kept))

    def _value(self, value: Raw, node: _Node) -> Raw:
        if node.is_whole:
            return value
        if node.is_hashed:
            return Raw(_encode(self._hash(msgspec.json.decode(value))))
        if node.kind == "object":
            return self._object(value, node)
        try:
            return Raw(_encode([self._object(each, node) for each in _items(value) or ()]))
        except msgspec.ValidationError:
            return _NULL

    def _hash(self, value: object) -> object:
        if isinstance(value, list):
            return [self._hash(each) for each in value]
        if value is None or self._key is None:
            return None
        text = value if isinstance(value, str) else _encode(value).decode()
        return hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


class _Node(Struct):
    """What is done with a value.

    Attributes:
        kind: The kind of the field.
        children: What is done with each known field of an object, by its wire name; None leaves it out.
        keeps_unknown: Whether other fields of the object are kept.
        is_whole: Whether the value is kept as it is.
        is_hashed: Whether the text is replaced by its hash.
    """

    kind: str = "object"
    children: dict[str, _Node | None] = {}
    keeps_unknown: bool = False
    is_whole: bool = False
    is_hashed: bool = False

    @classmethod
    def of(cls, fields: tuple[Field, ...], choice: Choice, prefix: str, *, is_chosen: bool | None = None) -> _Node:
        """What is done with an object with these fields, whose own name is the prefix."""
        chosen = choice.columns is None if is_chosen is None else is_chosen
        children = {each.wire_name: cls._of_field(each, choice, prefix, chosen) for each in fields}
        redacts = bool(choice.removed or choice.hashed)
        keeps = f"{prefix}{EXTRA}" in (choice.columns or ()) or (
            chosen and not redacts and f"{prefix}{EXTRA}" not in choice.removed
        )
        whole = keeps and all(each is not None and each.is_whole for each in children.values())
        return cls(children=children, keeps_unknown=keeps, is_whole=whole)

    @classmethod
    def _of_field(cls, field: Field, choice: Choice, prefix: str, is_chosen: bool) -> _Node | None:
        name = prefix + field.name
        chosen = is_chosen or name in (choice.columns or ()) or name in _always(choice)
        if name in choice.removed:
            return None
        if name in choice.hashed:
            return cls(kind=field.kind, is_hashed=True) if chosen else None
        if not field.fields:
            return cls(kind=field.kind, is_whole=True) if chosen else None
        node = cls.of(field.fields, choice, f"{name}.", is_chosen=chosen)
        node.kind = field.kind
        return node if chosen or node.keeps_unknown or any(node.children.values()) else None

    def left(self, fields: tuple[Field, ...]) -> tuple[Field, ...]:
        """The known fields that are written."""
        found = []
        for field in fields:
            node = self.children[field.wire_name]
            if node is not None:
                nested = field.fields if node.is_whole or node.is_hashed else node.left(field.fields)
                found.append(Field(field.name, field.kind, nested))
        return tuple(found)


def _always(choice: Choice) -> tuple[str, ...]:
    """The fields that an export cannot do without: its runs are put together by the ids."""
    return ("id",)


def choose(columns: Sequence[str] | None, redact: Redact | None) -> tuple[Choice, bytes | None]:
    """Check `columns` and `redact`.

    Args:
        columns: The names of the fields to write; None for every field.
        redact: The names of the fields to leave out; or a mapping of each name to the key of the hash that takes
            the place of the text, or to None to leave the field out.

    Returns:
        The choice, and the key.

    Raises:
        ConfigurationError: A name is unknown, is given twice, or contradicts another.
    """
    chosen = None if columns is None else _checked("columns", columns)
    keys: dict[str, bytes | None] = {}
    if redact is not None:
        names = _checked("redact", redact)
        given = redact.values() if isinstance(redact, Mapping) else (None for _ in names)
        keys = dict(zip(names, given, strict=True))
    for name, key in keys.items():
        _check_redaction(name, key, chosen)
    hashed = sorted(name for name, key in keys.items() if key is not None)
    distinct = {key for key in keys.values() if key is not None}
    if len(distinct) > 1:
        raise ConfigurationError("redact: expected one key for all hashed fields, got several")
    key = next(iter(distinct), None)
    choice = Choice(
        columns=None if chosen is None else sorted(chosen),
        removed=sorted(keys.keys() - set(hashed)),
        hashed=hashed,
        key_check="" if key is None else key_check_of(key),
    )
    return choice, key


def key_check_of(key: bytes) -> str:
    """A hash that tells another key from the same key; it does not reveal the key."""
    return hmac.new(key, b"alli_async", hashlib.sha256).hexdigest()[:12]


def _checked(what: str, names: Iterable[str]) -> list[str]:
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise ConfigurationError(f"{what}: expected a list of names, got {names!r}")
    found: list[str] = []
    for name in names:
        known = _known().get(name) if isinstance(name, str) else None
        if known is None:
            raise ConfigurationError(_unknown(what, name))
        if known in found:
            raise ConfigurationError(f"{what}: {known} is named twice")
        found.append(known)
    if not found:
        raise ConfigurationError(f"{what}: names no field; leave it out, or name some of {_listed()}")
    for outer in found:
        for inner in found:
            if inner.startswith(f"{outer}."):
                raise ConfigurationError(f"{what}: {inner} is a part of {outer}; name one of them")
    return found


def _check_redaction(name: str, key: bytes | None, columns: list[str] | None) -> None:
    if name == "id":
        raise ConfigurationError("redact: id is what an export knows a conversation by; it cannot be redacted")
    field = dict(paths())[name]
    if key is None:
        for column in columns or ():
            if column == name or column.startswith(f"{name}."):
                raise ConfigurationError(
                    f"redact: {column} is one of the columns; leave it out there instead, or redact it by a hash"
                )
        return
    if not isinstance(key, bytes) or len(key) < _LEAST_KEY:
        raise ConfigurationError(f"redact: the key of {name} must be at least {_LEAST_KEY} bytes")
    if field is None or field.kind not in _HASHABLE:
        texts = (path for path, each in paths() if each is not None and each.kind in _HASHABLE)
        inside = [path for path in texts if path.startswith(f"{name}.")]
        more = f"; name {', '.join(inside[:4])}" if inside else ""
        raise ConfigurationError(f"redact: {name} is no text, so it can be removed but not hashed{more}")


@cache
def _known() -> dict[str, str]:
    """Every way to write a name (also as on the wire, or without `chats.`), with the name it stands for."""
    found: dict[str, str] = {}
    for name, _ in paths():
        found[name] = name
        found[".".join(map(camel_case, name.split(".")))] = name
    for name, _ in paths(CHAT):
        for way in (name, ".".join(map(camel_case, name.split(".")))):
            found.setdefault(way, f"chats.{name}")
    return found


def _unknown(what: str, name: object) -> str:
    close = get_close_matches(str(name), list(_known()), 1)
    hint = f" (did you mean {_known()[close[0]]}?)" if close else ""
    return f"{what}: there is no field {name!r}{hint}; the fields are {_listed()}"


def _listed() -> str:
    """The names in one line, without the fields of sources and citations."""
    return ", ".join(name for name, _ in paths() if name.count(".") < 2)


_members = msgspec.json.Decoder(dict[str, Raw]).decode
_items = msgspec.json.Decoder(list[Raw] | None).decode
_encode = msgspec.json.Encoder().encode
EVERYTHING = Projection(Choice())
