from __future__ import annotations

import asyncio
import time
from email.utils import parsedate_to_datetime

import pytest

from alli_async.sandbox import Sandbox
from alli_async.sandbox.limits import TokenBucket, retry_after

from .client import ROOT, Client

pytestmark = pytest.mark.asyncio


async def test_beyond_the_burst_requests_are_refused_with_the_time_until_the_next_token() -> None:
    async with Sandbox(rate_limit=0.25, burst=3) as sandbox, Client(sandbox) as client:
        answers = [await client.send("GET", f"{ROOT}?pageSize=1") for _ in range(5)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
        assert answers[3].headers["Retry-After"] == "4"
        assert answers[3].json == {"errors": "Too many requests"}
        assert sandbox.requests == {("listConversations", 200): 3, ("listConversations", 429): 2}


async def test_the_rate_is_given_and_no_more() -> None:
    async with Sandbox(rate_limit=100, burst=5) as sandbox, Client(sandbox) as client:
        began = time.monotonic()
        while time.monotonic() - began < 0.5:
            await client.send("GET", f"{ROOT}?pageSize=1")
        allowed = 5 + 100 * (time.monotonic() - began)
        assert 0.8 * allowed < sandbox.count(status=200) <= allowed


async def test_the_burst_is_the_rate_unless_said_otherwise() -> None:
    async with Sandbox(rate_limit=4) as sandbox, Client(sandbox) as client:
        for _ in range(10):
            await client.send("GET", f"{ROOT}?pageSize=1")
        assert sandbox.count(status=200) in {4, 5}


async def test_beyond_the_requests_in_flight_others_are_refused() -> None:
    async with Sandbox(max_in_flight=3, latency=0.1) as sandbox, Client(sandbox) as client:
        answers = await asyncio.gather(*(client.send("GET", f"{ROOT}?pageSize=1") for _ in range(8)))
        assert sorted(answer.status for answer in answers) == [200] * 3 + [429] * 5
        assert {answer.headers.get("Retry-After") for answer in answers} == {None, "1"}
        assert (sandbox.peak_in_flight, sandbox.in_flight) == (8, 0)
        assert (await client.send("GET", ROOT)).status == 200


async def test_every_answer_takes_the_latency() -> None:
    async with Sandbox(latency=0.05) as sandbox, Client(sandbox) as client:
        for path in (ROOT, f"{ROOT}/x", "/nowhere"):
            began = time.monotonic()
            await client.send("GET", path)
            assert 0.049 < time.monotonic() - began < 0.5


@pytest.mark.parametrize(("seconds", "said"), [(0.001, "1"), (1.0, "1"), (1.001, "2"), (59.5, "60")])
async def test_retry_after_is_never_too_early(seconds: float, said: str) -> None:
    assert retry_after(seconds, "seconds") == said
    date = retry_after(seconds, "date")
    assert date is not None
    assert seconds <= parsedate_to_datetime(date).timestamp() - time.time() <= seconds + 2
    assert retry_after(seconds, "none") is None


async def test_a_token_is_there_when_it_was_said_to_be() -> None:
    bucket = TokenBucket(rate=50, burst=1)
    assert bucket.take() == 0
    wait = bucket.take()
    assert 0 < wait <= 0.02
    await asyncio.sleep(wait + 0.005)
    assert bucket.take() == 0
