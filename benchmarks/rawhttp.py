"""As little HTTP as will do: GET over kept-alive connections, answers with a Content-Length, no library."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class _Connection(asyncio.BufferedProtocol):
    def __init__(self, idle: list[_Connection]) -> None:
        self._idle = idle
        self._buffer = bytearray(1 << 18)
        self._filled = self._start = self._end = 0
        self._answered: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def send(self, request: bytes, answered: asyncio.Future[bytes]) -> None:
        self._answered = answered
        self._transport.write(request)

    def close(self) -> None:
        self._transport.close()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._filled == len(self._buffer):
            self._buffer = self._buffer + bytes(len(self._buffer))
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if not self._end:
            head_end = self._buffer.find(b"\r\n\r\n", 0, self._filled)
            if head_end < 0:
                return
            head = bytes(self._buffer[:head_end])
            self._start = head_end + 4
            self._end = self._start + int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            if not head.startswith(b"HTTP/1.1 200 "):
                self._fail(ConnectionError(head.partition(b"\r\n")[0].decode()))
        if self._filled >= self._end:
            body = bytes(memoryview(self._buffer)[self._start : self._end])
            self._filled = self._end = 0
            self._idle.append(self)
            if self._answered is not None and not self._answered.done():
                self._answered.set_result(body)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionError("closed"))

    def _fail(self, error: Exception) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)


class RawClient:
    """Connections to one server, as many as are asked for at a time."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._tail = f" HTTP/1.1\r\nHost: {parts.netloc}\r\nAPI-KEY: key\r\n\r\n".encode()
        self._idle: list[_Connection] = []
        self._all: list[_Connection] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._all:
            connection.close()

    async def fetch(self, target: str) -> bytes:
        """The body of an answer."""
        loop = asyncio.get_running_loop()
        if self._idle:
            connection = self._idle.pop()
        else:
            _, connection = await loop.create_connection(lambda: _Connection(self._idle), self._host, self._port)
            self._all.append(connection)
        answered: asyncio.Future[bytes] = loop.create_future()
        connection.send(b"GET " + target.encode() + self._tail, answered)
        return await answered
