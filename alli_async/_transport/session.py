"""The session: takes a call through its middlewares, its deadline and its retries to its result."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from .._aio.scopes import TimedScope
from ..config import ClientConfig
from ..errors import AlliError, ClientStateError, NotFoundError
from ..models import StreamStats
from .attempts import Attempts, Handler, log_prefix
from .call import Call, CallHandler, CallMiddleware, response_info
from .lifetime import CLOSED_IN_CALL, Lifetime
from .limiter import RateLimiter
from .retry import is_retryable, is_transient, retry, why_not_retryable
from .rules import RetryRules
from .sender import Sender
from .tenants import Tenant
from .wire import Request, Response

T = TypeVar("T")
InT = TypeVar("InT")
Middleware = Callable[[Request, Handler], Awaitable[Response]]

logger = logging.getLogger("alli_async")


class Session(Attempts):
    """Sends calls with one configuration: middlewares, deadline and retries.

    It adds these to the single attempts of its base class. Deriving a session with `replace` is cheap.
    """

    __slots__ = ()

    @classmethod
    def over(
        cls,
        lifetime: Lifetime,
        config: ClientConfig,
        tenant: Tenant,
        *,
        sender: Sender,
        middlewares: Iterable[Middleware] = (),
        limiter: RateLimiter | None = None,
        call_middlewares: Iterable[CallMiddleware] = (),
    ) -> Session:
        """A session that sends through the middlewares, the first of which is the outermost."""
        handle: Handler = sender.send
        for middleware in reversed(tuple(middlewares)):
            handle = _wrap(middleware, handle)
        return cls(
            config,
            tenant,
            limiter or tenant.limiter,
            lifetime,
            handle,
            StreamStats(),
            partial(response_info, config),
            call_middlewares=tuple(call_middlewares),
        )

    def counting(self, stats: StreamStats) -> Session:
        """The session of a bulk read, which counts into `stats`."""
        return replace(self, stats=stats, is_bulk=True)

    def bounded(self, seconds: float | None = None) -> Session:
        """A session whose calls share one deadline, which begins now.

        Args:
            seconds: Seconds of the deadline, in place of the client's own; None for the client's own.
        """
        self.lifetime.check()
        if seconds is None:
            seconds = self.config.deadline
            if seconds is None or self.ends_at is not None:
                return self
        now = asyncio.get_running_loop().time()
        # A bulk read counts all its requests; any other operation counts its own, for the error of its deadline.
        stats = self.stats if self.is_bulk else StreamStats()
        return replace(self, stats=stats, began=now, ends_at=now + seconds)

    def request(self, request: Request, decode: Callable[[bytes], T]) -> Coroutine[Any, Any, T]:
        """Send a request until it is answered, and decode the answer.

        Args:
            request: The request.
            decode: Turns the body of a 2xx answer into the result.

        Raises:
            AlliError: The error of the last attempt.
        """
        return self.perform(Call(request), decode)

    def perform(self, call: Call, decode: Callable[[bytes], T]) -> Coroutine[Any, Any, T]:
        """As `request`, for a call whose record the caller keeps."""
        # Here and below, steps that wait for nothing are functions that return the next coroutine: each coroutine
        # less in the chain is one less to resume whenever the call goes on.
        return self._through_middlewares(call, decode) if self.call_middlewares else self._while_open(call, decode)

    async def _through_middlewares(self, call: Call, decode: Callable[[bytes], T]) -> T:
        call.config = self.config

        def handle(call: Call) -> Awaitable[T]:
            return self._while_open(call, decode)

        outermost: CallHandler = handle
        for middleware in reversed(self.call_middlewares):
            outermost = _wrap(middleware, outermost)
        result: T = await outermost(call)
        return result

    # --- an open client -----------------------------------------------------------------------------------

    async def _while_open(self, call: Call, decode: Callable[[bytes], T]) -> T:
        try:
            scope = self.lifetime.begin_call()
        except AlliError as refused:
            refused.locate(call.method, call.path, 0, 0.0)
            raise
        with scope:
            return await self._within_deadline(call, decode)
        # Closing the client has cancelled this call; the scope has caught the cancellation.
        error = ClientStateError(CLOSED_IN_CALL)
        error.why_final = "the client is closed"
        self.note(error, call)
        raise error

    # --- a deadline ---------------------------------------------------------------------------------------

    def _within_deadline(self, call: Call, decode: Callable[[bytes], T]) -> Coroutine[Any, Any, T]:
        call.started = asyncio.get_running_loop().time()
        call.counted, call.waited = 0, 0.0
        if self.ends_at is not None:
            call.ends_at = self.ends_at
        elif self.config.deadline is not None:
            call.ends_at = call.started + self.config.deadline
        else:
            return self._until_answered(call, decode)
        return self._until_deadline(call, decode)

    async def _until_deadline(self, call: Call, decode: Callable[[bytes], T]) -> T:
        with TimedScope(call.ends_at) as call.scope:
            return await self._until_answered(call, decode)
        # The deadline has passed; the scope has caught the cancellation.
        error = self.past_deadline(call)
        self.note(error, call)
        _warn(error, call)
        raise error

    # --- retries ------------------------------------------------------------------------------------------

    async def _until_answered(self, call: Call, decode: Callable[[bytes], T]) -> T:
        try:
            result = await self.attempt(call, decode)
        except AlliError as error:
            if (gone := _deleted(error, call)) is not None:
                return decode(gone.body)
            self.note(error, call)
            if error.why_final is None and is_retryable(error, call.method, self.config.retry):
                first = error
            else:
                error.why_final = error.why_final or why_not_retryable(error, call.method)
                _warn(error, call)
                raise
        else:
            self.tenant.quota.give_back(retried=False)
            return result
        return await self._try_again(call, decode, first)

    async def _try_again(self, call: Call, decode: Callable[[bytes], T], first: AlliError) -> T:
        config, shared = self.config, self.tenant
        rules = RetryRules(
            config.retry,
            shared.quota,
            shared.outage,
            call,
            is_bulk=self.is_bulk,
            most_attempts=self.most_attempts,
        )

        async def attempt() -> T:
            try:
                if shared.outage.cause is not None:
                    await self.pass_outage(call)
                rules.check_suspicion()
                self.stats.retries += 1
                return await self.attempt(call, decode)
            except AlliError as error:
                if (gone := _deleted(error, call)) is not None:
                    return decode(gone.body)
                self.note(error, call)
                raise

        try:
            result = await retry(
                attempt,
                first,
                wait=rules.wait,
                why_final=rules.why_final,
                on_wait=partial(self._on_wait, call),
            )
        except AlliError as error:
            _warn(error, call)
            raise
        self.tenant.quota.give_back(retried=True)
        return result

    def _on_wait(self, call: Call, error: AlliError, seconds: float) -> None:
        self.stats.seconds_waited += seconds
        call.waited += seconds
        logger.info("%s: retry in %.2f s, after: %s", log_prefix(call, error), seconds, error.message)


def _wrap(
    middleware: Callable[[InT, Callable[[InT], Awaitable[Any]]], Awaitable[Any]],
    inner: Callable[[InT], Awaitable[Any]],
) -> Callable[[InT], Awaitable[Any]]:
    """The handler that passes what it handles through a middleware to the handler inside it."""

    def handle(handled: InT) -> Awaitable[Any]:
        return middleware(handled, inner)

    return handle


def _deleted(error: AlliError, call: Call) -> Response | None:
    """The answer to a delete that has happened: a 404 that follows a try whose outcome was unknown; else None."""
    if not isinstance(error, NotFoundError) or call.method != "DELETE" or not call.maybe_done:
        return None
    call.response = Response(error.status, error.headers, b"")
    call.elapsed = asyncio.get_running_loop().time() - call.started
    return call.response


def _warn(error: AlliError, call: Call) -> None:
    """Log that a call gave up, if its last error is one that another attempt might have mended."""
    if is_transient(error) or error.is_outage:
        logger.warning("%s: gave up: %s", log_prefix(call, error), error)
