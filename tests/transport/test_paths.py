"""Ids in paths: an id is exactly one segment, whatever it holds, or it is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import pytest

from alli_async import ConfigurationError
from tests.conftest import ClientFactory
from tests.support import ScriptedServer
from tests.support.servers import OK

IDS = [
    "Q29udmVyc2F0aW9uOjYwMDZiNTM3==",
    "a/b",
    "a?b=c",
    "a#b",
    "a%b",
    "%2e%2e",
    "%00",
    "a+b",
    "a=b",
    "a b",
    "日本",
    "😀",
    "..x",
    "...",
    "../..",
    "/",
    "a;b",
    "a\\b",
    "a&b",
    "http://elsewhere/",
    "\u0085",
    "\u2028",
    "\ufeff",
    "a" * 4000,
]


@pytest.mark.parametrize("value", IDS, ids=lambda value: ascii(value)[:24])
async def test_an_id_is_exactly_one_segment_of_the_path(make_client: ClientFactory, value: str) -> None:
    async with ScriptedServer(OK) as server:
        api = make_client(server).conversations
        await api.get(value)
        await api.delete_chat(value, value)
        assert len(server.requests) == 2
        ids = []
        for request in server.requests:
            assert request.target.startswith("/webapi/v2/conversations/")
            assert request.target.isascii()
            assert not set(request.target) & set("?#\\ ")
            ids += request.target.split("/")[4:]
        assert [unquote(each, errors="strict") for each in ids] == [value, value, "chats", value]


NO_IDS: list[Any] = [
    ".",
    "..",
    "",
    "a\rb",
    "a\nb",
    "a\0b",
    "a\x7fb",
    "a\x1fb",
    "\ud800",
    "a\udfffb",
    None,
    7,
    b"x",
]


@pytest.mark.parametrize("value", NO_IDS, ids=ascii)
async def test_what_is_no_id_is_refused_and_nothing_is_sent(make_client: ClientFactory, value: Any) -> None:
    async with ScriptedServer(OK) as server:
        api = make_client(server).conversations
        calls: dict[str, list[Callable[[], Awaitable[Any]]]] = {
            "conversation id": [
                lambda: api.get(value),
                lambda: api.update(value, title="x"),
                lambda: api.set_title(value, "x"),
                lambda: api.delete_chat(value, "b"),
                lambda: api.send_feedback(value, "b", rating=True),
                lambda: api.is_running(value),
                lambda: api.wait_until_idle(value),
                lambda: api.stop(value),
                lambda: api.transcript(value),
                lambda: api.list_chats(value),
            ],
            "chat id": [
                lambda: api.delete_chat("a", value),
                lambda: api.send_feedback("a", value, rating=True),
            ],
        }
        for name, each in calls.items():
            for call in each:
                with pytest.raises(ConfigurationError, match=rf"{name}: (expected an id|not valid Unicode)"):
                    await call()
        assert server.connections == 0
