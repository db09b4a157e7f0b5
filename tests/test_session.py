"""One call on the wire: what is sent, what is survived, what is raised."""

from __future__ import annotations

import asyncio
import gc
import gzip
import logging
import os
import socket
import ssl
import traceback
from typing import Any

import aiohttp
import pytest
import trustme

from alli_async import (
    AlliClient,
    AlliConnectionError,
    AlliError,
    AlliTimeoutError,
    APIError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    DecodeError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    RedirectError,
    Request,
    Response,
    ResponseTooLargeError,
    RetryPolicy,
    ServerError,
    TLSError,
)
from tests.conftest import ClientFactory
from tests.support import (
    Exchange,
    ScriptedServer,
    answer,
    conversation,
    cut,
    gzipped,
    hang_up,
    reset,
    silence,
    slowly,
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


@pytest.mark.parametrize("drop", [hang_up, reset, cut(OK, 40), cut(OK, len(OK) - 5), gzipped(b"{}" * 99, cut=20)])
async def test_a_dropped_or_cut_get_is_tried_again(make_client: ClientFactory, drop: Any) -> None:
    async with ScriptedServer(drop, drop, OK) as server:
        assert (await make_client(server).conversations.get("a")).title == "t"
        assert len(server.requests) == 3


@pytest.mark.parametrize("drop", [hang_up, reset])
async def test_a_server_that_drops_every_get_sees_exactly_max_attempts(
    make_client: ClientFactory, drop: Any
) -> None:
    async with ScriptedServer(drop) as server:
        with pytest.raises(AlliConnectionError) as raised:
            await make_client(server, retry=RetryPolicy(max_attempts=3, base=0)).conversations.get("a")
        assert raised.value.attempts == len(server.requests) == 3


@pytest.mark.parametrize("drop", [hang_up, reset, answer(503), cut(OK, 60)])
async def test_a_post_whose_outcome_is_unknown_is_not_sent_again(make_client: ClientFactory, drop: Any) -> None:
    async with ScriptedServer(drop, OK) as server:
        with pytest.raises(AlliError) as raised:
            await make_client(server).conversations.stop("a")
        assert raised.value.outcome == "unknown"
        assert len(server.requests) == 1


async def test_a_patch_that_was_refused_for_load_is_sent_again(make_client: ClientFactory) -> None:
    async with ScriptedServer(answer(429), OK) as server:
        await make_client(server).conversations.update("a", title="x")
        assert [request.body for request in server.requests] == [b'{"title":"x"}'] * 2


async def test_a_refused_connection_was_not_sent_and_a_post_is_tried_again(make_client: ClientFactory) -> None:
    async with ScriptedServer(OK) as server:
        pass
    with pytest.raises(AlliConnectionError) as raised:
        await make_client(server).conversations.stop("a")
    assert raised.value.outcome == "not_sent"
    assert raised.value.attempts == 4
    assert "POST /webapi/v2/conversations/a/stop" in str(raised.value)
    assert "4 attempts" in str(raised.value)


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


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 422, 501])
async def test_what_cannot_get_better_is_asked_once(make_client: ClientFactory, status: int) -> None:
    async with ScriptedServer(answer(status), OK) as server:
        with pytest.raises(APIError):
            await make_client(server).conversations.get("a")
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("elsewhere", ["same", "other"])
async def test_redirects_are_never_followed(make_client: ClientFactory, status: int, elsewhere: str) -> None:
    async with ScriptedServer(OK) as other:
        location = f"{other.url}/x" if elsewhere == "other" else "/x"
        async with ScriptedServer(answer(status, headers=[("Location", location)]), OK) as server:
            with pytest.raises(RedirectError, match="not followed"):
                await make_client(server).conversations.get("a")
            assert len(server.requests) == 1
        assert not other.requests


async def test_a_cookie_is_never_returned(make_client: ClientFactory) -> None:
    async with ScriptedServer(answer(200, conversation(), headers=[("Set-Cookie", "a=b")]), OK) as server:
        client = make_client(server)
        await client.conversations.get("a")
        await client.conversations.get("a")
        assert server.requests[1].header("cookie") is None


async def test_an_error_that_calls_itself_a_success_is_an_error(make_client: ClientFactory) -> None:
    inside = answer(200, {"type": "APIError", "code": 7001, "message": "no"})
    async with ScriptedServer(inside, answer(200, {"error": "no"}), answer(200, {"errors": None})) as server:
        client = make_client(server)
        with pytest.raises(AuthenticationError):
            await client.conversations.get("a")
        with pytest.raises(APIError, match="no"):
            await client.conversations.stop("a")
        await client.conversations.stop("a")


async def test_garbage_in_place_of_http_is_a_transport_error_and_no_invented_400(
    make_client: ClientFactory,
) -> None:
    async with ScriptedServer(b"SSH-2.0-OpenSSH_9.9\r\n\r\n") as server:
        with pytest.raises(AlliConnectionError, match="not HTTP"):
            await make_client(server, retry=ONCE).conversations.get("a")


