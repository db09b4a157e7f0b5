"""A small Alli backend whose data, clock and habits a test changes as it goes."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Self

from aiohttp import web


@dataclass
class Talk:
    """A conversation: when each of its chats was sent, in seconds since 1970."""

    id: str
    chats: list[float]
    title: str = "a title"
    texts: str = "text"

    @property
    def first(self) -> float | None:
        return self.chats[0] if self.chats else None

    @property
    def last(self) -> float | None:
        return self.chats[-1] if self.chats else None

    def chat_ids(self) -> list[str]:
        return [f"{self.id}-{number}" for number in range(len(self.chats))]


def _first(talk: Talk) -> float | None:
    return talk.first


def _last(talk: Talk) -> float | None:
    return talk.last


@dataclass
class Backend:
    """Lists by first and by last chat, with filters on both, offset cursors, and nulls last.

    Attributes:
        talks: The conversations, by their ids.
        second: The server's second: 1 or 1000.
        date: The Date header; None for the clock of this machine.
        instead: Called with a request; gives an answer in place of the right one, now or later, or None.
        spoiled: Called with a row of a list or a chat page before it is sent; changes it.
        asked: The queries of all requests for a list.
    """

    talks: dict[str, Talk] = field(default_factory=dict)
    second: float = 1000.0
    date: str | None = None
    api_key: str = "a-key-of-this-project"
    instead: Callable[[web.Request], web.Response | Awaitable[web.Response] | None] = lambda _: None
    spoiled: Callable[[dict[str, Any]], None] = lambda _: None
    asked: list[dict[str, str]] = field(default_factory=list)
    _runner: web.AppRunner = field(init=False)
    _site: web.TCPSite = field(init=False)

    def add(
        self, count: int, *, at: float | None = None, step: float = 0.001, chats: int = 2, prefix: str = "c"
    ) -> list[str]:
        """Add conversations, the last of which begins at a time, now if none is given; seconds apart."""
        last = time.time() - 1 if at is None else at
        made = []
        for number in range(count):
            first = last - (count - 1 - number) * step - chats * 0.1
            talk = Talk(f"{prefix}{len(self.talks):05}", [first + 0.1 * n for n in range(chats)])
            self.talks[talk.id] = talk
            made.append(talk.id)
        return made

    def truth(self) -> dict[str, list[str]]:
        """The ids of the chats of each conversation."""
        return {talk.id: talk.chat_ids() for talk in self.talks.values()}

    async def hang_up(self, request: web.Request, *, after: float) -> web.Response:
        """Break the connection of a request, without an answer, after so many seconds."""
        await asyncio.sleep(after)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def be_away(self, seconds: float) -> None:
        """Refuse all connections for a while, and break those that there are."""
        await self._site.stop()
        for connection in list(self._runner.server.connections if self._runner.server else ()):
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(seconds)
        self._site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await self._site.start()

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_route("*", "/{tail:.*}", self._answer)
        application.on_response_prepare.append(self._stamp)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await self._site.start()
        self._port: int = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _stamp(self, _: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = self.date or formatdate(usegmt=True)

    async def _answer(self, request: web.Request) -> web.Response:
        if (instead := self.instead(request)) is not None:
            return instead if isinstance(instead, web.Response) else await instead
        names = request.path.strip("/").split("/")
        if names[-1] == "conversations":
            return self._list(dict(request.query))
        if len(names) < 4 or (talk := self.talks.get(names[3])) is None:
            body = {"type": "APIError", "code": 7003, "message": "no such conversation"}
            return web.json_response(body, status=404)
        if names[-1] == "chats":
            chats = self._chats(talk)
            page = int(request.query.get("pageNo", 1))
            body = {"chats": chats[page * 100 - 100 : page * 100], "pageNo": page, "totalCount": len(chats)}
            self.spoiled(body)
            return web.json_response(body)
        return web.json_response(self._row(talk))

    def _chats(self, talk: Talk) -> list[dict[str, Any]]:
        return [
            {"id": name, "sender": "user", "timestamp": at * self.second, "message": talk.texts}
            for name, at in zip(talk.chat_ids(), talk.chats, strict=True)
        ]

    def _row(self, talk: Talk) -> dict[str, Any]:
        return {
            "id": talk.id, "title": talk.title, "user": None, "isEnd": False, "categories": None, "memo": None,
            "createdAt": (talk.first or 1.7e9) * self.second, "chats": self._chats(talk)[-3:],
            "lastChatTime": None if talk.last is None else talk.last * self.second,
            "chatCount": len(talk.chats), "llmApp": None, "variables": None,
        }  # fmt: skip

    def _list(self, query: dict[str, str]) -> web.Response:
        self.asked.append(query)
        order = query.get("order", "LAST_CHAT_TIME_DESC")
        by = _last if order.startswith("LAST") else _first
        rows = [talk for talk in self.talks.values() if self._is_selected(talk, query)]
        timed = sorted((talk for talk in rows if by(talk) is not None), key=lambda talk: (by(talk), talk.id))
        timed = timed[::-1] if order.endswith("DESC") else timed
        rows = [*timed, *(talk for talk in rows if by(talk) is None)]
        start = int(base64.b64decode(query["cursor"]).split(b":")[1]) + 1 if "cursor" in query else 0
        end = start + int(query.get("pageSize", 50))
        cursor = base64.b64encode(b"arrayconnection:%d" % (end - 1)).decode() if end < len(rows) else None
        shown = [self._row(talk) for talk in rows[start:end]]
        for row in shown:
            self.spoiled(row)
        return web.Response(body=json.dumps({"conversations": shown, "cursor": cursor}).encode())

    def _is_selected(self, talk: Talk, query: dict[str, str]) -> bool:
        bounds = (("startedAt", "endAt", talk.last), ("firstChatStartedAt", "firstChatEndAt", talk.first))
        for low, high, value in bounds:
            start, end = (float(query[name]) / self.second if name in query else None for name in (low, high))
            if (start, end) == (None, None):
                continue
            if value is None or (start is not None and value < start) or (end is not None and value > end):
                return False
        return True
