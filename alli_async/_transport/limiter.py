"""The gate that every request passes: one per base URL and key, shared by all its tasks."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from weakref import WeakSet

from .limit_model import LimitModel, Refusal, Ticket

# Seconds by which a timer may be late without slowing down a given rate limit.
_LATE = 0.01
_NO_HEADERS: Mapping[str, str] = {}
# The ticket of a limiter inside another one, whose ticket counts instead.
_PASSED_ON = Ticket(0.0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the rate limiter allows now.

    Attributes:
        in_flight: Number of requests that wait for their answer.
        waiting: Number of requests that wait to be sent.
        max_in_flight: Number of requests that may be in flight.
        rate: Requests per second that may be sent in the long run; infinite where no limit is known.
        paused_for: Seconds for which nothing is sent, because the server refused requests; 0 if there is no pause.
        refused: Number of requests that were refused for load so far.
    """

    in_flight: int
    waiting: int
    max_in_flight: int
    rate: float
    paused_for: float
    refused: int


class InterruptedWaitError(Exception):
    """What a request waited for has changed: it must look again whether it may be sent at all."""


class RateLimiter:
    """Admits requests in the order in which they come, when the model of the server's limit says so.

    Waiters are served in order: an asyncio future each, not anyio.CapacityLimiter, since every request takes
    the uncontended way through, which costs about 1 µs here and 10 µs there.

    Args:
        ceiling: Largest number of requests in flight.
        rate_limit: Largest number of requests per second.
        parent: The limiter that the requests of this one must pass too. It alone learns the server's limit.
    """

    def __init__(
        self, ceiling: int, rate_limit: float | None = None, *, parent: RateLimiter | None = None
    ) -> None:
        self.in_flight = 0
        # Only one model learns: a limiter inside another one only passes requests on.
        self.model: LimitModel = LimitModel(ceiling) if parent is None else parent.model
        self._parent = parent
        self._children: WeakSet[RateLimiter] = WeakSet()
        if parent is not None:
            parent._children.add(self)
        self._interval = 1 / rate_limit if rate_limit else 0.0
        self._ceiling = ceiling
        self._opens_at = -math.inf
        self._urgent: deque[asyncio.Future[Ticket | None]] = deque()
        self._waiters: deque[asyncio.Future[Ticket | None]] = deque()
        self._timer: asyncio.Handle | None = None
        # uvloop's handle of a wait below half a millisecond does not tell its time.
        self._timer_at = math.inf

    @property
    def max_in_flight(self) -> int:
        """Number of requests that may be in flight."""
        return min(self._ceiling, self._parent.max_in_flight if self._parent else self.model.max_in_flight)

    @property
    def paused_for(self) -> float:
        """Seconds for which nothing may go, because the server refused requests; 0 if there is no pause."""
        if self._parent is not None:
            return self._parent.paused_for
        if self.model.paused_until == -math.inf:
            return 0.0
        return max(self.model.paused_until - asyncio.get_running_loop().time(), 0.0)

    def limits(self) -> Limits:
        """What is allowed now."""
        waiting = sum(not place.done() for queue in (self._urgent, self._waiters) for place in queue)
        if self._parent is None:
            rate, refused = self.model.rate, self.model.refusals
            paused_for = self.paused_for if self.model.paused_until > -math.inf else 0.0
        else:
            shared = self._parent.limits()
            rate, refused, paused_for = shared.rate, shared.refused, shared.paused_for
            waiting += shared.waiting
        own = 1 / self._interval if self._interval else math.inf
        return Limits(self.in_flight, waiting, self.max_in_flight, min(rate, own), paused_for, refused)

    def admit(self) -> Ticket | None:
        """Let a request go at once, as `acquire` does, or return None where it may have to wait."""
        return self._admit() if self._parent is None and not self._urgent and not self._waiters else None

    async def acquire(self, *, urgent: bool = False) -> Ticket:
        """Wait until a request may go. The ticket is handed to `answered` or `pushed_back`.

        Args:
            urgent: Whether the request goes before those that are not, since others wait for its answer.

        Raises:
            InterruptedWaitError: `interrupt` was called meanwhile.
        """
        ticket = None if self._urgent or self._waiters else self._admit()
        if ticket is None:
            ticket = await self._queue(self._urgent if urgent else self._waiters)
        if self._parent is None:
            return ticket
        try:
            return await self._parent.acquire(urgent=urgent)
        except BaseException:
            self._leave()
            raise

    def release(self) -> None:
        """Give the place back, after the limiter was told of the answer."""
        self._leave()
        if self._parent is not None:
            self._parent.release()

    def forget_in_flight(self) -> None:
        """Forget requests and waiters of an event loop that is closed; limits and pauses that were learnt stay."""
        self.in_flight = 0
        self._urgent.clear()
        self._waiters.clear()
        self._timer = None

    def interrupt(self) -> None:
        """End the waits of all requests in the queues, also of limiters inside this one, with an error."""
        for child in self._children:
            child.interrupt()
        for waiters in (self._urgent, self._waiters):
            for place in waiters:
                if not place.done():
                    place.set_result(None)
            waiters.clear()

    def answered(self, ticket: Ticket, headers: Mapping[str, str] = _NO_HEADERS) -> None:
        """The server served a request."""
        if self._parent is not None:
            self._parent.answered(ticket, headers)
            return
        self.model.served(ticket, asyncio.get_running_loop().time(), self.in_flight, headers)

    def pushed_back(
        self,
        ticket: Ticket,
        pause: float | None,
        headers: Mapping[str, str] = _NO_HEADERS,
        *,
        may_be_down: bool = False,
    ) -> Refusal:
        """The server refused a request for load. Returns what that is taken for.

        Args:
            ticket: The ticket of the request.
            pause: Seconds for which the server asked to wait; None for a wait that only the call keeps.
            headers: The headers of the answer.
            may_be_down: Whether the answer may also mean that the server is down. Then others decide how long to
                wait, and the limiter waits only briefly.
        """
        if self._parent is not None:
            return self._parent.pushed_back(ticket, pause, headers, may_be_down=may_be_down)
        now = asyncio.get_running_loop().time()
        return self.model.refused(ticket, now, pause or 0.0, headers, may_be_down=may_be_down)

    def confirm_load(self) -> None:
        """The server served a request that it refused before with a 503: load was the cause."""
        self.model.confirm_load()

    def found_fault(self) -> None:
        """A request is at fault itself: what its refusals seemed to say of a limit is forgotten."""
        self.model.found_fault()
        self._wake()

    def resize(self, ceiling: int, rate_limit: float | None) -> None:
        """Take another share of what the parent allows."""
        self._ceiling = ceiling
        self._interval = 1 / rate_limit if rate_limit else 0.0
        self._wake()

    def _ready_at(self, now: float) -> float:
        if self.in_flight >= self._ceiling:
            return math.inf
        if self._parent is not None:
            return self._opens_at
        return max(self.model.ready_at(now, self.in_flight), self._opens_at)

    def _admit(self, *, overdue: bool = False) -> Ticket | None:
        now = asyncio.get_running_loop().time()
        # A timer that is due at this very moment may fire a rounding error early.
        if self._ready_at(now) > now + 1e-9:
            return None
        if self._interval:
            # A waiter whose timer fired late must not slow the rate: the next counts from when it was due.
            due = max(self._opens_at, now - max(self._interval, _LATE)) if overdue else now
            self._opens_at = due + self._interval
        self.in_flight += 1
        return self.model.admit(now, self.in_flight) if self._parent is None else _PASSED_ON

    async def _queue(self, waiters: deque[asyncio.Future[Ticket | None]]) -> Ticket:
        place: asyncio.Future[Ticket | None] = asyncio.get_running_loop().create_future()
        waiters.append(place)
        self._wake()
        try:
            ticket = await place
        except asyncio.CancelledError:
            if not place.cancelled() and place.result() is not None:
                self._leave()
            raise
        if ticket is None:
            raise InterruptedWaitError
        return ticket

    def _leave(self) -> None:
        self.in_flight -= 1
        if self._urgent or self._waiters:
            self._wake()

    def _wake(self) -> None:
        while waiters := self._urgent or self._waiters:
            if waiters[0].done():
                waiters.popleft()
                continue
            ticket = self._admit(overdue=True)
            if ticket is None:
                break
            waiters.popleft().set_result(ticket)
        if waiters:
            self._set_timer()

    def _set_timer(self) -> None:
        loop = asyncio.get_running_loop()
        ready_at = self._ready_at(loop.time())
        if self._timer is not None and self._timer_at > ready_at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and ready_at < math.inf:
            self._timer, self._timer_at = loop.call_at(ready_at, self._on_time), ready_at

    def _on_time(self) -> None:
        self._timer = None
        self._wake()
