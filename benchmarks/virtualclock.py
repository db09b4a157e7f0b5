"""An event loop whose clock jumps to the next timer, and a server in memory behind a whole client."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Coroutine
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from typing import Any, Literal, TypeVar

from multidict import CIMultiDict

from alli_async import Request, Response

from .limiters import Limiter

T = TypeVar("T")
HeaderForm = Literal[
    "", "ietf", "ietf-policy", "github", "slack", "discord", "openai", "anthropic", "okta", "x-seconds"
]
EPOCH = 1_800_000_000.0
BODY = (
    b'{"id": "Q29udmVyc2F0aW9uOjE=", "title": "t", "user": null, "createdAt": 1704067200123.5, '
    b'"lastChatTime": 1704067300123, "isEnd": false, "chats": [], "chatCount": 0}'
)
_REFUSAL = b'{"type":"APIError","code":7000,"message":"too many requests"}'


class _JumpingSelector(selectors.DefaultSelector):
    """Moves the clock instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("every task waits, and no timer is set")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a virtual clock that starts at 0."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        # A timer counts as due within this many seconds; the default, a system clock's tick, would be kept too.
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._jumping.now


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a virtual clock."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


@dataclass
class MemoryServer:
    """A server in memory, used as the client's innermost middleware.

    Attributes:
        limiter: What refuses requests.
        latency: Seconds from a request to its answer; half of it passes before the limiter sees it.
        retry_after: Form of the Retry-After header.
        headers: Form of the rate limit headers.
        status: HTTP status of a refusal.
        seed: Seed of the jitter of the latency.
        jitter: Largest share by which the latency grows.
    """

    limiter: Limiter
    latency: float = 0.02
    retry_after: Literal["none", "seconds", "date"] = "none"
    headers: HeaderForm = ""
    status: int = 429
    seed: int = 1
    jitter: float = 0.05
    served: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    in_flight: int = 0
    first_overrun: int = 0
    undercut: int = 0
    _asked_at: float = 0.0
    _closed_until: float = 0.0

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)

    async def __call__(self, request: Request, call_next: Any = None) -> Response:
        loop = asyncio.get_running_loop()
        sent = loop.time()
        self.in_flight += 1
        try:
            latency = self.latency * self._draw.uniform(1, 1 + self.jitter)
            await asyncio.sleep(latency * 0.1)
            now = loop.time()
            wait = self.limiter.take(now)
            if not wait and (delay := getattr(self.limiter, "delay", None)):
                await asyncio.sleep(delay(now))
            if wait:
                answer = self._refusal(now, wait)
            else:
                answer = Response(200, self._headers(now), BODY)
                # A request that was on its way when the client was asked to wait does not count.
                self.undercut += self._asked_at < sent < self._closed_until - 1e-6
            await asyncio.sleep(latency * 0.9)
            now = loop.time()
            if wait:
                if not self.refused:
                    self.first_overrun = self.in_flight
                self.refused.append(now)
                self._note_wait(answer, now)
            else:
                self.limiter.leave(now)
                self.served.append(now)
            return answer
        finally:
            self.in_flight -= 1

    def _note_wait(self, answer: Response, now: float) -> None:
        asked = answer.headers.get("Retry-After", "0")
        until = now + float(asked) if asked.isdigit() else parsedate_to_datetime(asked).timestamp() - EPOCH
        if until > max(now, self._closed_until):
            self._asked_at, self._closed_until = now, until

    def _refusal(self, now: float, wait: float) -> Response:
        headers = self._headers(now, wait)
        if self.retry_after == "seconds":
            headers["Retry-After"] = str(max(1, -int(-wait // 1)))
        elif self.retry_after == "date":
            headers["Retry-After"] = formatdate(-int(-(EPOCH + now + max(1.0, wait)) // 1), usegmt=True)
        return Response(self.status, headers, _REFUSAL)

    def _headers(self, now: float, wait: float = 0.0) -> CIMultiDict[str]:
        headers = CIMultiDict({"Date": formatdate(EPOCH + now, usegmt=True)})
        if self.headers:
            limit, left, reset = self.limiter.remaining(now)  # type: ignore[attr-defined]
            headers.update(_told(self.headers, int(limit), int(left), reset, EPOCH + now))
        return headers


def _told(form: HeaderForm, limit: int, left: int, reset: float, clock: float) -> dict[str, str]:
    seconds = -int(-reset // 1)
    if form == "ietf":
        return {"RateLimit": f'"default";r={left};t={seconds}', "RateLimit-Policy": f'"default";q={limit};w=10'}
    if form == "ietf-policy":
        return {
            "RateLimit-Limit": str(limit),
            "RateLimit-Remaining": str(left),
            "RateLimit-Reset": str(seconds),
        }
    if form == "openai":
        return {
            "x-ratelimit-limit-requests": str(limit),
            "x-ratelimit-remaining-requests": str(left),
            "x-ratelimit-reset-requests": f"{int(reset // 60)}m{reset % 60:.3f}s",
        }
    if form == "anthropic":
        from datetime import UTC, datetime

        return {
            "anthropic-ratelimit-requests-limit": str(limit),
            "anthropic-ratelimit-requests-remaining": str(left),
            "anthropic-ratelimit-requests-reset": datetime.fromtimestamp(clock + seconds, UTC).strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            ),
        }
    if form == "discord":
        return {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(left),
            "X-RateLimit-Reset": f"{clock + reset:.3f}",
            "X-RateLimit-Reset-After": f"{reset:.3f}",
            "X-RateLimit-Bucket": "abcd1234",
        }
    moment = str(seconds) if form == "x-seconds" else str(-int(-(clock + reset) // 1))
    name = {"okta": "X-Rate-Limit", "slack": "X-Rate-Limit"}.get(form, "X-RateLimit")
    return {f"{name}-Limit": str(limit), f"{name}-Remaining": str(left), f"{name}-Reset": moment}
