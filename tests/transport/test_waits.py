"""Retry: how long is waited, and the quota that all calls share."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import Any

import pytest

from alli_async import (
    AlliError,
    APIError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    TransportError,
)
from alli_async._transport import retry
from alli_async._transport.retry import RetryQuota
from tests.conftest import ClientFactory
from tests.support import Answer, ScriptedServer, answer, hang_up
from tests.support.servers import OK, fact, get


@pytest.mark.parametrize(
    ("policy", "answers", "waits"),
    [
        fact("retry eventually succeeds", {}, [500, 500, 200], [1, 2]),
        fact("fails by max attempts", {}, [502, 502, 502], [1, 2]),
        fact("a retry takes five tokens of the quota", {"quota": 5}, [500, 502], [1]),
        fact("a second retry would take five more", {"quota": 9}, [500, 502], [1]),
        fact("no retries while there are fewer than five", {"quota": 4}, [500], []),
        fact("exponential", {"max_attempts": 5}, [500] * 4 + [200], [1, 2, 4, 8]),
        fact("exponential up to the cap", {"max_attempts": 5, "cap": 3}, [500] * 4 + [200], [1, 2, 3, 3]),
        fact("one attempt is no retry", {"max_attempts": 1}, [500], []),
        fact("no base is no wait", {"max_attempts": 4, "base": 0}, [500] * 3 + [200], [0, 0, 0]),
    ],
)
async def test_the_published_scenarios_of_waits_and_quota(
    make_client: ClientFactory,
    sleeps: list[float],
    policy: dict[str, Any],
    answers: list[int],
    waits: list[float],
) -> None:
    steps = [OK if status == 200 else answer(status) for status in answers]
    async with ScriptedServer(*steps, default=answer(418)) as server:
        client = make_client(server, retry=RetryPolicy(**{"base": 1, "max_attempts": 3, **policy}))
        if answers[-1] == 200:
            await get(client.conversations)
        else:
            with pytest.raises(ServerError) as raised:
                await get(client.conversations)
            assert raised.value.status == answers[-1]
        assert len(server.requests) == len(answers)
        # With full jitter each wait is anywhere below its bound; how it is drawn is a test of its own.
        assert len(sleeps) == len(waits)
        assert all(0 <= slept <= most for slept, most in zip(sleeps, waits, strict=True))


DATE = "Thu, 01 Jan 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "least"),
    [
        fact("seconds", "2", 2),
        fact("seconds with a fraction", "1.5", 1.5),
        fact("the cap itself", "120", 120),
        fact("zero", "0", 0),
        fact("negative", "-10", 0),
        fact("empty", "", 0),
        fact("words", "soon", 0),
        fact("number and words", "2 seconds", 0),
        fact("nan", "nan", 0),
        fact("inf", "inf", 0),
        fact("hexadecimal", "0x10", 0),
        fact("a date to come", "Thu, 01 Jan 2026 10:00:07 GMT", 7),
        fact("a date gone by", "Thu, 01 Jan 2026 09:00:00 GMT", 0),
        fact("a date that is none", "Thu, 32 Jan 2026 10:00:07 GMT", 0),
    ],
)
async def test_a_retry_after_is_never_undercut(
    make_client: ClientFactory, sleeps: list[float], value: str, least: float
) -> None:
    refusal = answer(500, headers=[("Retry-After", value), ("Date", DATE)])
    async with ScriptedServer(refusal, OK) as server:
        await get(make_client(server, retry=RetryPolicy(base=0.001)).conversations)
        assert least <= sleeps[0] <= least + 0.001


@pytest.mark.parametrize("status", [429, 503, 500])
@pytest.mark.parametrize(
    ("value", "deadline", "asked"),
    [
        fact("above the cap", "121", None, 121),
        fact("35 digits", "9" * 35, None, 1e9),
        fact("a date above the cap", "Fri, 01 Jan 2100 00:00:00 GMT", None, 2335183200),
        fact("past the deadline", "30", 20, 30),
    ],
)
async def test_a_retry_after_that_is_not_waited_for_raises_at_once(
    make_client: ClientFactory,
    sleeps: list[float],
    status: int,
    value: str,
    deadline: float | None,
    asked: float,
) -> None:
    refusal = answer(status, headers=[("Retry-After", value), ("Date", DATE)])
    async with ScriptedServer(refusal, OK) as server:
        with pytest.raises(APIError) as raised:
            await get(make_client(server, deadline=deadline).conversations)
        assert (raised.value.status, raised.value.retry_after) == (status, asked)
        assert raised.value.elapsed < 10
        assert (sleeps, len(server.requests)) == ([], 1)


def test_ten_thousand_delays_are_uniform_below_a_doubling_ceiling() -> None:
    policy = RetryPolicy(base=0.5, cap=20)
    for retries, ceiling in [(0, 0.5), (1, 1.0), (3, 4.0), (6, 20.0), (5000, 20.0)]:
        sampled = sorted(retry.delay(None, retries, policy) / ceiling for _ in range(10_000))
        assert sampled[0] >= 0
        assert sampled[-1] <= 1
        # Kolmogorov's distance to the uniform distribution: above 0.028 once in ten million runs.
        assert max(abs(each - place / 10_000) for place, each in enumerate(sampled)) < 0.03


def test_a_policy_without_waits_waits_only_as_told() -> None:
    policy = RetryPolicy(base=0)
    error = RateLimitError("m", status=429, retry_after=3.0)
    assert retry.delay(error, 5, policy) == 3.0
    assert retry.delay(TransportError("m"), 5, policy) == 0.0


async def test_cancelling_a_wait_returns_within_50_ms_and_sends_nothing_more(make_client: ClientFactory) -> None:
    took = []
    for _ in range(5):  # the fastest counts: the machine may be busy
        async with ScriptedServer(answer(500, headers=[("Retry-After", "60")]), OK) as server:
            client = make_client(server)
            call = asyncio.ensure_future(get(client.conversations))
            async with asyncio.timeout(10):
                while not server.requests:
                    await asyncio.sleep(0.001)
            began = time.monotonic()
            call.cancel()
            await asyncio.wait([call])
            took.append(time.monotonic() - began)
            assert call.cancelled()
            assert client.limits.in_flight == 0
            await asyncio.sleep(0.02)
            assert len(server.requests) == 1
    assert min(took) < 0.05


# --- the quota --------------------------------------------------------------------------------------------


async def test_a_server_that_is_down_is_not_stormed(make_client: ClientFactory, sleeps: list[float]) -> None:
    async with ScriptedServer(answer(500)) as server:
        client = make_client(server, retry=RetryPolicy(quota=100, base=0.1, cap=0.1))
        failed = await asyncio.gather(*(get(client.conversations) for _ in range(300)), return_exceptions=True)
        assert {type(each) for each in failed} == {ServerError}
        # Without an outage's single canary there would be 300 + 100 / 5.
        assert len(server.requests) < 320


def test_a_success_gives_back_the_tokens_of_its_last_retry_or_one_and_never_more_than_there_were() -> None:
    quota = RetryQuota(11)
    assert [quota.take() for _ in range(3)] == [True, True, False]
    quota.give_back(retried=True)
    assert quota.take()
    for _ in range(4):
        quota.give_back(retried=False)
    assert [quota.take() for _ in range(2)] == [True, False]
    for _ in range(20):
        quota.give_back(retried=False)
    assert [quota.take() for _ in range(3)] == [True, True, False]


async def test_what_the_quota_lost_successes_give_back(make_client: ClientFactory, sleeps: list[float]) -> None:
    async with ScriptedServer(answer(500)) as server:
        client = make_client(server, retry=RetryPolicy(quota=20, base=0))
        await _fails(client, attempts=4)
        await _fails(client, attempts=2)
        server.default, server.answers = OK, []
        for _ in range(25):
            await get(client.conversations)
        server.default = answer(500)
        await _fails(client, attempts=4)


async def test_the_quota_is_shared_by_derived_clients_and_a_success_gives_back(
    make_client: ClientFactory, sleeps: list[float]
) -> None:
    async with ScriptedServer(answer(500)) as server:
        client = make_client(server, retry=RetryPolicy(quota=10, base=0))
        derived = client.with_options(timeout=5)
        await _fails(client, attempts=3)
        await _fails(derived, attempts=1)
        server.answers, server.default = [], OK
        for _ in range(5):
            await get(derived.conversations)
        server.default = answer(500)
        await _fails(client, attempts=2)


async def _fails(client: Any, attempts: int) -> None:
    with pytest.raises(AlliError) as raised:
        await get(client.conversations)
    assert raised.value.attempts == attempts


def test_a_call_that_succeeded_on_a_retry_gives_back_what_the_retry_took() -> None:
    quota = retry.RetryQuota(7)
    assert quota.take()
    assert not quota.take()
    quota.give_back(retried=True)
    assert quota.tokens == 7
    quota.give_back(retried=False)
    assert quota.tokens == 7


async def test_a_retry_after_date_is_measured_by_our_clock_where_the_server_shows_none(
    make_client: ClientFactory, sleeps: list[float]
) -> None:
    soon = formatdate(time.time() + 60, usegmt=True)
    async with ScriptedServer(answer(500, headers=[("Retry-After", soon)]), OK) as server:
        await get(make_client(server).conversations)
        assert 30 < sleeps[0] <= 61


async def test_what_a_call_took_is_counted(make_client: ClientFactory, sleeps: list[float]) -> None:
    refusals: list[Answer] = [answer(500, b"x" * 11), hang_up, answer(503, b"x" * 5)]
    async with ScriptedServer(*refusals, OK, default=OK) as server:
        client = make_client(server)
        await get(client.conversations)
        stats = client.conversations._session.stats
        body = len(OK.partition(b"\r\n\r\n")[2])
        assert (stats.requests, stats.retries, stats.refused, stats.in_flight) == (4, 3, 1, 0)
        assert stats.bytes == body + 16
        assert stats.seconds_waited >= sum(sleeps)
        await get(client.conversations)
        assert (stats.requests, stats.retries, stats.bytes) == (5, 3, 2 * body + 16)
