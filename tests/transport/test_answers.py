"""Transport: answers that are cut, slow, garbled, endless or far too large."""

from __future__ import annotations

import asyncio
import gzip
import re
import zlib
from typing import Any

import aiohttp
import pytest

from alli_async import (
    AlliConnectionError,
    AlliTimeoutError,
    APIError,
    ConversationState,
    ResponseTooLargeError,
    RetryPolicy,
)
from tests.conftest import ClientFactory
from tests.support import Answer, Exchange, ScriptedServer, answer, hang_up, reset, servers, silence, slowly
from tests.support.servers import BODY, OK, ONCE, closing, fact, get, post, python, raw

pytestmark = pytest.mark.wire


def encoded(name: str, body: bytes) -> bytes:
    return answer(200, body, headers=[("Content-Encoding", name)])


BROKEN = [
    fact("FIN before any answer", hang_up),
    fact("RST before any answer", reset),
    fact("FIN in the head", servers.CUT_HEAD),
    fact("a body short of its Content-Length", servers.CUT_BODY),
    fact("a body cut in a chunk", servers.CUT_CHUNK),
    fact("a body without its last chunk", servers.NO_LAST_CHUNK),
    fact("a chunk whose size is no number", raw(servers.CHUNKED, b"zz\r\n{}\r\n0\r\n\r\n")),
    fact("a negative chunk", raw(servers.CHUNKED, b"-2\r\n{}\r\n0\r\n\r\n")),
    fact("gzip that is none", servers.NO_GZIP),
    fact("gzip with something behind it", encoded("gzip", gzip.compress(BODY) + b"xx")),
    fact("deflate that is none", encoded("deflate", b"\xff" + BODY)),
    fact("an encoding that was not asked for", encoded("br", BODY)),
    fact("another protocol", servers.NO_HTTP),
    fact("HTTP/2 frames", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" * 5),
    fact("TLS in place of HTTP", b"\x15\x03\x01\x00\x02\x02\x28\r\n\r\n"),
    fact("a version that is none", raw(b"HTTP/9.9 200 OK\nContent-Length: 0")),
    fact("a status of two digits", raw(b"HTTP/1.1 99 X\nContent-Length: 0")),
    fact("a status of four digits", raw(b"HTTP/1.1 1000 X\nContent-Length: 0")),
    fact("a negative status", raw(b"HTTP/1.1 -1 X\nContent-Length: 0")),
    fact("a status that is a word", raw(b"HTTP/1.1 OK 200\nContent-Length: 0")),
    fact("two lengths", raw(b"HTTP/1.1 200 X\nContent-Length: 2\nContent-Length: 3", b"{}}")),
    fact("a negative length", raw(b"HTTP/1.1 200 X\nContent-Length: -2", b"{}")),
    fact("a length that is no number", raw(b"HTTP/1.1 200 X\nContent-Length: two", b"{}")),
    fact("a length and chunks", raw(servers.CHUNKED + b"\nContent-Length: 2", b"2\r\n{}\r\n0\r\n\r\n")),
    fact("a null byte in a header", raw(b"HTTP/1.1 200 X\nX: a\0b\nContent-Length: 2", b"{}")),
    fact("a header without a name", raw(b"HTTP/1.1 200 X\n: b\nContent-Length: 2", b"{}")),
    fact("a body where none may be", raw(b"HTTP/1.1 204 X\nContent-Length: 5", b"hello")),
]


@pytest.mark.parametrize("broken", BROKEN)
async def test_an_answer_that_is_not_whole_or_no_http_is_a_connection_error_of_unknown_outcome(
    make_client: ClientFactory, broken: Answer
) -> None:
    async with ScriptedServer(broken, OK) as server:
        client = make_client(server, retry=ONCE)
        with pytest.raises(AlliConnectionError, match="before the answer was whole: ") as raised:
            await client.conversations.update("a", state=ConversationState.NO)
        assert (raised.value.outcome, len(server.requests)) == ("unknown", 1)
        assert "\n" not in str(raised.value)
        assert "400" not in str(raised.value)
        assert (await client.conversations.get("a")).title == "t"
        assert server.connections == 2


WHOLE = [
    fact("a body that ends with the connection", closing(raw(b"HTTP/1.1 200 X", BODY))),
    fact("HTTP/1.0", closing(raw(b"HTTP/1.0 200 X", BODY))),
    fact("chunks", raw(servers.CHUNKED, b"".join(map(servers.chunk, (BODY[:3], BODY[3:], b""))))),
    fact("one byte at a time", slowly(OK, 0)),
    fact("gzip", encoded("gzip", gzip.compress(BODY))),
    fact("gzip in two members", encoded("gzip", gzip.compress(BODY[:9]) + gzip.compress(BODY[9:]))),
    fact("deflate", encoded("deflate", zlib.compress(BODY))),
    fact("deflate without its head", encoded("deflate", zlib.compress(BODY)[2:-4])),
    fact("identity", encoded("identity", BODY)),
    fact("100 before it", b"HTTP/1.1 100 Continue\r\n\r\n" + OK),
    fact("103 before it", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK),
    fact("no reason phrase", raw(b"HTTP/1.1 200\nContent-Length: %d" % len(BODY), BODY)),
    fact("a reason in Latin-1", raw(b"HTTP/1.1 200 D\xe9j\xe0\nContent-Length: %d" % len(BODY), BODY)),
    fact("a charset that is none", answer(200, BODY, headers=[("Content-Type", "text/html; charset=klingon")])),
    fact("a cookie that is none", answer(200, BODY, headers=[("Set-Cookie", "\x80=;;;")])),
]


@pytest.mark.parametrize("whole", WHOLE)
async def test_an_answer_that_is_whole_is_read_however_it_comes(make_client: ClientFactory, whole: Answer) -> None:
    async with ScriptedServer(whole) as server:
        found = await make_client(server, retry=ONCE).conversations.get("a")
        assert found.raw == BODY


async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_calls(make_client: ClientFactory) -> None:
    second = answer(200, {"isRunning": True})
    async with ScriptedServer(OK + second, answer(200, {"isRunning": False})) as server:
        api = make_client(server, retry=ONCE).conversations
        await api.get("a")
        assert await api.is_running("a") is False
        assert (len(server.requests), server.connections) == (2, 2)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        fact("one of 100 MB", b"HTTP/1.1 200 X\r\nX: ", b"a" * (1 << 16)),
        fact("100 MB of them", b"HTTP/1.1 200 X\r\n", b"X: %s\r\n" % (b"a" * 4000) * 16),
        fact("a reason of 100 MB", b"HTTP/1.1 200 ", b"a" * (1 << 16)),
    ],
)
async def test_headers_without_end_are_not_read_to_it(
    make_client: ClientFactory, head: bytes, piece: bytes
) -> None:
    taken = 0

    async def endless(exchange: Exchange) -> None:
        nonlocal taken
        await exchange.send(head)
        for _ in range(1600):
            await exchange.send(piece)
            taken += len(piece)

    async with ScriptedServer(endless) as server:
        with pytest.raises(AlliConnectionError, match="not HTTP") as raised:
            await get(make_client(server, retry=ONCE).conversations)
        assert len(str(raised.value)) < 1000
    assert taken < 20_000_000  # what the sockets' own buffers take


