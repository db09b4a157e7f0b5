"""Headers: what a request carries, and what cannot be slipped into it."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from alli_async import AlliClient, ConfigurationError, Request, Response
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer
from tests.support.servers import OK, fact, get, post

pytestmark = pytest.mark.wire


@pytest.mark.parametrize("option", ["api_key", "token", "agent_email", "user_email", "own_user_id"])
@pytest.mark.parametrize(
    "value", ["a\r\nX: b", "a\nb", "a\rb", "a\0b", "a\x7fb", "a\x1bb", "", "\ud800"], ids=ascii
)
def test_a_configured_header_that_could_inject_another_is_refused(option: str, value: str) -> None:
    options = {option: value} if option in ("api_key", "token") else {"api_key": "k", option: value}
    with pytest.raises(ConfigurationError, match=f"^{option}: ") as raised:
        AlliClient(**options)  # type: ignore[arg-type]
    if value and option in ("api_key", "token"):
        assert value not in str(raised.value)


async def test_line_breaks_in_an_own_user_id_stay_inside_its_base64(
    make_client: ClientFactory,
) -> None:
    async with ScriptedServer(OK) as server:
        await get(make_client(server, own_user_id="日\r\nX-Evil: 1").conversations)
        assert server.requests[0].header("own-user-id") == "base64:5pelDQpYLUV2aWw6IDE="
        assert server.requests[0].header("x-evil") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        fact("a line break in the value", "X", "a\r\nX-Evil: b"),
        fact("a bare line feed", "X", "a\nX-Evil: b"),
        fact("a bare carriage return", "X", "a\rb"),
        fact("a null byte", "X", "a\0b"),
        fact("a lone surrogate", "X", "\ud800"),
        fact("a number", "X", 5),
        fact("a line break in the name", "X: y\r\nX-Evil", "b"),
        fact("a colon in the name", "X:Y", "b"),
        fact("a space in the name", "X Y", "b"),
        fact("no name", "", "b"),
        fact("a name that is none", 7, "b"),
        fact("a length of its own", "Content-Length", "5"),
        fact("a framing of its own", "transfer-encoding", "chunked"),
    ],
)
async def test_a_middlewares_header_that_cannot_be_one_is_refused_and_nothing_is_sent(
    make_client: ClientFactory, name: Any, value: Any
) -> None:
    async def injects(request: Request, call_next: Any) -> Response:
        request.headers[name] = value
        response: Response = await call_next(request)
        return response

    async with ScriptedServer(OK) as server:
        with pytest.raises(ConfigurationError, match="a middleware's header") as raised:
            await get(make_client(server, middlewares=[injects]).conversations)
        assert raised.value.outcome == "not_sent"
        assert not server.requests


@pytest.mark.parametrize("field", ["path", "query", "method"])
async def test_a_middleware_cannot_slip_a_second_request_into_the_first(
    make_client: ClientFactory, field: str
) -> None:
    async def injects(request: Request, call_next: Any) -> Response:
        setattr(request, field, "/x HTTP/1.1\r\nX-Evil: 1\r\n\r\nGET /y")
        response: Response = await call_next(request)
        return response

    async with ScriptedServer(OK) as server:
        with pytest.raises(ConfigurationError, match="cannot be put on the wire"):
            await get(make_client(server, middlewares=[injects]).conversations)
        assert not server.requests


async def test_a_middlewares_own_text_is_sent_as_it_is(make_client: ClientFactory) -> None:
    async def traces(request: Request, call_next: Any) -> Response:
        request.headers["X-Trace"] = "a b\t~ é"
        response: Response = await call_next(request)
        return response

    async with ScriptedServer(OK) as server:
        await get(make_client(server, middlewares=[traces]).conversations)
        sent = server.requests[0].header("x-trace")
        assert sent is not None
        assert sent.encode("latin-1").decode() == "a b\t~ é"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])  # a jar takes none from an address, only from a name
async def test_a_cookie_is_never_returned(make_client: ClientFactory, host: str) -> None:
    async with ScriptedServer(answer(200, headers=[("Set-Cookie", "a=b; Path=/")]), OK) as server:
        server.url = server.url.replace("127.0.0.1", host)
        client = make_client(server)
        await post(client.conversations)
        await get(client.conversations)
        await client.with_options(timeout=5).conversations.get("b")
        assert [each.header("cookie") for each in server.requests] == [None] * 3


async def test_cookies_of_a_callers_session_are_not_sent(make_client: ClientFactory) -> None:
    jar = aiohttp.CookieJar(unsafe=True)
    async with (
        ScriptedServer(answer(200, headers=[("Set-Cookie", "theirs=1; Path=/")]), OK) as server,
        aiohttp.ClientSession(cookie_jar=jar, cookies={"own": "1"}, headers={"X-App": "a"}) as http,
    ):
        await http.get(server.url)
        client = make_client(server, session=http)
        await get(client.conversations)
        await get(client.with_options(headers={"Cookie": "gateway=2"}).conversations)
        await http.get(server.url)
        found = [each.header("cookie") for each in server.requests]
        assert found == ["own=1", None, "gateway=2", "own=1; theirs=1"]
        assert [each.header("x-app") for each in server.requests] == ["a"] * 4


async def test_headers_are_sent_and_merged_whatever_their_case(make_client: ClientFactory) -> None:
    async with ScriptedServer(OK) as server:
        client = make_client(server, headers={"X-One": "1", "X-Two": "1", "accept": "text/json"})
        await client.with_options(headers={"x-two": "2", "X-Three": "3"}).conversations.get("a")
        await client.conversations.get("a")
        first, second = server.requests
        assert [first.header(name) for name in ("X-One", "X-Two", "X-Three")] == ["1", "2", "3"]
        assert [second.header(name) for name in ("X-One", "X-Two", "X-Three")] == ["1", "1", None]
        for name in ("accept", "x-two", "api-key"):
            assert len([each for each, _ in first.headers if each.lower() == name]) == 1
        assert first.header("accept") == "text/json"


@pytest.mark.parametrize("name", ["API-KEY", "api-key", "Authorization", "AUTHORIZATION"])
async def test_headers_may_not_name_those_of_the_key(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"headers: may not name {name}") as raised:
        AlliClient("k", headers={name: "canary"})
    assert "canary" not in str(raised.value)
    with pytest.raises(ConfigurationError, match=rf"headers: may not name {name}"):
        AlliClient("k").with_options(headers={name: "canary"})


@pytest.mark.parametrize(
    "headers", [{"X": "a\r\nX-Evil: b"}, {"X Y": "b"}, {"Content-Length": "5"}, {7: "b"}, {"X": 5}, ["X"], "X: y"]
)
def test_headers_that_cannot_be_sent_are_refused(headers: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^headers"):
        AlliClient("k", headers=headers)
