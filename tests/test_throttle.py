"""The throttle: how many at once, how fast, and who waits for whom."""

from __future__ import annotations

import asyncio
import math
import random
import selectors
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from alli_async import AlliClient, RateLimitError, RetryPolicy
from alli_async._transport.allowance import Allowance
from alli_async._transport.throttle import Throttle
from alli_async.sandbox import Sandbox
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
        assert 2 < gauge.peak <= 4
        paced = client.with_options(rate_limit=50)
        began = time.monotonic()
        await call(paced, 6)
        assert time.monotonic() - began > 0.09


async def test_as_many_places_stay_as_were_served_of_a_round_and_answers_win_them_back() -> None:
    throttle = Throttle(64)
    answered_in_full_rounds(throttle, await fill(throttle))
    while (tickets := await fill(throttle)) and len(tickets) < 64:
        answered_in_full_rounds(throttle, tickets)
    for ticket in tickets[:20]:
        throttle.pushed_back(ticket, None)
        throttle.release()
    answered_in_full_rounds(throttle, tickets[20:])
    assert int(throttle.allowance.limit) == 44
    # A second one of the same round takes its own place and no more.
    tickets = await fill(throttle)
    throttle.pushed_back(tickets[0], None)
    throttle.pushed_back(tickets[1], None)
    assert int(throttle.allowance.limit) == 42


async def fill(throttle: Throttle) -> list[int]:
    return [await throttle.acquire() for _ in range(int(throttle.allowance.limit) - throttle.in_flight)]


def answered_in_full_rounds(throttle: Throttle, tickets: list[int]) -> None:
    for _ in tickets:
        throttle.answered()
    for _ in tickets:
        throttle.release()


def test_a_load_says_what_is_allowed_and_how_many_were_served_in_the_last_second() -> None:
    allowance = Allowance(64)
    for hundredths in range(300):
        allowance.served(100 + hundredths / 100, in_flight=0, paced=False)
    load = allowance.load(103.0)
    assert (load.limit, load.pace) == (8, math.inf)
    assert 90 <= load.rate <= 110
    assert allowance.load(110.0).rate == 0


async def test_the_limit_never_falls_below_one() -> None:
    throttle = Throttle(2)
    for _ in range(10):
        throttle.pushed_back(await throttle.acquire(), None)
        throttle.release()
    await throttle.acquire()
    throttle.release()


async def test_a_lone_refusal_does_not_hold_back_who_asks_little() -> None:
    throttle = Throttle(64)
    for outcome in (None, 503, None, None, 503, None):
        ticket = await throttle.acquire()
        if outcome:
            throttle.pushed_back(ticket, None)
        else:
            throttle.answered()
        throttle.release()
    began = time.monotonic()
    for _ in range(3):
        await throttle.acquire()
    assert time.monotonic() - began < 2


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


async def test_the_urgent_go_before_the_others_and_each_in_order_of_coming() -> None:
    throttle = Throttle(1)
    await throttle.acquire()
    served: list[str] = []

    async def call(name: str) -> None:
        await throttle.acquire(urgent=name.isupper())
        served.append(name)
        throttle.release()

    calls = [asyncio.create_task(call(name)) for name in "aAbBcC"]
    await asyncio.sleep(0)
    throttle.release()
    await asyncio.wait(calls, timeout=5)
    assert "".join(served) == "ABCabc"


async def test_a_pause_holds_everyone_even_where_the_refusal_was_to_be_expected() -> None:
    throttle = Throttle(64)
    throttle._chance.share = 0.05
    limit = throttle.allowance.limit
    throttle.pushed_back(await throttle.acquire(), 0.1)
    throttle.release()
    began = time.monotonic()
    await throttle.acquire()
    assert time.monotonic() - began > 0.09
    assert throttle.allowance.limit == limit


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


async def test_a_derived_client_is_not_held_below_its_own_ceiling() -> None:
    parent = Throttle(64)
    parent.allowance.limit = 64.0
    child = Throttle(50, parent=parent)
    async with asyncio.timeout(5):
        for _ in range(50):
            await child.acquire()
    assert child.in_flight == parent.in_flight == 50


@pytest.mark.parametrize("limits", [{"rate_limit": 200.0, "burst": 20.0}, {"max_in_flight": 4}])
async def test_a_limit_nobody_told_of_is_found_over_real_sockets(
    make_client: ClientFactory, limits: Mapping[str, Any]
) -> None:
    async with Sandbox(conversations=1, latency=0.01, retry_after="none", **limits) as sandbox:
        # Tries enough, and apart enough, that no call gives up while the limit is being found.
        client = make_client(sandbox, retry=RetryPolicy(max_attempts=20, base=0.05, quota=100_000))
        ids = sandbox.conversation_ids() * 20
        for _ in range(40):
            await asyncio.gather(*(client.conversations.get(each) for each in ids))
        assert sandbox.count("getConversation", 200) == 800
        assert sandbox.count("getConversation", 429) < 120