# --- time -------------------------------------------------------------------------------------------------


async def _slow_body(exchange: Exchange) -> None:
    await exchange.send(OK[: -len(BODY)])
    for byte in BODY:
        await exchange.send(bytes([byte]))
        await asyncio.sleep(0.05)


async def _hints_for_ever(exchange: Exchange) -> None:
    while True:
        await exchange.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "stalling",
    [
        fact("silence", silence),
        fact("one byte in 50 ms", slowly(OK, 0.05)),
        fact("a body of one byte in 50 ms", _slow_body),
        fact("interim answers for ever", _hints_for_ever),
    ],
)
async def test_the_attempts_timeout_and_the_calls_deadline_bound_what_stalls(
    make_client: ClientFactory, stalling: Answer
) -> None:
    async with ScriptedServer(stalling) as server:
        client = make_client(server, timeout=0.5, retry=ONCE)
        with pytest.raises(AlliTimeoutError, match=r"attempt's 0\.5 s") as raised:
            await post(client.conversations)
        assert raised.value.outcome == "unknown"
        with pytest.raises(AlliTimeoutError, match=r"deadline of 0\.5 s") as raised:
            await post(client.with_options(timeout=60, deadline=0.5).conversations)
        assert raised.value.outcome == "unknown"
        assert raised.value.elapsed < 10
        assert len(server.requests) == 2


async def test_a_write_that_waits_for_a_place_in_the_pool_gives_up_in_time_and_was_not_sent(
    make_client: ClientFactory,
) -> None:
    async with ScriptedServer(silence) as server:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http:
            client = make_client(server, session=http, retry=RetryPolicy(max_attempts=2, base=0))
            first = asyncio.create_task(client.conversations.is_running("a"))
            await server.asked()
            with pytest.raises(AlliTimeoutError) as raised:
                await post(client.with_options(timeout=0.5).conversations)
            assert (raised.value.outcome, raised.value.attempts) == ("not_sent", 2)
            with pytest.raises(AlliTimeoutError, match="deadline"):
                await post(client.with_options(deadline=0.5).conversations)
            assert len(server.requests) == 1
            first.cancel()
            await asyncio.wait([first])


