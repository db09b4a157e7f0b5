"""Faults that answer 200 with well-formed JSON which is not the right answer."""

from __future__ import annotations

import msgspec

_ERRORS = b'"internal error. upstream timed out"'
_ROWS_BESIDE_ERRORS = 10


class _Chats(msgspec.Struct, rename="camel"):
    page_no: int


def wrong_body(fault: str, operation: str, body: bytes) -> bytes:
    """The body of a 200 as a fault changes it; the right body for every other fault."""
    match fault:
        case "errors":
            return _with_errors(operation, body, 0)
        case "errors_rows":
            return _with_errors(operation, body, _ROWS_BESIDE_ERRORS)
        case "empty_chats" if operation == "listConversationChats":
            number = msgspec.json.decode(body, type=_Chats).page_no
            return msgspec.json.encode({"chats": [], "pageNo": number, "totalCount": 0})
        case _:
            return body


def _with_errors(operation: str, body: bytes, rows: int) -> bytes:
    if operation == "listConversations":
        shown = msgspec.json.encode(_rows(body)[:rows]) if rows else b"[]"
        return b'{"conversations":%b,"cursor":null,"errors":%b}' % (shown, _ERRORS)
    if operation == "getDailyConversationCount":
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        return msgspec.json.encode({**fields, "errors": msgspec.Raw(_ERRORS)})
    # The other answers have no errors of their own. An override may hold JSON that cannot be decoded.
    return b'{"errors":%b}' % _ERRORS if body == b"null" else b'%b,"errors":%b}' % (body[:-1], _ERRORS)


def _rows(body: bytes) -> list[msgspec.Raw]:
    page = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return msgspec.json.decode(page["conversations"], type=list[msgspec.Raw])
