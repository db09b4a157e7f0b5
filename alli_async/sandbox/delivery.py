"""How an answer leaves, or fails to leave, over its connection."""

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
    """A status, headers and a body, framed when it is delivered."""

    status: int
    headers: CIMultiDict[str]
    body: bytes

    def compressed(self) -> Answer:
        """The same, as gzip."""
        headers = self.headers.copy()
        headers["Content-Encoding"] = "gzip"
        return Answer(self.status, headers, gzip.compress(self.body, 1, mtime=0))

    def halved(self) -> Answer:
        """The same with the first half of the body only, and framed as if that were all."""
        return self._replace(body=self.body[: len(self.body) // 2])


def whole(answer: Answer) -> web.StreamResponse:
    """The answer as it should be."""
    return web.Response(status=answer.status, headers=answer.headers, body=answer.body)


async def truncated(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    """All of the headers and half of the body that they promise; then the connection is closed."""
    response = await _begin(request, answer)
    with contextlib.suppress(ConnectionError):
        await response.write(answer.body[: len(answer.body) // 2])
    _hang_up(request)
    return response


async def slow(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    """The first bytes of the body one at a time, the rest at once: in all about half a second."""
    response = await _begin(request, answer)
    with contextlib.suppress(ConnectionError):
        for place in range(min(_SLOW_BYTES, len(answer.body))):
            await response.write(answer.body[place : place + 1])
            await asyncio.sleep(_SLOW_PAUSE)
        await response.write(answer.body[_SLOW_BYTES:])
    return response


def reset(request: web.BaseRequest) -> web.StreamResponse:
    """No answer: the client sees its connection reset."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT_ON_CLOSE)
        request.transport.abort()
    return web.Response()


async def silence(request: web.BaseRequest, closing: asyncio.Event, seconds: float | None) -> web.StreamResponse:
    """No answer until the client goes away, the sandbox closes or so many seconds have passed."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            # aiohttp tells a handler nothing of a client that left: it has to look.
            while request.transport is not None and not request.transport.is_closing() and not closing.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(closing.wait(), _POLL)
    _hang_up(request)
    return web.Response()


def _hang_up(request: web.BaseRequest) -> None:
    if request.transport is not None:  # the client may have been faster
        request.transport.close()


async def _begin(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
    return response
