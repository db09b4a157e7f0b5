"""One attempt of a call: waits for outage and limiter, sends the request, and passes the result to both."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from .._model import Answer, AnswerSource, ResponseInfo, keep_source
from ..config import ClientConfig
from ..errors import (
    AlliError,
    AlliTimeoutError,
    APIError,
    AuthenticationError,
    DecodeError,
    ResponseTooLargeError,
)
from ..models import StreamStats
from . import wire
from .call import Call, CallMiddleware, EndedAttempt
from .decoding import AT_ONCE, decoder_for
from .lifetime import Lifetime
from .limit_model import Ticket
from .limiter import InterruptedWaitError, RateLimiter
from .retry import is_refusal, is_transient, may_be_limit, retry_after_of
from .tenants import Tenant
from .wire import Request, Response

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]

# Why a call whose deadline has passed is not tried again.
DEADLINE = "its deadline"

logger = logging.getLogger("alli_async")


@dataclass(frozen=True, slots=True)
class Attempts:
    """Makes single attempts of calls, and learns from each what the server takes and whether it serves.

    Attributes:
        handle: Sends one request through the middlewares.
        describe: Describes the answer that a result comes from.
        call_middlewares: Wrapped around every call, the first of them outermost.
        is_bulk: Whether the calls belong to a bulk read (a stream or an export), which lives through outages.
        began: Event loop time of the start of an operation that makes several calls within one deadline; None if
            each call has a deadline of its own.
        ends_at: Event loop time of that operation's deadline.
        most_attempts: Attempts after which a call of a bulk read fails even where chance may explain it, because
            the reader then asks for the same rows in other requests; None if it does not.
    """

    config: ClientConfig
    tenant: Tenant
    limiter: RateLimiter
    lifetime: Lifetime
    handle: Handler
    stats: StreamStats
    describe: Callable[[AnswerSource], ResponseInfo]
    call_middlewares: tuple[CallMiddleware, ...] = ()
    is_bulk: bool = False
    began: float | None = None
    ends_at: float | None = None
    most_attempts: int | None = None

    @property
    def has_served(self) -> bool:
        """Whether the server ever served a request."""
        return self.tenant.outage.has_served

    def attempt(self, call: Call, decode: Callable[[bytes], T]) -> Coroutine[Any, Any, T]:
        """Make one attempt, and another one with a new token if the server does not accept this one."""
        return self._attempt(call, decode) if self.config.token is None else self._renewing(call, decode)

    async def _renewing(self, call: Call, decode: Callable[[bytes], T]) -> T:
        try:
            return await self._attempt(call, decode)
        except AuthenticationError as error:
            if error.status != 401 or call.request.renewals:
                raise
        call.request.renewals += 1
        self.stats.retries += 1
        return await self._attempt(call, decode)

    async def _attempt(self, call: Call, decode: Callable[[bytes], T]) -> T:
        loop, generation = asyncio.get_running_loop(), self.lifetime.connection.loop_generation
        queued_at = loop.time()
        try:
            ticket = self._admit_at_once(call, queued_at) or await self._admit(call)
            began = self._begin(call, queued_at)
            response: Response | None = None
            try:
                # The limiter is told the result before the place is given to the next.
                response = await self.handle(call.request)
                is_small = len(response.body) <= AT_ONCE
                decode_body = decode if is_small else await decoder_for(decode, response.body)
                result = self._result(call, response, ticket, decode_body)
            except AlliError as error:
                result = error
            except BaseException as error:
                call.end_attempt("unknown")
                self._record(call, response, error, began - queued_at, loop.time() - began)
                response = None  # Not to be shown by a crash report, as below.
                raise
            finally:
                self.stats.in_flight -= 1
                if self.lifetime.connection.loop_generation == generation:
                    # Otherwise the event loop was closed, all places were taken back, and the garbage collector
                    # ends this coroutine.
                    self.limiter.release()
            now = loop.time()
            self._learn(call, response, result, decode, now)
            if self.call_middlewares or logger.isEnabledFor(logging.DEBUG):
                self._record(call, response, result, began - queued_at, now - began)
            # A crash report shows the locals of the frame that raises: the answer may echo the key.
            response = None
        finally:
            if call.is_canary:
                self.tenant.outage.release(call)
        if isinstance(result, AlliError):
            raise result
        return result

    def _admit_at_once(self, call: Call, now: float) -> Ticket | None:
        """Let a request go that has nothing to wait for, as most have; None if it may have to wait."""
        return self.limiter.admit() if self.tenant.outage.cause is None and now < call.ends_at else None

    def _begin(self, call: Call, queued_at: float) -> float:
        """Note that an attempt begins; returns when."""
        stats, began = self.stats, asyncio.get_running_loop().time()
        stats.seconds_waited += began - queued_at
        stats.requests += 1
        stats.in_flight += 1
        call.begin_attempt(self.tenant.outage.answers)
        return began

    async def _admit(self, call: Call) -> Ticket:
        """Wait until a request may go: for a server that serves, then for the limiter."""
        limiter = self.limiter
        while True:
            if self._is_held(call):
                await self.pass_outage(call)
            try:
                if call.ends_at == math.inf:
                    ticket = await limiter.acquire(urgent=call.request.urgent or call.is_canary)
                else:
                    ticket = await self._admit_before_deadline(call)
            except InterruptedWaitError:  # an outage began while the call waited for the limiter
                continue
            if not self._is_held(call):
                return ticket
            limiter.release()

    def _is_held(self, call: Call) -> bool:
        outage = self.tenant.outage
        return outage.cause is not None and outage.holds(
            call, asyncio.get_running_loop().time(), is_bulk=self.is_bulk
        )

    async def _admit_before_deadline(self, call: Call) -> Ticket:
        if asyncio.get_running_loop().time() + self.limiter.paused_for >= call.ends_at:
            raise self.past_deadline(call)
        queued = self.tenant.queued
        queued.add(call)
        try:
            return await self.limiter.acquire(urgent=call.request.urgent or call.is_canary)
        finally:
            queued.discard(call)

    def _result(
        self, call: Call, response: Response, ticket: Ticket, decode: Callable[[bytes], T]
    ) -> T | AlliError:
        """The result of an answer.

        An error is returned, not raised, and without a traceback: in one, the locals in a crash report would
        show the answer, in which a server may have echoed the key.
        """
        self.stats.bytes += len(response.body)
        clock, now = self.tenant.clock, asyncio.get_running_loop().time()
        clock.note(response.headers.get("date"), sent_at=ticket.sent_at, now=now)
        if wire.is_success(response):
            self._answered(call, response, ticket)
            try:
                return decode(response.body)
            except AlliError as failure:
                failure.request_id = wire.request_id(response.headers)
                return failure.with_traceback(None)
        error = wire.error_of(response, clock.read(now) or datetime.now(UTC))
        if error.status in (429, 503):
            self.stats.refused += 1
            self._pause(call, error, ticket)
        elif error.status < 500:
            self._answered(call, response, ticket)
        return error

    def _answered(self, call: Call, response: Response, ticket: Ticket) -> None:
        """Tell the limiter that a request was served."""
        self.limiter.answered(ticket, response.headers)
        if call.was_refused:
            self.limiter.confirm_load()

    def _pause(self, call: Call, error: APIError, ticket: Ticket) -> None:
        """Tell the limiter of a refusal; a pause longer than a single call waits is kept like an outage."""
        policy, seconds = self.config.retry, retry_after_of(error)
        is_short = seconds <= policy.retry_after_cap
        if seconds or may_be_limit(error, in_outage=self.tenant.outage.cause is not None):
            call.was_refused |= error.status != 429 and not seconds
            call.refusal = self.limiter.pushed_back(
                ticket, seconds if is_short else None, error.headers, may_be_down=error.status != 429
            )
        if not is_short and seconds <= policy.patience:
            self.tenant.outage.pause(error, asyncio.get_running_loop().time())
        if pause := self.limiter.paused_for:
            self.note(error, call)
            what = log_prefix(call, error)
            logger.info("%s: all requests pause for %.2f s, after: %s", what, pause, error.message)
        now = asyncio.get_running_loop().time()
        for queued in self.tenant.queued:
            if now + pause >= queued.ends_at and queued.scope is not None:
                queued.scope.end()

    def _learn(
        self, call: Call, response: Response | None, result: object, decode: Callable[[bytes], Any], now: float
    ) -> None:
        """Note what an attempt shows about the server and about the outcome of the call."""
        outage = self.tenant.outage
        if not isinstance(result, AlliError):
            call.response, call.elapsed = response, now - call.started
            if response is not None and isinstance(result, Answer):
                keep_source(result, AnswerSource(response, call.made, call.elapsed, self.describe))
            outage.succeeded(call.request, decode)
            outage.served(now)
            if call.made == 1:
                outage.first_attempt_ended(failed=False)
            return
        call.end_attempt("unknown" if call.request.maybe_done else result.outcome)
        call.last = result
        if is_transient(result):
            if call.made == 1 and not is_refusal(result):
                outage.first_attempt_ended(failed=True)
            if call.is_canary or not is_refusal(result):
                outage.failed(call, result, now, self.config.retry)
        elif isinstance(result, (APIError, DecodeError, ResponseTooLargeError)):
            outage.served(now)

    def _record(
        self, call: Call, response: Response | None, result: object, queued: float, elapsed: float
    ) -> None:
        """Keep a record of an attempt for the call's middlewares, and log it."""
        error = result if isinstance(result, BaseException) else None
        status, headers = (None, None) if response is None else (response.status, response.headers)
        ended = EndedAttempt(call.made, time.time() - elapsed, elapsed, queued, status, error, headers)
        if self.call_middlewares:
            call.ended.append(ended)
        if not logger.isEnabledFor(logging.DEBUG):
            return
        logger.debug(
            "%s attempt %d, request id %s: %s in %.3f s, queued %.3f s%s",
            call.operation,
            call.made,
            ended.described(self.config).request_id or "-",
            status or type(error).__name__,
            elapsed,
            queued,
            ", canary of an outage" if call.is_canary else "",
        )

    # --- outages ------------------------------------------------------------------------------------------

    async def pass_outage(self, call: Call) -> None:
        """Wait while the server serves nothing. Returns when it serves again, or when this call is the canary.

        Raises:
            AlliError: The outage's cause, when the call cannot wait any longer.
        """
        outage, policy, loop = self.tenant.outage, self.config.retry, asyncio.get_running_loop()
        began, failed_before = loop.time(), outage.failed_canaries
        until = outage.give_up_at(call, began, policy, is_bulk=self.is_bulk)
        if outage.cause is not None:
            logger.info(
                "%s attempt %d, request id -: waits while the server serves nothing; last: %s",
                call.operation,
                call.made + 1,
                outage.cause.message,
            )
        try:
            while outage.cause is not None and not call.is_canary:
                now, due = loop.time(), outage.due_for(policy, is_bulk=self.is_bulk)
                if outage.may_ask(now, due, until, failed_before):
                    await self._ask(*outage.next_canary(call))
                elif now >= until or outage.asked_until > until:
                    raise outage.error_for(now)
                else:
                    await outage.wait_for_change(now, due, until)
        finally:
            call.waited += loop.time() - began

    async def _ask(self, canary: Call, decode: Callable[[bytes], Any] | None) -> None:
        """Send a canary that is no waiting call's own request."""
        if decode is None:
            return
        try:
            await self.attempt(canary, decode)
        except AlliError as error:
            self.note(error, canary)
            logger.info("%s: the server still serves nothing: %s", log_prefix(canary, error), error.message)

    # --- errors -------------------------------------------------------------------------------------------

    def past_deadline(self, call: Call) -> AlliTimeoutError:
        """The error of a call whose deadline has passed, or cannot be kept because of a pause."""
        now, outage = asyncio.get_running_loop().time(), self.tenant.outage
        pause = self.limiter.paused_for
        if call.ends_at - now > 0:
            message = f"the server asked for a pause of {pause:.1f} s more, and the call's deadline is before that"
        else:
            is_own = self.ends_at is None and self.config.deadline is not None
            message = (
                f"the call's deadline of {self.config.deadline:g} s passed" if is_own else "the deadline passed"
            )
        if call.last is not None:
            message += f"; the last attempt: {call.last.message}"
        error = AlliTimeoutError(message, outcome=call.outcome)
        # Of a slow request and a server that serves nothing at all, the latter must not be passed over.
        error.is_outage = outage.cause is not None or (self.is_bulk and outage.served_at < call.started)
        if outage.cause is not None:
            pause = max(pause, outage.due - now)
        error.retry_after = pause or None
        error.why_final = DEADLINE
        return error

    def locate(self, error: AlliError, method: str, path: str) -> None:
        """Write into the error of a deadline what was asked last, and the operation's requests and seconds."""
        if self.began is not None:
            error.locate(method, path, self.stats.requests, asyncio.get_running_loop().time() - self.began)
        error.why_final = DEADLINE

    def note(self, error: AlliError, call: Call) -> None:
        """Write into an error what was asked, and the outcome of the whole call; and mask the key in it."""
        config = self.config
        elapsed = asyncio.get_running_loop().time() - call.started
        error.locate(call.method, call.path, call.made, elapsed)
        if error.why_final == DEADLINE and not self.is_bulk:
            self.locate(error, call.method, call.path)
        error.outcome = call.conclude(error.outcome)
        error.args = (config.redact(error.message),)
        if error.request_id is not None:
            error.request_id = config.redact(error.request_id)
        if isinstance(error, APIError):
            error.headers = config.redact_headers(error.headers)
            error.body = config.redact_body(error.body)


def log_prefix(call: Call, error: AlliError) -> str:
    """Name an attempt in a line of the log."""
    return f"{call.operation} attempt {call.made}, request id {error.request_id or '-'}"
