"""Transport: where a request goes, what it carries, and what keeps it from being sent at all."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import aiohttp
import pytest

from alli_async import AlliClient, AlliConnectionError, ConfigurationError, RedirectError
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer
from tests.support.servers import OK, Call, delete, fact, get, patch, post, put

pytestmark = pytest.mark.wire

CANARY = "canary-0123456789"

# --- redirects --------------------------------------------------------------------------------------------


# Each status with each place, and each method with either.
CALLS = [get, put, patch, post, delete]
STATUSES = [301, 302, 303, 307, 308]
PLACES = ["the same host", "another host", "http, from https", "nowhere", "no URL"]
REDIRECTS = [
    fact(f"{status} of {call.__name__} to {where}", status, where, call)
    for number, where in enumerate(PLACES)
    for place, status in enumerate(STATUSES)
    for call in [CALLS[(number + place) % 5]]
]


@pytest.mark.parametrize(("status", "where", "call"), REDIRECTS)
async def test_a_redirect_is_never_followed_and_the_key_never_seen_elsewhere(
    status: int, where: str, call: Call, certified: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async with ScriptedServer(OK) as other:
        location = {"the same host": "/x", "nowhere": None, "no URL": "http://[::1"}.get(where, f"{other.url}/x")
        headers = [] if location is None else [("Location", location)]
        tls = certified if where == "http, from https" else None
        async with (
            ScriptedServer(answer(status, headers=headers), OK, tls=tls) as server,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as http,
            AlliClient(CANARY, base_url=server.url, session=http) as client,
        ):
            with pytest.raises(RedirectError, match="not followed") as raised:
                await call(client.conversations)
            assert (raised.value.status, raised.value.outcome) == (status, "rejected")
            assert len(server.requests) == 1
        assert other.connections == 0


# --- ids --------------------------------------------------------------------------------------------------

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
        calls = {
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


# --- where to ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://backend.alli.ai",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://example.com#@127.0.0.1",
        "http://127.0.0.1@example.com",
        "http://localhost:80@example.com",
        "http://0.0.0.0",
        "http://127.1",
        "http://2130706433",
        "http://0x7f.1",
        "http://10.0.0.1",
        "http://[fe80::1]",
        "HTTP://EXAMPLE.COM",
        "http://localhost%2eexample.com",
        "http://localhost\\.example.com",
        "http:example.com",
        "//example.com",
        "ws://localhost",
        "file:///etc/passwd",
    ],
)
def test_the_key_is_not_sent_unencrypted_to_anything_but_this_machine(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^base_url: "):
        AlliClient("k", base_url=url)


@pytest.mark.parametrize("url", ["http://localhost:1", "http://127.0.0.1", "http://127.9.9.9", "http://[::1]:80"])
def test_this_machine_may_be_spoken_to_unencrypted(url: str) -> None:
    assert url in repr(AlliClient("k", base_url=url))
    assert "example" in repr(AlliClient("k", base_url="http://example.com", allow_http=True))


async def test_neither_a_proxy_nor_a_password_of_the_environment_is_used(
    make_client: ClientFactory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with ScriptedServer(OK) as server, ScriptedServer(OK) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        await get(make_client(server).conversations)
        assert (len(server.requests), proxy.connections) == (1, 0)
        assert server.requests[0].header("authorization") is None


async def test_a_proxy_is_used_when_the_callers_session_asks_for_it(make_client: ClientFactory) -> None:
    async with ScriptedServer(OK) as server, ScriptedServer(OK) as proxy:
        async with aiohttp.ClientSession(proxy=proxy.url) as http:
            await get(make_client(server, session=http).conversations)
        assert (server.connections, proxy.requests[0].target) == (0, f"{server.url}/webapi/v2/conversations/a")


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        fact("a password", answer(407), "407 X"),
        fact("the host", answer(403, b"<html>no</html>"), "403 X"),
        fact("load", answer(503), "503 X"),
    ],
)
async def test_a_write_that_a_proxy_makes_no_tunnel_for_was_not_sent_and_is_tried_again(
    make_client: ClientFactory, sleeps: list[float], refusal: bytes, told: str, certified: ssl.SSLContext
) -> None:
    async with ScriptedServer(OK, tls=certified) as server, ScriptedServer(refusal) as proxy:
        async with aiohttp.ClientSession(proxy=proxy.url) as http:
            client = make_client(server, session=http)
            with pytest.raises(AlliConnectionError, match=f"no connection: the proxy answered {told} ") as raised:
                await post(client.conversations)
        assert (raised.value.outcome, raised.value.attempts) == ("not_sent", 4)
        assert {each.method for each in proxy.requests} == {"CONNECT"}
        assert (len(proxy.requests), server.connections) == (4, 0)
        assert not any(each.header("api-key") for each in proxy.requests)
