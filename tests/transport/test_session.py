"""One call on the wire: what is sent, what is survived, what is raised."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import aiohttp
import pytest

from alli_async import (
    AlliClient,
    AlliConnectionError,
    AlliTimeoutError,
    APIError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    Request,
    Response,
    RetryPolicy,
    ServerError,
)
from tests.conftest import ClientFactory
from tests.support import (
    Exchange,
    ScriptedServer,
    answer,
    conversation,
    hang_up,
    reset,
    silence,
)

OK = answer(200, conversation())
ONCE = RetryPolicy(max_attempts=1)
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


# --- status to error --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, {"type": "APIError", "code": 7003, "message": "m"}, BadRequestError, 7003),
        (401, {"error": "m"}, AuthenticationError, None),
        (403, {"type": "APIError", "code": 7001, "message": "m"}, AuthenticationError, 7001),
        (403, {"type": "APIError", "code": 7002, "message": "m"}, BadRequestError, 7002),
        (403, {"type": "APIError", "code": 7004, "message": "m"}, PaymentRequiredError, 7004),
        (403, {"errors": "m"}, PermissionDeniedError, None),
        (402, b"m", PaymentRequiredError, None),
        (404, {"error": "m"}, NotFoundError, None),
        (405, b"", BadRequestError, None),
        (409, b"<html>m</html>", BadRequestError, None),
        (422, {"errors": {"a": ["m"]}}, BadRequestError, None),
        (429, {"errors": "m"}, RateLimitError, None),
        (500, {"type": "APIError", "code": 7000, "message": "m"}, ServerError, 7000),
        (503, b"[" * 100_000, ServerError, None),
        (600, b"\xff\xfe", ServerError, None),
    ],
)
async def test_each_status_has_its_error(
    make_client: ClientFactory, status: int, body: Any, kind: type[APIError], code: int | None
) -> None:
    async with ScriptedServer(answer(status, body, headers=[("X-Request-Id", "r-1")])) as server:
        with pytest.raises(kind) as raised:
            await make_client(server, retry=ONCE).conversations.get("a/b")
        error = raised.value
        assert type(error) is kind
        assert (error.status, error.code, error.request_id) == (status, code, "r-1")
        assert (error.method, error.path) == ("GET", "/webapi/v2/conversations/a%2Fb")
        assert error.attempts == 1
        assert error.elapsed > 0
        assert error.outcome == ("unknown" if status >= 500 else "rejected")


async def test_an_error_that_calls_itself_a_success_is_an_error(make_client: ClientFactory) -> None:
    inside = answer(200, {"type": "APIError", "code": 7001, "message": "no"})
    async with ScriptedServer(inside, answer(200, {"error": "no"}), answer(200, {"errors": None})) as server:
        client = make_client(server)
        with pytest.raises(AuthenticationError):
            await client.conversations.get("a")
        with pytest.raises(APIError, match="no"):
            await client.conversations.stop("a")
        await client.conversations.stop("a")


# --- bodies -----------------------------------------------------------------------------------------------


async def test_a_lone_surrogate_becomes_the_replacement_character_and_nothing_else_changes(
    make_client: ClientFactory,
) -> None:
    text = rb'"\ud800 \udc00 \ud83d\ude00 \\ud800 \u00e9 \n"'
    body = answer(200, conversation(title="@")).replace(b'"@"', text)
    body = body.replace(b"Content-Length", b"Content-Length-Was").replace(
        b"HTTP/1.1 200 X", b"HTTP/1.1 200 X\r\nConnection: close"
    )

    async def send(exchange: Exchange) -> None:
        await exchange.send(body)
        exchange.writer.close()

    async with ScriptedServer(send) as server:
        found = await make_client(server).conversations.get("a")
        assert found.title == "� � \U0001f600 \\ud800 é \n"
        assert b"\\ud800" in found.raw


# --- time -------------------------------------------------------------------------------------------------


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


# --- middlewares ------------------------------------------------------------------------------------------


async def test_middlewares_run_once_per_attempt_in_order_and_never_see_the_key(make_client: ClientFactory) -> None:
    seen: list[str] = []

    def middleware(name: str) -> Any:
        async def handle(request: Request, call_next: Any) -> Response:
            seen.append(f"{name} {request.attempt}")
            assert "the-key" not in repr(request)
            request.headers["X-Trace"] = name
            response: Response = await call_next(request)
            seen.append(f"{name} {response.status}")
            return response

        return handle

    async with ScriptedServer(answer(500), OK) as server:
        client = make_client(server, middlewares=[middleware("outer"), middleware("inner")])
        await client.conversations.get("a")
        assert seen == [
            *("outer 1", "inner 1", "inner 500", "outer 500"),
            *("outer 2", "inner 2", "inner 200", "outer 200"),
        ]
        assert server.requests[1].header("x-trace") == "inner"
        assert server.requests[1].header("api-key") == "the-key"


async def test_a_middleware_may_answer_by_itself_and_its_own_errors_pass_through(
    make_client: ClientFactory,
) -> None:
    async def cached(request: Request, call_next: Any) -> Response:
        if request.operation == "stopConversation":
            raise LookupError("mine")
        return Response(200, {}, b'{"isRunning": true}')

    async with ScriptedServer(OK) as server:
        client = make_client(server, middlewares=[cached])
        assert await client.conversations.is_running("a")
        with pytest.raises(LookupError, match="mine"):
            await client.conversations.stop("a")
        assert not server.requests
