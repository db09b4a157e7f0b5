"""Sends one HTTP request through aiohttp, reads the whole answer, and translates aiohttp's exceptions."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Coroutine
from io import BytesIO
from typing import Any

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from .._headers import check_header
from .._tokens import RotatingToken
from .._version import __version__
from ..config import ClientConfig, Secret
from ..errors import (
    AlliConnectionError,
    AlliError,
    AlliTimeoutError,
    ConfigurationError,
    ResponseTooLargeError,
    TLSError,
)
from .connection import Connection
from .routes import Proxy
from .wire import Request, Response

_LARGE = 1 << 20
# Gateways put tokens, policies and traces into headers; aiohttp's own bounds are 8,190 bytes and 128 headers.
_HEADER_BYTES = 1 << 16
_HEADERS = 1024
# Turns of the event loop in which it learns that an idle connection has ended. In the first it is told that there
# is something to read, in the second it reads what came before the end (a 408 that nobody asked for, a message of
# TLS), in the third the end.
_TURNS_TO_LEARN = 3
USER_AGENT = f"alli-async/{__version__}"


class Sender:
    """Sends the requests of one configuration over a connection.

    Args:
        connection: The connection.
        config: The configuration.
        proxy: The proxy on the way to the server; None for a direct way.
    """

    def __init__(self, connection: Connection, config: ClientConfig, proxy: Proxy | None = None) -> None:
        self._connection = connection
        self._config = config
        self._proxy = proxy.url if proxy else None
        self._proxy_headers: dict[str, str] | None = None
        self._base = base = URL(config.base_url, encoded=True)
        self._scheme, self._authority, self._prefix = (
            base.scheme,
            base.raw_authority,
            base.raw_path.rstrip("/"),
        )
        self._middlewares = (*connection.middlewares, _once(config))
        self._headers = CIMultiDict({"Accept": "application/json", "User-Agent": USER_AGENT})
        self._headers.update(config.extra_headers)
        self._headers.update(config.headers)
        if proxy and proxy.credentials:
            # The tunnel to an https server is asked for with its own headers; a plain request carries them itself.
            own: dict[str, str] = {"Proxy-Authorization": proxy.credentials}
            if base.scheme == "https":
                self._proxy_headers = own
            else:
                self._headers.update(own)
        # Connecting, and waiting for a free connection of a caller's session, has less time than the attempt, so
        # that a timeout there is known to be one before anything was sent. Our own session never runs out of
        # connections.
        self._timeout = aiohttp.ClientTimeout(
            total=None,
            connect=config.timeout * 0.9 if connection.is_given else None,
            sock_connect=min(10.0, config.timeout * 0.8),
        )

    def send(self, request: Request) -> Coroutine[Any, Any, Response]:
        """Send a request and read its answer.

        Raises:
            AlliError: No whole answer came. It is raised outside of any `except`, and so has no `__context__`: an
                exception of aiohttp's holds the headers, in its request_info and frames.
        """
        headers = self._headers_for(request)
        if self._config.token is None:
            return self._send(request, headers)
        return self._send_with_token(request, headers, self._config.token)

    async def _send_with_token(
        self, request: Request, headers: CIMultiDict[str], rotating: RotatingToken
    ) -> Response:
        token = await rotating.current()
        headers = headers.copy()
        headers["Authorization"] = Secret(f"Bearer {token}")
        try:
            response = await self._send(request, headers)
        except BaseException:
            del headers, token  # a crash report shows the locals of each frame
            raise
        if response.status == 401:
            rotating.refuse(token)
        return response

    async def _send(self, request: Request, headers: CIMultiDict[str]) -> Response:
        http, started = self._connection.http(), time.monotonic()
        failure: AlliError
        try:
            with self._connection.timeouts(self._config.timeout).begin():
                if not request.is_read:
                    await _learn_of_ended_connections()
                try:
                    return await self._exchange(http, request, headers)
                except aiohttp.ClientConnectorError as error:
                    # The address was looked up before this attempt, and refuses: the name may have a new one.
                    # Nothing was sent yet, so the attempt is still one request on the wire.
                    if not self._connection.forget_address(error.host, error.port, started):
                        raise
                return await self._exchange(http, request, headers)
            failure = self._translate(TimeoutError())
        except AlliError as error:
            failure = error.with_traceback(None)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(error, aiohttp.ConnectionTimeoutError):
                peer = self._proxy or self._base
                self._connection.forget_address(peer.host or "", peer.port, started)
            failure = self._translate(error)
        del headers  # a crash report shows the locals of each frame
        failure.__context__ = None
        request.maybe_done |= failure.outcome == "unknown"
        raise failure

    async def _exchange(
        self, http: aiohttp.ClientSession, request: Request, headers: CIMultiDict[str]
    ) -> Response:
        async with http.request(
            request.method,
            URL.build(
                scheme=self._scheme,
                authority=self._authority,
                path=self._prefix + request.path,
                query_string=request.query,
                encoded=True,
            ),
            data=_payload(request.body),
            headers=headers,
            allow_redirects=False,
            timeout=self._timeout,
            proxy=self._proxy,
            proxy_headers=self._proxy_headers,
            ssl=self._connection.trusted() if self._scheme == "https" else True,
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
            max_headers=_HEADERS,
            # These override what a caller's session sets:
            raise_for_status=False,
            auto_decompress=True,
            middlewares=self._middlewares_for(headers),
        ) as answer:
            body = await self._read(answer)
            # A middleware may send a request again by itself, and then shows only the last answer.
            request.maybe_done |= answer.status >= 500 or answer.status == 408
            return Response(answer.status, answer.headers, body)

    def _headers_for(self, request: Request) -> CIMultiDict[str]:
        if request.body is None and not request.headers:
            return self._headers
        headers = self._headers.copy()
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        for name, value in request.headers.items():
            check_header("a middleware's header", name, value)
        headers.update(request.headers)
        return headers

    def _middlewares_for(self, headers: CIMultiDict[str]) -> tuple[aiohttp.ClientMiddlewareType, ...]:
        if not self._connection.is_given:
            return self._middlewares
        return (_without_jar(headers.get("Cookie")), *self._middlewares)

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        limit = self._config.max_response_bytes
        blocks = []
        size = 0
        while block := await answer.content.readany():
            blocks.append(block)
            size += len(block)
            if size > limit:
                raise ResponseTooLargeError(
                    f"the answer is above max_response_bytes ({limit:,}); for a list, try a smaller page_size"
                )
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def _translate(self, error: Exception) -> AlliError:
        """Turn an exception of aiohttp or the system into an `AlliError`."""
        # Some timeouts of aiohttp are connection errors too, so timeouts come first.
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return AlliTimeoutError("no connection could be made in time", outcome="not_sent")
        if isinstance(error, TimeoutError):
            return AlliTimeoutError(f"no whole answer within the attempt's {self._config.timeout:g} s")
        if isinstance(error, aiohttp.ClientHttpProxyError):
            answered = f"{error.status} {error.message}".strip()
            return AlliConnectionError(f"no connection: the proxy answered {answered}", outcome="not_sent")
        text = _text_of(error)
        if isinstance(error, (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch)):
            return TLSError(f"the server's certificate or handshake was not accepted: {text}")
        if isinstance(error, aiohttp.ClientConnectorError):
            return AlliConnectionError(f"no connection: {text}", outcome="not_sent")
        if not isinstance(error, (aiohttp.ClientError, OSError)):
            return ConfigurationError(f"the request cannot be put on the wire: {text}")
        return AlliConnectionError(f"the connection failed before the answer was whole: {text}")


def _once(config: ClientConfig) -> aiohttp.ClientMiddlewareType:
    """Make an aiohttp middleware that keeps aiohttp from sending a request a second time by itself.

    When a connection drops, aiohttp resends GET, PUT and DELETE once. It recognises a drop by the type of the
    exception, so this middleware raises another type. (aiohttp's own switch is a private attribute, and a caller's
    session is not ours to change.) Tracers record the message, so the key is masked in it.
    """

    async def once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        try:
            return await handler(request)
        except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError):
            raise
        except aiohttp.ServerDisconnectedError:
            failure = _BrokenError("the server closed it")
        except aiohttp.ClientOSError as error:
            failure = _BrokenError(str(error) or type(error).__name__)
        except aiohttp.ClientResponseError as error:
            # The parser raises this, with a status 400 that no server sent.
            failure = _BrokenError(f"not HTTP: {config.redact(error.message)}")
        raise failure

    return once


def _without_jar(cookie: str | None) -> aiohttp.ClientMiddlewareType:
    """Make an aiohttp middleware that sends no cookies of the jar of a caller's session.

    Args:
        cookie: The cookie of the client's own headers, which is sent; None if there is none.
    """

    async def without_jar(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.headers.popall("Cookie", None)
        if cookie is not None:
            request.headers["Cookie"] = cookie
        return await handler(request)

    return without_jar


class _BrokenError(aiohttp.ClientError):
    """The connection was lost before an answer began, or the answer is not HTTP."""


async def _learn_of_ended_connections() -> None:
    """Let the event loop read what servers did to idle connections while the loop was busy with other work.

    Sent over a connection that has ended, a write is lost, and nobody can know that it was; a read is repeated.
    """
    for _ in range(_TURNS_TO_LEARN):
        await asyncio.sleep(0)


def _payload(body: bytes | None) -> bytes | BytesIO | None:
    # aiohttp writes bytes in one go, and warns of large ones; it writes a file in pieces.
    return BytesIO(body) if body is not None and len(body) >= _LARGE else body


def _reason_of(error: OSError) -> str:
    """Why a connection could not be made: the words of the system, or those of OpenSSL or the name lookup."""
    number = error.errno or 0
    is_of_system = number > 0 and not isinstance(error, ssl.SSLError)
    return os.strerror(number) if is_of_system else error.strerror or str(error)


def _text_of(error: Exception) -> str:
    """The message of an exception in one line, without the status 400 that aiohttp's parser adds."""
    if isinstance(error, aiohttp.ClientConnectorError):
        # aiohttp's own words show the address of an SSLContext in memory.
        return f"cannot connect to {error.host}:{error.port}: {_reason_of(error.os_error)}"
    cause = error.__cause__
    text = cause.message if isinstance(cause, HttpProcessingError) else str(error)
    return " ".join(text.split()).rstrip(" ^") or type(error).__name__
