"""A server of a list whose first chat times are given, with its own ideas about cursors."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from . import Exchange, answer, chat, conversation
from .replies import split

START = 1_704_067_200_000.0


@dataclass
class RowServer:
    """Answers list requests; to be given to a `ScriptedServer`.

    Attributes:
        times: The first chat times, ascending.
        changed_filters: What happens when a token comes back with other filters than it was made with: "nothing",
            "refuses", "gives nothing", "starts anew" or "goes on as before".
        empties: Number of conversations without chats.
        nulls: Where they stand: "last" or "first" in both orders, or "smallest" or "largest", as databases do
            without being told.
        cursor: "token", or a format for the number of rows before the page.
        older: By how much conversations were created before their first chat.
        shuffle: Draws the order of rows of one time anew at each request; None for the same order each time.
        changed: Number of tokens that came back with other filters.
        asked: The queries of the list requests.
    """

    times: list[float]
    changed_filters: str = "nothing"
    empties: int = 0
    nulls: str = "last"
    cursor: str = "token"
    older: float = 0.0
    shuffle: random.Random | None = None
    given: dict[str, tuple[str, int]] = field(default_factory=dict)
    changed: int = 0
    asked: list[dict[str, str]] = field(default_factory=list)

    async def __call__(self, exchange: Exchange) -> None:
        """Answer a request."""
        path, query = split(exchange.request)
        if path.endswith("/chats"):
            chats = self._row(path.split("/")[-2])["chats"]
            await exchange.send(answer(200, {"chats": chats, "pageNo": 1, "totalCount": len(chats)}))
        elif not path.endswith("conversations"):
            await exchange.send(answer(200, self._row(path.rpartition("/")[2])))
        else:
            self.asked.append(query)
            await exchange.send(self._page(query))

    @property
    def ids(self) -> list[str]:
        """The ids of all conversations, sorted."""
        return sorted([f"c{n}" for n in range(len(self.times))] + [f"n{n}" for n in range(self.empties)])

    def _page(self, query: dict[str, str]) -> bytes:
        window = query.get("firstChatStartedAt", "") + ".." + query.get("firstChatEndAt", "")
        offset, size = 0, int(query["pageSize"])
        if "cursor" in query and "%" in self.cursor:
            offset = int(query["cursor"].partition(":")[2])
        elif "cursor" in query:
            if query["cursor"] not in self.given:
                return _refusal()
            former, offset = self.given[query["cursor"]]
            if former != window:
                self.changed += 1
                if self.changed_filters == "refuses":
                    return _refusal()
                if self.changed_filters == "gives nothing":
                    return answer(200, {"conversations": [], "cursor": None})
                if self.changed_filters == "starts anew":
                    offset = 0
                if self.changed_filters == "goes on as before":
                    window = former
        rows = self._rows(window, query["order"].endswith("DESC"))
        cursor = None
        if offset + size < len(rows):
            cursor = self.cursor % (offset + size) if "%" in self.cursor else f"token-{len(self.given):x}z"
            self.given[cursor] = window, offset + size
        return answer(200, {"conversations": rows[offset : offset + size], "cursor": cursor})

    def _row(self, conversation_id: str) -> dict[str, Any]:
        """A conversation with one chat ("c…") or without chats ("n…")."""
        number = int(conversation_id[1:])
        if conversation_id.startswith("n"):
            return conversation(id=conversation_id, createdAt=START + number, lastChatTime=None)
        time = self.times[number]
        chats = [chat(number, timestamp=time)]
        created = time - self.older
        return conversation(id=conversation_id, createdAt=created, lastChatTime=time, chats=chats, chatCount=1)

    def _rows(self, window: str, descending: bool) -> list[dict[str, Any]]:
        start, end = (float(bound) if bound else None for bound in window.split(".."))
        timed = [
            self._row(f"c{number}")
            for number, time in enumerate(self.times)
            if (start is None or start <= time) and (end is None or time <= end)
        ]
        empty = [self._row(f"n{number}") for number in range(self.empties if window == ".." else 0)]
        if descending:
            timed.reverse()
        if (draw := self.shuffle) is not None:
            sign = -1 if descending else 1
            timed.sort(key=lambda row: (sign * row["lastChatTime"], draw.random()))
        before = {"first": True, "last": False, "smallest": not descending, "largest": descending}[self.nulls]
        return empty + timed if before else timed + empty


def _refusal() -> bytes:
    return answer(400, {"type": "APIError", "code": 7003, "message": "cursor"})
