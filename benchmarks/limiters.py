"""Rate limiters as servers have them, each a few lines of arithmetic on a clock that the caller tells."""

from __future__ import annotations

import copy
import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol


class Limiter(Protocol):
    """What decides whether a request is served.

    `take` is called when a request arrives and returns 0.0, or the seconds until one would be served; `leave`
    when a served request is answered. `remaining` and `reset` are what rate limit headers tell.
    """

    def take(self, now: float) -> float: ...

    def leave(self, now: float) -> None: ...


@dataclass
class Unlimited:
    """Serves everything."""

    def take(self, now: float) -> float:
        return 0.0

    def leave(self, now: float) -> None:
        return None


@dataclass
class TokenBucket(Unlimited):
    """`rate` requests per second, and up to `burst` at once. A leaky bucket used as a meter is the same."""

    rate: float
    burst: float
    at: float = 0.0
    tokens: float = -1.0

    def take(self, now: float) -> float:
        if self.tokens < 0:
            self.tokens = self.burst
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens >= 1 - 1e-9:
            self.tokens -= 1
            return 0.0
        return (1 - self.tokens) / self.rate

    def remaining(self, now: float) -> tuple[float, float, float]:
        """Limit, remaining requests, seconds until all are there."""
        tokens = min(self.burst, max(self.tokens, 0) + (now - self.at) * self.rate)
        return self.burst, math.floor(tokens), (self.burst - tokens) / self.rate


@dataclass
class LeakyQueue(Unlimited):
    """Serves `rate` requests per second evenly, delays up to `size` of them, and refuses the rest."""

    rate: float
    size: int
    free_at: float = 0.0

    def take(self, now: float) -> float:
        over = (self.free_at - now) * self.rate - self.size
        if over > 0:
            return over / self.rate
        self.free_at = max(now, self.free_at) + 1 / self.rate
        return 0.0

    def delay(self, now: float) -> float:
        """Seconds that the request just taken has to wait."""
        return max(0.0, self.free_at - 1 / self.rate - now)


@dataclass
class FixedWindow(Unlimited):
    """`size` requests in each window of `seconds`, which begin at `phase` or with the first request."""

    size: int
    seconds: float
    phase: float | None = 0.0
    window: float = -math.inf
    used: int = 0

    def _roll(self, now: float) -> None:
        if self.phase is None:
            if now >= self.window + self.seconds:
                self.window, self.used = now, 0
            return
        start = math.floor((now - self.phase) / self.seconds) * self.seconds + self.phase
        if start > self.window:
            self.window, self.used = start, 0

    def take(self, now: float) -> float:
        self._roll(now)
        if self.used < self.size:
            self.used += 1
            return 0.0
        return self.window + self.seconds - now

    def remaining(self, now: float) -> tuple[float, float, float]:
        self._roll(now)
        return self.size, self.size - self.used, self.window + self.seconds - now


@dataclass
class SlidingLog(Unlimited):
    """`size` requests in any `seconds`; with `counts_refused`, refused requests count as well."""

    size: int
    seconds: float
    counts_refused: bool = False
    log: deque[float] = field(default_factory=deque)

    def take(self, now: float) -> float:
        while self.log and self.log[0] <= now - self.seconds:
            self.log.popleft()
        full = len(self.log) >= self.size
        if not full or self.counts_refused:
            self.log.append(now)
        if not full:
            return 0.0
        return self.log[-self.size] + self.seconds - now

    def remaining(self, now: float) -> tuple[float, float, float]:
        used = sum(moment > now - self.seconds for moment in self.log)
        return self.size, max(0, self.size - used), (self.log[0] + self.seconds - now) if self.log else 0.0


@dataclass
class SlidingCounter(Unlimited):
    """Counts this window and the overlapping share of the one before, refused requests too (as haproxy does)."""

    size: int
    seconds: float
    counts_refused: bool = True
    window: float = -math.inf
    used: int = 0
    before: int = 0

    def take(self, now: float) -> float:
        start = math.floor(now / self.seconds) * self.seconds
        if start > self.window:
            self.before = self.used if start <= self.window + self.seconds * 1.5 else 0
            self.window, self.used = start, 0
        share = 1 - (now - start) / self.seconds
        full = self.used + self.before * share >= self.size
        if not full or self.counts_refused:
            self.used += 1
        return self.seconds / self.size if full else 0.0


@dataclass
class Concurrency(Unlimited):
    """`places` requests at once."""

    places: int
    busy: int = 0

    def take(self, now: float) -> float:
        if self.busy >= self.places:
            return 0.05
        self.busy += 1
        return 0.0

    def leave(self, now: float) -> None:
        self.busy -= 1

    def remaining(self, now: float) -> tuple[float, float, float]:
        """Okta tells a concurrency limit by a limit and a remainder of 0."""
        return 0, 0, 1.0


@dataclass
class Both(Unlimited):
    """Two limits at once; only what both serve counts. A copy of each shows its answer."""

    first: Limiter
    second: Limiter

    def take(self, now: float) -> float:
        wait = max(copy.copy(self.first).take(now), copy.copy(self.second).take(now))
        if not wait:
            self.first.take(now)
            self.second.take(now)
        return wait


@dataclass
class Changing(Unlimited):
    """One limiter after another: pairs of the second at which it begins and the limiter."""

    stages: list[tuple[float, Limiter]]
    serving: deque[Limiter] = field(default_factory=deque)

    def take(self, now: float) -> float:
        current = [limiter for start, limiter in self.stages if now >= start][-1]
        wait = current.take(now)
        if not wait:
            self.serving.append(current)
        return wait

    def leave(self, now: float) -> None:
        self.serving.popleft().leave(now)


@dataclass
class Ban(Unlimited):
    """Refuses everything for `seconds` once `most` requests were refused within `within` seconds."""

    inner: Limiter
    most: int = 20
    within: float = 60.0
    seconds: float = 60.0
    until: float = -math.inf
    bans: int = 0
    log: deque[float] = field(default_factory=deque)

    def take(self, now: float) -> float:
        if now < self.until:
            return self.until - now
        wait = self.inner.take(now)
        if wait:
            self.log.append(now)
            while self.log[0] < now - self.within:
                self.log.popleft()
            if len(self.log) >= self.most:
                self.until, self.bans = now + self.seconds, self.bans + 1
                self.log.clear()
        return wait

    def leave(self, now: float) -> None:
        self.inner.leave(now)


@dataclass
class Chance(Unlimited):
    """Refuses a share of all requests, whatever the load."""

    share: float
    inner: Limiter = field(default_factory=Unlimited)
    draw: random.Random = field(default_factory=lambda: random.Random(1))

    def take(self, now: float) -> float:
        return 0.3 if self.draw.random() < self.share else self.inner.take(now)

    def leave(self, now: float) -> None:
        self.inner.leave(now)