# --- size -------------------------------------------------------------------------------------------------

# Linux counts the parent's peak as the child's too (ru_maxrss): the peak is set back, and read, in /proc.
MEASURE = """
import asyncio, pathlib, re, sys
from alli_async import AlliClient, ResponseTooLargeError

def memory(which):
    return int(re.search(which + r":\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])

async def main():
    async with AlliClient("the-key", base_url=sys.argv[1]) as client:
        assert await client.conversations.is_running("a")
        for _ in range(int(sys.argv[2])):
            pathlib.Path("/proc/self/clear_refs").write_text("5")
            before = memory("VmRSS")
            try:
                await client.conversations.get("a")
            except ResponseTooLargeError as error:
                assert error.attempts == 1
                print(memory("VmHWM") - before)

asyncio.run(main())
"""


def bomb(wbits: int) -> bytes:
    """400 MB of zeros in 400 KB: after a full flush, the same block can come again and again."""
    packer = zlib.compressobj(9, wbits=wbits)
    head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    return head + (packer.compress(bytes(4_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)) * 100


async def _spaces_without_end(exchange: Exchange) -> None:
    await servers.flood(exchange, raw(servers.CHUNKED), servers.chunk(b" " * (1 << 16)), 6400)


async def test_too_large_an_answer_is_refused_within_50_mb() -> None:
    large: dict[str, Answer] = {
        "400 KB of gzip that open to 400 MB": encoded("gzip", bomb(31)),
        "400 KB of deflate that open to 400 MB": encoded("deflate", bomb(15)),
        "chunks without end": _spaces_without_end,
        "a length of 400 MB": raw(b"HTTP/1.1 200 X\nContent-Length: 400000000", b" " * 50_000_000),
    }
    async with ScriptedServer(answer(200, {"isRunning": True}), *large.values()) as server:
        status, out, err = await python(MEASURE, server.url, str(len(large)))
        assert (status, err) == (0, "")
        taken = dict(zip(large, map(int, out.split()), strict=True))
        assert {name: kilobytes for name, kilobytes in taken.items() if kilobytes >= 50_000} == {}
        assert len(server.requests) == 1 + len(large)


@pytest.mark.parametrize("size", [len(BODY), len(BODY) - 1])
async def test_the_limit_on_an_answer_is_exact(make_client: ClientFactory, size: int) -> None:
    for sent in (OK, encoded("gzip", gzip.compress(BODY)), slowly(OK, 0)):
        async with ScriptedServer(sent) as server:
            client = make_client(server, max_response_bytes=size)
            if size == len(BODY):
                await get(client.conversations)
            else:
                with pytest.raises(ResponseTooLargeError, match=f"{size:,}"):
                    await get(client.conversations)


@pytest.mark.parametrize("status", [101, 199, 304, 399, 418, 451, 599, 600, 999])
async def test_any_status_but_2xx_is_an_error(make_client: ClientFactory, status: int) -> None:
    async with ScriptedServer(closing(raw(b"HTTP/1.1 %d X\nContent-Length: 0" % status))) as server:
        # Below 200 an answer announces another one, which here never comes.
        with pytest.raises((APIError, AlliConnectionError)):
            await get(make_client(server, retry=ONCE).conversations)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        fact("no HTTP", servers.NO_HTTP, r"not HTTP: Bad status line.*'SSH-2.0-OpenSSH_9.9'"),
        fact("a short body", servers.CUT_BODY, r"Not enough data to satisfy content length.*"),
        fact("gzip that is none", servers.NO_GZIP, r"Can not decode content-encoding: gzip"),
        fact("FIN", hang_up, r"the server closed it"),
        fact("RST", reset, r".*reset.*"),
    ],
)
async def test_what_broke_an_answer_is_told_in_one_line(
    make_client: ClientFactory, broken: Any, message: str
) -> None:
    async with ScriptedServer(broken) as server:
        with pytest.raises(AlliConnectionError) as raised:
            await make_client(server, retry=RetryPolicy(max_attempts=1)).conversations.get("a")
        whole = f"the connection failed before the answer was whole: {message}"
        assert re.fullmatch(whole, raised.value.message), raised.value.message
