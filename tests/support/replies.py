"""Replies of a scripted server, made from the path and the query of each request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from . import Exchange, Received, answer, conversation

Reply = Callable[[str, dict[str, str]], bytes]


def split(request: Received) -> tuple[str, dict[str, str]]:
    """The path of a request, and the first value of each name in its query."""
    parts = urlsplit(request.target)
    return parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}


def replying(reply: Reply) -> Any:
    """An answer for every request, from its path and query."""

    async def send(exchange: Exchange) -> None:
        path, query = split(exchange.request)
        await exchange.send(reply(path, query))

    return send


def list_page(ids: Any, cursor: object) -> bytes:
    """A page of conversations without chats."""
    rows = [conversation(id=each) for each in ids]
    return answer(200, {"conversations": rows, "cursor": None if cursor is None else str(cursor)})
