"""The rate limiter: how many requests go at once, how fast, and in which order."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import pytest

from alli_async import AlliClient, RateLimitError, RetryPolicy, ServerError
from alli_async._transport.limit_model import LimitModel
from alli_async._transport.limiter import RateLimiter
from benchmarks.virtualclock import run_virtual
from tests.conftest import ClientFactory
from tests.support import Exchange, ScriptedServer, answer
from tests.support.servers import OK


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


@pytest.mark.parametrize("ceiling", [1, 20])
async def test_no_more_are_in_flight_than_max_concurrency(make_client: ClientFactory, ceiling: int) -> None:
    gauge = Gauge()
    async with ScriptedServer(gauge) as server:
        await call(make_client(server, max_concurrency=ceiling), 60)
        assert ceiling / 2 < gauge.peak <= ceiling


async def test_the_first_moment_is_no_burst_and_the_ceiling_is_found_soon(make_client: ClientFactory) -> None:
    gauge = Gauge(0.02)
    async with ScriptedServer(gauge) as server:
        client = make_client(server, max_concurrency=64)
        calls = asyncio.create_task(call(client, 400))
        await server.asked()
        await asyncio.sleep(0.01)
        assert gauge.peak <= 8
        await calls
        assert 40 < gauge.peak <= 64


def test_a_pause_counts_from_the_refusal_however_late_the_next_request_comes() -> None:
    model = LimitModel(64)
    model.refused(model.admit(0.0, 1), 0.1, 10.0, {})
    assert model.ready_at(9.0, 0) == pytest.approx(10.1)


def test_a_rate_limit_is_kept_and_spaced_evenly() -> None:
    async def times() -> list[float]:
        limiter, loop = RateLimiter(64, 100.0), asyncio.get_running_loop()

        async def send() -> float:
            await limiter.acquire()
            began = loop.time()
            await asyncio.sleep(0.03)
            limiter.release()
            return began

        return await asyncio.gather(*(send() for _ in range(40)))

    assert run_virtual(times()) == pytest.approx([number / 100 for number in range(40)])


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


async def test_derived_clients_share_the_limiter_and_keep_their_own_limits(make_client: ClientFactory) -> None:
    gauge = Gauge()
    async with ScriptedServer(gauge) as server:
        client = make_client(server, max_concurrency=4)
        narrow, wide = client.with_options(max_concurrency=2), client.with_options(max_concurrency=50)
        await call(narrow, 20)
        assert gauge.peak == 2
        await asyncio.gather(call(wide, 40), call(client, 40), call(narrow, 10))
        assert 2 < gauge.peak <= 4
        paced = client.with_options(rate_limit=50)
        began = time.monotonic()
        await call(paced, 6)
        assert time.monotonic() - began > 0.09


async def test_a_limiter_inside_another_one_learns_nothing_of_its_own() -> None:
    outer = RateLimiter(8)
    inner = RateLimiter(2, 50.0, parent=outer)
    assert inner.model is outer.model
    ticket = await inner.acquire()
    assert (ticket.number, inner.in_flight, outer.in_flight) == (1, 1, 1)
    inner.release()
    assert (inner.in_flight, outer.in_flight) == (0, 0)


async def test_waiters_that_are_cancelled_give_their_place_to_the_next() -> None:
    limiter = RateLimiter(1)
    await limiter.acquire()
    first = asyncio.create_task(limiter.acquire())
    second = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    limiter.release()
    await second
    third = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    limiter.release()
    # Granted and cancelled in the same moment: the place must not be lost.
    third.cancel()
    await asyncio.wait([third])
    assert limiter.in_flight == 0
    await limiter.acquire()


async def test_the_urgent_go_before_the_others_and_each_in_order_of_coming() -> None:
    limiter = RateLimiter(1)
    await limiter.acquire()
    served: list[str] = []

    async def call(name: str) -> None:
        await limiter.acquire(urgent=name.isupper())
        served.append(name)
        limiter.release()

    calls = [asyncio.create_task(call(name)) for name in "aAbBcC"]
    await asyncio.sleep(0)
    limiter.release()
    await asyncio.wait(calls, timeout=5)
    assert "".join(served) == "ABCabc"


async def test_the_limits_of_a_client_say_what_is_in_flight_and_for_how_long_it_pauses(
    make_client: ClientFactory,
) -> None:
    refusal = answer(429, headers=[("Retry-After", "0.5")])
    async with ScriptedServer(OK, refusal, default=Gauge(0)) as server:
        client = make_client(server, max_concurrency=5)
        limits = client.limits
        assert (limits.in_flight, limits.waiting, limits.max_in_flight, limits.refused) == (0, 0, 5, 0)
        assert (limits.rate, limits.paused_for) == (math.inf, 0.0)
        assert client.with_options(rate_limit=20, max_concurrency=3).limits.rate == 20
        await client.conversations.get("a")
        refused = asyncio.create_task(client.conversations.get("a"))
        waiting = asyncio.create_task(call(client, 3))
        async with asyncio.timeout(20):
            while not client.limits.refused:
                await asyncio.sleep(0.001)
            limits = client.limits
            assert limits.refused == 1
            assert 0 < limits.paused_for <= 0.5
            await refused
            await waiting
        assert client.limits.paused_for == 0.0


@pytest.mark.parametrize(
    ("after", "paused"), [([], False), ([("Retry-After", "0.1")], True)], ids=["no pause", "pause"]
)
async def test_an_operation_that_fails_with_503_slows_no_other(
    make_client: ClientFactory, after: list[tuple[str, str]], paused: bool
) -> None:
    fault = answer(503, {"type": "APIError", "code": 7000, "message": "Service unavailable"}, headers=after)

    async def reply(exchange: Exchange) -> None:
        await exchange.send(fault if "/bad" in exchange.request.target else OK)

    async with ScriptedServer(reply) as server:
        client = make_client(server, retry=RetryPolicy(base=0.001))
        await call(client, 3)
        for _ in range(3):
            with pytest.raises(ServerError):
                await client.conversations.get("bad")
            await call(client, 3)
        assert client.limits.rate == math.inf
        assert client.limits.max_in_flight >= 8
        assert bool(client.limits.refused) == paused


async def test_a_request_that_a_gateway_always_answers_with_503_slows_no_other_once_it_has_failed(
    make_client: ClientFactory,
) -> None:
    page = answer(503, b"<html>Service Unavailable</html>")

    async def reply(exchange: Exchange) -> None:
        await exchange.send(page if "/bad" in exchange.request.target else OK)

    async with ScriptedServer(reply) as server:
        client = make_client(server, retry=RetryPolicy(base=0.001))
        await call(client, 3)
        for _ in range(3):
            with pytest.raises(ServerError, match="max_attempts"):
                await client.conversations.get("bad")
            assert client.limits.rate == math.inf
            assert client.limits.max_in_flight >= 8
            assert await call(client, 3)
        assert client.limits.refused > 3


@pytest.mark.parametrize("limits", [{}, {"max_concurrency": 3}], ids=["own limits", "limits inside its parent's"])
async def test_a_503_that_the_same_request_is_served_after_still_counts_when_another_one_fails(
    make_client: ClientFactory, limits: dict[str, Any]
) -> None:
    page = answer(503, b"<html>Too many requests</html>")
    refusals = iter([page, OK])

    async def reply(exchange: Exchange) -> None:
        if "/bad" in exchange.request.target:
            await exchange.send(answer(500))
        else:
            await exchange.send(next(refusals, OK))

    async with ScriptedServer(reply) as server:
        client = make_client(server, retry=RetryPolicy(base=0.001, max_attempts=2)).with_options(**limits)
        await client.conversations.get("a")
        slowed = client.limits.rate
        assert slowed < math.inf
        with pytest.raises(ServerError, match="max_attempts"):
            await client.conversations.get("bad")
        assert client.limits.rate < math.inf


async def test_refusals_of_a_shared_limit_spend_no_attempts_of_single_calls(make_client: ClientFactory) -> None:
    refusals = [answer(429)] * 5
    async with ScriptedServer(OK, *refusals, OK) as server:
        # Neither the attempts nor the quota would be enough for more than one of these refusals.
        client = make_client(server, retry=RetryPolicy(max_attempts=2, base=0.01, quota=5))
        await client.conversations.get("a")
        async with asyncio.timeout(60):
            await client.conversations.stop("a")
        assert len(server.requests) == 7


async def test_a_server_that_only_refuses_uses_up_the_attempts(make_client: ClientFactory) -> None:
    async with ScriptedServer(default=answer(429)) as server:
        client = make_client(server, retry=RetryPolicy(max_attempts=3, base=0.01))
        with pytest.raises(RateLimitError) as caught:
            await client.conversations.get("a")
        assert caught.value.attempts == 3
        assert len(server.requests) == 3


async def many(limiter: RateLimiter, count: int) -> None:
    async def one() -> None:
        await limiter.acquire()
        limiter.release()

    await asyncio.gather(*(one() for _ in range(count)))


def test_requests_that_may_go_within_half_a_millisecond_wait_on_uvloop_too() -> None:
    # So short a wait is no timer there, but a handle that does not tell its time.
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(many(RateLimiter(8, 4000.0), 100))
