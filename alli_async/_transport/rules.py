"""The decisions of one call after each of its failed attempts: how long to wait, and whether to go on."""

from __future__ import annotations

import asyncio
import sys

from ..config import RetryPolicy
from ..errors import AlliError
from .call import Call
from .limit_model import Refusal
from .outage import Outage
from .retry import RetryQuota, delay, is_refusal, is_retryable, is_transient, retry_after_of, why_not_retryable


class RetryRules:
    """Decides for one call whether, and after how many seconds, it is tried again.

    A single call has `max_attempts`, as far as the shared quota allows. A bulk read spends attempts only on what
    may be wrong with its own request: neither an outage, nor refusals for load, nor a quota that an outage has
    spent end it before its patience ends. It has more than `max_attempts` where many requests fail by chance.
    When its attempts are used up and nothing else was served meanwhile, it suspects an outage; if the canary is
    served, its request is at fault.

    Args:
        policy: The bounds.
        quota: The quota that all calls share.
        outage: The state of the server.
        call: The call.
        is_bulk: Whether it belongs to a bulk read.
        most_attempts: Attempts after which a call of a bulk read ends without a verdict on its request; None for
            as many as a verdict takes.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        quota: RetryQuota,
        outage: Outage,
        call: Call,
        *,
        is_bulk: bool,
        most_attempts: int | None = None,
    ) -> None:
        self._policy = policy
        self._quota = quota
        self._outage = outage
        self._call = call
        self._is_bulk = is_bulk
        self._most_attempts = most_attempts
        self._retries = 0
        self._suspicion: AlliError | None = None
        self._canaries_before = 0

    @property
    def _is_patient(self) -> bool:
        return self._is_bulk and (self._outage.has_served or self._policy.patience_from_start)

    def wait(self, error: AlliError) -> float:
        """Seconds to wait after an error; the pauses of an outage come on top."""
        if self._outage.cause is not None and is_transient(error) and not is_refusal(error):
            return retry_after_of(error)
        if self._call.refusal in (Refusal.LIMIT, Refusal.CHANCE):
            # The limiter holds the call back, together with all others, if that helps.
            return retry_after_of(error)
        if self._asks_for_canary(error):
            # A canary shows whether there is an outage; to wait before it would be a wait for nothing.
            return retry_after_of(error)
        return delay(error, self._retries, self._policy)

    def why_final(self, error: AlliError, seconds: float) -> str | None:
        """Why the call ends with this error, given that it would wait so many seconds; None if it goes on."""
        policy, now = self._policy, asyncio.get_running_loop().time()
        if error.why_final is not None:
            return error.why_final
        if error is self._suspicion:
            return f"its {self._call.made} attempts (max_attempts) failed while other requests are served"
        if not is_retryable(error, self._call.method, policy):
            return why_not_retryable(error, self._call.method) or "it is no failure of a request"
        longest = max(policy.retry_after_cap, policy.patience) if self._is_patient else policy.retry_after_cap
        if retry_after_of(error) > longest:
            return f"a Retry-After of {retry_after_of(error):g} s is longer than it may wait ({longest:g} s)"
        if now + seconds >= self._call.ends_at:
            return "its deadline comes before the next attempt"
        return self._count_attempt(error, now)

    def _count_attempt(self, error: AlliError, now: float) -> str | None:
        """Count a failed attempt. Returns why the call must end; None if it may go on."""
        policy, call, outage = self._policy, self._call, self._outage
        if call.refusal is Refusal.LIMIT:
            return None
        if self._is_patient and is_refusal(error):
            is_served = now - max(outage.served_at, call.started) < policy.patience
            return None if is_served else f"nothing but refusals for {policy.patience:g} s (patience)"
        if self._is_patient and outage.cause is not None:
            return None
        asks_for_canary = self._asks_for_canary(error)
        call.counted += 1
        if call.counted >= self._most:
            if asks_for_canary:
                self._suspicion, self._canaries_before = error, outage.failed_canaries
                outage.suspect(error, now)
                return None
            self._blame_request()
            return f"{self._most} attempts are the most (max_attempts)"
        if not self._quota.take() and not self._is_patient:
            return "the retry quota that all calls of the client share is spent"
        return None

    @property
    def _most(self) -> int:
        """The number of attempts after which the call ends or an outage is suspected."""
        if not self._is_patient:
            return self._policy.max_attempts
        return min(self._outage.attempts_for(self._policy), self._most_attempts or sys.maxsize)

    def _blame_request(self) -> None:
        if self._most_attempts is None:
            self._outage.found_fault()

    def _asks_for_canary(self, error: AlliError) -> bool:
        """Whether this is the last attempt of a bulk read, and nothing else was served meanwhile."""
        if not self._is_patient or is_refusal(error):
            return False
        return self._call.counted + 1 >= self._most and self._outage.answers == self._call.served_before

    def check_suspicion(self) -> None:
        """Decide, once the server serves again, whether there was an outage or the request is at fault.

        Raises:
            AlliError: The request is at fault: the first canary was served.
        """
        self._retries += 1
        suspicion = self._suspicion
        if suspicion is None or self._call.is_canary:
            return
        if self._outage.failed_canaries == self._canaries_before:
            self._blame_request()
            raise suspicion
        self._suspicion, self._call.counted = None, 0