# --- bodies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"{", b'{"id"', b"\xef\xbb\xbf{}", b'{"x": ' + b"[" * 200_000, b"NaN", b'{"id": "\xff"}'],
)
async def test_what_is_no_json_is_a_decode_error_after_all_tries(make_client: ClientFactory, body: bytes) -> None:
    async with ScriptedServer(answer(200, body)) as server:
        with pytest.raises(DecodeError) as raised:
            await make_client(server).conversations.get("a")
        assert raised.value.malformed
        assert raised.value.path == "$"
        assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ([], "$"),
        (conversation(id=None), "$.id"),
        (conversation(chats=[{"id": 1}]), "$.chats[0].id"),
        ({"id": "x"}, "$"),
        (conversation(createdAt="yesterday"), "$.createdAt"),
        (b'{"chatCount": ' + b"9" * 5000 + b"}", "$.chatCount"),
    ],
)
async def test_json_that_is_another_is_a_decode_error_with_its_path(
    make_client: ClientFactory, document: Any, path: str
) -> None:
    async with ScriptedServer(answer(200, document)) as server:
        with pytest.raises(DecodeError) as raised:
            await make_client(server).conversations.get("a")
        assert raised.value.path == path
        assert not raised.value.malformed
        assert len(server.requests) == 1


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


async def test_a_bomb_is_refused_before_it_is_unpacked(make_client: ClientFactory) -> None:
    bomb = gzip.compress(bytes(100_000_000))
    async with ScriptedServer(answer(200, bomb, headers=[("Content-Encoding", "gzip")])) as server:
        with pytest.raises(ResponseTooLargeError, match="page_size"):
            await make_client(server, max_response_bytes=1_000_000).conversations.get("a")
        assert len(server.requests) == 1


async def test_an_answer_in_many_small_pieces_is_one_answer(make_client: ClientFactory) -> None:
    async with ScriptedServer(slowly(OK, 0)) as server:
        found = await make_client(server).conversations.get("a")
        assert found.raw == OK.partition(b"\r\n\r\n")[2]


# --- time -------------------------------------------------------------------------------------------------


async def test_the_attempt_timeout_bounds_silence_and_a_trickle(make_client: ClientFactory) -> None:
    for stalling in (silence, slowly(OK, 0.02)):
        async with ScriptedServer(stalling) as server:
            with pytest.raises(AlliTimeoutError) as raised:
                await make_client(server, timeout=0.05, retry=ONCE).conversations.get("a")
            assert isinstance(raised.value, TimeoutError)
            assert raised.value.outcome == "unknown"


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


async def test_the_deadline_bounds_the_whole_call(make_client: ClientFactory) -> None:
    async with ScriptedServer(silence) as server:
        with pytest.raises(AlliTimeoutError, match=r"deadline of 0\.1 s") as raised:
            await make_client(server, deadline=0.1).conversations.get("a")
        assert raised.value.outcome == "unknown"
        assert raised.value.elapsed < 5


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


# --- deletes ----------------------------------------------------------------------------------------------


async def test_a_404_after_a_delete_of_unknown_outcome_is_success(make_client: ClientFactory) -> None:
    async with ScriptedServer(reset, answer(404)) as server:
        await make_client(server).conversations.delete_chat("a", "b")
        assert len(server.requests) == 2


async def test_a_404_after_a_delete_that_was_refused_is_an_error(make_client: ClientFactory) -> None:
    async with ScriptedServer(answer(429), answer(404)) as server:
        with pytest.raises(NotFoundError) as raised:
            await make_client(server).conversations.delete_chat("a", "b")
        assert raised.value.attempts == 2


async def test_a_404_to_the_first_delete_is_an_error(make_client: ClientFactory) -> None:
    async with ScriptedServer(answer(404)) as server:
        with pytest.raises(NotFoundError):
            await make_client(server).conversations.delete_chat("a", "b")


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


async def test_a_header_that_cannot_be_sent_is_refused_before_anything_is(make_client: ClientFactory) -> None:
    async def injects(request: Request, call_next: Any) -> Response:
        request.headers["X-Evil"] = "a\r\nX-Other: b"
        response: Response = await call_next(request)
        return response

    async with ScriptedServer(OK) as server:
        with pytest.raises(ConfigurationError):
            await make_client(server, middlewares=[injects]).conversations.get("a")
        assert not server.requests


# --- lifecycle --------------------------------------------------------------------------------------------


async def test_closing_twice_is_fine_and_use_after_it_is_a_clear_error(make_client: ClientFactory) -> None:
    async with ScriptedServer(OK) as server:
        client = make_client(server)
        await client.conversations.get("a")
        await client.aclose()
        await client.aclose()
        with pytest.raises(ConfigurationError, match="closed"):
            await client.conversations.get("a")
        with pytest.raises(ConfigurationError, match="closed"):
            await client.with_options(timeout=1).conversations.get("a")


async def test_a_client_can_be_closed_before_it_was_used() -> None:
    client = AlliClient("k")
    await client.aclose()
    with pytest.raises(ConfigurationError, match="closed"):
        await client.conversations.get("a")


