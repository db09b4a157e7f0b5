"""Conversations and chats as rows: their fields, as JSON picks them and as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:  # The help does not need it.
    import msgspec

_TIMES = frozenset({"createdAt", "lastChatTime", "timestamp"})


@dataclass(frozen=True, slots=True)
class RecordKind:
    """A kind of records.

    Attributes:
        name: The noun for one of them.
        fields: The names of its fields on the wire, the fields of inner objects after a dot.
        csv: The fields of a line of CSV, if none are asked for.
        array: The name of their array in a page of a list.
    """

    name: str
    fields: tuple[str, ...]
    csv: tuple[str, ...]
    array: str

    def parse(self, text: str) -> list[str]:
        """Read a list of fields, divided by commas, in the spelling of the wire or of Python.

        Raises:
            click.BadParameter: There is no such field.
        """
        found = [_camel(part.strip()) for part in text.split(",") if part.strip()]
        for field in found:
            if field not in self.fields and not field.startswith("variables."):
                raise click.BadParameter(
                    f"a {self.name} has no field {field!r}; there are {', '.join(self.fields)}",
                    param_hint="--fields",
                )
        if not found:
            raise click.BadParameter(f"name one of {', '.join(self.fields)}", param_hint="--fields")
        return list(dict.fromkeys(found))


CONVERSATION = RecordKind(
    "conversation",
    fields=(
        "id", "title", "user", "user.userId", "user.firstName", "user.lastName", "createdAt", "lastChatTime",
        "isEnd", "categories", "memo", "chats", "chatCount", "llmApp", "llmApp.id", "llmApp.name",
        "llmApp.description", "variables",
    ),
    csv=("id", "title", "user", "createdAt", "lastChatTime", "chatCount", "isEnd", "llmApp"),
    array="conversations",
)  # fmt: skip
CHAT = RecordKind(
    "chat",
    fields=("id", "sender", "message", "timestamp", "source", "citations", "rating", "agentRating"),
    csv=("id", "timestamp", "sender", "message", "rating"),
    array="chats",
)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def rows_of(kind: RecordKind, page: Any) -> list[bytes]:
    """The rows of a page of a list, as the server sent them, each once."""
    import msgspec

    if not page.raw:
        return [msgspec.json.encode(row) for row in getattr(page, kind.array)]
    rows = msgspec.json.decode(page.raw, type=dict[str, msgspec.Raw])[kind.array]
    wanted = [row.id for row in getattr(page, kind.array)]
    found: dict[str, bytes] = {}
    for row in msgspec.json.decode(rows, type=list[msgspec.Raw]):
        found.setdefault(str(decode(row).get("id")), bytes(row))
    return [found[each] for each in dict.fromkeys(wanted) if each in found]


def decode(row: bytes | msgspec.Raw) -> dict[str, Any]:
    """A row as Python's own types."""
    import msgspec

    decoded: dict[str, Any] = msgspec.json.decode(row)
    return decoded


def pick(row: bytes, fields: Sequence[str] | None, without: Iterable[str] = ()) -> bytes:
    """A row with some of its fields only, each value as the server sent it.

    Args:
        row: The row.
        fields: The fields to keep, in this order; None for all.
        without: The fields to leave out.
    """
    import msgspec

    if fields is None and not without:
        return row
    if fields is not None:
        record = decode(row)
        return msgspec.json.encode({field: value_of(record, field) for field in fields})
    values = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({name: value for name, value in values.items() if name not in without})


def value_of(record: Mapping[str, Any], field: str) -> Any:
    """The value of a field; None where it, or the object that holds it, is missing."""
    head, _, rest = field.partition(".")
    value = record.get(head)
    if not rest:
        return value
    return value_of(value, rest) if isinstance(value, Mapping) else None


def cell(record: Mapping[str, Any], field: str, *, iso: bool = False) -> str:
    """A field as people read it.

    Args:
        record: The conversation or chat.
        field: The field.
        iso: Whether times are in ISO 8601 and UTC, for programs; else in the time zone of this machine.
    """
    value = value_of(record, field)
    if field == "chats":
        value = value if value is None else len(value)
    if value is None:
        return ""
    if field in _TIMES:
        return time_text(value, iso=iso)
    if field == "user" and isinstance(value, Mapping):
        return user_text(value)
    if field == "llmApp" and isinstance(value, Mapping):
        return str(value.get("name") or value.get("id") or "")
    if isinstance(value, bool):
        return ("true" if value else "false") if iso else ("yes" if value else "no")
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return value if isinstance(value, str) else _json_text(value)


def _json_text(value: object) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()


def user_text(user: Mapping[str, Any]) -> str:
    """A user by name and id."""
    name = " ".join(str(user[part]) for part in ("firstName", "lastName") if user.get(part))
    identity = str(user.get("userId") or "")
    return f"{name} ({identity})" if name and identity else name or identity


def time_text(value: object, *, iso: bool = False, seconds: bool = False) -> str:
    """A number of the wire as a date and time; the number itself where it is none.

    Args:
        value: The number.
        iso: Whether it is given in ISO 8601 and UTC; else in the time zone of this machine.
        seconds: Whether seconds are shown.
    """
    from ..models import to_datetime

    try:
        found = to_datetime(float(value))  # type: ignore[arg-type]  # anything else is a ValueError
        local: datetime = found if iso else found.astimezone()
    except (ValueError, TypeError, OverflowError, OSError):
        return str(value)
    if iso:
        return local.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"{local:%Y-%m-%d %H:%M:%S}" if seconds else f"{local:%Y-%m-%d %H:%M}"


def count_text(count: int, name: str) -> str:
    """A number of things, in the plural where it is one."""
    return f"{count:,} {name}" if count == 1 else f"{count:,} {name}s"
