"""The outcome of a whole call: what may have happened in any of its attempts, whatever came after."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alli_async import AlliError, AlliTimeoutError, RetryPolicy
from tests.conftest import ClientFactory
from tests.support import Answer, Exchange, ScriptedServer, answer, hang_up, reset, silence
from tests.support.servers import OK, Call, delete, fact, get, post, put


def refused_from_then_on(server: ScriptedServer) -> Answer:
    """Reads the request, stops listening, and resets the connection."""

    async def close(exchange: Exchange) -> None:
        server._server.close()
        await reset(exchange)

    return close


async def twice(request: Any, call_next: Any) -> Any:
    """A middleware that sends a request again by itself."""
    try:
        return await call_next(request)
    except AlliError:
        return await call_next(request)


@pytest.mark.parametrize(
    ("call", "answers", "outcome"),
    [
        fact("a PUT that was read and reset, then refused for load", put, [reset, 429, 429, 429], "unknown"),
        fact("a PUT that was answered 503, then a 400", put, [503, 400], "unknown"),
        fact("a PUT that was refused for load, then reset, then refused", put, [429, reset, 429, 429], "unknown"),
        fact("a PUT that was only refused for load", put, [429], "rejected"),
        fact("a DELETE that was read and reset, then refused for load", delete, [reset, 429, 429, 429], "unknown"),
        fact("a DELETE that was hung up on, then forbidden", delete, [hang_up, 403], "unknown"),
        fact("a POST that was refused for load, then reset", post, [429, reset], "unknown"),
        fact("a POST that was refused for load, then a 400", post, [429, 400], "rejected"),
        fact("a GET whose last answer is definite", get, [reset, 404], "rejected"),
    ],
)
async def test_a_write_that_may_have_happened_in_any_attempt_is_unknown(
    make_client: ClientFactory, sleeps: list[float], call: Call, answers: list[int | Answer], outcome: str
) -> None:
    async with ScriptedServer(*(answer(each) if isinstance(each, int) else each for each in answers)) as server:
        with pytest.raises(AlliError) as raised:
            await call(make_client(server).conversations)
    assert raised.value.outcome == outcome


@pytest.mark.parametrize(
    ("call", "first", "outcome"),
    [
        fact("a PUT read and reset", put, None, "unknown"),
        fact("a DELETE read and reset", delete, None, "unknown"),
        fact("a GET read and reset", get, None, "unknown"),
        fact("a PUT refused for load", put, answer(429, headers=[("Connection", "close")]), "rejected"),
    ],
)
async def test_a_connection_that_is_refused_later_does_not_undo_what_was_sent_before(
    make_client: ClientFactory, call: Call, first: bytes | None, outcome: str
) -> None:
    async with ScriptedServer() as server:
        if first is None:
            server.answers = [refused_from_then_on(server)]
        else:

            async def refuse(exchange: Exchange) -> None:
                server._server.close()
                await exchange.send(first)
                exchange.writer.close()

            server.answers = [refuse]
        with pytest.raises(AlliError, match="no connection") as raised:
            await call(make_client(server).conversations)
    assert (raised.value.outcome, raised.value.attempts) == (outcome, 4)


@pytest.mark.parametrize("call", [put, delete])
async def test_closing_the_client_between_two_attempts_does_not_undo_the_first(
    make_client: ClientFactory, call: Call
) -> None:
    async with ScriptedServer(reset, OK) as server:
        client = make_client(server, retry=RetryPolicy(base=10_000, cap=10_000))
        task = asyncio.ensure_future(call(client.conversations))
        await server.asked()
        await asyncio.sleep(0.05)  # the wait has begun
        await client.aclose()
        with pytest.raises(AlliError) as raised:
            await task
    assert (len(server.requests), raised.value.outcome) == (1, "unknown")


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        fact("on the wire", [silence], "unknown"),
        fact("between a refusal and the next", [answer(429, headers=[("Retry-After", "9")])], "rejected"),
        fact("on the wire after a refusal", [answer(429), silence], "unknown"),
    ],
)
async def test_a_deadline_tells_what_may_have_happened_before_it(
    make_client: ClientFactory, answers: list[Any], outcome: str
) -> None:
    async with ScriptedServer(*answers) as server:
        with pytest.raises(AlliError) as raised:
            await post(make_client(server, deadline=0.5).conversations)
    assert raised.value.outcome == outcome
    assert isinstance(raised.value, AlliTimeoutError) or outcome == "rejected"


async def test_a_middleware_that_tries_again_by_itself_hides_no_attempt(make_client: ClientFactory) -> None:
    async with ScriptedServer(reset, answer(400)) as server:
        with pytest.raises(AlliError) as raised:
            await put(make_client(server, middlewares=[twice]).conversations)
    assert (len(server.requests), raised.value.outcome) == (2, "unknown")


async def test_a_404_after_a_delete_that_a_middleware_sent_again_is_success(make_client: ClientFactory) -> None:
    async with ScriptedServer(reset, answer(404)) as server:
        await delete(make_client(server, middlewares=[twice]).conversations)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("policy", "answers", "why"),
    [
        fact("attempts", RetryPolicy(max_attempts=2, base=0), [503], "2 attempts are the most (max_attempts)"),
        fact(
            "a spent quota",
            RetryPolicy(quota=0),
            [503],
            "the retry quota that all calls of the client share is spent",
        ),
        fact("a definite answer", RetryPolicy(), [404], "404 is final"),
        fact(
            "a long Retry-After",
            RetryPolicy(),
            [answer(503, headers=[("Retry-After", "500")])],
            "a Retry-After of 500 s is longer than it may wait (120 s)",
        ),
    ],
)
async def test_an_error_says_why_the_call_was_not_tried_again(
    make_client: ClientFactory, policy: RetryPolicy, answers: list[Any], why: str
) -> None:
    async with ScriptedServer(*(answer(each) if isinstance(each, int) else each for each in answers)) as server:
        with pytest.raises(AlliError) as raised:
            await get(make_client(server, retry=policy).conversations)
    assert raised.value.why_final == why
    assert str(raised.value).endswith(f"; not tried again: {why}]")


async def test_an_error_says_that_a_write_is_not_repeated_unless_that_is_wanted(
    make_client: ClientFactory, sleeps: list[float]
) -> None:
    async with ScriptedServer(reset, answer(503), reset, OK) as server:
        client = make_client(server)
        with pytest.raises(AlliError, match="a POST that may have happened is not repeated"):
            await post(client.conversations)
        wanting = client.with_options(retry=RetryPolicy(retry_unknown_writes=True))
        await post(wanting.conversations)
    assert len(server.requests) == 4


async def test_an_api_error_has_the_answers_headers_and_body(make_client: ClientFactory) -> None:
    refusal = answer(400, {"error": "m"}, headers=[("X-Thing", "1"), ("X-Key", "the-key!")])
    async with ScriptedServer(refusal) as server:
        with pytest.raises(AlliError) as raised:
            await get(make_client(server).conversations)
    error: Any = raised.value
    assert (error.headers["x-thing"], error.headers["X-THING"], error.headers["x-key"]) == ("1", "1", "***!")
    assert error.body == b'{"error": "m"}'
