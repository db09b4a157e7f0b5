"""The session: owns the aiohttp session, and takes a request through throttle, middlewares and retry."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

import aiohttp
import anyio
from multidict import CIMultiDict
from yarl import URL

from .._version import __version__
from ..config import ClientConfig
from ..errors import (
    AlliConnectionError,
    AlliError,
    AlliTimeoutError,
    ConfigurationError,
    NotFoundError,
    ResponseTooLargeError,
    TLSError,
)
from ..models import StreamStats
from . import wire
from .retry import RetryQuota, is_retryable, retry
from .throttle import Throttle
from .wire import Request, Response

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]
Middleware = Callable[[Request, Handler], Awaitable[Response]]

logger = logging.getLogger("alli_async")

USER_AGENT = f"alli-async/{__version__}"


class Connection:
    """What a client and its `with_options` clients share: sockets, throttle, retry quota, the server's time unit.

    The aiohttp session is made on first use, in the loop that uses it, and belongs to that loop and process.
    """

    def __init__(self, config: ClientConfig, http: aiohttp.ClientSession | None) -> None:
        self.throttle = Throttle(config.max_concurrency, config.rate_limit)
        self.quota = RetryQuota(config.retry.quota)
        self.milliseconds: bool | None = None
        # Those of a caller's session would be replaced by ours, did we not put them before it.
        self.middlewares = (*getattr(http, "_middlewares", ()), _once)
        self._given = http
        self._http: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._closed = False

    def http(self) -> aiohttp.ClientSession:
        """The aiohttp session.

        Raises:
            ConfigurationError: Closed, or used from another loop or process than before.
        """
        loop = asyncio.get_running_loop()
        http = self._http
        if http is None or http.closed or loop is not self._loop or self._closed or self._pid != os.getpid():
            return self._bind(loop)
        return http

    def _bind(self, loop: asyncio.AbstractEventLoop) -> aiohttp.ClientSession:
        http = self._http or self._given
        if self._closed or (http is not None and http.closed):
            raise ConfigurationError("the client is closed; make a new one")
        if self._http is not None:
            where = "process (it was made before a fork)" if self._pid != os.getpid() else "event loop"
            raise ConfigurationError(f"the client belongs to another {where}; make one for each")
        self._loop, self._pid = loop, os.getpid()
        # Without a limit of its own: the throttle is the one queue, and it knows about deadlines.
        self._http = self._given or aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self._http

    async def aclose(self) -> None:
        """Close the sockets, unless the session was given by the caller. Twice is fine."""
        self._closed = True
        # Another process' sockets are not ours to shut down, and another loop's cannot be from here.
        if self._http is not None and self._http is not self._given and self._pid == os.getpid():
            await self._http.close()


@dataclass(frozen=True, slots=True)
class Session:
    """A configuration's way to the server. Cheap: many share one connection."""

    config: ClientConfig
    connection: Connection
    throttle: Throttle
    handle: Handler
    stats: StreamStats

    @classmethod
    def over(
        cls,
        connection: Connection,
        config: ClientConfig,
        middlewares: Iterable[Middleware] = (),
        throttle: Throttle | None = None,
    ) -> Session:
        """A session that sends through the middlewares, the first of which is the outermost."""
        handle: Handler = _Sender(connection, config).send
        for middleware in reversed(tuple(middlewares)):
            handle = _wrap(middleware, handle)
        return cls(config, connection, throttle or connection.throttle, handle, StreamStats())

    def counting(self, stats: StreamStats) -> Session:
        """The same session, counting into `stats`."""
        return replace(self, stats=stats)

    async def request(self, request: Request, decode: Callable[[bytes], T]) -> T:
        """Send a request until it is answered, and decode the answer.

        Args:
            request: What to send.
            decode: From the body of a 2xx answer to what the caller wants.

        Raises:
            AlliError: Whatever the last try ended with.
        """
        started = time.monotonic()
        deadline = self.config.deadline
        if deadline is None:
            return await self._tries(request, decode, started, math.inf)
        with anyio.move_on_after(deadline):
            return await self._tries(request, decode, started, started + deadline)
        error = AlliTimeoutError(
            f"the call's deadline of {deadline:g} s passed", outcome="unknown" if request.sent else "not_sent"
        )
        self._note(error, request, request.attempt, started)
        raise error

    async def _tries(self, request: Request, decode: Callable[[bytes], T], started: float, ends_at: float) -> T:
        try:
            result = await self._attempt(request, decode)
        except AlliError as error:
            self._note(error, request, 1, started)
            if not is_retryable(error, request.method):
                raise
            first = error
        else:
            self.connection.quota.give_back(retried=False)
            return result
        return await self._more_tries(request, decode, started, ends_at, first)

    async def _more_tries(
        self, request: Request, decode: Callable[[bytes], T], started: float, ends_at: float, first: AlliError
    ) -> T:
        """Retry; a 404 that follows a delete whose outcome was unknown is that delete's success."""
        maybe_done = first.outcome == "unknown"

        async def attempt(number: int) -> T:
            nonlocal maybe_done
            request.attempt = number
            self.stats.retries += 1
            try:
                return await self._attempt(request, decode)
            except NotFoundError as error:
                if request.method == "DELETE" and maybe_done:
                    return decode(b"")
                self._note(error, request, number, started)
                raise
            except AlliError as error:
                self._note(error, request, number, started)
                maybe_done = maybe_done or error.outcome == "unknown"
                raise

        def on_wait(seconds: float) -> None:
            self.stats.seconds_waited += seconds
            logger.debug("%s %s: retry in %.2f s", request.method, request.path, seconds)

        result = await retry(
            attempt,
            first,
            method=request.method,
            policy=self.config.retry,
            quota=self.connection.quota,
            ends_at=ends_at,
            on_wait=on_wait,
        )
        self.connection.quota.give_back(retried=True)
        return result

    def _note(self, error: AlliError, request: Request, attempts: int, started: float) -> None:
        """Say in an error what was asked; and take the key out, should the server have echoed it."""
        error.locate(request.method, request.path, attempts, time.monotonic() - started)
        error.args = (self.config.redact(error.message),)

    async def _attempt(self, request: Request, decode: Callable[[bytes], T]) -> T:
        stats = self.stats
        asked = time.monotonic()
        admitted_in = await self.throttle.acquire()
        stats.seconds_waited += time.monotonic() - asked
        request.sent = True
        stats.requests += 1
        stats.in_flight += 1
        try:
            response = await self.handle(request)
        finally:
            stats.in_flight -= 1
            self.throttle.release()
        stats.bytes += len(response.body)
        if wire.is_success(response):
            self.throttle.answered()
            return decode(response.body)
        error = wire.error_of(response, datetime.now(UTC))
        if error.status in (429, 503):
            stats.refused += 1
            asked_pause = error.retry_after or 0.0
            pause = asked_pause if asked_pause <= self.config.retry.retry_after_cap else None
            self.throttle.pushed_back(admitted_in, pause)
        raise error


