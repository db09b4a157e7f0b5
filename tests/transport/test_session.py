"""Connections: one attempt is one request, in sessions of our own and of the caller."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from alli_async import (
    AlliClient,
    AlliConnectionError,
    ClientStateError,
)
from tests.conftest import ClientFactory
from tests.support import (
    ScriptedServer,
    answer,
    hang_up,
    reset,
)
from tests.support.servers import OK, ONCE, get

CANARY = "canary-0123456789"


# --- one attempt is one request ---------------------------------------------------------------------------


@pytest.mark.parametrize("drop", [hang_up, reset])
async def test_aiohttp_does_not_resend_by_itself_when_a_kept_connection_drops(
    make_client: ClientFactory, drop: Any
) -> None:
    async with ScriptedServer(OK, drop, OK) as server:
        client = make_client(server, retry=ONCE)
        await client.conversations.get("a")
        with pytest.raises(AlliConnectionError) as raised:
            await client.conversations.get("a")
        assert raised.value.attempts == 1
        assert len(server.requests) == 2


async def test_aiohttp_does_not_resend_by_itself_in_a_callers_session_either(make_client: ClientFactory) -> None:
    seen = []

    async def callers(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> Any:
        seen.append(request.method)
        return await handler(request)

    async with ScriptedServer(OK, hang_up, OK) as server:
        async with aiohttp.ClientSession(middlewares=(callers,), raise_for_status=True) as http:
            client = make_client(server, retry=ONCE, session=http)
            await client.conversations.get("a")
            with pytest.raises(AlliConnectionError):
                await client.conversations.get("a")
            assert len(server.requests) == 2
            assert seen == ["GET", "GET"]
            await client.aclose()
            assert not http.closed


async def test_an_unreleased_error_body_does_not_hang_a_pool_of_one(make_client: ClientFactory) -> None:
    async with ScriptedServer(answer(503, b"x" * 1_000_000), answer(503, b"x" * 1_000_000), OK) as server:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http:
            client = make_client(server, session=http)
            assert (await client.conversations.get("a")).title == "t"
            assert server.connections == 1


# --- status to error --------------------------------------------------------------------------------------


# --- bodies -----------------------------------------------------------------------------------------------


# --- time -------------------------------------------------------------------------------------------------


# --- middlewares ------------------------------------------------------------------------------------------


async def test_two_clients_on_one_session_do_not_close_it_and_keep_their_keys_apart() -> None:
    async with ScriptedServer(OK) as server, aiohttp.ClientSession() as http:
        one = AlliClient("key-one", base_url=server.url, session=http)
        two = AlliClient(token="key-two", base_url=server.url, session=http, agent_email="a@b.c")
        await asyncio.gather(*(each.conversations.get("a") for each in [one, two] * 10))
        await one.aclose()
        with pytest.raises(ClientStateError, match="closed"):
            await one.conversations.get("a")
        assert not http.closed
        assert (await two.conversations.get("a")).title == "t"
        await two.aclose()
        assert not http.closed
        sent = {
            (each.header("api-key"), each.header("authorization"), each.header("agent-email"))
            for each in server.requests
        }
        assert sent == {("key-one", None, None), (None, "Bearer key-two", "a@b.c")}


async def test_a_callers_session_closed_by_the_caller_is_a_clear_error(make_client: ClientFactory) -> None:
    async with ScriptedServer(OK) as server:
        async with aiohttp.ClientSession() as http:
            client = make_client(server, session=http)
            await get(client.conversations)
        with pytest.raises(ClientStateError, match="closed") as raised:
            await get(client.conversations)
        assert raised.value.outcome == "not_sent"
