"""The way to the server: proxies, private authorities and client certificates."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from alli_async import (
    AlliClient,
    AlliConnectionError,
    APIError,
    ConfigurationError,
)
from alli_async._transport.routes import environment_proxy
from alli_async.export.dask.cluster import _options as worker_options
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer
from tests.support.proxies import ForwardProxy
from tests.support.servers import OK, ONCE, fact, get, post

# --- proxies ----------------------------------------------------------------------------------------------


async def test_a_proxy_forwards_plain_requests_and_tunnels_encrypted_ones(
    make_client: ClientFactory, certified: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async with (
        ForwardProxy() as proxy,
        ScriptedServer(OK) as plain,
        ScriptedServer(OK, tls=certified) as tls,
    ):
        client = make_client(plain, proxy=proxy.url, ssl=trusting)
        assert (await client.conversations.get("a")).title == "t"
        assert (await client.with_options(base_url=tls.url).conversations.get("a")).title == "t"
        assert proxy.asked == [
            f"GET {plain.url}/webapi/v2/conversations/a HTTP/1.1",
            f"CONNECT {tls.url.removeprefix('https://')} HTTP/1.1",
        ]
        assert tls.requests[0].header("api-key") == "the-key"
        assert tls.requests[0].header("proxy-authorization") is None


@pytest.mark.parametrize("given", ["http://me:pass%40word@{}", "me:pass%40word@{}"])
async def test_a_proxys_password_is_sent_to_it_and_shown_nowhere(
    make_client: ClientFactory, certified: ssl.SSLContext, trusting: ssl.SSLContext, given: str
) -> None:
    async with ForwardProxy("me:pass@word") as proxy, ScriptedServer(OK, tls=certified) as tls:
        url = given.format(f"127.0.0.1:{proxy.port}")
        client = make_client(tls, proxy=url, ssl=trusting)
        assert (await client.conversations.get("a")).title == "t"
        shown = (
            repr(client)
            + repr(vars(client))
            + repr(vars(client._connection))
            + repr(vars(client._connection.route))
        )
        assert "pass@word" not in shown
        assert "pass%40word" not in shown
        wrong = make_client(tls, proxy=url.replace("pass", "guess"), ssl=trusting, retry=ONCE)
        with pytest.raises(AlliConnectionError, match="the proxy answered 407") as raised:
            await wrong.conversations.get("a")
        assert "guess" not in repr(raised.value) + str(raised.value)


@pytest.mark.parametrize(
    "proxy",
    [
        "",
        "socks5://canary@h:1",
        "http://",
        "http://canary:canary@h:x",
        "ftp://canary@h",
        "http://ca nary@h",
        "http://é",
        7,
    ],
)
def test_a_proxy_that_is_none_is_refused_without_showing_it(proxy: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^proxy: expected http://") as raised:
        AlliClient("k", proxy=proxy)
    assert "canary" not in str(raised.value)


def test_a_proxy_on_another_machine_never_sees_the_key_of_an_unencrypted_request() -> None:
    with pytest.raises(ConfigurationError, match="would see the key"):
        AlliClient("k", base_url="http://127.0.0.1:1", proxy="http://proxy.example.com:3128")
    AlliClient("k", base_url="https://example.com", proxy="http://proxy.example.com:3128")
    AlliClient("k", base_url="http://127.0.0.1:1", proxy="http://proxy.example.com:3128", allow_http=True)


@pytest.mark.parametrize(
    "option", [{"proxy": "http://127.0.0.1:1"}, {"trust_env": True}, {"ssl": ssl.create_default_context()}]
)
async def test_an_aiohttp_session_brings_its_own_proxy_and_certificates(option: dict[str, Any]) -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(ConfigurationError, match="session: brings its own"):
            AlliClient("k", session=http, **option)


async def test_a_proxy_with_a_password_forwards_plain_requests_on_kept_connections(
    make_client: ClientFactory,
) -> None:
    async with ForwardProxy("me:word") as proxy, ScriptedServer(OK) as server:
        client = make_client(server, proxy=f"http://me:word@127.0.0.1:{proxy.port}", retry=ONCE)
        for _ in range(3):
            assert (await client.conversations.get("a")).title == "t"
        with pytest.raises(APIError, match="407"):
            await make_client(server, proxy=proxy.url, retry=ONCE).conversations.get("a")


async def test_the_environments_proxy_is_used_where_it_is_trusted_and_its_passwords_file_never(
    make_client: ClientFactory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with ForwardProxy() as proxy, ScriptedServer(OK) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            with monkeypatch.context() as patch:
                patch.setenv(name, proxy.url)
                await make_client(server, trust_env=True).conversations.get("a")
                assert len(proxy.asked) == 1
                proxy.asked.clear()
                await make_client(server).conversations.get("a")
                patch.setenv("no_proxy", "example.com,127.0.0.0/8")
                await make_client(server, trust_env=True).conversations.get("a")
                assert proxy.asked == []
        assert {each.header("authorization") for each in server.requests} == {None}


@pytest.mark.parametrize(
    ("environ", "url", "found"),
    [
        ({}, "https://a.b", None),
        ({"https_proxy": "p:1"}, "https://a.b", "p:1"),
        ({"HTTPS_PROXY": "p:1"}, "https://a.b", "p:1"),
        ({"https_proxy": "p:1", "HTTPS_PROXY": "p:2"}, "https://a.b", "p:1"),
        ({"https_proxy": "", "HTTPS_PROXY": "p:2"}, "https://a.b", "p:2"),
        ({"http_proxy": "p:1"}, "https://a.b", None),
        ({"http_proxy": "p:1"}, "http://a.b", "p:1"),
        ({"HTTP_PROXY": "p:1"}, "http://a.b", None),
        ({"all_proxy": "p:1"}, "https://a.b", "p:1"),
        ({"ALL_PROXY": "p:1"}, "http://a.b", "p:1"),
        ({"all_proxy": "p:1", "https_proxy": "p:2"}, "https://a.b", "p:2"),
        ({"all_proxy": "p:1", "NO_PROXY": "a.b"}, "https://a.b", None),
        ({"all_proxy": "p:1", "no_proxy": "x.y", "NO_PROXY": "a.b"}, "https://a.b", "p:1"),
        ({"all_proxy": "p:1", "no_proxy": "*"}, "https://a.b", None),
        ({"all_proxy": "p:1", "no_proxy": "x.y, .b"}, "https://a.b", None),
        ({"all_proxy": "p:1", "no_proxy": "x.y b"}, "https://A.B", None),
        ({"all_proxy": "p:1", "no_proxy": "b"}, "https://ab", "p:1"),
        ({"all_proxy": "p:1", "no_proxy": "a.b"}, "https://c.a.b:8443/d", None),
        ({"all_proxy": "p:1", "no_proxy": "a.b."}, "https://a.b", None),
        ({"all_proxy": "p:1", "no_proxy": "10.0.0.0/8"}, "https://10.1.2.3", None),
        ({"all_proxy": "p:1", "no_proxy": "10.0.0.0/16"}, "https://10.1.2.3", "p:1"),
        ({"all_proxy": "p:1", "no_proxy": "10.1.2.3"}, "https://10.1.2.3", None),
        ({"all_proxy": "p:1", "no_proxy": ".3"}, "https://10.1.2.3", "p:1"),
        ({"all_proxy": "p:1", "no_proxy": "fe80::/10"}, "https://[fe80::1]", None),
        ({"all_proxy": "p:1", "no_proxy": "[fe80::1]"}, "https://[fe80::1]", None),
    ],
)
def test_the_environment_is_read_as_curl_reads_it(environ: dict[str, str], url: str, found: str | None) -> None:
    here = environment_proxy(url, environ, as_curl=True)
    assert (here and here[1]) == found


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"])
def test_a_proxy_elsewhere_is_not_asked_for_a_server_on_this_machine(url: str) -> None:
    assert environment_proxy(url, {"all_proxy": "http://proxy.example.com:3128"}) is None
    assert environment_proxy(url, {"all_proxy": "http://127.0.0.1:3128"}) is not None


# --- a cluster --------------------------------------------------------------------------------------------


async def test_the_workers_of_a_cluster_get_the_proxy_but_never_its_password() -> None:
    assert worker_options(AlliClient("k", proxy="http://127.0.0.1:1"))["proxy"] == "http://127.0.0.1:1"
    secret = worker_options(AlliClient("k", proxy="http://me:canary@127.0.0.1:1"))
    assert (secret["proxy"], secret["trust_env"]) == (None, True)
    assert "canary" not in repr(secret)
    with pytest.raises(ConfigurationError, match="cluster: certificates"):
        worker_options(AlliClient("k", ssl=ssl.create_default_context()))
    AlliClient("k", **worker_options(AlliClient("k", headers={"X": "1"}, trust_env=True)))


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