def _wrap(middleware: Middleware, inner: Handler) -> Handler:
    async def handle(request: Request) -> Response:
        return await middleware(request, inner)

    return handle


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """An aiohttp middleware that keeps aiohttp from sending a request a second time by itself.

    On a dropped connection it resends GET, PUT and DELETE once. It knows a drop by these two types, so they
    are renamed before it sees them. (Its own switch is a private attribute, and a caller's session is not
    ours to change.)
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except aiohttp.ServerDisconnectedError:
        raise _DroppedError("the server closed it") from None
    except aiohttp.ClientOSError as error:
        raise _DroppedError(str(error) or type(error).__name__) from None


class _DroppedError(aiohttp.ClientError):
    """The connection went away before the answer began."""


class _Sender:
    """One attempt: one request on the wire, its whole answer read, aiohttp's exceptions translated."""

    def __init__(self, connection: Connection, config: ClientConfig) -> None:
        self._connection = connection
        self._config = config
        base = URL(config.base_url, encoded=True)
        self._scheme, self._authority, self._prefix = (
            base.scheme,
            base.raw_authority,
            base.raw_path.rstrip("/"),
        )
        self._headers = CIMultiDict({"Accept": "application/json", "User-Agent": USER_AGENT, **config.headers})
        # Connecting must fail before the attempt does: then it is known that nothing was sent.
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=min(10.0, config.timeout * 0.8))

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
        raise failure

    async def _exchange(self, http: aiohttp.ClientSession, request: Request) -> Response:
        started = time.monotonic()
        async with http.request(
            request.method,
            URL.build(
                scheme=self._scheme,
                authority=self._authority,
                path=self._prefix + request.path,
                query_string=request.query,
                encoded=True,
            ),
            data=request.body,
            headers=self._headers_for(request),
            allow_redirects=False,
            timeout=self._timeout,
            # Whatever a caller's session says otherwise:
            raise_for_status=False,
            auto_decompress=True,
            middlewares=self._connection.middlewares,
        ) as answer:
            body = await self._read(answer)
            logger.debug(
                "%s %s: %d, %d bytes in %.3f s",
                request.method,
                request.path,
                answer.status,
                len(body),
                time.monotonic() - started,
            )
            return Response(answer.status, answer.headers, body)

    def _headers_for(self, request: Request) -> CIMultiDict[str]:
        if request.body is None and not request.headers:
            return self._headers
        headers = self._headers.copy()
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        headers.update(request.headers)
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
        text = _text_of(error)
        if isinstance(error, (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch)):
            return TLSError(f"the server's certificate or handshake was not accepted: {text}")
        if isinstance(error, aiohttp.ClientConnectorError):
            return AlliConnectionError(f"no connection: {text}", outcome="not_sent")
        if not isinstance(error, (aiohttp.ClientError, OSError)):
            return ConfigurationError(f"the request cannot be put on the wire: {text}")
        # A ClientResponseError here is the parser's; the status 400 it carries is invented.
        return AlliConnectionError(f"the connection failed before the answer was whole: {text}")


def _text_of(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientResponseError):
        return f"not HTTP: {error.message}"
    return str(error) or type(error).__name__
