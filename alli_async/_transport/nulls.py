"""Answers with a null where the contract has none: a value that says nothing stands in for it.

The null id of a conversation or chat stays an error, since nothing can be asked about such a row, and so does a
null in place of the rows of a page or of their number: what is there would pass for empty.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
from msgspec import Struct

# By the wire's name. A chat count of -1 agrees with no number of chats, so that the chats are asked for.
STAND_INS: dict[str, Any] = {
    "id": "",
    "title": "",
    "createdAt": 0,
    "isEnd": False,
    "chats": [],
    "chatCount": -1,
    "sender": "",
    "message": "",
    "timestamp": 0,
    "userId": "",
    "firstName": "",
    "lastName": "",
    "name": "",
    "clueId": "",
    "searchAllSharedDocument": False,
    "searchAllPersonalDocument": False,
}


def without_nulls(kind: type[Struct], body: bytes) -> bytes | None:
    """The body with something in place of each null that a struct does not take; None if there is no such null.

    Args:
        kind: The struct that the body is to be decoded to.
        body: JSON.
    """
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None  # the error of the struct says where it is wrong
    return msgspec.json.encode(document) if _fill(kind, document) else None


def _fill(kind: Any, value: Any) -> int:
    """Fill the nulls of a value, and give their number."""
    if isinstance(value, list):
        inner = _struct_in(kind)
        return 0 if inner is None else sum(_fill(inner, each) for each in value)
    return sum(fill(value) for fill in _fillers(kind)) if isinstance(value, dict) else 0


@cache
def _fillers(kind: Any) -> tuple[Callable[[dict[str, Any]], int], ...]:
    """Functions that fill the fields of an object."""
    fields = msgspec.structs.fields(kind) if isinstance(kind, type) and issubclass(kind, Struct) else ()
    names = {each.name for each in fields}
    # A page has no id of its own; a row has one, and a time.
    is_page = "id" not in names and not names.isdisjoint({"chats", "conversations"})
    is_row = not names.isdisjoint({"created_at", "timestamp"})
    fixed = names if is_page else {"id"} if is_row else set()
    return tuple(_filler(each, may_be_filled=each.name not in fixed) for each in fields)


def _filler(field: msgspec.structs.FieldInfo, *, may_be_filled: bool) -> Callable[[dict[str, Any]], int]:
    name, inner = field.encode_name, _struct_in(field.type)
    is_filled = may_be_filled and name in STAND_INS and type(None) not in get_args(field.type)

    def fill(found: dict[str, Any]) -> int:
        if name not in found:
            return 0
        if found[name] is None and is_filled:
            found[name] = STAND_INS[name]
            return 1
        return 0 if inner is None else _fill(inner, found[name])

    return fill


def _struct_in(annotation: Any) -> Any:
    """The struct of a field, of the items of a list, or of what may be null."""
    if isinstance(annotation, type) and issubclass(annotation, Struct):
        return annotation
    if get_origin(annotation) in (list, Union, UnionType):
        return next((found for each in get_args(annotation) if (found := _struct_in(each)) is not None), None)
    return None
