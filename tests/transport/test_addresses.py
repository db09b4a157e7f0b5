"""Names whose addresses change, and answers whose headers are long."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import aiohttp
import pytest

from alli_async import AlliClient, AlliConnectionError
from tests.conftest import ClientFactory
from tests.support import Exchange, ScriptedServer, answer, conversation
from tests.support.servers import ONCE

NAME = "backend.example.test"


class Names:
    """Stands in for the name server, which a test cannot have: one name, whose address can be changed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.address = "127.0.0.1"
        self.lookups = 0
        real = socket.getaddrinfo

        def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
            if host != NAME:
                return real(host, *arguments, **options)
            self.lookups += 1
            return real(self.address, *arguments, **options)

        monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


async def serve(address: str, port: int = 0) -> asyncio.Server:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(200, conversation(title=address), headers=[("Connection", "close")]))
        await writer.drain()
        writer.close()

    return await asyncio.start_server(greet, address, port)


async def title(client: AlliClient) -> str | None:
    return (await client.conversations.get("a")).title


async def test_a_name_whose_address_refuses_is_looked_up_again_at_once(names: Names) -> None:
    first = await serve("127.0.0.1")
    port = first.sockets[0].getsockname()[1]
    async with AlliClient("k", base_url=f"http://{NAME}:{port}", allow_http=True, retry=ONCE) as client:
        assert [await title(client) for _ in range(3)] == ["127.0.0.1"] * 3
        assert names.lookups == 1
        first.close()
        await first.wait_closed()
        second = await serve("127.0.0.2", port)
        names.address = "127.0.0.2"
        found = await asyncio.gather(*(title(client) for _ in range(5)))
        assert found == ["127.0.0.2"] * 5
        second.close()
        await second.wait_closed()


async def test_an_address_that_still_refuses_after_a_new_lookup_is_an_error_that_was_not_sent(
    names: Names,
) -> None:
    server = await serve("127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    async with AlliClient("k", base_url=f"http://{NAME}:{port}", allow_http=True, retry=ONCE) as client:
        await title(client)
        server.close()
        await server.wait_closed()
        for lookups in (2, 3):
            with pytest.raises(AlliConnectionError, match="no connection") as raised:
                await client.conversations.stop("a")
            assert (raised.value.outcome, raised.value.attempts) == ("not_sent", 1)
            assert names.lookups == lookups


async def test_a_name_that_is_looked_up_for_the_first_time_is_not_looked_up_twice(names: Names) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    async with AlliClient("k", base_url=f"http://{NAME}:{port}", allow_http=True, retry=ONCE) as client:
        with pytest.raises(AlliConnectionError):
            await client.conversations.get("a")
        assert names.lookups == 1


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("count", [1, 500])
async def test_headers_up_to_64_kilobytes_are_read(make_client: ClientFactory, count: int, given: bool) -> None:
    headers = [(f"X-Policy-{number}", "p" * (65_000 // count - 20)) for number in range(count)]
    async with (
        ScriptedServer(answer(200, conversation(), headers=headers)) as server,
        aiohttp.ClientSession() as http,
    ):
        client = make_client(server, retry=ONCE, session=http if given else None)
        assert (await client.conversations.get("a")).title == "t"


async def test_headers_without_end_are_an_error_and_no_memory(make_client: ClientFactory) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 X\r\nX-Policy: ")
        for _ in range(10_000):
            await exchange.send(b"p" * 10_000)

    async with ScriptedServer(endless) as server:
        with pytest.raises(AlliConnectionError, match="not HTTP"):
            await make_client(server, retry=ONCE).conversations.get("a")
