"""Retry: which answers, how often, how long; and the quota that all calls share."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from alli_async import (
    AlliConnectionError,
    AlliError,
    BadRequestError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    TransportError,
)
from alli_async._transport import retry
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer, conversation, hang_up

OK = answer(200, conversation())


def refusal(status: int, retry_after: str | None = None) -> bytes:
    return answer(status, headers=[] if retry_after is None else [("Retry-After", retry_after)])


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_two_failures_then_success_are_three_on_the_wire(
    make_client: ClientFactory, sleeps: list[float], status: int
) -> None:
    async with ScriptedServer(answer(status), answer(status), OK) as server:
        await make_client(server, retry=RetryPolicy()).conversations.get("a")
        assert len(server.requests) == 3
        assert len(sleeps) == 2
        assert 0 <= sleeps[0] <= 0.5
        assert 0 <= sleeps[1] <= 1.0


async def test_a_failure_for_ever_is_exactly_max_attempts(make_client: ClientFactory, sleeps: list[float]) -> None:
    async with ScriptedServer(answer(503)) as server:
        with pytest.raises(ServerError) as raised:
            await make_client(server, retry=RetryPolicy(max_attempts=7)).conversations.get("a")
        assert len(server.requests) == raised.value.attempts == 7
        assert len(sleeps) == 6


async def test_the_last_error_is_the_one_that_is_raised(make_client: ClientFactory, sleeps: list[float]) -> None:
    async with ScriptedServer(answer(503), hang_up, answer(400)) as server:
        with pytest.raises(BadRequestError) as raised:
            await make_client(server).conversations.get("a")
        assert raised.value.attempts == 3


@pytest.mark.parametrize(
    ("value", "least"),
    [("2", 2.0), ("0", 0.0), ("-10", 0.0), ("", 0.0), ("soon", 0.0), ("nan", 0.0), ("inf", 0.0)],
)
async def test_a_retry_after_is_never_undercut(
    make_client: ClientFactory, sleeps: list[float], value: str, least: float
) -> None:
    async with ScriptedServer(refusal(500, value), OK) as server:
        await make_client(server, retry=RetryPolicy(base=0.001)).conversations.get("a")
        assert least <= sleeps[0] <= least + 0.001


@pytest.mark.parametrize("value", ["121", "9" * 35, "Fri, 01 Jan 2100 00:00:00 GMT"])
async def test_a_retry_after_above_the_cap_raises_at_once(
    make_client: ClientFactory, sleeps: list[float], value: str
) -> None:
    async with ScriptedServer(refusal(429, value), OK) as server:
        with pytest.raises(RateLimitError) as raised:
            await make_client(server).conversations.get("a")
        assert raised.value.retry_after is not None
        assert raised.value.retry_after > 120
        assert not sleeps
        assert len(server.requests) == 1


async def test_the_deadline_is_never_slept_past(make_client: ClientFactory) -> None:
    async with ScriptedServer(refusal(429, "5"), OK) as server:
        began = time.monotonic()
        with pytest.raises(RateLimitError) as raised:
            await make_client(server, deadline=2).conversations.get("a")
        assert time.monotonic() - began < 1.5
        assert raised.value.retry_after == 5


def test_delays_are_uniform_below_a_doubling_ceiling() -> None:
    policy = RetryPolicy(base=0.5, cap=20)
    for retries, ceiling in [(0, 0.5), (1, 1.0), (3, 4.0), (6, 20.0), (5000, 20.0)]:
        sampled = [retry.delay(None, retries, policy) for _ in range(10_000)]
        assert 0 <= min(sampled) < 0.01 * ceiling
        assert 0.99 * ceiling < max(sampled) <= ceiling
        assert abs(sum(sampled) / len(sampled) - ceiling / 2) < 0.02 * ceiling


def test_a_policy_without_waits_waits_only_as_told() -> None:
    policy = RetryPolicy(base=0)
    error = RateLimitError("m", status=429, retry_after=3.0)
    assert retry.delay(error, 5, policy) == 3.0
    assert retry.delay(TransportError("m"), 5, policy) == 0.0


async def test_cancelling_a_wait_returns_at_once_and_sends_nothing_more(make_client: ClientFactory) -> None:
    async with ScriptedServer(refusal(500, "60"), OK) as server:
        call = asyncio.create_task(make_client(server).conversations.get("a"))
        await server.asked()
        await asyncio.sleep(0.05)
        call.cancel()
        began = time.monotonic()
        await asyncio.wait([call])
        assert time.monotonic() - began < 1
        assert call.cancelled()
        await asyncio.sleep(0.05)
        assert len(server.requests) == 1


# --- the quota --------------------------------------------------------------------------------------------


async def test_a_server_that_is_down_is_not_stormed(make_client: ClientFactory, sleeps: list[float]) -> None:
    async with ScriptedServer(answer(503)) as server:
        client = make_client(server)
        results = await asyncio.gather(
            *(client.conversations.get("a") for _ in range(1000)), return_exceptions=True
        )
        assert all(isinstance(result, ServerError) for result in results)
        assert 1000 <= len(server.requests) < 1600


async def test_the_quota_is_shared_by_derived_clients_refills_and_recovers(
    make_client: ClientFactory, sleeps: list[float]
) -> None:
    async with ScriptedServer(answer(503)) as server:
        client = make_client(server, retry=RetryPolicy(quota=10, base=0))
        await _fails(client, attempts=3)
        await _fails(client.with_options(timeout=5), attempts=1)
        server.answers, server.default = [], OK
        for _ in range(5):
            await client.conversations.get("a")
        server.default = None
        server.answers = [answer(503)]
        await _fails(client, attempts=2)
        quota = client._connection.quota
        assert quota.tokens == 0
        server.default = OK
        server.answers = []
        for _ in range(50):
            await client.conversations.get("a")
        assert quota.tokens == quota.capacity == 10


async def _fails(client: Any, attempts: int) -> None:
    with pytest.raises(AlliError) as raised:
        await client.conversations.get("a")
    assert raised.value.attempts == attempts


def test_a_call_that_succeeded_on_a_retry_gives_back_what_the_retry_took() -> None:
    quota = retry.RetryQuota(7)
    assert quota.take()
    assert not quota.take()
    quota.give_back(retried=True)
    assert quota.tokens == 7
    quota.give_back(retried=False)
    assert quota.tokens == 7


async def test_no_retry_when_there_is_only_one_attempt(make_client: ClientFactory, sleeps: list[float]) -> None:
    async with ScriptedServer(hang_up) as server:
        with pytest.raises(AlliConnectionError):
            await make_client(server, retry=RetryPolicy(max_attempts=1)).conversations.get("a")
        assert len(server.requests) == 1
        assert not sleeps
