"""Whether, when and how often a call is tried again. tenacity counts and sleeps; the decisions are made here."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from anyio import sleep

from ..config import RetryPolicy
from ..errors import (
    AlliError,
    APIError,
    DecodeError,
    ResponseTooLargeError,
    ServerError,
    TLSError,
    TransportError,
)

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

_IDEMPOTENT = frozenset({"GET", "PUT", "DELETE", "HEAD", "OPTIONS"})
_STATUSES = frozenset({408, 429})
# Server errors that another attempt cannot mend: not implemented, HTTP version not supported.
_FINAL = frozenset({501, 505})
_RETRY_COST = 5


def is_transient(error: BaseException) -> bool:
    """Whether another attempt may end otherwise; not whether it may do a thing twice."""
    if isinstance(error, TLSError):
        return False
    if isinstance(error, APIError):
        if isinstance(error, ServerError):
            return error.status not in _FINAL
        return error.status in _STATUSES
    return isinstance(error, TransportError) or (isinstance(error, DecodeError) and error.malformed)


def is_refusal(error: BaseException) -> bool:
    """Whether the server refused a request for load, which shows that it is there."""
    return isinstance(error, APIError) and error.status == 429


def may_be_limit(error: APIError, *, in_outage: bool) -> bool:
    """Whether an answer 429 or 503 may mean that requests come too fast.

    A 503 with a code of the API comes from behind its limits: it is an error like a 500. Any other is that of a
    gateway, which may refuse for load, or have no server in an outage.
    """
    return is_refusal(error) or (error.code is None and not in_outage)


def is_retryable(error: BaseException, method: str, policy: RetryPolicy) -> bool:
    """Whether another attempt can help, and cannot do a thing twice that must not be done twice."""
    if not is_transient(error):
        return False
    if method in _IDEMPOTENT or policy.retry_unknown_writes:
        return True
    not_sent = isinstance(error, TransportError) and error.outcome == "not_sent"
    return not_sent or is_refusal(error)


def why_not_retryable(error: BaseException, method: str) -> str | None:
    """Why an error that is not retryable ends its call, in words; None if it is no failure of a request."""
    if is_transient(error):
        return f"a {method} that may have happened is not repeated"
    if isinstance(error, APIError):
        return f"{error.status} is final"
    if isinstance(error, (DecodeError, ResponseTooLargeError)):
        return "another attempt would bring the same"
    return "another attempt cannot mend it" if isinstance(error, TransportError) else None


def delay(error: BaseException | None, retries: int, policy: RetryPolicy) -> float:
    """Seconds to wait before the next attempt: exponential with full jitter, and never less than Retry-After.

    Args:
        error: The error of the last attempt.
        retries: The number of retries before.
        policy: The bounds.
    """
    return max(random.uniform(0, longest_delay(retries, policy)), retry_after_of(error))  # noqa: S311 - jitter, not a secret


def longest_delay(retries: int, policy: RetryPolicy) -> float:
    """The most seconds of backoff before the next attempt, after so many retries."""
    # 2**1000 is no float; long before that the cap is what counts.
    return min(policy.cap, policy.base * 2.0 ** min(retries, 60))


def longest_backoff(policy: RetryPolicy) -> float:
    """The most seconds that one call can spend in backoffs."""
    if policy.max_attempts > 60:  # every further backoff is the cap's
        return policy.cap * policy.max_attempts if policy.base else 0.0
    return sum(longest_delay(retries, policy) for retries in range(policy.max_attempts - 1))


def retry_after_of(error: BaseException | None) -> float:
    """Seconds for which the server asked to wait; 0 if it did not ask."""
    return (error.retry_after or 0.0) if isinstance(error, AlliError) else 0.0


class RetryQuota:
    """A bucket of tokens that all calls of a client share, so that retries do not storm a server that is down.

    A retry takes five tokens. A call that succeeds gives back the five of its last retry, or one if it needed
    none.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = self.tokens = capacity

    def take(self) -> bool:
        """Take the tokens of one retry; False if there are not enough."""
        if self.tokens < _RETRY_COST:
            return False
        self.tokens -= _RETRY_COST
        return True

    def give_back(self, *, retried: bool) -> None:
        """Note that a call succeeded."""
        if self.tokens < self.capacity:
            self.tokens = min(self.capacity, self.tokens + (_RETRY_COST if retried else 1))


async def retry(
    attempt: Callable[[], Awaitable[T]],
    error: AlliError,
    *,
    wait: Callable[[AlliError], float],
    why_final: Callable[[AlliError, float], str | None],
    on_wait: Callable[[AlliError, float], None],
) -> T:
    """Go on after a first attempt that ended with `error`.

    Entered only once something has failed: tenacity's loop costs 35 µs a call, a plain first attempt nothing.

    Args:
        attempt: Makes one attempt.
        error: The error of the first attempt. tenacity is shown it as its own first attempt.
        wait: Gives the seconds to wait after an error.
        why_final: Gives why the call must not go on after an error and a wait of so many seconds; None if it
            may. It is written into the error.
        on_wait: Told the error and the seconds before each sleep.

    Raises:
        AlliError: The last error, when no further attempt is allowed.
    """
    # Imported here because most programs never get so far, and it costs as much as a third of this library.
    from tenacity import AsyncRetrying, retry_if_exception_type

    is_first = True

    async def next_attempt() -> T:
        nonlocal is_first
        if is_first:
            is_first = False
            raise error
        return await attempt()

    def stop(state: RetryCallState) -> bool:
        last = _error(state)
        last.why_final = why_final(last, state.upcoming_sleep)
        return last.why_final is not None

    retrying = AsyncRetrying(
        sleep=sleep,
        wait=lambda state: wait(_error(state)),
        stop=stop,
        retry=retry_if_exception_type(AlliError),
        before_sleep=lambda state: on_wait(_error(state), state.upcoming_sleep),
        reraise=True,
    )
    return await retrying(next_attempt)


def _error(state: RetryCallState) -> AlliError:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, AlliError):  # tenacity asks only after an error of this kind
        raise TypeError(f"expected an AlliError, got {error!r}")
    return error
