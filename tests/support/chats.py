"""Scripted servers of conversations whose embedded chats, counts and pages of chats need not agree."""

from __future__ import annotations

from typing import Any

from . import answer, chat, conversation
from .replies import Reply, replying


def listing(conversations: list[dict[str, Any]], totals: dict[str, int], fresh: dict[str, int]) -> Any:
    """A server with pages of fifty conversations, these totals of chats, and these fresh counts and chats."""

    def reply(path: str, query: dict[str, str]) -> bytes:
        parts = path.split("/")
        if path.endswith("/chats"):
            some = [chat(n) for n in range(totals[parts[-2]])]
            return answer(200, {"chats": some, "pageNo": 1, "totalCount": len(some)})
        if parts[-1] != "conversations":
            now = next(each for each in conversations if each["id"] == parts[-1])
            return answer(200, {**now, "chatCount": fresh.get(parts[-1], now["chatCount"])})
        start = int(query.get("cursor", "0"))
        cursor = str(start + 50) if start + 50 < len(conversations) else None
        return answer(200, {"conversations": conversations[start : start + 50], "cursor": cursor})

    return replying(reply)


def embedded(number: int, chats: int, count: int | None = None) -> dict[str, Any]:
    """A conversation with so many embedded chats, and a count that may be another one."""
    row = conversation(
        id=f"c{number}", chats=[chat(n) for n in range(chats)], chatCount=chats if count is None else count
    )
    return row if row["chatCount"] else {**row, "lastChatTime": None}


def chats_of(total: int, embedded_chats: list[dict[str, Any]], count: int, page_size: int = 100) -> Any:
    """A server of eight like conversations, of so many chats each, in pages."""
    rows = [conversation(id=f"c{n}", chats=embedded_chats, chatCount=count) for n in range(8)]
    sent = [chat(n) for n in range(total)]

    def reply(path: str, query: dict[str, str]) -> bytes:
        if path.endswith("/chats"):
            number = int(query["pageNo"])
            some = sent[(number - 1) * page_size : number * page_size]
            return answer(200, {"chats": some, "pageNo": number, "totalCount": total})
        if not path.endswith("conversations"):
            left = [each for each in embedded_chats if any(each["id"] == one["id"] for one in sent)]
            return answer(200, {**rows[0], "id": path.rpartition("/")[2], "chats": left, "chatCount": count})
        return answer(200, {"conversations": rows, "cursor": None})

    return replying(reply)


def chat_pages(total: int, size: int = 100, **changes: Any) -> Reply:
    """Replies of a conversation with so many chats, in pages of a size."""

    def reply(path: str, query: dict[str, str]) -> bytes:
        if not path.endswith("/chats"):
            return answer(200, conversation(chatCount=total))
        number = int(query["pageNo"])
        start = (number - 1) * size
        some = [chat(n) for n in range(start, min(start + size, total))]
        return answer(200, {"chats": some, "pageNo": number, "totalCount": total, **changes})

    return reply
