"""The session: takes a request through throttle, middlewares and retry, to a decoded answer."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

import anyio

from ..config import ClientConfig
from ..errors import AlliError, AlliTimeoutError, APIError, NotFoundError
from ..models import StreamStats
from . import wire
from .connection import Connection
from .retry import is_retryable, retry
from .sender import Sender
from .throttle import Throttle
from .wire import Request, Response

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]
Middleware = Callable[[Request, Handler], Awaitable[Response]]

logger = logging.getLogger("alli_async")


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
        handle: Handler = Sender(connection, config).send
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
        if isinstance(error, APIError) and error.request_id is not None:
            error.request_id = self.config.redact(error.request_id)

    async def _attempt(self, request: Request, decode: Callable[[bytes], T]) -> T:
        stats = self.stats
        asked = time.monotonic()
        admitted_in = await self.throttle.acquire(urgent=request.urgent)
        stats.seconds_waited += time.monotonic() - asked
        request.sent = True
        stats.requests += 1
        stats.in_flight += 1
        try:
            # The throttle is told what came of it before the place is given to the next.
            outcome = self._outcome(await self.handle(request), admitted_in, decode)
        finally:
            stats.in_flight -= 1
            self.throttle.release()
        if isinstance(outcome, AlliError):
            raise outcome
        return outcome

    def _outcome(self, response: Response, admitted_in: int, decode: Callable[[bytes], T]) -> T | AlliError:
        """What an answer means.

        An error is given, not raised, and without a traceback: in one, a crash report's locals would show the
        answer, in which a server may have echoed the key.
        """
        stats = self.stats
        stats.bytes += len(response.body)
        if wire.is_success(response):
            self.throttle.answered()
            try:
                return decode(response.body)
            except AlliError as failure:
                return failure.with_traceback(None)
        error = wire.error_of(response, datetime.now(UTC))
        if error.status in (429, 503):
            stats.refused += 1
            asked_pause = error.retry_after or 0.0
            pause = asked_pause if asked_pause <= self.config.retry.retry_after_cap else None
            self.throttle.pushed_back(admitted_in, pause)
        elif error.status < 500:
            self.throttle.answered()
        return error


def _wrap(middleware: Middleware, inner: Handler) -> Handler:
    async def handle(request: Request) -> Response:
        return await middleware(request, inner)

    return handle
