"""How many requests may be in flight, and when the next may go: one per client, shared by all its tasks."""

from __future__ import annotations

import asyncio
import math
from collections import deque

from .allowance import START, Allowance
from .chance import Chance

# Seconds by which a timer may be late at no loss.
_LATE = 0.01


class InterruptedWaitError(Exception):
    """What a request waited for has changed: it must look again whether it may be sent at all."""


class Throttle:
    """A number in flight and a pace that adapt, a rate that is given, and a pause that holds for everyone.

    Waiters are served in order: an asyncio future each, not anyio.CapacityLimiter, since every request takes
    the uncontended way through, which costs 0.5 µs here and 10 µs there.

    Args:
        ceiling: Requests in flight at most.
        rate_limit: Requests per second at most.
        parent: The throttle that this one's requests must pass too. It alone adapts.
    """

    def __init__(self, ceiling: int, rate_limit: float | None = None, *, parent: Throttle | None = None) -> None:
        self.in_flight = 0
        self.allowance = Allowance(ceiling, START if parent is None else ceiling)
        self._interval = 1 / rate_limit if rate_limit else 0.0
        self._chance = Chance()
        self._opens_at = self._paused_until = -math.inf
        self._paced = False
        self._round = 0
        self._urgent: deque[asyncio.Future[int | None]] = deque()
        self._waiters: deque[asyncio.Future[int | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._parent = parent

    @property
    def paused_for(self) -> float:
        """Seconds for which nothing may go, because the server asked for a pause; 0 if it did not."""
        if self._parent is not None:
            return self._parent.paused_for
        if self._paused_until == -math.inf:
            return 0.0
        return max(self._paused_until - asyncio.get_running_loop().time(), 0.0)

    async def acquire(self, *, urgent: bool = False) -> int:
        """Wait for a place; gives the round it belongs to, to be handed to `pushed_back`.

        Args:
            urgent: Others wait for what this one brings, so it goes before them, after those as urgent.

        Raises:
            InterruptedWaitError: `interrupt` was called meanwhile.
        """
        if self._urgent or self._waiters or not self._admit():
            admitted_in = await self._queue(self._urgent if urgent else self._waiters)
        else:
            admitted_in = self._round
        if self._parent is None:
            return admitted_in
        try:
            return await self._parent.acquire(urgent=urgent)
        except BaseException:
            self._leave()
            raise

    def release(self) -> None:
        """Give the place back, after what came of it was told."""
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
        """End the waits of all requests in the queue with an InterruptedWaitError."""
        for waiters in (self._urgent, self._waiters):
            while waiters:
                place = waiters.popleft()
                if not place.done():
                    place.set_result(None)

    def answered(self) -> None:
        """The server served a request."""
        if self._parent is not None:
            self._parent.answered()
            return
        self._chance.served()
        self.allowance.served(asyncio.get_running_loop().time(), self.in_flight, paced=self._paced)
        self._paced = False

    def pushed_back(self, admitted_in: int, pause: float | None) -> bool:
        """The server refused for load: less from now on, and nothing before `pause` seconds have passed.

        Gives whether the refusal counts as an attempt of its call.
        """
        if self._parent is not None:
            return self._parent.pushed_back(admitted_in, pause)
        now = asyncio.get_running_loop().time()
        if rest := self._refused(now, admitted_in, pause or 0.0):
            self._paused_until = max(self._paused_until, now + rest)
            self._opens_at = max(self._opens_at, self._paused_until)
        return True

    def _refused(self, now: float, admitted_in: int, pause: float) -> float:
        allowance, chance = self.allowance, self._chance
        if chance.explains(allowance.load(now), held=allowance.is_held(now)):
            return pause
        fresh = admitted_in == self._round
        self._round += fresh
        rest = allowance.refused(now, self.in_flight, pause, fresh=fresh)
        if proven := chance.was_cause(allowance.limit, allowance.pace, self.in_flight):
            allowance.take_up(now, *proven)
            return pause
        return rest

    def _admit(self, *, overdue: bool = False) -> bool:
        allowance = self.allowance
        if self.in_flight + 1 > allowance.limit:
            return False
        if self._opens_at > -math.inf or self._interval or allowance.pace < math.inf:
            interval = max(self._interval, 1 / allowance.pace)
            now = asyncio.get_running_loop().time()
            if now < self._opens_at:
                self._paced = self._paced or (interval > self._interval and now >= self._paused_until)
                return False
            # A waiter whose timer fired late must not slow the pace: the next counts from when it was due.
            due = max(self._opens_at, now - max(interval, _LATE)) if overdue else now
            self._opens_at = due + interval
        self.in_flight += 1
        return True

    async def _queue(self, waiters: deque[asyncio.Future[int | None]]) -> int:
        place: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        waiters.append(place)
        self._wake()
        try:
            admitted_in = await place
        except asyncio.CancelledError:
            if not place.cancelled() and place.result() is not None:
                self._leave()
            raise
        if admitted_in is None:
            raise InterruptedWaitError
        return admitted_in

    def _leave(self) -> None:
        self.in_flight -= 1
        if self._urgent or self._waiters:
            self._wake()

    def _wake(self) -> None:
        while (waiters := self._urgent or self._waiters) and (waiters[0].done() or self._admit(overdue=True)):
            place = waiters.popleft()
            if not place.done():
                place.set_result(self._round)
        if waiters and self._timer is None and self.in_flight + 1 <= self.allowance.limit:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._opens_at, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._wake()
