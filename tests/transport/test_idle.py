"""Connections that the server ended while nothing was sent over them."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from alli_async import AlliError, RetryPolicy
from tests.conftest import ClientFactory
from tests.support import Exchange, ScriptedServer, idle
from tests.support.servers import Call, delete, fact, patch, post, put

ONCE = RetryPolicy(max_attempts=1)
ENDS = [
    fact("FIN", idle.close),
    fact("FIN of one half", idle.half_close),
    fact("RST", idle.reset),
    fact("408, then FIN", idle.time_out),
]
TLS_ENDS = [fact("FIN", idle.close), fact("the end of TLS", idle.say_goodbye), fact("RST", idle.reset)]


@pytest.mark.parametrize("write", [post, patch, put, delete])
@pytest.mark.parametrize("end", ENDS)
async def test_a_write_takes_no_connection_that_ended_while_the_loop_was_busy(
    make_client: ClientFactory, end: idle.End, write: Call
) -> None:
    with idle.EndingServer(end) as server:
        api = make_client(server, retry=ONCE).conversations
        await api.get("a")
        server.end_idle_connection()
        await write(api)
    assert len(server.requests) == 2


@pytest.mark.parametrize("end", TLS_ENDS)
async def test_a_write_takes_no_tls_connection_that_ended_while_the_loop_was_busy(
    make_client: ClientFactory, end: idle.End, certified: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    with idle.EndingServer(end, certified) as server:
        api = make_client(server, retry=ONCE, ssl=trusting).conversations
        await api.get("a")
        server.end_idle_connection()
        await post(api)
    assert len(server.requests) == 2


async def test_a_read_on_a_connection_that_ended_is_sent_again(make_client: ClientFactory) -> None:
    with idle.EndingServer(idle.close) as server:
        api = make_client(server).conversations
        await api.get("a")
        server.end_idle_connection()
        await api.get("a")
    assert server.requests == ["GET /webapi/v2/conversations/a"] * 2


async def test_a_write_that_meets_the_end_of_its_connection_is_never_called_unsent(
    make_client: ClientFactory,
) -> None:
    """Client and server take the same time to think, so that an end may cross a request on the wire."""
    think, writes = 0.01, 40
    outcomes: list[str] = []

    async def answer_and_close_soon(exchange: Exchange) -> None:
        await exchange.send(idle.OK)
        await asyncio.sleep(think)
        exchange.writer.close()

    async with ScriptedServer(answer_and_close_soon) as server:
        api = make_client(server, retry=ONCE).conversations
        for _ in range(writes):
            try:
                await post(api)
            except AlliError as error:
                outcomes.append(error.outcome)
            await asyncio.sleep(think)
    assert set(outcomes) <= {"unknown"}
    assert writes - len(outcomes) <= len(server.requests) <= writes
