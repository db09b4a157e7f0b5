"""client.request(): any endpoint of the server, with the same key, retries and limits."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from alli_async import (
    AlliError,
    APIError,
    ConfigurationError,
    DecodeError,
    NotFoundError,
    Response,
    RetryPolicy,
    ServerError,
)
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer, reset
from tests.support.servers import OK, fact

FOUND = answer(200, {"projects": [{"id": 1}]}, headers=[("X-Request-Id", "r-9")])


class Project(msgspec.Struct):
    id: int


class Projects(msgspec.Struct):
    projects: list[Project]


async def test_an_answer_is_given_whole(make_client: ClientFactory) -> None:
    async with ScriptedServer(answer(503), FOUND) as server:
        found = await make_client(server).request("get", "/webapi/v2/projects", query={"a": [1, 2], "b": True})
        assert [each.target for each in server.requests] == ["/webapi/v2/projects?a=1&a=2&b=true"] * 2
        assert server.requests[0].header("api-key") == "the-key"
    assert (found.status, found.request_id, found.attempts) == (200, "r-9", 2)
    assert found.headers["x-request-id"] == found.headers["X-Request-ID"] == "r-9"
    assert found.body == b'{"projects": [{"id": 1}]}'
    assert found.json() == {"projects": [{"id": 1}]}
    assert found.decode(Projects) == Projects([Project(1)])
    assert found.elapsed > 0
    with pytest.raises(DecodeError, match="Expected `int`, got `array`"):
        found.decode(dict[str, int])


@pytest.mark.parametrize(
    ("query", "target"),
    [
        fact("nothing", None, "/x"),
        fact("an empty mapping", {}, "/x"),
        fact("None is not sent", {"a": None, "b": ""}, "/x?b="),
        fact("texts are quoted", {"a b": "é&/=", "c": "1,2"}, "/x?a%20b=%C3%A9%26%2F%3D&c=1,2"),
        fact("numbers", {"a": 1.5, "b": -2, "c": False}, "/x?a=1.5&b=-2&c=false"),
    ],
)
async def test_a_query_is_sent_as_given(make_client: ClientFactory, query: Any, target: str) -> None:
    async with ScriptedServer(OK) as server:
        await make_client(server).request("GET", "/x", query=query)
        assert server.requests[0].target == target


@pytest.mark.parametrize(
    ("value", "body"), [fact("an object", {"a": [1]}, b'{"a":[1]}'), fact("null", None, b"null")]
)
async def test_a_body_is_sent_as_json(make_client: ClientFactory, value: Any, body: bytes) -> None:
    async with ScriptedServer(answer(204)) as server:
        found = await make_client(server).request("POST", "/x", json=value)
        assert server.requests[0].body == body
        assert server.requests[0].header("content-type") == "application/json"
    assert (found.status, found.body) == (204, b"")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        fact("an absolute URL", ("GET", "https://elsewhere.example/x"), "path"),
        fact("another host", ("GET", "//elsewhere.example/x"), "path"),
        fact("no slash", ("GET", "x"), "path"),
        fact("a query in the path", ("GET", "/x?a=1"), "path"),
        fact("a fragment", ("GET", "/x#a"), "path"),
        fact("a blank", ("GET", "/a b"), "path"),
        fact("a line break", ("GET", "/a\r\nX: y"), "path"),
        fact("a backslash", ("GET", "/\\elsewhere"), "path"),
        fact("not encoded", ("GET", "/é"), "path"),
        fact("half an escape", ("GET", "/a%2"), "path"),
        fact("dots", ("GET", "/a/../b"), "path"),
        fact("encoded dots", ("GET", "/a/%2E%2e/b"), "path"),
        fact("no text", ("GET", 7), "path"),
        fact("no method", ("", "/x"), "method"),
        fact("a method with a blank", ("GET /y", "/x"), "method"),
        fact("a tunnel", ("CONNECT", "/x"), "method"),
    ],
)
async def test_what_cannot_be_right_is_refused_before_anything_is_sent(
    make_client: ClientFactory, arguments: Any, name: str
) -> None:
    async with ScriptedServer(OK) as server:
        with pytest.raises(ConfigurationError, match=rf"^{name}: "):
            await make_client(server).request(*arguments)
        assert server.connections == 0


@pytest.mark.parametrize(
    ("options", "name"),
    [
        fact("a query that is a text", {"query": "a=1"}, "query"),
        fact("an object in a query", {"query": {"a": {"b": 1}}}, "query a"),
        fact("JSON that is none", {"json": object()}, "json"),
        fact("an operation with a line break", {"operation": "a\nb"}, "operation"),
    ],
)
async def test_options_that_cannot_be_right_are_refused(
    make_client: ClientFactory, options: Any, name: str
) -> None:
    async with ScriptedServer(OK) as server:
        with pytest.raises(ConfigurationError, match=rf"^{name}: "):
            await make_client(server).request("GET", "/x", **options)
        assert server.connections == 0


async def test_errors_are_those_of_every_operation(make_client: ClientFactory) -> None:
    async with ScriptedServer(answer(404), answer(200, {"errors": "no"})) as server:
        client = make_client(server, retry=RetryPolicy(max_attempts=1))
        with pytest.raises(NotFoundError, match=r"\[GET /x: 1 attempt"):
            await client.request("GET", "/x")
        with pytest.raises(ServerError, match="no"):
            await client.request("GET", "/x")


@pytest.mark.parametrize(
    "body",
    [b"", b"id,name\n1,x\n", b'{"error": null}', b'[{"error": "x"}]', b"{broken", b'{"result": {"error": 1}}'],
)
async def test_a_body_of_any_form_is_given_as_it_came(make_client: ClientFactory, body: bytes) -> None:
    async with ScriptedServer(answer(200, body)) as server:
        assert (await make_client(server).request("GET", "/x")).body == body


async def test_errors_beside_an_error_that_is_null_are_errors(make_client: ClientFactory) -> None:
    async with ScriptedServer(answer(200, {"error": None, "errors": "no"})) as server:
        client = make_client(server, retry=RetryPolicy(max_attempts=1))
        with pytest.raises(APIError, match="no"):
            await client.request("POST", "/x")
        with pytest.raises(APIError, match="no"):
            await client.conversations.stop("a")


@pytest.mark.parametrize(("method", "requests"), [("PUT", 2), ("DELETE", 2), ("POST", 1), ("PATCH", 1)])
async def test_only_what_may_be_done_twice_is_retried(
    make_client: ClientFactory, method: str, requests: int
) -> None:
    async with ScriptedServer(reset, OK) as server:
        client = make_client(server)
        if requests == 1:
            with pytest.raises(AlliError):
                await client.request(method, "/x")
        else:
            await client.request(method, "/x")
        assert len(server.requests) == requests


async def test_an_operation_has_the_name_that_is_given(make_client: ClientFactory) -> None:
    seen = []

    async def note(request: Any, call_next: Any) -> Response:
        seen.append(request.operation)
        found: Response = await call_next(request)
        return found

    async with ScriptedServer(OK) as server:
        client = make_client(server, middlewares=[note])
        await client.request("GET", "/x")
        await client.request("GET", "/x", operation="listProjects")
    assert seen == ["GET /x", "listProjects"]


async def test_a_delete_that_was_cut_off_and_then_finds_nothing_has_happened(make_client: ClientFactory) -> None:
    async with ScriptedServer(reset, answer(404, {"error": "not found"})) as server:
        found = await make_client(server, retry=RetryPolicy(base=0.001)).request("DELETE", "/any")
    assert (found.status, found.body, found.attempts) == (404, b"", 2)
