"""Peers at the same job: retries per request, a limiter that is told the rate, botocore's adaptive mode."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from tenacity import AsyncRetrying, RetryError, retry_if_result, stop_after_attempt, wait_random_exponential

from alli_async import Request

from .virtualclock import MemoryServer

Send = Callable[[], Awaitable[bool]]
Peer = Callable[[MemoryServer, int, float], Coroutine[Any, Any, tuple[float, int]]]


async def _work(send: Send, requests: int, workers: int) -> tuple[float, int]:
    numbers = iter(range(requests))
    failed = 0

    async def work() -> None:
        nonlocal failed
        for _ in numbers:
            failed += not await send()

    await asyncio.gather(*(work() for _ in range(workers)))
    return asyncio.get_running_loop().time(), failed


async def _is_served(server: MemoryServer) -> bool:
    return (await server(Request("getConversation", "GET", "/a"))).status == 200


def _tenacity(workers: int) -> Peer:
    async def run(server: MemoryServer, requests: int, rate: float) -> tuple[float, int]:
        async def send() -> bool:
            retrying = AsyncRetrying(
                wait=wait_random_exponential(0.5, 20),
                stop=stop_after_attempt(4),
                retry=retry_if_result(lambda served: not served),
            )
            try:
                return await retrying(_is_served, server)
            except RetryError:
                return False

        return await _work(send, requests, workers)

    return run


async def _told(server: MemoryServer, requests: int, rate: float) -> tuple[float, int]:
    """Requests spaced evenly at the rate that was told, with retries behind that."""
    opens_at = 0.0

    async def send() -> bool:
        nonlocal opens_at
        for attempt in range(4):
            now = asyncio.get_running_loop().time()
            opens_at = max(now, opens_at) + (1 / rate if math.isfinite(rate) else 0.0)
            await asyncio.sleep(opens_at - now)
            if await _is_served(server):
                return True
            await asyncio.sleep(0.5 * 2**attempt)
        return False

    return await _work(send, requests, 64)


class _Adaptive:
    """The client rate limiter of botocore's adaptive mode: a token bucket whose rate follows CUBIC."""

    def __init__(self) -> None:
        self.rate, self.burst, self.tokens, self.at = 0.5, 1.0, 0.0, 0.0
        self.is_on, self.measured, self.counted, self.bucket = False, 0.0, 0, 0.0
        self.last_max, self.throttled_at = 0.0, 0.0

    async def acquire(self) -> None:
        loop = asyncio.get_running_loop()
        while self.is_on:
            now = loop.time()
            self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
            self.at = now
            if self.tokens >= 1 - 1e-9:
                self.tokens -= 1
                return
            await asyncio.sleep((1 - self.tokens) / self.rate)

    def update(self, now: float, *, is_refused: bool) -> None:
        self.counted += 1
        slot = math.floor(now * 2) / 2
        if slot > self.bucket:
            self.measured = 0.8 * self.counted / (slot - self.bucket) + 0.2 * self.measured
            self.counted, self.bucket = 0, slot
        if is_refused:
            self.last_max = min(self.rate, self.measured) if self.is_on else self.measured
            self.throttled_at, self.is_on = now, True
            rate = 0.7 * self.last_max
        else:
            window = (self.last_max * 0.3 / 0.4) ** (1 / 3)
            rate = 0.4 * (now - self.throttled_at - window) ** 3 + self.last_max
        self.rate = max(0.5, min(rate, 2 * self.measured))
        self.burst = max(1.0, self.rate)


async def _botocore(server: MemoryServer, requests: int, rate: float) -> tuple[float, int]:
    limiter = _Adaptive()

    async def send() -> bool:
        for attempt in range(4):
            await limiter.acquire()
            served = await _is_served(server)
            limiter.update(asyncio.get_running_loop().time(), is_refused=not served)
            if served:
                return True
            await asyncio.sleep(min(20, 2**attempt) / 2)
        return False

    return await _work(send, requests, 64)


PEERS: dict[str, Peer] = {
    "tenacity, 8 tasks": _tenacity(8),
    "tenacity, 64 tasks": _tenacity(64),
    "botocore adaptive": _botocore,
    "told the rate": _told,
}
