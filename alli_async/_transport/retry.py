"""Whether, when and how often to try again. tenacity counts and sleeps; what is decided here is ours."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from anyio import sleep
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from ..config import RetryPolicy
from ..errors import AlliError, APIError, DecodeError, ServerError, TLSError, TransportError

T = TypeVar("T")

_IDEMPOTENT = frozenset({"GET", "PUT", "DELETE"})
_STATUSES = frozenset({408, 429})
# Server errors that another try cannot mend: not implemented, HTTP version not supported.
_FINAL = frozenset({501, 505})
_RETRY_COST = 5


def is_retryable(error: BaseException, method: str) -> bool:
    """Whether trying again can help and cannot do a thing twice."""
    if isinstance(error, TLSError):
        return False
    if method not in _IDEMPOTENT:
        not_sent = isinstance(error, TransportError) and error.outcome == "not_sent"
        return not_sent or (isinstance(error, APIError) and error.status == 429)
    if isinstance(error, APIError):
        if isinstance(error, ServerError):
            return error.status not in _FINAL
        return error.status in _STATUSES
    return isinstance(error, TransportError) or (isinstance(error, DecodeError) and error.malformed)


def delay(error: BaseException | None, retries: int, policy: RetryPolicy) -> float:
    """Seconds to wait before the next try: exponential with full jitter, and never under a Retry-After.

    Args:
        error: What the last try ended with.
        retries: How many retries there were before.
        policy: The bounds.
    """
    # 2**1000 is no float; long before that the cap is what counts.
    ceiling = min(policy.cap, policy.base * 2 ** min(retries, 60))
    return max(random.uniform(0, ceiling), _asked(error))  # noqa: S311 - jitter, not a secret


def _asked(error: BaseException | None) -> float:
    return (error.retry_after or 0.0) if isinstance(error, APIError) else 0.0


class RetryQuota:
    """A bucket of tokens that all calls of a client share, so that a server that is down is not stormed.

    A retry takes five; a call that succeeds gives back what its last retry took, or one if it needed none.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = self.tokens = capacity

    def take(self) -> bool:
        """Take what a retry costs; False when there is not enough."""
        if self.tokens < _RETRY_COST:
            return False
        self.tokens -= _RETRY_COST
        return True

    def give_back(self, *, retried: bool) -> None:
        """A call succeeded."""
        if self.tokens < self.capacity:
            self.tokens = min(self.capacity, self.tokens + (_RETRY_COST if retried else 1))


async def retry(
    attempt: Callable[[int], Awaitable[T]],
    error: AlliError,
    *,
    method: str,
    policy: RetryPolicy,
    quota: RetryQuota,
    ends_at: float,
    on_wait: Callable[[float], None],
) -> T:
    """Go on after a first try that ended with `error`.

    Entered only once something has failed: tenacity's loop costs 35 µs a call, a plain first try nothing.

    Args:
        attempt: Makes one request; is given its number, from 2.
        error: What the first try ended with. tenacity is shown it as its own first attempt.
        method: The HTTP method, which decides what may be tried again.
        policy: The bounds.
        quota: The client's.
        ends_at: `time.monotonic()` of the call's deadline; it is never slept past.
        on_wait: Told the seconds before each sleep.

    Raises:
        AlliError: The last error, when no further try is allowed.
    """
    number = 0

    async def next_attempt() -> T:
        nonlocal number
        number += 1
        if number == 1:
            raise error
        return await attempt(number)

    def wait(state: RetryCallState) -> float:
        return delay(_error(state), state.attempt_number - 1, policy)

    def stop(state: RetryCallState) -> bool:
        return (
            state.attempt_number >= policy.max_attempts
            or _asked(_error(state)) > policy.retry_after_cap
            or time.monotonic() + state.upcoming_sleep >= ends_at
            or not quota.take()
        )

    retrying = AsyncRetrying(
        sleep=sleep,
        wait=wait,
        stop=stop,
        retry=retry_if_exception(lambda raised: is_retryable(raised, method)),
        before_sleep=lambda state: on_wait(state.upcoming_sleep),
        reraise=True,
    )
    return await retrying(next_attempt)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
