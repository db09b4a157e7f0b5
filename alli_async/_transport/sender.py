"""One attempt: one request on the wire, its whole answer read, aiohttp's exceptions translated."""

from __future__ import annotations

import asyncio
import re
from io import BytesIO

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from .._version import __version__
from ..config import ClientConfig
from ..errors import (
    AlliConnectionError,
    AlliError,
    AlliTimeoutError,
    ConfigurationError,
    ResponseTooLargeError,
    TLSError,
)
from .connection import Connection
from .wire import Request, Response

_LARGE = 1 << 20
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t -~\x80-\ud7ff\ue000-\U0010ffff]*")
# A body of another length than was promised leaves the connection to whoever comes next in a wrong state.
_FRAMING = frozenset({"content-length", "transfer-encoding"})
USER_AGENT = f"alli-async/{__version__}"


class Sender:
    """Sends for one configuration over a connection."""

    def __init__(self, connection: Connection, config: ClientConfig) -> None:
        self._connection = connection
        self._config = config
        base = URL(config.base_url, encoded=True)
        self._scheme, self._authority, self._prefix = (
            base.scheme,
            base.raw_authority,
            base.raw_path.rstrip("/"),
        )
        self._middlewares = (*connection.middlewares, _once(config))
        self._headers = CIMultiDict({"Accept": "application/json", "User-Agent": USER_AGENT, **config.headers})
        # Connecting, and waiting for a place in the pool of a caller's session, must fail before the attempt
        # does: then it is known that nothing was sent. (A session of our own has a place for everyone.)
        self._timeout = aiohttp.ClientTimeout(
            total=None,
            connect=config.timeout * 0.9 if connection.is_given else None,
            sock_connect=min(10.0, config.timeout * 0.8),
        )

    async def send(self, request: Request) -> Response:
        """Send a request and read its answer.

        Raises:
            AlliError: No whole answer came. It is raised from nothing and outside of any `except`, so that no
                exception of aiohttp's, whose request_info and frames hold the headers, hangs on it.
        """
        http = self._connection.http()
        try:
            async with asyncio.timeout(self._config.timeout):  # 4.6 µs; anyio.fail_after 10
                return await self._exchange(http, request)
        except ResponseTooLargeError as error:
            failure: AlliError = error.with_traceback(None)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = self._translate(error)
        failure.__context__ = None
        request.maybe_done |= failure.outcome == "unknown"
        raise failure

    async def _exchange(self, http: aiohttp.ClientSession, request: Request) -> Response:
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
            headers=self._headers_for(request),
            allow_redirects=False,
            timeout=self._timeout,
            # Whatever a caller's session says otherwise:
            raise_for_status=False,
            auto_decompress=True,
            middlewares=self._middlewares,
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
        headers.update(_checked(request.headers))
        return headers

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
        """What an exception of aiohttp's means. The one place that knows them."""
        # A ServerTimeoutError is a ServerConnectionError too, so timeouts are asked for first.
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
    """An aiohttp middleware that keeps aiohttp from sending a request a second time by itself.

    On a dropped connection it resends GET, PUT and DELETE once. It knows a drop by these types, so they are
    renamed before it sees them. (Its own switch is a private attribute, and a caller's session is not ours to
    change.) Tracers record what is raised here, so a line that is no HTTP is told without the key.
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
            # The parser's; the status 400 it carries is invented.
            failure = _BrokenError(f"not HTTP: {config.redact(error.message)}")
        raise failure

    return once


class _BrokenError(aiohttp.ClientError):
    """The connection went away before the answer began, or what began was none."""


def _checked(headers: dict[str, str]) -> dict[str, str]:
    """A middleware's headers, such as aiohttp would refuse late, or not at all."""
    for name, value in headers.items():
        if not (isinstance(name, str) and _NAME.fullmatch(name)) or name.lower() in _FRAMING:
            raise ConfigurationError(f"a middleware's header: expected a name that frames no body, got {name!a}")
        if not (isinstance(value, str) and _VALUE.fullmatch(value)):
            raise ConfigurationError(f"a middleware's header {name}: expected text without control characters")
    return headers


def _payload(body: bytes | None) -> bytes | BytesIO | None:
    # aiohttp warns of large bytes, which would be written in one go; a file it writes in pieces.
    return BytesIO(body) if body is not None and len(body) >= _LARGE else body


def _text_of(error: Exception) -> str:
    """What happened, in one line, and without the status 400 that aiohttp's parser invents."""
    cause = error.__cause__
    text = cause.message if isinstance(cause, HttpProcessingError) else str(error)
    return " ".join(text.split()).rstrip(" ^") or type(error).__name__
