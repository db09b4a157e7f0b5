"""The throttle: how many at once, how fast, and who waits for whom."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from alli_async import AlliClient, RateLimitError
from alli_async._transport.throttle import Throttle
from tests.conftest import ClientFactory
from tests.support import Exchange, ScriptedServer, answer, conversation

OK = answer(200, conversation())


class Gauge:
    """A server that counts how many it serves at once, and when each came."""

    def __init__(self, seconds: float = 0.01) -> None:
        self.now = self.peak = 0
        self.times: list[float] = []
        self._seconds = seconds

    async def __call__(self, exchange: Exchange) -> None:
        self.times.append(time.monotonic())
        self.now += 1
        self.peak = max(self.peak, self.now)
        await asyncio.sleep(self._seconds)
        self.now -= 1
        await exchange.send(OK)


async def call(client: AlliClient, times: int) -> list[Any]:
    return await asyncio.gather(*(client.conversations.get("a") for _ in range(times)), return_exceptions=True)


@pytest.mark.parametrize("ceiling", [1, 3, 20])
async def test_no_more_are_in_flight_than_max_concurrency(make_client: ClientFactory, ceiling: int) -> None:
    gauge = Gauge()
    async with ScriptedServer(gauge) as server:
        await call(make_client(server, max_concurrency=ceiling), 120)
        assert gauge.peak == ceiling


async def test_the_first_moment_is_no_burst_and_the_ceiling_is_found_soon(make_client: ClientFactory) -> None:
    gauge = Gauge(0.02)
    async with ScriptedServer(gauge) as server:
        client = make_client(server, max_concurrency=64)
        calls = asyncio.create_task(call(client, 400))
        await server.asked()
        await asyncio.sleep(0.01)
        assert gauge.peak == 8
        await calls
        assert gauge.peak == 64


async def test_a_rate_limit_is_kept_and_spaced_evenly(make_client: ClientFactory) -> None:
    gauge = Gauge(0)
    async with ScriptedServer(gauge) as server:
        await call(make_client(server, rate_limit=100), 40)
    gaps = [later - earlier for earlier, later in zip(gauge.times, gauge.times[1:], strict=False)]
    assert 0.38 < gauge.times[-1] - gauge.times[0] < 1.5
    assert sum(gap < 0.002 for gap in gaps) < 8


async def test_an_idle_rate_limit_saves_nothing_up(make_client: ClientFactory) -> None:
    gauge = Gauge(0)
    async with ScriptedServer(gauge) as server:
        client = make_client(server, rate_limit=20)
        await call(client, 1)
        await asyncio.sleep(0.2)
        await call(client, 3)
    assert gauge.times[2] - gauge.times[1] > 0.03
    assert gauge.times[3] - gauge.times[2] > 0.03


async def test_one_retry_after_pauses_every_task(make_client: ClientFactory) -> None:
    refusal = answer(429, headers=[("Retry-After", "0.3")])
    gauge = Gauge(0)
    async with ScriptedServer(refusal, default=gauge) as server:
        client = make_client(server, max_concurrency=1)
        results = await call(client, 5)
        assert not [result for result in results if isinstance(result, Exception)]
        assert len(server.requests) == 6
        began = gauge.times[0]
    refused_at = began - 0.3
    assert all(moment >= refused_at for moment in gauge.times)


async def test_a_pause_above_the_cap_holds_only_the_call_that_met_it(make_client: ClientFactory) -> None:
    refusal = answer(429, headers=[("Retry-After", "3600")])
    async with ScriptedServer(refusal, OK) as server:
        client = make_client(server)
        with pytest.raises(RateLimitError):
            await client.conversations.get("a")
        async with asyncio.timeout(5):
            await client.conversations.get("a")


async def test_derived_clients_share_the_throttle_and_keep_their_own_limits(make_client: ClientFactory) -> None:
    gauge = Gauge()
    async with ScriptedServer(gauge) as server:
        client = make_client(server, max_concurrency=4)
        narrow, wide = client.with_options(max_concurrency=2), client.with_options(max_concurrency=50)
        await call(narrow, 20)
        assert gauge.peak == 2
        await asyncio.gather(call(wide, 40), call(client, 40), call(narrow, 10))
        assert gauge.peak == 4
        paced = client.with_options(rate_limit=50)
        began = time.monotonic()
        await call(paced, 6)
        assert time.monotonic() - began > 0.09


async def test_a_push_back_halves_the_limit_once_per_round_and_answers_win_it_back() -> None:
    throttle = Throttle(64)
    throttle._limit = throttle._turning_point = 64.0
    tickets = [await throttle.acquire() for _ in range(64)]
    for ticket in tickets[:10]:
        throttle.pushed_back(ticket, None)
    assert throttle._limit == 32
    for _ in tickets:
        throttle.release()
    throttle.pushed_back(await throttle.acquire(), None)
    assert throttle._limit == 16
    throttle.release()
    for _ in range(500):
        taken = [await throttle.acquire() for _ in range(int(throttle._limit))]
        for _ in taken:
            throttle.answered()
        for _ in taken:
            throttle.release()
    assert throttle._limit == 64


async def test_the_limit_never_falls_below_one() -> None:
    throttle = Throttle(2)
    for _ in range(10):
        throttle.pushed_back(await throttle.acquire(), None)
        throttle.release()
    await throttle.acquire()
    throttle.release()


async def test_waiters_that_are_cancelled_give_their_place_to_the_next() -> None:
    throttle = Throttle(1)
    await throttle.acquire()
    first = asyncio.create_task(throttle.acquire())
    second = asyncio.create_task(throttle.acquire())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    throttle.release()
    await second
    third = asyncio.create_task(throttle.acquire())
    await asyncio.sleep(0)
    throttle.release()
    # Granted and cancelled in the same moment: the place must not be lost.
    third.cancel()
    await asyncio.wait([third])
    assert throttle.in_flight == 0
    await throttle.acquire()


async def test_a_child_gives_its_own_place_back_when_the_parents_queue_is_left() -> None:
    parent = Throttle(1)
    child = Throttle(1, parent=parent)
    await parent.acquire()
    waiting = asyncio.create_task(child.acquire())
    await asyncio.sleep(0)
    assert child.in_flight == 1
    waiting.cancel()
    await asyncio.wait([waiting])
    assert child.in_flight == 0
    parent.release()
    await child.acquire()
    child.answered()
    child.release()
    assert parent.in_flight == 0
    child.pushed_back(await child.acquire(), 0.05)
    child.release()
    began = time.monotonic()
    await parent.acquire()
    assert time.monotonic() - began > 0.04
