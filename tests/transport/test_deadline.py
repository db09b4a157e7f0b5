"""The deadline of a whole call and the timeout of an attempt: waits, retries, and all requests included."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from alli_async import (
    AlliClient,
    AlliError,
    AlliTimeoutError,
    RateLimitError,
    RetryPolicy,
)
from tests.conftest import ClientFactory
from tests.support import (
    Exchange,
    ScriptedServer,
    answer,
    chat,
    conversation,
    silence,
)
from tests.support.replies import split
from tests.support.servers import OK, ONCE, fact, get

Use = Callable[[AlliClient], Awaitable[Any]]


def slow_server(seconds: float) -> ScriptedServer:
    """Serves a conversation that is always running, and whose pages of chats never add up, each after a while."""

    async def serve(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        path, query = split(exchange.request)
        if path.endswith("/running"):
            body: Any = {"isRunning": True}
        elif path.endswith("/chats"):
            number = int(query["pageNo"])
            body = {
                "chats": [chat(number)],
                "totalCount": 3 + len(server.requests),
                "pageNo": number,
                "pageSize": 1,
            }
        elif path.endswith("/conversations"):
            body = {"conversations": [conversation()], "cursor": str(len(server.requests))}
        else:
            body = conversation(chatCount=3)
        await exchange.send(answer(200, body))

    server = ScriptedServer(serve)
    return server


@pytest.mark.parametrize(
    "use",
    [
        fact("transcript", lambda client: client.conversations.transcript("a")),
        fact("wait_until_idle", lambda client: client.conversations.wait_until_idle("a", poll_interval=0.01)),
        fact("between_polls", lambda client: client.conversations.wait_until_idle("a", poll_interval=30)),
        fact("watch", lambda client: anext(client.conversations.watch("a", poll_interval=0.01))),
    ],
)
async def test_an_operation_of_many_requests_has_one_deadline(make_client: ClientFactory, use: Use) -> None:
    async with slow_server(0.2) as server:
        client = make_client(server, deadline=0.5)
        began = time.monotonic()
        with pytest.raises(AlliTimeoutError) as raised:
            await use(client)
        # Four rounds of pages, or polls without end, would take longer; a busy machine may be late.
        assert 0.45 < time.monotonic() - began < 5
        assert len(server.requests) <= 20
        # The error tells of the whole operation, and not of its last request.
        error = raised.value
        assert error.elapsed > 0.45
        assert error.attempts >= len(server.requests) > 0
        assert f": {error.attempts} attempt" in str(error)
        assert str(error).endswith("; not tried again: its deadline]")


async def test_the_unit_of_time_is_learnt_within_the_deadline_of_the_page_that_needs_it(
    make_client: ClientFactory,
) -> None:
    async with slow_server(1.0) as server:
        client = make_client(server, deadline=1.5)
        with pytest.raises(AlliTimeoutError):
            await client.conversations.list(started_at=datetime(2024, 1, 1, tzinfo=UTC))
        assert len(server.requests) == 2


async def test_a_walk_has_a_deadline_for_each_page(make_client: ClientFactory) -> None:
    async with slow_server(0.5) as server:
        client = make_client(server, deadline=10)
        async with asyncio.timeout(60):
            pages = 0
            async for _ in client.with_options(deadline=2.2).conversations.list().pages():
                pages += 1
                if pages == 6:
                    break
        assert pages == 6


async def test_an_explicit_timeout_replaces_the_deadline(make_client: ClientFactory) -> None:
    async with slow_server(0.3) as server:
        client = make_client(server, deadline=0.1)
        with pytest.raises(AlliTimeoutError):
            await client.conversations.wait_until_idle("a", timeout=1.0, poll_interval=0.01)
        assert len(server.requests) >= 2


@pytest.mark.parametrize("status", [429, 503])
async def test_a_call_that_a_known_pause_keeps_past_its_deadline_fails_at_once(
    make_client: ClientFactory, status: int
) -> None:
    async with ScriptedServer(answer(status, headers=[("Retry-After", "20")]), OK) as server:
        client = make_client(server)
        with pytest.raises(AlliError):
            await get(client.with_options(retry=RetryPolicy(max_attempts=1)).conversations)
        began = time.monotonic()
        with pytest.raises(AlliTimeoutError, match="asked for a pause") as raised:
            await client.with_options(deadline=10).conversations.set_title("a", "x")
        assert time.monotonic() - began < 5
        assert raised.value.retry_after is not None
        assert 5 < raised.value.retry_after <= 20
        assert (raised.value.outcome, len(server.requests)) == ("not_sent", 1)


async def test_a_call_that_waits_when_the_pause_begins_fails_at_once_too(make_client: ClientFactory) -> None:
    proceed = asyncio.Event()

    async def refuse(exchange: Exchange) -> None:
        await proceed.wait()
        await exchange.send(answer(429, headers=[("Retry-After", "20")]))

    async with ScriptedServer(refuse, OK) as server:
        client = make_client(server, max_concurrency=1, retry=RetryPolicy(max_attempts=1))
        first = asyncio.ensure_future(get(client.conversations))
        await server.asked()
        waiting = asyncio.ensure_future(get(client.with_options(deadline=15).conversations))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        proceed.set()
        with pytest.raises(RateLimitError):
            await first
        with pytest.raises(AlliTimeoutError, match="asked for a pause") as raised:
            await waiting
        assert time.monotonic() - began < 10
        assert raised.value.retry_after is not None
        assert (raised.value.outcome, len(server.requests)) == ("not_sent", 1)


async def test_a_deadline_tells_how_the_last_attempt_ended(make_client: ClientFactory) -> None:
    async with ScriptedServer(answer(503, {"error": "busy"}), silence) as server:
        with pytest.raises(AlliTimeoutError, match=r"the call's deadline of 0.5 s passed; the last attempt: 503"):
            await get(make_client(server, deadline=0.5).conversations)


async def test_a_connection_that_is_not_made_in_time_was_not_sent(make_client: ClientFactory) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        blockers = [socket.socket() for _ in range(3)]
        for blocker in blockers:
            blocker.setblocking(False)
            blocker.connect_ex(full.getsockname())
        client = AlliClient("k", base_url=f"http://127.0.0.1:{full.getsockname()[1]}", timeout=0.5, retry=ONCE)
        async with client:
            with pytest.raises(AlliTimeoutError) as raised:
                await client.conversations.stop("a")
        assert raised.value.outcome == "not_sent"
        for blocker in blockers:
            blocker.close()


async def test_a_call_that_waits_in_the_queue_past_its_deadline_was_not_sent(make_client: ClientFactory) -> None:
    async with ScriptedServer(silence) as server:
        client = make_client(server, max_concurrency=1)
        first = asyncio.create_task(client.conversations.get("a"))
        await server.asked()
        with pytest.raises(AlliTimeoutError) as raised:
            await client.with_options(deadline=0.05).conversations.stop("a")
        assert raised.value.outcome == "not_sent"
        assert len(server.requests) == 1
        first.cancel()
        await asyncio.wait([first])
