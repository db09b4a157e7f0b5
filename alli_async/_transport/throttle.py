"""How many requests may be in flight, and when the next may go: one per client, shared by all its tasks."""

from __future__ import annotations

import asyncio
import math
from collections import deque

# Where growth begins: low enough that a client's first moment is no burst, high enough for one page's chats.
_START = 8.0


class Throttle:
    """A ceiling on requests in flight that adapts, a pace, and a pause that holds for everyone.

    The ceiling grows by one per answer until the server first pushes back (429, 503), then by one per round
    of answers; a push-back halves it, once per round, since the answers to what was already under way say
    nothing new. Waiters are served in order.

    An asyncio future per waiter, rather than anyio.CapacityLimiter, since the uncontended way through is
    taken by every request: 0.4 µs here, 10 µs there.
    """

    def __init__(self, ceiling: int, rate_limit: float | None = None, *, parent: Throttle | None = None) -> None:
        self.in_flight = 0
        self._ceiling = float(ceiling)
        self._limit = min(_START, self._ceiling)
        self._turning_point = self._ceiling
        self._interval = 1 / rate_limit if rate_limit else 0.0
        self._opens_at = -math.inf
        self._round = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._parent = parent

    async def acquire(self) -> int:
        """Wait for a place; gives the round it belongs to, to be handed to `pushed_back`."""
        if self._waiters or not self._admit():
            await self._queue()
        if self._parent is None:
            return self._round
        try:
            return await self._parent.acquire()
        except BaseException:
            self._leave()
            raise

    def release(self) -> None:
        """Give the place back."""
        self._leave()
        if self._parent is not None:
            self._parent.release()

    def answered(self) -> None:
        """The server served a request: more may be in flight, if the limit was what held them back."""
        if self._parent is not None:
            self._parent.answered()
        elif self._limit < self._ceiling and self.in_flight >= self._limit - 1:
            step = 1 if self._limit < self._turning_point else 1 / self._limit
            self._limit = min(self._limit + step, self._ceiling)

    def pushed_back(self, admitted_in: int, pause: float | None) -> None:
        """The server refused for load: fewer in flight, and nobody before `pause` seconds have passed."""
        if self._parent is not None:
            self._parent.pushed_back(admitted_in, pause)
            return
        if admitted_in == self._round:
            self._round += 1
            self._limit = self._turning_point = max(1.0, self._limit / 2)
        if pause:
            self._opens_at = max(self._opens_at, asyncio.get_running_loop().time() + pause)

    def _admit(self, *, overdue: bool = False) -> bool:
        if self.in_flight >= int(self._limit):
            return False
        if self._opens_at > -math.inf or self._interval:
            now = asyncio.get_running_loop().time()
            if now < self._opens_at:
                return False
            # A waiter whose timer fired late must not slow the pace: the next counts from when it was due.
            due = max(self._opens_at, now - self._interval) if overdue else now
            self._opens_at = due + self._interval
        self.in_flight += 1
        return True

    async def _queue(self) -> None:
        place = asyncio.get_running_loop().create_future()
        self._waiters.append(place)
        self._wake()
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():
                self._leave()
            raise

    def _leave(self) -> None:
        self.in_flight -= 1
        if self._waiters:
            self._wake()

    def _wake(self) -> None:
        while self._waiters and (self._waiters[0].done() or self._admit(overdue=True)):
            place = self._waiters.popleft()
            if not place.done():
                place.set_result(None)
        if self._waiters and self._timer is None and self.in_flight < int(self._limit):
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._opens_at, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._wake()
