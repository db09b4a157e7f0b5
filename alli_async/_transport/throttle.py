"""How many requests may be in flight, and when the next may go: one per client, shared by all its tasks."""

from __future__ import annotations

import asyncio
import math
from collections import deque

# Where growth begins: low enough that a client's first moment is no burst, high enough for one page's chats.
_START = 8.0
# Seconds without growth worth the name after a refusal; longer where a refusal costs everyone a pause, so that
# looking for the limit never takes more than a small part of the time.
_HOLD, _HOLD_PER_PAUSE = 3.0, 14.0
# Growth while holding, as a share of the whole; and how growth grows after that, per second and second: by half
# in the first, fivefold within two.
_DRIFT, _ACCELERATION, _LONGEST_GROWTH = 0.1, 0.8, 3.0
# A refusal takes the pace under what was refused, and under what the server was seen to keep up with.
_CUT, _KEEP = 0.95, 0.98
# Seconds for which a pace is tried before it is cut again, and requests per second that are always tried.
_TRIED, _SLOWEST = 1.0, 0.5
# Once so many times what was refused is served, what refused it is gone; and refusals that no growth explains
# teach nothing while they are fewer than one in so many.
_GONE, _RARE = 8.0, 50
# How finely, and over how many such spells, it is remembered when requests were served: the last ten seconds.
_SPELL, _SPELLS = 0.05, 200
# Seconds: of answers in which a burst shows, of which a rate can be read, by which a timer may be late at no loss.
_MOMENT, _SHORTEST, _LATE = 0.25, 0.4, 0.01


