"""One call: an operation as call middlewares see it, and the record of its attempts."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from msgspec import Struct

from .._aio.scopes import Scope
from .._model import AnswerSource, ResponseInfo
from ..config import ClientConfig
from ..errors import AlliError, Outcome
from .limit_model import Refusal
from .wire import Request, Response, request_id

_RANK: dict[Outcome, int] = {"not_sent": 0, "rejected": 1, "unknown": 2}


class Attempt(Struct, frozen=True):
    """One attempt of a call.

    Attributes:
        number: 1 for the first attempt, 2 for the first retry.
        started: Epoch seconds at which the request was handed on.
        elapsed: Seconds from then to the end of the answer.
        queued: Seconds for which the attempt waited for the rate limiter, or for a server that served nothing.
        status: The HTTP status; None when no whole answer came.
        error: What the attempt ended with; None when it succeeded.
        request_id: The server's id of the request, where it sent one.
    """

    number: int
    started: float
    elapsed: float
    queued: float
    status: int | None
    error: BaseException | None
    request_id: str | None


class EndedAttempt(NamedTuple):
    """What is kept of an attempt, as in `Attempt`. It is described only when it is asked for, which few do.

    Attributes:
        headers: The headers of the answer; None when no whole one came.
    """

    number: int
    started: float
    elapsed: float
    queued: float
    status: int | None
    error: BaseException | None
    headers: Mapping[str, str] | None

    def described(self, config: ClientConfig | None) -> Attempt:
        """The attempt as middlewares see it, without a key that the server may have echoed as its request id."""
        found = None if self.headers is None else request_id(self.headers)
        if found is not None and config is not None:
            found = config.redact(found)
        return Attempt(self.number, self.started, self.elapsed, self.queued, self.status, self.error, found)


class Call(Struct, eq=False):
    """One operation as a call middleware sees it, from before its first attempt to its result."""

    request: Request
    #: The client's configuration. It is set only where there are call middlewares.
    config: ClientConfig | None = None
    #: The attempts that were described, and what is known of those after them.
    described: list[Attempt] = []
    ended: list[EndedAttempt] = []
    #: Event loop time of the call's start and of its deadline.
    started: float = 0.0
    ends_at: float = math.inf
    #: The scope that the deadline ends; it can be ended early when the deadline cannot be kept.
    scope: Scope | None = None
    #: Number of attempts made.
    made: int = 0
    #: Number of attempts that count against `max_attempts`.
    counted: int = 0
    #: What the rate limiter takes the last attempt's refusal for; None if it was not refused for load.
    refusal: Refusal | None = None
    #: Whether an attempt was refused with a 503 that was taken for load.
    was_refused: bool = False
    #: Seconds slept between attempts, or waited for a server that served nothing.
    waited: float = 0.0
    #: Whether this is the one request that is sent while the server serves nothing.
    is_canary: bool = False
    #: The number of answers that the server had served when the last attempt was admitted.
    served_before: int = 0
    #: The answer that was decoded to the call's result, and the seconds from the call's start to it.
    response: Response | None = None
    elapsed: float = 0.0
    #: The error of the last attempt.
    last: AlliError | None = None
    #: The outcome of the whole call so far.
    outcome: Outcome = "not_sent"

    def __repr__(self) -> str:
        return f"Call({self.operation!r}, {self.method} {self.path}, {self.made} attempts)"

    @property
    def operation(self) -> str:
        """The contract's name of the operation, such as `listConversations`."""
        return self.request.operation

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.request.method

    @property
    def path(self) -> str:
        """The percent-encoded path below the base URL, without the query."""
        return self.request.path

    @property
    def headers(self) -> dict[str, str]:
        """Headers to add to every attempt of the call; neither the key nor the identity headers are in it."""
        return self.request.headers

    @property
    def base_url(self) -> str:
        """The server's base URL; empty where there are no call middlewares."""
        return "" if self.config is None else self.config.base_url

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts so far, in order. The list is kept only where there are call middlewares."""
        for each in self.ended:
            self.described.append(each.described(self.config))
        self.ended.clear()
        return self.described

    @property
    def maybe_done(self) -> bool:
        """Whether an attempt may have happened."""
        return self.outcome == "unknown"

    def begin_attempt(self, served_before: int) -> None:
        """Note that a request is handed on, and how many answers the server had served before."""
        self.made += 1
        self.request.attempt = self.made
        self.request.sent, self.refusal = True, None
        self.served_before = served_before

    def end_attempt(self, outcome: Outcome) -> None:
        """Note how an attempt ended."""
        if _RANK[outcome] > _RANK[self.outcome]:
            self.outcome = outcome

    def conclude(self, outcome: Outcome) -> Outcome:
        """The outcome of the whole call, whose last attempt (or step before one) had this outcome.

        A write that may have happened in any attempt may have happened. A read changes nothing: a definite
        rejection is the last word on it.
        """
        if outcome == "rejected" and self.request.is_read:
            return outcome
        return max(outcome, self.outcome, key=_RANK.__getitem__)


def response_info(config: ClientConfig, source: AnswerSource) -> ResponseInfo:
    """Describe the HTTP answer of a call, without the key that a server may have echoed."""
    headers = config.redact_headers(source.response.headers)
    return ResponseInfo(
        status=source.response.status,
        headers=headers,
        request_id=request_id(headers),
        attempts=source.attempts,
        elapsed=source.elapsed,
    )


CallHandler = Callable[[Call], Awaitable[Any]]
CallMiddleware = Callable[[Call, CallHandler], Awaitable[Any]]
