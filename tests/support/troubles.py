"""What goes wrong on a server in a night: refusals, outages, limits, and answers that cannot be right."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable
from typing import Any, Literal

from aiohttp import web

from tests.support.backend import Backend

Trouble = Literal[
    "none", "refused", "cancelled", "stumbling", "html", "undecodable", "damaged", "killed", "away", "silent",
    "resetting", "limited", "paused",
]  # fmt: skip
# Seconds of an outage; seconds of the window of a limit, and the requests in it.
OUTAGE, WINDOW, MOST = 0.3, 0.2, 25


class Troubles:
    """The troubles of one night.

    Args:
        backend: The server.
        trouble: What goes wrong.
        after: Number of requests before it goes wrong.
        task: The export that is cancelled.
    """

    def __init__(self, backend: Backend, trouble: Trouble, after: int, task: asyncio.Future[Any]) -> None:
        self._backend = backend
        self._trouble = trouble
        self._after = after
        self._task = task
        self._asked = 0
        self._began = 0.0
        self._away: asyncio.Task[None] | None = None
        self._window: deque[float] = deque()
        some = [each for each in backend.talks.values() if len(each.chats) > 3]
        self._victims = {some[after % len(some)].id} if some else set()
        backend.instead, backend.spoiled = self._answer, self._spoil

    @property
    def lost(self) -> set[str]:
        """The ids of the conversations that cannot be had."""
        return self._victims if self._trouble in ("html", "undecodable") else set()

    async def end(self) -> None:
        """All is well again."""
        self._backend.instead, self._backend.spoiled = lambda _: None, lambda _: None
        if self._away is not None:
            await self._away

    def _answer(self, request: web.Request) -> web.Response | Awaitable[web.Response] | None:
        self._asked += 1
        match self._trouble:
            case "refused" if self._asked > self._after:
                body = {"type": "APIError", "code": 7004, "message": "not now"}
                return web.json_response(body, status=403)
            case "cancelled" if self._asked == self._after:
                self._task.cancel()
            case "stumbling" if self._asked % 5 == 0:
                return web.Response(status=500)
            case "html" if any(request.path.endswith(f"/{each}/chats") for each in self._victims):
                return web.Response(text="<html>Bad gateway</html>", content_type="text/html")
            case "away" if self._asked == self._after:
                self._away = asyncio.create_task(self._backend.be_away(OUTAGE))
            case "silent" | "resetting" if self._is_out():
                return self._backend.hang_up(request, after=OUTAGE if self._trouble == "silent" else 0.0)
            case "limited" | "paused":
                return self._limit()
        return None

    def _is_out(self) -> bool:
        if self._asked == self._after:
            self._began = time.monotonic()
        return self._asked >= self._after and time.monotonic() < self._began + OUTAGE

    def _limit(self) -> web.Response | None:
        """Refuse what is too much for a sliding window."""
        now = time.monotonic()
        while self._window and self._window[0] < now - WINDOW:
            self._window.popleft()
        if len(self._window) < MOST:
            self._window.append(now)
            return None
        headers = {"Retry-After": "1"} if self._trouble == "paused" else {}
        return web.Response(status=429, headers=headers)

    def _spoil(self, row: dict[str, object]) -> None:
        if self._trouble == "undecodable" and row.get("id") in self._victims:
            row["chatCount"] = "many"
