"""`with_options`: what clients of one family share, and what one tenant keeps from another."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from alli_async import AlliClient, RateLimitError, RetryPolicy
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer
from tests.support.servers import OK, ONCE

LATER = answer(429, {"errors": "busy"}, headers=[("Retry-After", "60")])


async def refused(client: AlliClient) -> None:
    with pytest.raises(RateLimitError):
        await client.conversations.get("a")


async def is_paused(client: AlliClient) -> bool:
    try:
        async with asyncio.timeout(0.3):
            await client.conversations.get("a")
    except TimeoutError:
        return True
    return False


async def test_a_pause_that_the_server_asks_one_key_for_delays_no_other_key_and_no_other_server(
    make_client: ClientFactory,
) -> None:
    async with ScriptedServer(LATER, OK) as server, ScriptedServer(OK) as elsewhere:
        client = make_client(server, retry=ONCE)
        early = client.with_options(api_key="another")
        await refused(client)
        assert not await is_paused(early)
        for other in (
            client.with_options(api_key="third"),
            client.with_options(token="the-key"),
            client.with_options(base_url=elsewhere.url),
        ):
            assert not await is_paused(other)
        for same in (client, client.with_options(timeout=5), client.with_options(api_key="the-key")):
            assert await is_paused(same)
        assert await is_paused(early.with_options(api_key="the-key", agent_email="a@b.c"))


async def test_a_tenant_whose_client_is_gone_is_still_remembered(make_client: ClientFactory) -> None:
    async with ScriptedServer(LATER, OK) as server:
        client = make_client(server, retry=ONCE)
        await refused(client.with_options(api_key="customer"))
        gc.collect()
        assert await is_paused(client.with_options(api_key="customer"))
        for number in range(2000):
            client.with_options(api_key=f"customer-{number}")
        assert not await is_paused(client)


async def test_the_retry_quota_belongs_to_a_tenant(make_client: ClientFactory) -> None:
    async with ScriptedServer(answer(500)) as server:
        client = make_client(server, retry=RetryPolicy(max_attempts=3, base=0, quota=10))
        other = client.with_options(token="t")
        for each, attempts in ((client, 3), (client.with_options(timeout=5), 1), (other, 3), (other, 1)):
            with pytest.raises(Exception, match=r"\[GET") as raised:
                await each.conversations.get("a")
            assert raised.value.attempts == attempts  # type: ignore[attr-defined]


async def test_the_unit_of_time_belongs_to_a_server(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=60, unit="s") as seconds, Sandbox(conversations=60) as milliseconds:
        client = make_client(seconds)
        other = client.with_options(base_url=milliseconds.url, api_key=milliseconds.api_key)
        for each, sandbox in ((client, seconds), (other, milliseconds)):
            latest = [row.last_chat for row in (await each.conversations.list()).conversations if row.last_chat]
            found = [row async for row in each.conversations.list(started_at=latest[5])]
            assert len(found) == 6
            sandbox.reset_counters()
            await each.with_options(timeout=5).conversations.list(started_at=latest[5])
            assert sandbox.count() == 1


@pytest.mark.parametrize("given", ["parent", "child", "grandchild", "another key"])
async def test_a_rate_limit_that_was_given_holds_for_all_clients_made_from_there(
    make_client: ClientFactory, given: str
) -> None:
    async with ScriptedServer(OK) as server:
        limits: Any = {"rate_limit": 20}
        client = make_client(server, **(limits if given == "parent" else {}))
        child = client.with_options(**(limits if given == "child" else {"timeout": 5}))
        grandchild = child.with_options(agent_email="a@b.c", **(limits if given == "grandchild" else {}))
        if given == "another key":
            child = client.with_options(api_key="another", **limits)
            grandchild = child.with_options(api_key="third")
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(grandchild.conversations.get("a") for _ in range(11)))
        assert loop.time() - began > 0.45
        if given in ("parent", "child"):
            shared = child if given == "child" else client
            began = loop.time()
            await asyncio.gather(*(each.conversations.get("a") for each in [shared, grandchild] * 5))
            assert loop.time() - began > 0.4


@pytest.mark.parametrize("option", ["session", "proxy", "trust_env", "ssl"])
def test_an_option_of_the_connections_is_none_of_with_options(option: str) -> None:
    with pytest.raises(TypeError, match=rf"{option}.*connections"):
        AlliClient("k").with_options(**{option: None})  # type: ignore[arg-type]
