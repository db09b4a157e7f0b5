"""Cancelled calls: they leave no task, no connection and no place in the limiter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from tests.conftest import ClientFactory
from tests.support import (
    ScriptedServer,
    silence,
)
from tests.support.servers import OK, fact


async def test_a_call_cancelled_before_its_answer_leaks_no_place_in_the_pool(make_client: ClientFactory) -> None:
    async with ScriptedServer(silence, OK) as server:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http:
            client = make_client(server, session=http, max_concurrency=1)
            call = asyncio.create_task(client.conversations.get("a"))
            await server.asked()
            call.cancel()
            await asyncio.wait([call])
            async with asyncio.timeout(5):
                assert (await client.conversations.get("a")).title == "t"


def others(before: set[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    """Tasks that were not there before, but for the scripted server's own."""
    return [task for task in asyncio.all_tasks() - before if "ScriptedServer" not in repr(task)]


async def gone(condition: Callable[[], Any]) -> None:
    """Wait until something is no more."""
    async with asyncio.timeout(20):
        while condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("limit", "deadline"),
    [fact("one at a time", 1, None), fact("64 at a time", 64, None), fact("all under a deadline", 64, 60)],
)
async def test_hundreds_cancelled_in_flight_leave_no_task_no_place_and_a_client_that_works(
    make_client: ClientFactory, limit: int, deadline: float | None
) -> None:
    async with ScriptedServer(silence) as server:
        client = make_client(server, max_concurrency=limit, deadline=deadline)
        before = asyncio.all_tasks()
        calls = [asyncio.create_task(client.conversations.is_running("a")) for _ in range(300)]
        await server.asked()
        for call in calls:
            call.cancel()
        async with asyncio.timeout(20):
            await asyncio.wait(calls)
        assert all(call.cancelled() for call in calls)
        await gone(lambda: others(before))
        assert client.limits.in_flight == 0
        server.answers = [OK]
        assert (await client.conversations.get("a")).title == "t"


async def test_hundreds_cancelled_on_the_wire_leave_no_connection_and_a_client_that_works(
    make_client: ClientFactory,
) -> None:
    # With a connection left of any of them, the pool would have no place for the last call.
    pool = aiohttp.TCPConnector(limit=300)
    async with ScriptedServer(default=OK) as server, aiohttp.ClientSession(connector=pool) as http:
        client = make_client(server, max_concurrency=300, session=http)
        while client.limits.max_in_flight < 300:  # answers to full windows make the window grow
            await asyncio.gather(*(client.conversations.get("a") for _ in range(300)))
        server.default = silence
        server.requests.clear()
        calls = [asyncio.create_task(client.conversations.is_running("a")) for _ in range(300)]
        await gone(lambda: len(server.requests) < 300)
        assert client.limits.in_flight == 300
        for call in calls:
            call.cancel()
        async with asyncio.timeout(20):
            await asyncio.wait(calls)
        assert all(call.cancelled() for call in calls)
        assert client.limits.in_flight == 0
        server.default = OK
        assert (await client.conversations.get("a")).title == "t"
