"""Faults that answer 200 with well-formed JSON which is not the right answer."""

from __future__ import annotations

import msgspec

_ERRORS = "internal error. upstream timed out"
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
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw] | None) or {}
    if operation == "listConversations":
        shown = msgspec.json.decode(fields["conversations"], type=list[msgspec.Raw])
        fields["conversations"] = msgspec.Raw(msgspec.json.encode(shown[:rows]))
        fields["cursor"] = msgspec.Raw(b"null")
    fields["errors"] = msgspec.Raw(msgspec.json.encode(_ERRORS))
    return msgspec.json.encode(fields)
