"""The forms of limit that the lab measures, what each allows, and the bars."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .limiters import (
    Ban,
    Both,
    Chance,
    Changing,
    Concurrency,
    FixedWindow,
    LeakyQueue,
    Limiter,
    SlidingCounter,
    SlidingLog,
    TokenBucket,
    Unlimited,
)

Make = Callable[[random.Random], Limiter]
Ideal = Callable[[int, float], float]


@dataclass(frozen=True)
class Case:
    """A form of limit.

    Attributes:
        name: What it is.
        make: Makes the limiter; phases come from the random numbers.
        rate: Requests per second that it allows in the long run; infinite or NaN where that is not one number.
        ideal: Seconds of a job of so many requests, at a latency, by one who knows the limit.
        bars: Least share of what is allowed, for small jobs and for large ones.
        most_refused: Largest share of refusals after the first overrun.
        options: Options of the server.
        clients: Number of clients that share the limit.
    """

    name: str
    make: Make
    rate: float
    ideal: Ideal
    bars: tuple[float, float] = (0.0, 0.0)
    most_refused: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    clients: int = 1

    def share(self, requests: int, latency: float, elapsed: float) -> float:
        """Share of what is allowed that a job used: of the rate times the time, or of the ideal time if more."""
        ideal = self.ideal(requests, latency) / elapsed
        return max(ideal, requests / (self.rate * elapsed)) if math.isfinite(self.rate) else ideal


def _after_burst(rate: float, burst: float) -> Ideal:
    return lambda requests, latency: max(0.0, requests - burst) / rate + latency


def _windows(size: int, seconds: float) -> Ideal:
    return lambda requests, latency: (requests - 1) // size * seconds + latency * 1.05


def _in_flight(places: int, seconds: float = 0.0) -> Ideal:
    return lambda requests, latency: requests * latency * 1.05 / places + seconds


def _changing(requests: int, latency: float) -> float:
    return 10 + (requests - 620) / 20 if requests < 820 else 20 + (requests - 820) / 120


def _stages(draw: random.Random) -> Limiter:
    return Changing([(0, TokenBucket(60, 20)), (10, TokenBucket(20, 20)), (20, TokenBucket(120, 20))])


_FORMS: list[tuple[str, Make, float, Ideal, str]] = [
    ("bucket 60/s burst 20", lambda _: TokenBucket(60, 20), 60, _after_burst(60, 20), "bucket"),
    ("bucket 60/s burst 1", lambda _: TokenBucket(60, 1), 60, _after_burst(60, 1), "hard"),
    ("bucket 300/s burst 100", lambda _: TokenBucket(300, 100), 300, _after_burst(300, 100), "bucket"),
    ("leaky queue 60/s of 20", lambda _: LeakyQueue(60, 20), 60, _after_burst(60, 20), "bucket"),
    ("fixed 60 in 1 s", lambda draw: FixedWindow(60, 1, -draw.random()), 60, _windows(60, 1), "window"),
    ("fixed 600 in 10 s", lambda draw: FixedWindow(600, 10, -10 * draw.random()), 60, _windows(600, 10), "window"),
    ("fixed 600 in 60 s", lambda _: FixedWindow(600, 60, None), 10, _windows(600, 60), "window"),
    ("sliding log 60 in 1 s", lambda _: SlidingLog(60, 1), 60, _windows(60, 1), "window"),
    ("sliding log 600 in 10 s", lambda _: SlidingLog(600, 10), 60, _windows(600, 10), "window"),
    (
        "log counting refused 60 in 1",
        lambda _: SlidingLog(60, 1, counts_refused=True),
        60,
        _windows(60, 1),
        "window",
    ),
    ("sliding counter 60 in 1 s", lambda _: SlidingCounter(60, 1), 60, _windows(60, 1), "window"),
    ("8 in flight", lambda _: Concurrency(8), math.inf, _in_flight(8), "in flight"),
    ("60, 20, 120/s", _stages, math.nan, _changing, "in flight"),
    ("ban after 20 in 60 s", lambda _: Ban(TokenBucket(60, 20)), 60, _after_burst(60, 20), ""),
    ("5% by chance", lambda draw: Chance(0.05, draw=draw), math.inf, _in_flight(64, 0.5), "chance"),
    ("5% by chance, 60/s", lambda draw: Chance(0.05, TokenBucket(60, 20), draw), 60, _after_burst(60, 20), ""),
]
# Limits as gateways have them, with how they count.
_MORE_FORMS: list[tuple[str, Make, float, Ideal, tuple[float, float], float]] = [
    ("GCRA 20/s burst 5", lambda _: TokenBucket(20, 5), 20, _after_burst(20, 5), (0.0, 0.93), 0.02),
    (
        "counter of served 60 in 1 s",
        lambda _: SlidingCounter(60, 1, False),
        60,
        _windows(60, 1),
        (0.0, 0.93),
        0.02,
    ),
    (
        "10/s and 300 in 60 s",
        lambda _: Both(TokenBucket(10, 10), FixedWindow(300, 60, None)),
        5,
        _windows(300, 60),
        (0.0, 0.85),
        1.0,
    ),
]
_BARS = {
    ("bucket", "none"): (0.0, 0.93),
    ("bucket", "seconds"): (0.82, 0.92),
    ("bucket", "date"): (0.72, 0.85),
    ("window", "none"): (0.0, 0.93),
    ("window", "seconds"): (0.75, 0.85),
    ("window", "date"): (0.75, 0.85),
    ("hard", "none"): (0.0, 0.93),
    ("hard", "seconds"): (0.70, 0.75),
    ("hard", "date"): (0.70, 0.75),
    ("chance", "none"): (0.6, 0.6),
}
_TOLD = ("ietf", "ietf-policy", "github", "x-seconds", "discord", "openai", "anthropic", "okta")


def cases() -> list[Case]:
    """All forms, without Retry-After and with it in both forms; then those whose headers tell what remains."""
    found = []
    for after, tail in (("none", ""), ("seconds", ", RA s"), ("date", ", RA date")):
        for name, make, rate, ideal, kind in _FORMS:
            bars = (0.85, 0.85) if kind == "in flight" else _BARS.get((kind, after), (0.0, 0.0))
            most = 0.02 if kind in ("bucket", "window", "hard", "in flight") and after == "none" else 1.0
            found.append(Case(name + tail, make, rate, ideal, bars, most, {"retry_after": after}))
        shared = Case(f"shared by two, 60/s{tail}", lambda _: TokenBucket(60, 20), 60, _after_burst(60, 20))
        found.append(Case(**{**vars(shared), "options": {"retry_after": after}, "clients": 2, "bars": (0.8, 0.8)}))
    minute = partial(_told, make=lambda draw: FixedWindow(600, 60, -60 * draw.random()), rate=10)
    found += [minute(f"600 in 60 s, {form}", form=form) for form in _TOLD]
    second = partial(_told, make=lambda draw: FixedWindow(60, 1, -draw.random()), rate=60)
    bucket = partial(_told, make=lambda _: TokenBucket(60, 20), rate=60)
    for form in ("github", "ietf", "openai"):
        found += [second(f"fixed 60 in 1 s, {form}", form=form), bucket(f"bucket 60/s, {form}", form=form)]
    okta = {"headers": "okta", "retry_after": "seconds"}
    found.append(
        Case("8 in flight, okta", lambda _: Concurrency(8), math.inf, _in_flight(8), (0.85, 0.85), 0.02, okta)
    )
    found += [Case(*form) for form in _MORE_FORMS]
    found.append(Case("unlimited", lambda _: Unlimited(), math.inf, _in_flight(64), (0.6, 0.8), 0.0))
    return found


def _told(name: str, *, make: Make, rate: int, form: str) -> Case:
    ideal = _windows(600, 60) if "600" in name else _windows(60, 1)
    return Case(name, make, rate, ideal, (0.97, 0.97), 0.01, {"headers": form})
