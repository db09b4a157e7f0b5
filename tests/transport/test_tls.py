"""Transport: which servers are believed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from alli_async import (
    AlliClient,
    AlliConnectionError,
    ConfigurationError,
    RetryPolicy,
    TLSError,
)
from tests.conftest import ClientFactory
from tests.support import Exchange, Received, ScriptedServer, certificates, hang_up, reset
from tests.support.certificates import issued
from tests.support.servers import OK, ONCE, Call, fact, get, patch, post

pytestmark = pytest.mark.wire

CANARY = "canary-0123456789"


def year(number: int) -> datetime:
    return datetime(number, 1, 1, tzinfo=UTC)


NOT_BELIEVED = [
    fact("by an authority nobody knows", lambda ours: issued(trustme.CA()), "issuer"),
    fact("expired", lambda ours: issued(ours, not_before=year(2020), not_after=year(2021)), "expired"),
    fact("not valid yet", lambda ours: issued(ours, not_before=year(2099), not_after=year(2100)), "not yet valid"),
    fact("of another host", lambda ours: issued(ours, "example.com"), "not valid for '127.0.0.1'"),
    fact("of another address", lambda ours: issued(ours, "127.0.0.2"), "not valid for '127.0.0.1'"),
]


@pytest.mark.parametrize("call", [get, patch, post])
@pytest.mark.parametrize(("made", "why"), NOT_BELIEVED)
async def test_a_certificate_that_is_not_believed_is_a_tls_error_asked_once_and_nothing_is_sent(
    made: Callable[[trustme.CA], ssl.SSLContext],
    why: str,
    call: Call,
    authority: trustme.CA,
    trusting: ssl.SSLContext,
) -> None:
    async with (
        ScriptedServer(OK, tls=made(authority)) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as http,
        AlliClient(CANARY, base_url=server.url, session=http) as client,
    ):
        with pytest.raises(TLSError, match=f"certificate or handshake was not accepted: .*{why}") as raised:
            await call(client.conversations)
        assert (raised.value.attempts, raised.value.outcome) == (1, "not_sent")
        assert not server.requests


async def test_a_certificate_is_not_believed_for_being_there(certified: ssl.SSLContext) -> None:
    async with (
        ScriptedServer(OK, tls=certified) as server,
        AlliClient(CANARY, base_url=server.url) as client,
    ):
        with pytest.raises(TLSError):
            await get(client.conversations)
        assert not server.requests


async def test_a_certificate_that_the_callers_session_believes_is_enough(
    certified: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async with (
        ScriptedServer(OK, tls=certified) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as http,
        AlliClient("k", base_url=server.url, session=http) as client,
    ):
        assert (await client.conversations.get("a")).title == "t"


@pytest.mark.parametrize(
    ("hello", "kind", "attempts"),
    [
        fact("HTTP in place of TLS", OK, TLSError, 1),
        fact("garbage in place of TLS", b"\x16\x03\x01\xff\xff", TLSError, 1),
        fact("FIN", hang_up, AlliConnectionError, 3),
        fact("RST", reset, AlliConnectionError, 3),
    ],
)
async def test_a_handshake_that_fails_was_not_sent(hello: Any, kind: type[Exception], attempts: int) -> None:
    greeted = 0

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal greeted
        greeted += 1
        exchange = Exchange(Received("", "", [], await reader.read(100)), writer)
        if isinstance(hello, bytes):
            await exchange.send(hello)
            writer.close()
        else:
            await hello(exchange)

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, AlliClient(CANARY, base_url=url, retry=RetryPolicy(max_attempts=3, base=0)) as client:
        with pytest.raises(kind) as raised:
            await post(client.conversations)
    assert (raised.value.outcome, raised.value.attempts, greeted) == ("not_sent", attempts, attempts)  # type: ignore[attr-defined]


async def test_a_private_authority_and_a_client_certificate_are_used(
    make_client: ClientFactory, authority: trustme.CA
) -> None:
    strict = issued(authority)
    authority.configure_trust(strict)
    strict.verify_mode = ssl.CERT_REQUIRED
    mine = certificates.trusting(authority)
    authority.issue_cert("me@example.com").configure_cert(mine)
    async with ScriptedServer(OK, tls=strict) as server:
        assert (await make_client(server, ssl=mine).conversations.get("a")).title == "t"
        with pytest.raises((TLSError, AlliConnectionError)):
            await make_client(server, ssl=certificates.trusting(authority), retry=ONCE).conversations.get("a")


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
