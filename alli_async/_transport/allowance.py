"""What the server takes, a number in flight and a pace: found by being refused."""

from __future__ import annotations

import math
from collections import deque

from .chance import Load

# Where growth begins: low enough that a client's first moment is no burst, high enough for one page's chats.
START = 8.0
# Seconds without growth worth the name after a refusal; longer where a refusal costs everyone a pause, so that
# looking for the limit never takes more than a small part of the time; and where hardly any are let through in a
# second, as long as so many requests take, within reason: else every few would end in a refusal.
_HOLD, _HOLD_PER_PAUSE = 3.0, 14.0
_HELD_REQUESTS, _LONGEST_HOLD = 30.0, 15.0
# Growth while holding, as a share of the whole; and how growth grows after that, per second and second: by half
# in the first, fivefold within two.
_DRIFT, _ACCELERATION, _LONGEST_GROWTH = 0.1, 0.8, 3.0
# A refusal takes the pace under what was refused, and under what the server was seen to keep up with.
_CUT, _KEEP = 0.95, 0.98
# Seconds for which a pace is tried before it is cut again, and requests per second that are always tried.
_TRIED, _SLOWEST = 1.0, 0.5
# Once so many times what was refused is served, what refused it is gone; and refusals that no growth explains
# teach nothing while they are fewer than one in so many, of the last so many: after a long calm as little as ever.
_GONE, _RARE, _CALM = 8.0, 50, 400
# How finely, and over how many such spells, it is remembered when requests were served: the last ten seconds.
_SPELL, _SPELLS = 0.05, 200
# Seconds of answers in which a burst shows, and of which a rate can be read.
_MOMENT, _SHORTEST = 0.25, 0.4


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

    def __init__(self, ceiling: float, start: float = START) -> None:
        self.limit = min(start, ceiling)
        self.pace = math.inf
        self._ceiling = ceiling
        self._proven = self._before = math.inf
        self._crowded, self._hold = False, _HOLD
        self._held_until = self._grown_at = self._cut_at = self._paced_at = -math.inf
        self._served = self._served_at_refusal = self._served_at_cut = 0
        self._spent = 0
        self._settled_limit = 0.0
        self._burst = 0, 0.0
        self._settled_pace = math.inf
        self._spells: deque[tuple[float, int]] = deque([(-math.inf, 0)], maxlen=_SPELLS)

    def served(self, now: float, in_flight: int, *, paced: bool) -> None:
        """A request was served: more may go, where the limit or the pace (`paced`) was what held them back."""
        if now - self._spells[-1][0] >= _SPELL:
            self._spells.append((now, self._served))
        self._served += 1
        if paced:
            self._paced_at = now
        full = in_flight + 1 > self.limit
        if full and self.limit < self._proven:
            self.limit = min(self.limit + 1, self._ceiling)
        elif full or paced:
            growth = self._growth(now)
            if full:
                # By one a round at most, so that a probe is refused once or twice, however slow the server is.
                self.limit = min(self.limit + min(self.limit * growth, 1 / self.limit), self._ceiling)
            if paced:
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
            # What a pace held back a moment ago was no crowd, however many were under way.
            self._crowded = in_flight + 1 >= self.limit and now - self._paced_at > _MOMENT
            if self._is_rare() and not pause:
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

    def take_up(self, now: float, limit: float, pace: float) -> None:
        """What was proven before is taken up again: requests in flight as answers come, the pace at once."""
        self._proven = self._before = limit
        self._settled_limit, self._crowded = limit, False
        self.pace = self._settled_pace = pace
        self._held_until = self._grown_at = now

    def load(self, now: float) -> Load:
        """What is allowed, and what was served of late."""
        since, before = self._spell(now - 1.0)
        return Load(self.limit, self.pace, (self._served - before) / max(now - since, _MOMENT))

    def is_held(self, now: float) -> bool:
        """Whether a refusal was so lately that nothing grows yet, but for a drift."""
        return now < self._held_until

    def _growth(self, now: float) -> float:
        elapsed = min(max(now - self._grown_at, 0.0), 1.0)
        self._grown_at = max(now, self._grown_at)
        free_for = min(max(now - self._held_until, 0.0), _LONGEST_GROWTH)
        return elapsed * (_DRIFT / self._hold + _ACCELERATION * free_for)

    def _is_rare(self) -> bool:
        """Whether less would not have been refused less: not grown since the last cut, and mostly served."""
        grown = int(self.limit) > self._settled_limit if self._crowded else self.pace > 1.02 * self._settled_pace
        self._spent = max(self._spent + _RARE, self._served - _CALM)
        return not grown and self._served > self._spent

    def _hold_on(self, now: float, pause: float) -> None:
        if self._served != self._served_at_refusal:
            self._before = self.limit if self._proven == math.inf else max(self.limit, self._proven)
            self._hold = max(_HOLD, _HOLD_PER_PAUSE * pause)
            self._held_until = now + pause + self._hold
        self._served_at_refusal = self._served
        self._grown_at = now + pause
        self._spent = self._served

    def _slow_down(self, now: float, pause: float) -> float:
        since_cut = now - self._cut_at
        if self._served == self._served_at_cut or since_cut < _TRIED:
            return 0.0
        self._served_at_cut, self._cut_at = self._served, now
        second = self._served - self._spell(now - 1.0)[1]
        if now - self._paced_at > _TRIED:
            # A refusal that no pace led to tells of the burst, which with what was let through meanwhile made up
            # the last moment's answers, but for those that had come all along; but next to nothing of the rate:
            # that is found by growing at once.
            began, before = self._spell(now - _MOMENT)
            all_along = before - self._spell(now - _MOMENT - 1.0)[1]
            moment = now - began
            self._burst = max(self._served - before - int(all_along * moment), 0), moment
            self.pace, self._held_until = max(float(second), min(START, self.pace / 2), _SLOWEST), now
            return 0.0
        if not pause and since_cut < 2 * _TRIED:
            sustained = float(second)  # refused again so soon, there is no burst left to deceive
        else:
            # Of a bucket that holds a burst no span can have had more than the burst and its time's worth.
            burst, moment = self._burst
            sustained = max((self._served - n - burst) / max(now - t - moment, _SHORTEST) for t, n in self._spells)
        self.pace = self._settled_pace = max(min(_CUT * self.pace, _KEEP * sustained), _SLOWEST)
        self._hold = max(self._hold, min(_HELD_REQUESTS / self.pace, _LONGEST_HOLD))
        self._held_until = now + pause + self._hold
        return 2 / self.pace

    def _spell(self, since: float) -> tuple[float, int]:
        return next((spell for spell in self._spells if spell[0] >= since), (since, self._served))