# On a virtual clock: a minute takes a second, and the figures are the same on every machine.


class VirtualSelector(selectors.DefaultSelector):  # type: ignore[misc]
    """Instead of waiting, moves the clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everybody waits for nobody"
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


class Simulated:
    """A server with a limit that it tells nobody, and clients that keep calling it."""

    def __init__(
        self, *, latency: float = 0.02, rate: float = 0, burst: float = 20, places: int = 0, pause: float = 0
    ) -> None:
        self.latency, self.rate, self.burst, self.places, self.pause = latency, rate, burst, places, pause
        self.down = False
        self.chance = 0.0
        self.served: list[float] = []
        self.refused = 0
        self._random = random.Random(1)
        self._tokens, self._at, self._in_flight = burst, 0.0, 0

    def run(
        self, seconds: float, *, workers: int = 64, events: Mapping[float, Callable[[], None]] | None = None
    ) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            self.throttle = Throttle(64)
            for moment, event in (events or {}).items():
                loop.call_at(moment, event)
            callers = [asyncio.create_task(self._call_on()) for _ in range(workers)]
            await asyncio.sleep(seconds)
            for caller in callers:
                caller.cancel()
            await asyncio.wait(callers)

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(main())

    def per_second(self, start: float, end: float) -> float:
        return sum(start <= moment < end for moment in self.served) / (end - start)

    @property
    def share_refused(self) -> float:
        return self.refused / (self.refused + len(self.served))

    def lift(self) -> None:
        self.rate = self.places = 0

    def fall(self) -> None:
        self.down = True

    def rise(self) -> None:
        self.down = False

    async def _call_on(self) -> None:
        while True:
            ticket = await self.throttle.acquire()
            admitted = self._admit(asyncio.get_running_loop().time())
            self._in_flight += admitted
            await asyncio.sleep(self.latency * self._random.uniform(1, 1.1))
            self._in_flight -= admitted
            if admitted:
                self.served.append(asyncio.get_running_loop().time())
                self.throttle.answered()
            else:
                self.refused += 1
                self.throttle.pushed_back(ticket, self.pause)
            self.throttle.release()
            if not admitted:
                await asyncio.sleep(max(self.pause, self._random.uniform(0, 0.5)))

    def _admit(self, now: float) -> bool:
        if self.down or self._random.random() < self.chance:
            return False
        if self.places:
            return self._in_flight < self.places
        if not self.rate:
            return True
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@pytest.mark.parametrize("pause", [0, 1])
@pytest.mark.parametrize("latency", [0.001, 0.02, 0.1])
def test_an_allowance_per_second_is_used_and_hardly_overrun(latency: float, pause: float) -> None:
    server = Simulated(latency=latency, rate=60, pause=pause)
    server.run(60)
    assert server.per_second(0, 60) > 0.87 * 60
    assert server.share_refused < 0.035


@pytest.mark.parametrize("latency", [0.02, 0.2])
@pytest.mark.parametrize(("rate", "refused"), [(1, 0.3), (2, 0.25), (5, 0.08)])
def test_a_server_that_takes_one_or_two_a_second_is_not_hammered(
    latency: float, rate: float, refused: float
) -> None:
    server = Simulated(latency=latency, rate=rate, burst=5)
    server.run(120)
    assert server.per_second(0, 120) > 0.95 * rate
    assert server.share_refused < refused


@pytest.mark.parametrize(("pause", "used"), [(0, 0.85), (1, 0.7)])
def test_a_server_that_lets_no_burst_through_is_used_too(pause: float, used: float) -> None:
    server = Simulated(rate=300, burst=1, pause=pause)
    server.run(120)
    assert server.per_second(0, 120) > used * 300
    assert server.share_refused < 0.02


@pytest.mark.parametrize("pause", [0, 1])
def test_an_allowance_in_flight_is_used_and_hardly_overrun(pause: float) -> None:
    server = Simulated(places=8, pause=pause)
    server.run(30)
    assert server.per_second(0, 30) > 0.8 * 8 / 0.021
    assert server.share_refused < 0.03


def test_one_caller_after_another_finds_the_pace_too() -> None:
    server = Simulated(latency=0.005, rate=60)
    server.run(30, workers=1)
    assert server.per_second(5, 30) > 0.85 * 60
    assert server.share_refused < 0.05


@pytest.mark.parametrize("pause", [0, 1])
def test_after_an_outage_all_is_back_within_seconds(pause: float) -> None:
    server = Simulated(pause=pause)
    server.run(16, workers=32, events={5: server.fall, 10: server.rise})
    assert server.per_second(13, 16) > 0.9 * server.per_second(2, 5)


@pytest.mark.parametrize(("pause", "seconds"), [(0, 6), (1, 18)])
@pytest.mark.parametrize("limit", [{"rate": 60}, {"places": 8}])
def test_a_limit_that_is_lifted_is_left_behind(limit: dict[str, Any], pause: float, seconds: float) -> None:
    server = Simulated(pause=pause, **limit)
    server.run(22 + seconds, workers=32, events={20: server.lift})
    assert server.per_second(20 + seconds, 22 + seconds) > 0.9 * 32 / 0.021


def test_a_limit_that_falls_is_found_anew() -> None:
    server = Simulated(rate=60)

    def halve() -> None:
        server.rate = 30

    server.run(60, events={20: halve})
    assert 0.85 * 30 < server.per_second(30, 60) < 1.1 * 30
    assert server.share_refused < 0.05


@pytest.mark.parametrize("rate", [0, 100])
def test_rare_refusals_that_no_load_explains_cost_little(rate: float) -> None:
    server = Simulated(rate=rate)
    server.chance = 0.005
    server.run(30, workers=32)
    assert server.per_second(0, 30) > 0.6 * (rate or 32 / 0.021)


def unhindered(workers: int, chance: float) -> float:
    """Requests per second served to callers who wait a quarter of a second on average for each refusal."""
    return workers * (1 - chance) / (0.021 + 0.25 * chance)


@pytest.mark.parametrize("chance", [0.03, 0.05, 0.1])
@pytest.mark.parametrize(("workers", "seconds"), [(4, 60), (64, 12)])
def test_refusals_that_no_load_explains_hold_nobody_back(chance: float, workers: int, seconds: float) -> None:
    server = Simulated()
    server.chance = chance
    server.run(seconds, workers=workers)
    assert server.per_second(0, seconds) > 0.6 * unhindered(workers, chance)
    assert server.per_second(seconds / 2, seconds) > 0.8 * unhindered(workers, chance)


@pytest.mark.parametrize(("limit", "allowed"), [({"rate": 60}, 60), ({"places": 8}, 8 / 0.021)])
def test_a_limit_is_used_and_kept_to_among_refusals_that_no_load_explains(
    limit: dict[str, Any], allowed: float
) -> None:
    server = Simulated(**limit)
    server.chance = 0.05
    server.run(60)
    assert server.per_second(0, 60) > 0.6 * allowed
    assert server.share_refused < 0.05 + 0.1


@pytest.mark.parametrize("limit", [{"rate": 60}, {"rate": 10}, {"places": 8}, {"places": 32}])
def test_a_limit_is_never_taken_for_chance(limit: dict[str, Any]) -> None:
    server = Simulated(**limit)
    learnt = []
    server.run(
        60, events={float(second): lambda: learnt.append(server.throttle._chance.share) for second in range(60)}
    )
    assert len(learnt) == 60
    assert not any(learnt)


def test_chance_that_ends_is_forgotten_and_a_limit_found_again() -> None:
    server = Simulated()
    server.chance = 0.05
    learnt, counted = [], []

    def end() -> None:
        learnt.append(server.throttle._chance.share)
        server.chance = 0

    def begin() -> None:
        server.rate = 60

    def count() -> None:
        counted.append((server.refused, len(server.served)))

    server.run(60, events={10: end, 12: begin, 17: count})
    assert 0.02 < learnt[0] < 0.1
    [(refused, served)] = counted
    assert server.refused - refused < 0.05 * (server.refused - refused + len(server.served) - served)
    assert server.per_second(17, 60) > 0.85 * 60


def test_a_limit_that_appears_after_a_long_calm_is_heeded_at_once() -> None:
    server = Simulated()
    counted = []

    def begin() -> None:
        server.rate = 60

    server.run(40, events={20: begin, 22: lambda: counted.append(server.refused)})
    assert counted[0] < 400
    assert server.refused - counted[0] < 0.05 * 18 * 60
    assert server.per_second(24, 40) > 0.85 * 60


def test_an_outage_among_refusals_that_no_load_explains_is_no_chance() -> None:
    server = Simulated()
    server.chance = 0.05
    server.run(20, events={8: server.fall, 12: server.rise})
    assert server.throttle._chance.share < 0.2
    assert server.per_second(16, 20) > 0.6 * unhindered(64, 0.05)
