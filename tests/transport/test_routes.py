"""The way to the server: proxies, private authorities and client certificates."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from alli_async import AlliClient, AlliConnectionError, APIError, ConfigurationError, RetryPolicy, TLSError
from alli_async._transport.routes import environment_proxy
from alli_async.export.dask.cluster import _options as worker_options
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer, conversation
from tests.support.proxies import ForwardProxy

OK = answer(200, conversation())
LIST = answer(200, {"conversations": [conversation()], "cursor": None})
ONCE = RetryPolicy(max_attempts=1)
KEY = "canary-0123456789"


def issued(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


# --- proxies ----------------------------------------------------------------------------------------------


async def test_a_proxy_forwards_plain_requests_and_tunnels_encrypted_ones(
    make_client: ClientFactory, authority: trustme.CA
) -> None:
    async with (
        ForwardProxy() as proxy,
        ScriptedServer(OK) as plain,
        ScriptedServer(OK, tls=issued(authority)) as tls,
    ):
        client = make_client(plain, proxy=proxy.url, ssl=trusting(authority))
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
    make_client: ClientFactory, authority: trustme.CA, given: str
) -> None:
    async with ForwardProxy("me:pass@word") as proxy, ScriptedServer(OK, tls=issued(authority)) as tls:
        url = given.format(f"127.0.0.1:{proxy.port}")
        client = make_client(tls, proxy=url, ssl=trusting(authority))
        assert (await client.conversations.get("a")).title == "t"
        shown = (
            repr(client)
            + repr(vars(client))
            + repr(vars(client._connection))
            + repr(vars(client._connection.route))
        )
        assert "pass@word" not in shown
        assert "pass%40word" not in shown
        wrong = make_client(tls, proxy=url.replace("pass", "guess"), ssl=trusting(authority), retry=ONCE)
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


# --- certificates -----------------------------------------------------------------------------------------


async def test_a_private_authority_and_a_client_certificate_are_used(
    make_client: ClientFactory, authority: trustme.CA
) -> None:
    strict = issued(authority)
    authority.configure_trust(strict)
    strict.verify_mode = ssl.CERT_REQUIRED
    mine = trusting(authority)
    authority.issue_cert("me@example.com").configure_cert(mine)
    async with ScriptedServer(OK, tls=strict) as server:
        assert (await make_client(server, ssl=mine).conversations.get("a")).title == "t"
        with pytest.raises((TLSError, AlliConnectionError)):
            await make_client(server, ssl=trusting(authority), retry=ONCE).conversations.get("a")


async def test_the_file_of_ssl_cert_file_is_trusted_even_if_it_is_set_late(
    make_client: ClientFactory, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "empty.pem").write_text("")
    async with ScriptedServer(OK, tls=issued(authority)) as server:
        with pytest.raises(TLSError):
            await make_client(server).conversations.get("a")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert (await make_client(server).conversations.get("a")).title == "t"
        for name in ("empty.pem", "missing.pem"):
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / name))
            with pytest.raises(ConfigurationError, match=rf"SSL_CERT_FILE: cannot read .*{name}"):
                await make_client(server).conversations.get("a")


@pytest.mark.parametrize("value", [False, True, "ca.pem"])
def test_certificates_that_are_no_context_are_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"ssl: expected an ssl.SSLContext"):
        AlliClient("k", ssl=value)


# --- a cluster --------------------------------------------------------------------------------------------


async def test_the_workers_of_a_cluster_get_the_proxy_but_never_its_password() -> None:
    assert worker_options(AlliClient("k", proxy="http://127.0.0.1:1"))["proxy"] == "http://127.0.0.1:1"
    secret = worker_options(AlliClient("k", proxy="http://me:canary@127.0.0.1:1"))
    assert (secret["proxy"], secret["trust_env"]) == (None, True)
    assert "canary" not in repr(secret)
    with pytest.raises(ConfigurationError, match="cluster: certificates"):
        worker_options(AlliClient("k", ssl=ssl.create_default_context()))
    AlliClient("k", **worker_options(AlliClient("k", headers={"X": "1"}, trust_env=True)))


# --- the command ------------------------------------------------------------------------------------------


async def command(*arguments: str, url: str, **environ: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "alli_async", "conversations", *arguments),
        env={**os.environ, "ALLI_API_KEY": KEY, "ALLI_BASE_URL": url, **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_the_command_takes_its_proxy_from_the_option_or_the_environment() -> None:
    async with ForwardProxy() as proxy, ScriptedServer(LIST) as server:
        for arguments, environ, is_used in [
            ((), {"http_proxy": proxy.url.removeprefix("http://")}, True),
            ((), {"HTTP_PROXY": proxy.url}, False),
            (("--proxy", ""), {"http_proxy": proxy.url}, False),
            (("--proxy", proxy.url), {"http_proxy": "http://127.0.0.1:1"}, True),
        ]:
            proxy.asked.clear()
            status, out, err = await command(*arguments, url=server.url, **environ)
            assert (status, err) == (0, "")
            assert out.count("\n") == 1
            assert bool(proxy.asked) is is_used, (arguments, environ)


async def test_the_command_refuses_a_proxy_by_the_name_it_was_given_under() -> None:
    for arguments, environ, name in [
        (("--proxy", "socks5://me:secret@h:1"), {}, "--proxy"),
        ((), {"all_proxy": "socks5://me:secret@h:1"}, "all_proxy"),
    ]:
        status, out, err = await command(*arguments, url="https://example.com", **environ)
        assert (status, out) == (2, "")
        assert err.startswith(f"alli-async: {name}: expected http://")
        assert "secret" not in err


async def test_the_command_trusts_the_authorities_of_a_file(authority: trustme.CA, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    (tmp_path / "no.pem").write_text("x")
    async with ScriptedServer(LIST, tls=issued(authority)) as server:
        assert (await command("--ca-file", str(path), url=server.url))[0] == 0
        assert (await command(url=server.url, SSL_CERT_FILE=str(path)))[0] == 0
        status, _, err = await command(url=server.url)
        assert status == 1
        assert "TLSError" in err
        status, _, err = await command("--ca-file", str(tmp_path / "no.pem"), url=server.url)
        assert status == 2
        assert err.startswith("alli-async: --ca-file: cannot read CA certificates (PEM) from ")


async def test_the_command_reads_answers_up_to_the_size_it_is_told() -> None:
    async with ScriptedServer(LIST) as server:
        assert (await command("--max-response-mb", "0.1", url=server.url))[0] == 0
        status, _, err = await command("--max-response-mb", "0.00001", url=server.url)
        assert status == 1
        assert "ResponseTooLargeError" in err
