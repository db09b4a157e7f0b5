"""Outages: while a server serves nothing, one request at a time asks whether it is back."""

from __future__ import annotations

import asyncio
import copy
import math
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from ..config import RetryPolicy
from ..errors import AlliError
from .call import Call
from .retry import longest_backoff, longest_delay, retry_after_of
from .wire import Request

# Failures in a row, of more than one call, after which the server may serve nothing. Fewer are common where a
# few requests in a hundred fail by chance; so many in a row are then one case in a million.
_FAILURES = 5
# Seconds between two canaries at least, whatever the policy says.
_LEAST_PAUSE = 0.05
# Reads that worked and are kept as canaries, of each operation.
_PROBES = 2
# In the share of first attempts that fail, each first attempt multiplies the weight of all earlier ones by this
# factor: after 35 attempts a weight is half.
_DECAY = 0.98
# The share begins as if this many first attempts had been served, so that a few failures make no large one.
_PRIOR = 8
# The probability, for one request, that errors at random alone make all of its attempts fail.
_BAD_LUCK = 1e-5
# The most attempts of a request where many fail at random, as a multiple of `max_attempts`.
_MAX_LUCK = 4


class Outage:
    """Whether a server serves anything, and who may ask it while it does not. Shared by the calls of one server.

    There are three states. It holds no clock: each method is told the time.

    - The server serves. Failures are counted until something is served.
    - An outage (`cause` is set): nothing was served for a while. One request at a time, the canary, is sent, with
      pauses that grow; all other calls wait and spend no attempts. The canary is in turn one of the reads that
      worked before, or the waiting call's own request, so that neither a request that cannot be served nor a
      read that has become one keeps the others waiting. A read that fails as a canary is the last in turn then.
      The first answer ends the outage.
    - A pause (`cause` and `asked_until` are set): the server asked for a wait that is longer than a call waits.
      Nothing is sent before it is over.

    An outage begins when several calls have failed in a row for a while, or when a bulk read has used up its
    attempts and nothing else was served meanwhile. If the first canary is served, there was no outage, and the
    request itself is at fault.

    Where a share of all requests fails by chance, a request is at fault only after as many attempts as chance does
    not explain (`attempts_for`). The share is that of first attempts that failed lately, outages left out.

    Args:
        on_begin: Called when an outage or a pause begins.
        on_fault: Called when a request proves to be at fault.

    Attributes:
        cause: The last error of the outage; None while the server serves.
        answers: The number of answers that were served so far.
        served_at: When the last answer was served.
        has_served: Whether a request ever succeeded.
        failed_canaries: The number of canaries that failed so far, in all outages.
        asked_until: When the wait that the server asked for ends.
        since: When the first failure came after which nothing was served.
        due: When the next canary may go, for bulk reads.
    """

    def __init__(
        self, on_begin: Callable[[], None] | None = None, on_fault: Callable[[], None] | None = None
    ) -> None:
        self._on_begin, self._on_fault = on_begin, on_fault
        self.cause: AlliError | None = None
        self.answers = 0
        self.served_at = -math.inf
        self.has_served = False
        self.failed_canaries = 0
        self.asked_until = self.due = self.since = self._failed_at = -math.inf
        self._failures = self._pauses = 0
        self._first: Call | None = None
        self._is_shared = False
        self._probes: deque[tuple[Request, Callable[[bytes], Any]]] = deque()
        self._first_attempts = self._first_failures = 0.0
        self._canary: Call | None = None
        self._waiters: set[asyncio.Future[None]] = set()

    # --- what became of requests --------------------------------------------------------------------------

    def succeeded(self, request: Request, decode: Callable[[bytes], Any]) -> None:
        """Note that a request succeeded; a read is kept as the next canary."""
        self.has_served = True
        if request.method == "GET":
            self._keep_probe(request, decode)

    def _keep_probe(self, request: Request, decode: Callable[[bytes], Any]) -> None:
        """Keep a read as a canary, in place of the latest one of its operation, if there are enough."""
        probes = self._probes
        if probes and probes[-1][0].path == request.path and probes[-1][0].query == request.query:
            probes.rotate(1)  # it was a canary, or is read again
            return
        if probes and probes[0][0].operation == request.operation and len(probes) >= _PROBES:
            probes[0] = request, decode  # by far the most frequent case
            return
        same = [each for each in probes if each[0].operation == request.operation]
        if len(same) >= _PROBES:
            probes.remove(same[0])
        probes.appendleft((request, decode))

    def first_attempt_ended(self, *, failed: bool) -> None:
        """Note how the first attempt of a call ended; in an outage that says nothing about chance."""
        if self.cause is None:
            self._first_attempts = self._first_attempts * _DECAY + 1
            self._first_failures = self._first_failures * _DECAY + failed

    def found_fault(self) -> None:
        """Note that a request is at fault: its first attempt did not fail by chance."""
        self._first_failures = max(0.0, self._first_failures - 1)
        if self._on_fault is not None:
            self._on_fault()

    def attempts_for(self, policy: RetryPolicy) -> int:
        """How many attempts of one request must fail before the request is at fault, and not chance."""
        share = self._first_failures / (self._first_attempts + _PRIOR)
        if share <= 0.0 or policy.max_attempts == 1:
            return policy.max_attempts
        explained = math.ceil(math.log(_BAD_LUCK) / math.log(share))
        return max(policy.max_attempts, min(explained, _MAX_LUCK * policy.max_attempts))

    def served(self, now: float) -> None:
        """Note that the server gave an answer of its own: a success, or an error that is about the request."""
        self.answers += 1
        self.served_at = now
        if self._failures or self.cause is not None:
            self._failures, self._first, self._is_shared = 0, None, False
            self.cause, self.asked_until = None, -math.inf
            self._notify()

    def failed(self, call: Call, error: AlliError, now: float, policy: RetryPolicy) -> None:
        """Note a failure that is no answer of the server's own: a 5xx, a lost connection, a timeout."""
        self._failures += 1
        if self._failures == 1:
            self.since, self._first = now, call
        elif call is not self._first:
            self._is_shared = True
        if call.is_canary:
            self.cause = error
            self.failed_canaries += 1
            self._pauses += 1
            pause = longest_delay(self._pauses, policy)
            jittered = random.uniform(pause / 2, pause)  # noqa: S311 - jitter, not a secret
            self._wait(error, now, max(jittered, _LEAST_PAUSE))
        elif self._is_likely(now, policy):
            self._begin(error, now, random.uniform(policy.base / 2, policy.base))  # noqa: S311 - jitter

    def _is_likely(self, now: float, policy: RetryPolicy) -> bool:
        is_new = self.cause is None and self._is_shared
        return is_new and self._failures >= _FAILURES and now - self.since >= policy.base

    def suspect(self, error: AlliError, now: float) -> None:
        """Begin an outage whose first canary may go at once: a bulk read has used up its attempts."""
        if self.cause is None:
            self.since = now if not self._failures else self.since
            self._begin(error, now, 0.0)

    def pause(self, error: AlliError, now: float) -> None:
        """Let nothing be sent for as long as the server asked: longer than a single call waits."""
        self.suspect(error, now)
        self.cause = error
        self._wait(error, now, 0.0)

    def _begin(self, error: AlliError, now: float, pause: float) -> None:
        self.cause, self._pauses = error, 0
        self._wait(error, now, pause)
        if self._on_begin is not None:
            self._on_begin()

    def _wait(self, error: AlliError, now: float, pause: float) -> None:
        """Let the next canary wait for a pause of ours, and for what the server asked for."""
        self._failed_at = now
        if seconds := retry_after_of(error):
            self.asked_until = max(self.asked_until, now + seconds)
        self.due = max(now + pause, self.asked_until)

    # --- who waits, and who is the canary -----------------------------------------------------------------

    def give_up_at(self, call: Call, now: float, policy: RetryPolicy, *, is_bulk: bool) -> float:
        """When a call stops waiting for the server, at the latest.

        Args:
            call: The call.
            now: The time.
            policy: The bounds of the call.
            is_bulk: Whether it is a bulk read, which lives through an outage as long as `patience`.
        """
        if is_bulk and (self.has_served or policy.patience_from_start):
            patient_until = max(self.since, call.started) + policy.patience
            # A Retry-After as long as the patience is waited for, although the outage began before it came.
            return max(patient_until, self.asked_until if self.asked_until <= now + policy.patience else 0.0)
        return now + max(longest_backoff(policy) - call.waited, 0.0)

    def due_for(self, policy: RetryPolicy, *, is_bulk: bool) -> float:
        """When the next canary may go.

        Bulk reads can wait for pauses that grow. Single calls do not wait long, so that for them a canary goes at
        least every third of the time they wait.
        """
        if is_bulk:
            return self.due
        return max(min(self.due, self._failed_at + longest_backoff(policy) / 3), self.asked_until)

    def holds(self, call: Call, now: float, *, is_bulk: bool) -> bool:
        """Whether a call has to wait in an outage.

        Before anything was served, each request of a bulk read makes one attempt: a list whose first pages hold a
        row that cannot be read has other pages, or smaller ones.
        """
        is_first = is_bulk and not self.has_served and not call.made and now >= self.asked_until
        return not call.is_canary and not is_first

    def may_ask(self, now: float, due: float, give_up_at: float, failed_before: int) -> bool:
        """Whether a waiting call may be, or send, the canary.

        When a call is about to give up it may, even before the next canary is due, if no canary failed while it
        waited: no call fails for an outage without the server having been asked, unless the server asked to wait.
        """
        if self._canary is not None or now < self.asked_until:
            return False
        return now >= due or (now >= give_up_at and self.failed_canaries == failed_before)

    def next_canary(self, own: Call) -> tuple[Call, Callable[[bytes], Any] | None]:
        """The canary to send: a read that worked before, with its decoder, or in turn the waiting call itself."""
        if not self._probes or self._pauses % 2:
            canary, decode = own, None
        else:
            request, decode = self._probes[0]
            self._probes.rotate(-1)  # it is the first again when it is served
            canary = Call(Request(request.operation, request.method, request.path, request.query, request.body))
        canary.is_canary = True
        self._canary = canary
        return canary, decode

    def release(self, call: Call) -> None:
        """Note that a canary has ended, however it ended."""
        call.is_canary = False
        if self._canary is call:
            self._canary = None
            self._notify()

    def forget_in_flight(self) -> None:
        """Forget the canary and the waiters of an event loop that is closed; the state of the server stays."""
        self._canary = self._first = None
        self._waiters.clear()

    async def wait_for_change(self, now: float, due: float, give_up_at: float) -> None:
        """Wait until a canary has ended, the next one is due, or a call gives up."""
        until = give_up_at if self._canary is not None else min(due, give_up_at)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=None if until == math.inf else max(until - now, 0.0))
        finally:
            self._waiters.discard(waiter)

    def error_for(self, now: float) -> AlliError:
        """The error of a call that stops waiting: the outage's cause, with when to come back."""
        cause = self.cause or AlliError("the server serves nothing")
        error = copy.copy(cause).with_traceback(None)
        error.__cause__ = error.__context__ = None
        ends = self.asked_until > now
        what = "asked to wait" if ends else f"has served nothing for {max(now - self.since, 0.0):.1f} s"
        error.args = (f"the server {what}; last: {cause.message}",)
        error.retry_after = max(self.due - now, 0.0)
        error.is_outage = True
        error.outcome = "not_sent"
        error.why_final = (
            "the wait is longer than this call waits" if ends else "the outage outlived the call's patience"
        )
        return error

    def _notify(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
