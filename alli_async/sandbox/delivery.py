"""Send an answer over its connection, completely or not."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import struct
from typing import NamedTuple

from aiohttp import web
from multidict import CIMultiDict

_SLOW_BYTES = 400
_SLOW_PAUSE = 0.001
_POLL = 0.1
_ABORT_ON_CLOSE = struct.pack("ii", 1, 0)


class Answer(NamedTuple):
    """A status, headers and a body; the framing is added when it is sent."""

    status: int
    headers: CIMultiDict[str]
    body: bytes

    def compressed(self) -> Answer:
        """The same answer as gzip."""
        headers = self.headers.copy()
        headers["Content-Encoding"] = "gzip"
        return Answer(self.status, headers, gzip.compress(self.body, 1, mtime=0))

    def halved(self) -> Answer:
        """The same answer with the first half of the body, framed as a complete body."""
        return self._replace(body=self.body[: len(self.body) // 2])


def whole(answer: Answer) -> web.StreamResponse:
    """The complete answer."""
    return web.Response(status=answer.status, headers=answer.headers, body=answer.body)


async def truncated(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    """Send all headers and half of the body that they promise, then close the connection."""
    response = await _begin(request, answer)
    with contextlib.suppress(ConnectionError):
        await response.write(answer.body[: len(answer.body) // 2])
    _hang_up(request)
    return response


async def slow(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    """Send the first bytes of the body one at a time and the rest at once, in about half a second."""
    response = await _begin(request, answer)
    with contextlib.suppress(ConnectionError):
        for place in range(min(_SLOW_BYTES, len(answer.body))):
            await response.write(answer.body[place : place + 1])
            await asyncio.sleep(_SLOW_PAUSE)
        await response.write(answer.body[_SLOW_BYTES:])
    return response


def reset(request: web.BaseRequest) -> web.StreamResponse:
    """Reset the connection without an answer."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT_ON_CLOSE)
        request.transport.abort()
    return web.Response()


async def silence(request: web.BaseRequest, closing: asyncio.Event, seconds: float | None) -> web.StreamResponse:
    """Send no answer until the client leaves, the sandbox closes or the seconds have passed."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            # aiohttp does not tell a handler when the client leaves, so poll the transport.
            while request.transport is not None and not request.transport.is_closing() and not closing.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(closing.wait(), _POLL)
    _hang_up(request)
    return web.Response()


def _hang_up(request: web.BaseRequest) -> None:
    if request.transport is not None:  # None if the client closed it before
        request.transport.close()


async def _begin(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
    return response
