"""A server that says exactly what a test tells it to, on a real socket."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

Answer = bytes | Callable[["Exchange"], Awaitable[None]]


@dataclass
class Received:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass
class Exchange:
    """A request, and the socket to answer it on."""

    request: Received
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


class ScriptedServer:
    """Answers the n-th request with the n-th answer, and every later one with the last.

    An answer is the bytes of a response, or a coroutine function that does what it likes with the socket.
    """

    def __init__(self, *answers: Answer, default: Answer | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.answers: list[Answer] = list(answers)
        self.default = default
        self.requests: list[Received] = []
        self._asked = asyncio.Event()
        self.connections = 0
        self.open = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._tasks: set[asyncio.Task[Any]] = set()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def asked(self) -> None:
        """Wait until a first request has arrived."""
        async with asyncio.timeout(10):
            await self._asked.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        self.connections += 1
        self.open += 1
        try:
            while request := await _read(reader):
                self.requests.append(request)
                self._asked.set()
                position = len(self.requests) - 1
                if position < len(self.answers):
                    answer = self.answers[position]
                else:
                    answer = self.default or self.answers[-1]
                exchange = Exchange(request, writer)
                if isinstance(answer, bytes):
                    await exchange.send(answer)
                else:
                    await answer(exchange)
                if writer.is_closing():
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    lines = head.split("\r\n")
    method, target, _ = lines[0].split(" ")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:] if line)]
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    return Received(method, target, headers, await reader.readexactly(length))


def answer(status: int = 200, body: Any = None, *, headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """A whole response. A body that is no bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(data)}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def gzipped(body: bytes, *, cut: int = 0) -> bytes:
    """A response in gzip, `cut` bytes short of its end but framed as if it were whole."""
    data = gzip.compress(body)
    return answer(200, data[: len(data) - cut], headers=[("Content-Encoding", "gzip")])


async def reset(exchange: Exchange) -> None:
    """RST, without an answer."""
    sock: socket.socket = exchange.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    exchange.writer.transport.abort()


async def hang_up(exchange: Exchange) -> None:
    """FIN, without an answer."""
    exchange.writer.close()


async def silence(_: Exchange) -> None:
    """Nothing, for longer than any test waits."""
    await asyncio.sleep(3600)


def slowly(data: bytes, pause: float) -> Answer:
    """One byte at a time."""

    async def send(exchange: Exchange) -> None:
        for byte in data:
            await exchange.send(bytes([byte]))
            await asyncio.sleep(pause)

    return send


def cut(data: bytes, at: int) -> Answer:
    """The first `at` bytes, then FIN."""

    async def send(exchange: Exchange) -> None:
        await exchange.send(data[:at])
        exchange.writer.close()

    return send


CONVERSATION: dict[str, Any] = {
    "id": "Q29udmVyc2F0aW9uOjE=",
    "title": "t",
    "user": None,
    "createdAt": 1704067200123.5,
    "lastChatTime": 1704067300123,
    "isEnd": False,
    "categories": None,
    "memo": None,
    "chats": [],
    "chatCount": 0,
    "llmApp": None,
    "variables": None,
}


def conversation(**changes: Any) -> dict[str, Any]:
    return {**CONVERSATION, **changes}


def chat(number: int, **changes: Any) -> dict[str, Any]:
    made = {
        "id": f"chat-{number}",
        "sender": "USER",
        "message": f"message {number}",
        "timestamp": 1704067200000 + number,
        "citations": None,
        "rating": None,
        "agentRating": None,
    }
    return {**made, **changes}
