"""Answers with a null where the contract has none: a value that says nothing stands in for it.

A null among the items of a list is left out. Some nulls stay errors, since the answer would pass for less than it
is: the rows of a page, a row of a list of conversations, and the id of a conversation or chat, about which nothing
can be asked. A chat that is left out of a page is missed by the count of the page.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
from msgspec import Struct

# By the wire's name. A count of -1 agrees with no number of chats, so that the chats are asked for, and no page of
# chats counts as the last one until an empty page follows it.
STAND_INS: dict[str, Any] = {
    "id": "",
    "title": "",
    "createdAt": 0,
    "isEnd": False,
    "chats": [],
    "chatCount": -1,
    "totalCount": -1,
    "pageNo": 0,
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
    "conversationId": "",
    "chatId": "",
}
_Mend = Callable[[dict[str, Any]], int]


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
    return msgspec.json.encode(document) if _mend(kind, document) else None


def _mend(kind: Any, value: Any) -> int:
    """Mend the nulls inside a value of this type, and give their number."""
    if isinstance(value, list):
        return sum(_mend(_items_of(kind), each) for each in value)
    return sum(mend(value) for mend in _menders(_struct_of(kind))) if isinstance(value, dict) else 0


@cache
def _menders(kind: type[Struct] | None) -> tuple[_Mend, ...]:
    """Functions that mend the fields of an object."""
    fields = () if kind is None else msgspec.structs.fields(kind)
    names = {each.name for each in fields}
    # A page has no id of its own; a row has one, and a time.
    is_page = "id" not in names
    is_row = not names.isdisjoint({"created_at", "timestamp"})
    fixed = {"conversations", "chats"} if is_page else {"id"} if is_row else set()
    return tuple(_mender(each, may_be_filled=each.name not in fixed) for each in fields)


def _mender(field: msgspec.structs.FieldInfo, *, may_be_filled: bool) -> _Mend:
    name, kind = field.encode_name, field.type
    is_filled = may_be_filled and name in STAND_INS and not _takes_null(kind)
    has_items = name != "conversations" and not _takes_null(_items_of(kind))

    def mend(found: dict[str, Any]) -> int:
        value = found.get(name)
        if value is None:
            if not is_filled or name not in found:
                return 0
            found[name] = STAND_INS[name]
            return 1
        left_out = 0
        if has_items and isinstance(value, list):
            found[name] = [each for each in value if each is not None]
            left_out = len(value) - len(found[name])
        return left_out + _mend(kind, found[name])

    return mend


def _variants(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _takes_null(annotation: Any) -> bool:
    return not {NoneType, Any, msgspec.Raw, object}.isdisjoint(_variants(annotation))


def _items_of(annotation: Any) -> Any:
    """The type of the items of a list, which may be null; Any for another type."""
    return next((get_args(each)[0] for each in _variants(annotation) if get_origin(each) is list), Any)


def _struct_of(annotation: Any) -> type[Struct] | None:
    """The struct of a value that may be null; None for another type."""
    kinds = (each for each in _variants(annotation) if isinstance(each, type) and not get_origin(each))
    return next((each for each in kinds if issubclass(each, Struct)), None)
