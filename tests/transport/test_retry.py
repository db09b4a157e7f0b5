"""Retry: which answers, to which requests, are tried again, how often, and what is raised in the end.

The scenarios are modelled on those that AWS publishes for its standard retry mode and Google for its storage
clients: a script of answers, and what must be seen on the wire.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from alli_async import (
    AlliConnectionError,
    AlliError,
    AlliTimeoutError,
    APIError,
    BadRequestError,
    DecodeError,
    NotFoundError,
    RateLimitError,
    RedirectError,
    Request,
    Response,
    ResponseTooLargeError,
    RetryPolicy,
    ServerError,
)
from tests.conftest import ClientFactory
from tests.support import Answer, ScriptedServer, answer, hang_up, reset, servers, silence
from tests.support.servers import OK, Call, LateServer, delete, fact, get, patch, post, put

pytestmark = pytest.mark.wire

Handler = Callable[[Request], Awaitable[Response]]
POLICY = RetryPolicy(max_attempts=4)


# --- what is tried again ----------------------------------------------------------------------------------

AGAIN = [
    *(fact(f"{s} {s} 200 to a GET is three", get, [s, s, OK], 3) for s in (408, 429, 500, 502, 503, 504)),
    *(
        fact(f"{name}, then 200, to {call.__name__} is three", call, [one, two, OK], 3)
        for call in (get, put, delete)
        for name, one, two in (
            ("503 and 503", 503, 503),
            ("reset and reset", reset, reset),
            ("reset and 503", reset, 503),
        )
    ),
    fact("a GET that the server hangs up on", get, [hang_up, OK], 2),
    fact("a GET that is not answered in time", get, [silence, OK], 2),
    fact("a GET whose answer ends in its head", get, [servers.CUT_HEAD, OK], 2),
    fact("a GET whose answer is short of its Content-Length", get, [servers.CUT_BODY, OK], 2),
    fact("a GET whose answer ends in a chunk", get, [servers.CUT_CHUNK, OK], 2),
    fact("a GET whose last chunk never comes", get, [servers.NO_LAST_CHUNK, OK], 2),
    fact("a GET whose gzip ends early in a whole frame", get, [servers.CUT_GZIP, OK], 2),
    fact("a GET answered in another protocol", get, [servers.NO_HTTP, OK], 2),
    fact("a GET answered by a page of a proxy", get, [servers.HTML, OK], 2),
    fact("a PUT answered by a page of a proxy", put, [servers.HTML, OK], 2),
    fact("a DELETE answered by a page of a proxy", delete, [servers.HTML, OK], 2),
    fact("a POST that was refused for load", post, [429, OK], 2),
    fact("a PATCH that was refused for load twice", patch, [429, 429, OK], 3),
    fact("a DELETE reset, then 404, has happened", delete, [reset, 404], 2),
    fact("a DELETE answered 503, then 404, has happened", delete, [503, 404], 2),
    fact("a DELETE not answered, then 404, has happened", delete, [silence, 404], 2),
    fact("a DELETE reset, refused for load, then 404, has happened", delete, [reset, 429, 404], 3),
]


@pytest.mark.parametrize(("call", "answers", "wire"), AGAIN)
async def test_it_is_tried_again_and_succeeds(
    make_client: ClientFactory, sleeps: list[float], call: Call, answers: list[int | Answer], wire: int
) -> None:
    async with ScriptedServer(*map(scripted, answers)) as server:
        await call(make_client(server, retry=POLICY, timeout=1.0 if silence in answers else 20).conversations)
        assert len(server.requests) == wire
        assert len({(each.method, each.target, each.body) for each in server.requests}) == 1
        assert len(sleeps) == wire - 1
        assert all(0 <= seconds <= 0.5 * 2**place for place, seconds in enumerate(sleeps))


def scripted(step: int | Answer) -> Answer:
    return answer(step) if isinstance(step, int) else step


UNKNOWN, REJECTED = "unknown", "rejected"
GIVEN_UP = [
    fact("503 for ever is max_attempts", get, [503], 4, ServerError, UNKNOWN),
    fact("429 for ever is max_attempts", get, [429], 4, RateLimitError, REJECTED),
    fact("a server that hangs up on every GET sees max_attempts", get, [hang_up], 4, AlliConnectionError, UNKNOWN),
    fact("a server that resets every GET sees max_attempts", get, [reset], 4, AlliConnectionError, UNKNOWN),
    fact("a server that resets every PUT sees max_attempts", put, [reset], 4, AlliConnectionError, UNKNOWN),
    fact("one that hangs up on DELETEs sees max_attempts", delete, [hang_up], 4, AlliConnectionError, UNKNOWN),
    fact("a page of a proxy for ever is max_attempts", get, [servers.HTML], 4, DecodeError, UNKNOWN),
    fact("503 then 400 is the 400", get, [503, 400], 2, BadRequestError, REJECTED),
    fact("503, a drop, then 404 is the 404", get, [503, hang_up, 404], 3, NotFoundError, REJECTED),
    fact("a DELETE refused for load, then 404, was not ours", delete, [429, 404], 2, NotFoundError, REJECTED),
    fact("404 to the first DELETE is an error", delete, [404], 1, NotFoundError, REJECTED),
]
ONCE = [
    *(
        fact(f"{s} to a GET", get, [s], 1, APIError, REJECTED)
        for s in (400, 401, 402, 403, 404, 405, 409, 410, 422, 425)
    ),
    *(fact(f"{s} to a GET", get, [s], 1, ServerError, UNKNOWN) for s in (501, 505)),
    *(fact(f"{s} to a GET", get, [s], 1, RedirectError, REJECTED) for s in (301, 302, 303, 307, 308)),
    *(
        fact(f"{name} to {call.__name__}", call, [step], 1, kind, UNKNOWN)
        for call in (post, patch)
        for name, step, kind in (
            ("a reset after it was read", reset, AlliConnectionError),
            ("a hang-up after it was read", hang_up, AlliConnectionError),
            ("an answer cut in its head", servers.CUT_HEAD, AlliConnectionError),
            ("an answer cut in its body", servers.CUT_BODY, AlliConnectionError),
            ("another protocol", servers.NO_HTTP, AlliConnectionError),
            ("silence", silence, AlliTimeoutError),
            *((str(s), s, ServerError) for s in (408, 500, 502, 503, 504)),
        )
    ),
    fact("a page of a proxy to patch", patch, [servers.HTML], 1, DecodeError, UNKNOWN),
    fact("JSON of another shape to a GET", get, [answer(200, [])], 1, DecodeError, UNKNOWN),
    fact("too large an answer to a GET", get, [answer(200, bytes(2_000_000))], 1, ResponseTooLargeError, UNKNOWN),
]


@pytest.mark.parametrize(("call", "answers", "wire", "kind", "outcome"), [*GIVEN_UP, *ONCE])
async def test_it_is_given_up_after_as_many_requests_and_says_what_may_have_happened(
    make_client: ClientFactory,
    sleeps: list[float],
    call: Call,
    answers: list[int | Answer],
    wire: int,
    kind: type[AlliError],
    outcome: str,
) -> None:
    async with ScriptedServer(*map(scripted, answers)) as server:
        timeout = 1.0 if silence in answers else 20
        client = make_client(server, retry=POLICY, timeout=timeout, max_response_bytes=1_000_000)
        with pytest.raises(kind) as raised:
            await call(client.conversations)
        assert len(server.requests) == raised.value.attempts == wire
        assert raised.value.outcome == outcome
        assert len(sleeps) == wire - 1


@pytest.mark.parametrize("call", [get, put, patch, post, delete])
async def test_a_refused_connection_was_not_sent_and_is_tried_again_until_the_server_is_up(
    make_client: ClientFactory, call: Call
) -> None:
    async with LateServer(OK) as server:
        attempts = 0

        async def open_at_the_third(request: Request, call_next: Handler) -> Response:
            nonlocal attempts
            attempts += 1
            if attempts == 3:
                await server.open_up()
            return await call_next(request)

        await call(make_client(server, middlewares=[open_at_the_third]).conversations)
        assert (attempts, len(server.requests)) == (3, 1)


async def test_a_server_that_stays_down_was_not_sent_anything(
    make_client: ClientFactory, sleeps: list[float]
) -> None:
    async with ScriptedServer(OK) as server:
        pass
    with pytest.raises(AlliConnectionError, match=r"POST /webapi/v2/conversations/a/stop: 4 attempts") as raised:
        await post(make_client(server).conversations)
    assert (raised.value.outcome, raised.value.attempts, len(sleeps)) == ("not_sent", 4, 3)