async def test_a_client_closed_while_in_use_raises_a_transport_error(make_client: ClientFactory) -> None:
    async with ScriptedServer(silence) as server:
        client = make_client(server, retry=ONCE)
        call = asyncio.create_task(client.conversations.get("a"))
        await server.asked()
        await client.aclose()
        with pytest.raises(AlliConnectionError):
            await call


def test_a_client_used_from_another_loop_says_so() -> None:
    async def use(client: AlliClient) -> None:
        async with ScriptedServer(answer(404)) as server:
            with pytest.raises(NotFoundError):
                await client.with_options(base_url=server.url).conversations.get("a")

    client = AlliClient("k")
    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(use(client))
        with pytest.raises(ConfigurationError, match="another event loop"):
            second.run(client.conversations.get("a"))
        first.run(client.aclose())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
async def test_a_client_used_after_a_fork_says_so(
    make_client: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ScriptedServer(OK) as server:
        client = make_client(server)
        await client.conversations.get("a")
        # A forked child that runs an inherited loop is what cannot be had inside a test: only its number is.
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            with pytest.raises(ConfigurationError, match="fork"):
                await client.conversations.get("a")
        await client.conversations.get("a")


async def test_a_callers_closed_session_is_a_clear_error(make_client: ClientFactory) -> None:
    async with ScriptedServer(OK) as server:
        async with aiohttp.ClientSession() as http:
            client = make_client(server, session=http)
        with pytest.raises(ConfigurationError, match="closed"):
            await client.conversations.get("a")


async def test_a_thousand_calls_cancelled_in_flight_leave_the_client_usable(make_client: ClientFactory) -> None:
    async with ScriptedServer(*[silence] * 64, OK) as server:
        client = make_client(server)
        calls = [asyncio.create_task(client.conversations.get("a")) for _ in range(1000)]
        await server.asked()
        for call in calls:
            call.cancel()
        async with asyncio.timeout(5):
            await asyncio.wait(calls)
        server.answers = [OK]
        assert (await client.conversations.get("a")).title == "t"
        assert client._connection.throttle.in_flight == 0


# --- TLS --------------------------------------------------------------------------------------------------


async def test_a_certificate_that_is_not_trusted_is_a_tls_error_and_asked_once() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with ScriptedServer(OK, tls=context) as server:
        async with AlliClient(CANARY, base_url=server.url) as client:
            with pytest.raises(TLSError) as raised:
                await client.conversations.get("a")
        assert (raised.value.attempts, raised.value.outcome) == (1, "not_sent")
        assert not server.requests
        assert server.connections <= 1
        assert CANARY not in everything_about(raised.value)

        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as http:
            async with AlliClient("k", base_url=server.url, session=http) as client:
                assert (await client.conversations.get("a")).title == "t"


# --- secrets ----------------------------------------------------------------------------------------------


def everything_about(error: BaseException) -> str:
    """All that a crash reporter could find: str, repr, args, chains, and every local of every frame."""
    seen: list[str] = []
    assert error.__traceback__ is not None
    # The first frame is the test's own, which knows the key.
    queue: list[BaseException | None] = [error.with_traceback(error.__traceback__.tb_next)]
    while queue:
        current = queue.pop()
        if current is None:
            continue
        shown = traceback.TracebackException.from_exception(current, capture_locals=True)
        seen += [str(current), repr(current), repr(current.args), repr(vars(current)), *shown.format()]
        queue += [current.__cause__, current.__context__]
    return "\n".join(seen)


@pytest.mark.parametrize(
    "stimulus",
    [
        hang_up,
        reset,
        silence,
        answer(403, {"error": f"bad key {CANARY}"}),
        answer(301, headers=[("Location", f"/?key={CANARY}")]),
        answer(200, f"<html>{CANARY}".encode()),
        b"garbage\r\n\r\n",
        cut(OK, 50),
        gzipped(b"x" * 5_000_000),
    ],
)
@pytest.mark.parametrize("kind", ["api_key", "token"])
async def test_no_failure_shows_the_key(stimulus: Any, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    credentials: dict[str, Any] = {kind: CANARY}
    async with ScriptedServer(stimulus) as server:
        client = AlliClient(
            **credentials, base_url=server.url, timeout=0.1, retry=ONCE, max_response_bytes=1_000_000
        )
        async with client:
            with pytest.raises(AlliError) as raised:
                await client.conversations.get("a")
            error = raised.value
            assert error.__cause__ is None
            assert error.__context__ is None
            body = "Location" in repr(stimulus) or "<html>" in repr(stimulus) or "bad key" in repr(stimulus)
            text = f"{error}{error!r}{error.args}{vars(error)}" if body else everything_about(error)
            assert CANARY not in text
            assert CANARY not in repr(client) + repr(vars(client)) + repr(client._config)
    assert CANARY not in caplog.text
    gc.collect()


async def test_a_cancelled_call_does_not_show_the_key() -> None:
    async with ScriptedServer(silence) as server, AlliClient(CANARY, base_url=server.url) as client:
        call = asyncio.create_task(client.conversations.get("a"))
        await server.asked()
        call.cancel()
        with pytest.raises(asyncio.CancelledError) as raised:
            await call
        assert CANARY not in everything_about(raised.value)
