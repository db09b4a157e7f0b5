"""Tokens that rotate: an async function that gives the token which is valid now."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from alli_async import AlliClient, AlliError, AuthenticationError, ConfigurationError
from tests.conftest import ClientFactory
from tests.support import Exchange, ScriptedServer, answer, hang_up, reset, silence
from tests.support.secrets import frames_of_the_package, shows_key
from tests.support.servers import OK, ONCE

EXPIRED = answer(401, {"error": "expired"})


class Issuer:
    """Issues canary-1, canary-2 and so on; its server accepts the latest only."""

    def __init__(self, valid: int = 1) -> None:
        self.issued = 0
        self.valid = valid

    async def __call__(self) -> str:
        await asyncio.sleep(0.01)
        self.issued += 1
        return f"canary-{self.issued}\n"

    async def answer(self, exchange: Exchange) -> None:
        is_valid = exchange.request.header("authorization") == f"Bearer canary-{self.valid}"
        await exchange.send(OK if is_valid else EXPIRED)


def client_of(server: ScriptedServer, token: Any, **options: Any) -> AlliClient:
    return AlliClient(token=token, base_url=server.url, retry=ONCE, **options)


async def test_a_token_is_asked_for_once_for_all_calls_and_clients() -> None:
    issuer = Issuer()
    async with ScriptedServer(issuer.answer) as server, client_of(server, issuer) as client:
        derived = client.with_options(timeout=5)
        await asyncio.gather(*(each.conversations.get("a") for each in [client, derived] * 10))
        assert issuer.issued == 1
        assert server.requests[0].header("api-key") is None


async def test_a_token_that_is_not_accepted_any_more_is_asked_for_again_once_even_for_a_write() -> None:
    issuer = Issuer()
    async with ScriptedServer(issuer.answer) as server, client_of(server, issuer) as client:
        await client.conversations.get("a")
        issuer.valid = 2
        await client.conversations.stop("a")
        assert [each.method for each in server.requests] == ["GET", "POST", "POST"]
        assert issuer.issued == 2


async def test_many_calls_that_meet_the_same_expired_token_ask_for_one_new_token() -> None:
    issuer = Issuer()
    async with ScriptedServer(issuer.answer) as server, client_of(server, issuer) as client:
        await client.conversations.get("a")
        issuer.valid = 2
        await asyncio.gather(*(client.conversations.get("a") for _ in range(20)))
        assert issuer.issued == 2


async def test_a_second_401_is_an_error_that_shows_no_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    issuer = Issuer(valid=99)

    async def echo(exchange: Exchange) -> None:
        await exchange.send(answer(401, {"error": f"bad {exchange.request.header('authorization')}"}))

    async with ScriptedServer(echo) as server, client_of(server, issuer) as client:
        with pytest.raises(AuthenticationError, match="bad Bearer") as raised:
            await client.conversations.get("a")
        assert (raised.value.attempts, issuer.issued, len(server.requests)) == (2, 2, 2)
        shown = str(raised.value) + repr(raised.value) + repr(vars(client)) + repr(client._config) + caplog.text
        assert "canary" not in shown


@pytest.mark.parametrize("token", [False, True])
@pytest.mark.parametrize("stimulus", [hang_up, reset, silence, EXPIRED, answer(500), answer(200, b"[")])
async def test_no_frame_of_a_failed_call_has_a_local_that_shows_the_key(stimulus: Any, token: bool) -> None:
    async with ScriptedServer(stimulus) as server:
        options: Any = {"token": Issuer()} if token else {"api_key": "canary-key"}
        async with AlliClient(base_url=server.url, retry=ONCE, timeout=0.5, **options) as client:
            with pytest.raises(AlliError) as raised:
                await client.conversations.get("a")
        frames = frames_of_the_package(raised.value)
        assert frames
        assert not [
            (frame.f_code.co_name, name)
            for frame in frames
            for name, value in frame.f_locals.items()
            if shows_key(value)
        ]


async def test_a_403_is_no_reason_to_ask_for_another_token() -> None:
    issuer = Issuer()
    refused = answer(403, {"type": "APIError", "code": 7001, "message": "no"})
    async with ScriptedServer(refused) as server, client_of(server, issuer) as client:
        with pytest.raises(AuthenticationError):
            await client.conversations.get("a")
        assert (issuer.issued, len(server.requests)) == (1, 1)


async def test_a_caller_that_is_cancelled_while_it_asks_leaves_the_question_to_the_next_one() -> None:
    asked = asyncio.Event()

    async def slow() -> str:
        asked.set()
        await asyncio.sleep(0.05)
        return "canary"

    async with ScriptedServer(OK) as server, client_of(server, slow) as client:
        first = asyncio.create_task(client.conversations.get("a"))
        second = asyncio.create_task(client.conversations.get("a"))
        await asked.wait()
        first.cancel()
        assert (await second).title == "t"
        assert first.cancelled() or first.cancelling()


def test_a_token_is_asked_for_in_each_event_loop_that_needs_it() -> None:
    asked = 0

    async def token() -> str:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return f"canary-{asked}"

    async def work(client: AlliClient) -> list[str | None]:
        async with ScriptedServer(EXPIRED, OK) as server:
            await client.with_options(base_url=server.url).conversations.get("a")
            return [each.header("authorization") for each in server.requests]

    client = AlliClient(token=token, base_url="http://127.0.0.1:1")
    assert asyncio.run(work(client)) == ["Bearer canary-1", "Bearer canary-2"]
    assert asyncio.run(work(client)) == ["Bearer canary-2", "Bearer canary-3"]
    asyncio.run(client.aclose())


@pytest.mark.parametrize("value", ["", "a b", "canary\u00e9", None, 7, b"canary"])
async def test_a_function_that_gives_no_token_is_told_of_without_showing_what_it_gave(
    make_client: ClientFactory, value: Any
) -> None:
    async def token() -> Any:
        return value

    async with ScriptedServer(OK) as server:
        with pytest.raises(ConfigurationError, match=r"^token: the function must give") as raised:
            await client_of(server, token).conversations.get("a")
        assert "canary" not in str(raised.value)
        with pytest.raises(ConfigurationError, match=r"^token: expected a text, or an async function"):
            await client_of(server, lambda: value).conversations.get("a")
        assert not server.requests


async def test_an_error_of_the_function_reaches_the_caller_as_it_is() -> None:
    async def token() -> str:
        raise LookupError("mine")

    async with ScriptedServer(OK) as server, client_of(server, token) as client:
        with pytest.raises(LookupError, match="mine"):
            await client.conversations.get("a")
        assert not server.requests


async def test_a_token_goes_with_neither_a_key_nor_another_token() -> None:
    issuer = Issuer()
    with pytest.raises(ConfigurationError, match="api_key and token"):
        AlliClient("k", token=issuer)
    async with ScriptedServer(OK) as server, client_of(server, issuer) as client:
        await client.with_options(api_key="k").conversations.get("a")
        await client.with_options(token="t").conversations.get("a")
        assert [each.header("authorization") for each in server.requests] == [None, "Bearer t"]
        assert issuer.issued == 0
