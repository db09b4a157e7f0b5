"""Conversations of one's own: what a test puts into the sandbox, checked and completed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from ..models import Chat, Conversation
from .render import OwnChat, Profile, encode
from .texts import App, Person

ConversationLike = Conversation | Mapping[str, Any]
ChatLike = Chat | Mapping[str, Any] | str

# What stands in a conversation and in a chat of which nothing else is said.
_CONVERSATION: dict[str, Any] = {
    "title": "",
    "user": None,
    "isEnd": False,
    "categories": None,
    "memo": None,
    "llmApp": None,
    "variables": None,
}
_CHAT: dict[str, Any] = {"message": "", "source": None, "citations": None, "rating": None, "agentRating": None}
_PARTS: dict[str, dict[str, Any]] = {"user": {"firstName": "", "lastName": ""}, "llmApp": {"name": ""}}
_SENDERS = ("USER", "BOT")


class OwnConversation(NamedTuple):
    """A conversation that a test has put into the sandbox.

    Attributes:
        id: The id.
        created: When it was opened, in the unit of the wire.
        last_chat: The last chat time; None if it has no chats, or is an old row.
        profile: The fields apart from times and chats.
        chats: The chats, ascending in time.
    """

    id: str
    created: float
    last_chat: float | None
    profile: Profile
    chats: list[OwnChat]


def own_conversation(
    given: ConversationLike, chats: Iterable[ChatLike] | None, *, default_id: str, now: float, second: float
) -> OwnConversation:
    """Check and complete a conversation.

    Args:
        given: The conversation, with names of Python or of the wire.
        chats: The chats; None for those that the conversation itself has.
        default_id: The id of a conversation that has none.
        now: The sandbox's time, in the unit of the wire.
        second: A second in this unit: the time between chats that have none.

    Raises:
        ValueError: A value cannot be right; the message names its place.
        TypeError: What should be a conversation, a chat or a list of them is something else.
    """
    fields: dict[str, Any] = {"id": default_id} | _CONVERSATION | _wire_fields("conversation", Conversation, given)
    for name, parts in _PARTS.items():
        if isinstance(fields[name], dict):
            fields[name] = parts | fields[name]
    embedded = fields.pop("chats", None)
    rows = _chats(embedded if chats is None else chats, str(fields["id"]))
    given_times = (row.get("timestamp") for row in rows)
    first = next((each for each in given_times if isinstance(each, (int, float))), now)
    time = fields.setdefault("createdAt", first)
    for number, row in enumerate(rows):
        next_time = time + second if number and isinstance(time, (int, float)) else time
        time = row.setdefault("timestamp", next_time)
    _check(fields, rows)
    rows.sort(key=lambda row: row["timestamp"])
    last = fields.get("lastChatTime", rows[-1]["timestamp"] if rows else None)
    return OwnConversation(
        fields["id"], fields["createdAt"], last, _profile(fields), [_own_chat(row) for row in rows]
    )


def _chats(given: object, conversation_id: str) -> list[dict[str, Any]]:
    if isinstance(given, (str, Mapping)) or not isinstance(given, Iterable | None):
        raise TypeError(f"chats: expected a list of chats, not {type(given).__name__}")
    rows = [_chat_fields(number, row) for number, row in enumerate(given or ())]
    for number, row in enumerate(rows, 1):
        row.setdefault("id", f"{conversation_id}-{number}")
    return rows


def _check(fields: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    try:
        msgspec.convert({**fields, "chats": rows, "chatCount": len(rows)}, Conversation)
    except msgspec.ValidationError as error:
        raise ValueError(f"conversation: {error}") from None
    ids = {row["id"] for row in rows}
    if not fields["id"] or "" in ids or len(ids) < len(rows):
        raise ValueError("conversation: expected ids that are not empty, and each chat's its own")


def _chat_fields(number: int, given: ChatLike) -> dict[str, Any]:
    sender = {"sender": _SENDERS[number % 2]}
    if isinstance(given, str):
        return _CHAT | sender | {"message": given}
    return _CHAT | sender | _wire_fields(f"chats[{number}]", Chat, given)


def _wire_fields(place: str, kind: type[Struct], given: object) -> dict[str, Any]:
    """The fields of a model or of a mapping by their wire names; None for an optional field stays."""
    if isinstance(given, (Conversation, Chat)) and isinstance(given, kind):
        return given.to_dict(wire_names=True)
    if not isinstance(given, Mapping):
        raise TypeError(f"{place}: expected a {kind.__name__} or a dict, not {type(given).__name__}")
    return _renamed(kind, given)


def _renamed(kind: type[Struct], given: Mapping[str, Any]) -> dict[str, Any]:
    """The builtins of a mapping, and of what is in it, with the names of the wire."""
    names = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
    found = {names.get(name, name): value for name, value in given.items()}
    for field in msgspec.structs.fields(kind):
        inner, value = _struct_in(field.type), found.get(field.encode_name)
        if inner is None or value is None:
            continue
        if isinstance(value, Mapping):
            found[field.encode_name] = _renamed(inner, value)
        elif isinstance(value, (list, tuple)):
            found[field.encode_name] = [
                _renamed(inner, each) if isinstance(each, Mapping) else each for each in value
            ]
    plain: dict[str, Any] = msgspec.to_builtins(found)
    return plain


def _struct_in(annotation: Any) -> type[Struct] | None:
    if isinstance(annotation, type) and issubclass(annotation, Struct):
        return annotation
    inner = (_struct_in(each) for each in getattr(annotation, "__args__", ()))
    return next((each for each in inner if each is not None), None)


def _own_chat(row: dict[str, Any]) -> OwnChat:
    rest = {name: value for name, value in row.items() if name not in ("id", "timestamp")}
    return OwnChat(row["id"], row["timestamp"], encode(rest)[1:-1], row["sender"] == _SENDERS[0])


def _profile(fields: Mapping[str, Any]) -> Profile:
    user, app = fields["user"], fields["llmApp"]
    person = user and Person(user["userId"], f"{user['firstName']} {user['lastName']}".casefold(), encode(user))
    known = set(Conversation.__struct_encode_fields__)
    extras = {name: value for name, value in fields.items() if name not in known}
    return Profile(
        title=fields["title"],
        person=person,
        app=app and App(app["id"], encode(app)),
        is_end=fields["isEnd"],
        categories=fields["categories"],
        memo=fields["memo"],
        variables=fields["variables"],
        extras=b"," + encode(extras)[1:-1] if extras else b"",
    )
