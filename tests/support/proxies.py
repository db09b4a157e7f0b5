"""An HTTP proxy on a real socket."""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from typing import Any, Self
from urllib.parse import urlsplit


class ForwardProxy:
    """Makes tunnels (CONNECT) and forwards plain requests, and notes the first lines of what it is asked.

    Args:
        credentials: `user:password` that it wants; None for an open proxy.
    """

    def __init__(self, credentials: str | None = None) -> None:
        self._wanted = credentials and "Basic " + base64.b64encode(credentials.encode()).decode()
        self.asked: list[str] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._tasks: set[asyncio.Task[Any]] = set()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            line, *headers = head.decode("latin-1").split("\r\n")
            self.asked.append(line)
            shown = next((each[21:] for each in headers if each.lower().startswith("proxy-authorization: ")), None)
            if self._wanted not in (None, shown):
                writer.write(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
            else:
                await self._forward(line, head, reader, writer)
            await writer.drain()
        writer.close()

    async def _forward(
        self, line: str, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        method, target, _ = line.split(" ")
        is_tunnel = method == "CONNECT"
        url = urlsplit(f"//{target}" if is_tunnel else target)
        upstream, onward = await asyncio.open_connection(url.hostname, url.port)
        if is_tunnel:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            onward.write(head.replace(f"{url.scheme}://{url.netloc}".encode(), b"", 1))
        try:
            await asyncio.gather(_pump(reader, onward), _pump(upstream, writer))
        finally:
            onward.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
