"""Middlewares of attempts, and of calls: once per operation, outside the retry, with a record of every attempt."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from alli_async import (
    AlliConnectionError,
    AlliError,
    ApiResponse,
    Call,
    ConfigurationError,
    NotFoundError,
    Request,
    Response,
    ServerError,
)
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.support import (
    ScriptedServer,
    answer,
    hang_up,
    silence,
)
from tests.support.examples import FULL
from tests.support.servers import OK, get


async def test_it_sees_the_operation_once_and_every_attempt(make_client: ClientFactory) -> None:
    calls: list[Call] = []

    async def watch(call: Call, call_next: Any) -> Any:
        calls.append(call)
        assert call.attempts == []
        return await call_next(call)

    began = time.time()
    async with ScriptedServer(answer(503, headers=[("X-Request-Id", "r-1")]), hang_up, OK) as server:
        found = await make_client(server, call_middlewares=[watch]).conversations.get("a")
    assert found.title == "t"
    (call,) = calls
    assert (call.operation, call.method, call.path) == ("getConversation", "GET", "/webapi/v2/conversations/a")
    assert [each.number for each in call.attempts] == [1, 2, 3]
    assert [each.status for each in call.attempts] == [503, None, 200]
    assert [each.request_id for each in call.attempts] == ["r-1", None, None]
    assert [type(each.error) for each in call.attempts] == [ServerError, AlliConnectionError, type(None)]
    for each in call.attempts:
        assert began - 1 < each.started < time.time() + 1
        assert each.elapsed > 0
        assert each.queued >= 0


async def test_it_adds_headers_to_every_attempt_and_never_sees_the_key(make_client: ClientFactory) -> None:
    async def trace(call: Call, call_next: Any) -> Any:
        assert "the-key" not in repr(call) + repr(call.headers)
        call.headers["traceparent"] = "00-1"
        return await call_next(call)

    async with ScriptedServer(answer(503), OK) as server:
        await get(make_client(server, call_middlewares=[trace]).conversations)
        assert [each.header("traceparent") for each in server.requests] == ["00-1", "00-1"]


async def test_the_first_is_the_outermost_and_it_may_change_the_result(make_client: ClientFactory) -> None:
    order: list[str] = []

    def named(name: str) -> Any:
        async def middleware(call: Call, call_next: Any) -> Any:
            order.append(name)
            try:
                return await call_next(call)
            except NotFoundError:
                order.append(f"{name} handles it")
                if name == "outer":
                    return "nothing"
                raise

        return middleware

    async with ScriptedServer(answer(404)) as server:
        client = make_client(server, call_middlewares=[named("outer"), named("inner")])
        found: Any = await client.conversations.get("a")
    assert found == "nothing"
    assert order == ["outer", "inner", "inner handles it", "outer handles it"]


async def test_a_call_that_is_made_again_goes_on_with_its_record(make_client: ClientFactory) -> None:
    seen: list[Call] = []

    async def again(call: Call, call_next: Any) -> Any:
        seen.append(call)
        try:
            return await call_next(call)
        except NotFoundError:
            return await call_next(call)

    async with ScriptedServer(answer(404), OK) as server:
        await get(make_client(server, call_middlewares=[again]).conversations)
    assert [each.status for each in seen[0].attempts] == [404, 200]
    assert [each.number for each in seen[0].attempts] == [1, 2]


async def test_an_attempt_that_is_cancelled_is_on_record(make_client: ClientFactory) -> None:
    seen: list[Call] = []

    async def note(call: Call, call_next: Any) -> Any:
        seen.append(call)
        return await call_next(call)

    async with ScriptedServer(silence) as server:
        task = asyncio.ensure_future(get(make_client(server, call_middlewares=[note]).conversations))
        await server.asked()
        task.cancel()
        await asyncio.wait([task])
    (attempt,) = seen[0].attempts
    assert isinstance(attempt.error, asyncio.CancelledError)
    assert attempt.status is None


async def test_derived_clients_add_to_the_middlewares_of_their_parent(make_client: ClientFactory) -> None:
    order: list[str] = []

    def attempt(name: str) -> Any:
        async def middleware(request: Any, call_next: Any) -> Any:
            order.append(name)
            return await call_next(request)

        return middleware

    def call(name: str) -> Any:
        async def middleware(call: Call, call_next: Any) -> Any:
            order.append(name)
            return await call_next(call)

        return middleware

    async with ScriptedServer(OK) as server:
        parent = make_client(server, middlewares=[attempt("a1")], call_middlewares=[call("c1")])
        child = parent.with_options(middlewares=[attempt("a2")], call_middlewares=[call("c2")])
        await get(child.with_options(timeout=5).conversations)
        assert order == ["c1", "c2", "a1", "a2"]
        order.clear()
        await get(parent.conversations)
        assert order == ["c1", "a1"]


async def test_what_is_no_function_is_refused(make_client: ClientFactory) -> None:
    async with ScriptedServer(OK) as server:
        with pytest.raises(ConfigurationError, match=r"^call_middlewares: expected async functions, got 7"):
            make_client(server, call_middlewares=[7])
        with pytest.raises(ConfigurationError, match=r"^middlewares: expected async functions, got 'x'"):
            make_client(server).with_options(middlewares=["x"])  # type: ignore[list-item]


async def test_errors_tell_the_number_of_attempts(make_client: ClientFactory) -> None:
    async def through(call: Call, call_next: Any) -> Any:
        return await call_next(call)

    async with ScriptedServer(answer(503)) as server:
        with pytest.raises(AlliError) as raised:
            await get(make_client(server, call_middlewares=[through]).conversations)
    assert raised.value.attempts == 4


async def test_it_may_answer_client_request_by_itself_but_only_with_an_answer(make_client: ClientFactory) -> None:
    given: list[Any] = [ApiResponse(status=200, headers={}, body=b"", request_id=None, attempts=0, elapsed=0.0), 7]

    async def cached(call: Call, call_next: Any) -> Any:
        return given[0]

    async with ScriptedServer(OK) as server:
        client = make_client(server, call_middlewares=[cached])
        assert await client.request("GET", "/x") is given.pop(0)
        with pytest.raises(AlliError, match="something else than an ApiResponse"):
            await client.request("GET", "/x")
        assert not server.requests


async def test_headers_of_an_answer_that_a_middleware_makes_are_case_insensitive_too(
    make_client: ClientFactory,
) -> None:
    async def made(request: Any, call_next: Any) -> Response:
        return Response(200, {"X-Request-Id": "r-1"}, b"{}")

    async with ScriptedServer(OK) as server:
        found = await make_client(server, middlewares=[made]).request("GET", "/x")
    assert (found.headers["x-request-id"], found.request_id) == ("r-1", "r-1")


async def test_it_fakes_one_operation_and_leaves_the_others_to_the_server(make_client: ClientFactory) -> None:
    async def fake(call: Call, call_next: Any) -> Any:
        return FULL if call.operation == "getConversation" else await call_next(call)

    with Sandbox(conversations=3) as sandbox:
        api = make_client(sandbox, call_middlewares=[fake]).conversations
        assert await api.get("any") is FULL
        assert len([each async for each in api.list()]) == 3
    assert sandbox.count("getConversation") == 0


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
