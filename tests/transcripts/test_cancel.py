"""A stream that is cancelled, at whichever moment: it ends, soon, as cancelled, and nothing of it goes on."""

from __future__ import annotations

import asyncio
import random

import pytest

from alli_async import AlliError, RetryPolicy
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.support.cancelling import cancel_at_each
from tests.support.streams import left_behind

ONCE = RetryPolicy(max_attempts=1, patience=0.0)


@pytest.mark.parametrize(
    "ordered", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["unordered", "ordered"]
)
async def test_a_stream_that_is_cancelled_at_any_of_its_awaits_ends_as_cancelled(
    make_client: ClientFactory, *, ordered: bool
) -> None:
    async with Sandbox(conversations=60, page_cap=10, embed=2) as sandbox:
        client = make_client(sandbox)

        async def read() -> None:
            stream = client.conversations.transcripts(raw=True, concurrency=2, ordered=ordered)
            async with stream:
                async for _ in stream:
                    pass

        def check() -> None:
            assert client.limits.in_flight == client.limits.waiting == 0

        await read()
        assert await cancel_at_each(read, check, most=100) > 50


async def test_a_stream_that_fails_where_it_is_cancelled_ends_as_cancelled(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=60, page_cap=10, embed=2) as sandbox:
        client = make_client(sandbox, retry=ONCE)

        async def read() -> None:
            sandbox.script("listConversationChats", [500] * 100)
            async with client.conversations.transcripts(raw=True, concurrency=4) as stream:
                async for _ in stream:
                    pass

        def check() -> None:
            assert client.limits.in_flight == client.limits.waiting == 0

        with pytest.raises(AlliError):
            await read()
        assert await cancel_at_each(read, check, most=100) >= 15


async def test_a_stream_under_faults_that_is_cancelled_at_random_moments_ends_at_once(
    make_client: ClientFactory,
) -> None:
    faults = {"500": 0.1, "503": 0.05, "429": 0.1, "reset_after": 0.1, "slow": 0.05, "silence": 0.05}
    draw = random.Random(3)
    async with Sandbox(conversations=200, latency=0.001, faults=faults, retry_after="none") as sandbox:
        client = make_client(sandbox)
        for _ in range(30):
            before = asyncio.all_tasks()

            async def read() -> None:
                async for _ in client.conversations.transcripts(raw=True):
                    pass

            task = asyncio.create_task(read())
            await asyncio.sleep(draw.uniform(0.0, 0.15))
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=10)
            assert done
            assert task.cancelled()
            assert not left_behind(before)
            assert client.limits.in_flight == client.limits.waiting == 0