class Allowance:
    """What the server was found to take: a number in flight, and a pace. It holds no clock, but is told the time.

    Both are found by being refused. Of a crowded round of requests each refused one takes its place with it, so
    that as many places stay as the server served. When hardly any were served, or when there was no crowd, it
    is requests per second that are limited: then the pace goes just under the highest rate the server kept up
    beyond the burst it lets through. After a refusal both hold, drifting a little, then grow ever faster until
    the next refusal. Nothing served between two refusals is an outage, which says nothing about limits: what
    was proven before it is taken up again as soon as an answer comes.

    Attributes:
        limit: Requests in flight.
        pace: Requests per second.
    """

    def __init__(self, ceiling: float, start: float = _START) -> None:
        self.limit = min(start, ceiling)
        self.pace = math.inf
        self._ceiling = ceiling
        self._proven = self._before = math.inf
        self._crowded, self._hold = False, _HOLD
        self._held_until = self._grown_at = self._cut_at = self._paced_at = -math.inf
        self._served = self._served_at_refusal = self._served_at_cut = 0
        self._refusals = 0
        self._settled_limit = 0.0
        self._burst = 0, 0.0
        self._settled_pace = math.inf
        self._spells: deque[tuple[float, int]] = deque([(-math.inf, 0)], maxlen=_SPELLS)

    def served(self, now: float, in_flight: int, *, paced: bool) -> None:
        """A request was served: more may go, where the limit or the pace (`paced`) was what held them back."""
        if now - self._spells[-1][0] >= _SPELL:
            self._spells.append((now, self._served))
        self._served += 1
        full = in_flight + 1 > self.limit
        if full and self.limit < self._proven:
            self.limit = min(self.limit + 1, self._ceiling)
        elif full or paced:
            growth = self._growth(now)
            if full:
                # By one a round at most, so that a probe is refused once or twice, however slow the server is.
                self.limit = min(self.limit + min(self.limit * growth, 1 / self.limit), self._ceiling)
            if paced:
                self._paced_at = now
                self.pace *= 1 + growth
                if self.pace > _GONE * self._settled_pace:
                    self.pace = self._settled_pace = math.inf

    def refused(self, now: float, in_flight: int, pause: float, *, fresh: bool) -> float:
        """A request was refused, and a pause asked for. Gives the seconds for which nobody should go.

        Args:
            now: The time.
            in_flight: Requests in flight, this one included.
            pause: The seconds the server asked for, or 0.
            fresh: Whether it was sent after the last refusal was known. What was under way already belongs to
                the same round.
        """
        if fresh:
            self._crowded = in_flight + 1 >= self.limit
            self._refusals += 1
            if not pause and self._is_chance():
                self._crowded = False
                return 0.0
            self._hold_on(now, pause)
            if not self._crowded:
                return max(pause, self._slow_down(now, pause))
        if self._crowded:
            self.limit = self._proven = self._settled_limit = max(self.limit - 1, 1.0)
            if self.limit < max(2.0, self._before / 4):
                self._proven = self._before
                self._crowded = False
                return max(pause, self._slow_down(now, pause))
        return pause

    def _growth(self, now: float) -> float:
        elapsed = min(max(now - self._grown_at, 0.0), 1.0)
        self._grown_at = max(now, self._grown_at)
        free_for = min(max(now - self._held_until, 0.0), _LONGEST_GROWTH)
        return elapsed * (_DRIFT / self._hold + _ACCELERATION * free_for)

    def _is_chance(self) -> bool:
        """Whether less would not have been refused less: not grown since the last cut, and mostly served."""
        grown = int(self.limit) > self._settled_limit if self._crowded else self.pace > 1.02 * self._settled_pace
        return not grown and self._served - self._served_at_refusal > _RARE * self._refusals

    def _hold_on(self, now: float, pause: float) -> None:
        if self._served != self._served_at_refusal:
            self._before = self.limit if self._proven == math.inf else max(self.limit, self._proven)
            self._hold = max(_HOLD, _HOLD_PER_PAUSE * pause)
            self._held_until = now + pause + self._hold
        self._served_at_refusal = self._served
        self._grown_at = now + pause
        self._refusals = 0

    def _slow_down(self, now: float, pause: float) -> float:
        since_cut = now - self._cut_at
        if self._served == self._served_at_cut or since_cut < _TRIED:
            return 0.0
        self._served_at_cut, self._cut_at = self._served, now
        second = self._served - self._spell(now - 1.0)[1]
        if now - self._paced_at > _TRIED:
            # A refusal that no pace led to tells of the burst, which with what was let through meanwhile made up
            # the last moment's answers; but next to nothing of the rate: that is found by growing at once.
            began, before = self._spell(now - _MOMENT)
            self._burst = self._served - before, now - began
            self.pace, self._held_until = max(float(second), _START), now
            return 0.0
        if not pause and since_cut < 2 * _TRIED:
            sustained = float(second)  # refused again so soon, there is no burst left to deceive
        else:
            # Of a bucket that holds a burst no span can have had more than the burst and its time's worth.
            burst, moment = self._burst
            sustained = max((self._served - n - burst) / max(now - t - moment, _SHORTEST) for t, n in self._spells)
        self.pace = self._settled_pace = max(min(_CUT * self.pace, _KEEP * sustained), _SLOWEST)
        return 2 / self.pace

    def _spell(self, since: float) -> tuple[float, int]:
        return next((spell for spell in self._spells if spell[0] >= since), (since, self._served))


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
        self.allowance = Allowance(ceiling, _START if parent is None else ceiling)
        self._interval = 1 / rate_limit if rate_limit else 0.0
        self._opens_at = self._paused_until = -math.inf
        self._paced = False
        self._round = 0
        self._waiters: deque[asyncio.Future[int]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._parent = parent

    async def acquire(self, *, urgent: bool = False) -> int:
        """Wait for a place; gives the round it belongs to, to be handed to `pushed_back`.

        Args:
            urgent: Others wait for what this one brings, so it goes before them.
        """
        admitted_in = await self._queue(urgent) if self._waiters or not self._admit() else self._round
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

    def answered(self) -> None:
        """The server served a request."""
        if self._parent is not None:
            self._parent.answered()
            return
        self.allowance.served(asyncio.get_running_loop().time(), self.in_flight, paced=self._paced)
        self._paced = False

    def pushed_back(self, admitted_in: int, pause: float | None) -> None:
        """The server refused for load: less from now on, and nothing before `pause` seconds have passed."""
        if self._parent is not None:
            self._parent.pushed_back(admitted_in, pause)
            return
        now = asyncio.get_running_loop().time()
        fresh = admitted_in == self._round
        self._round += fresh
        if rest := self.allowance.refused(now, self.in_flight, pause or 0.0, fresh=fresh):
            self._paused_until = max(self._paused_until, now + rest)
            self._opens_at = max(self._opens_at, self._paused_until)

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

    async def _queue(self, urgent: bool) -> int:
        place: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        (self._waiters.appendleft if urgent else self._waiters.append)(place)
        self._wake()
        try:
            return await place
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
                place.set_result(self._round)
        if self._waiters and self._timer is None and self.in_flight + 1 <= self.allowance.limit:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._opens_at, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._wake()
