"""Errors of answers: their kind, code, message and headers."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from alli_async import (
    AlliError,
    APIError,
    AuthenticationError,
    BadRequestError,
    Conversation,
    DecodeError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    RedirectError,
    ServerError,
)
from alli_async._transport import wire
from tests.conftest import ClientFactory
from tests.support import (
    ScriptedServer,
    answer,
)
from tests.support.servers import ONCE, fact

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def documented(code: Any, message: str = "m") -> dict[str, Any]:
    return {"type": "APIError", "code": code, "message": message}


TOLD = [
    fact("no body", 400, b"", BadRequestError, None, "400: no message"),
    fact("words", 500, b"  busy \n now\t", ServerError, None, "500: busy now"),
    fact("words are cut after 120", 500, b"x" * 200, ServerError, None, "500: " + "x" * 120),
    fact("bytes that are no text", 599, b"\xffa", ServerError, None, "599: \ufffda"),
    fact("lines in a message", 400, {"error": "a\r\n b\n"}, BadRequestError, None, "400: a b"),
    fact(
        "a message that steers a terminal",
        400,
        {"error": "\x1b[2Jm\x07"},
        BadRequestError,
        None,
        "400: \ufffd[2Jm\ufffd",
    ),
    fact("words that steer a terminal", 502, b"\x1b]0;m\x9b", ServerError, None, "502: \ufffd]0;m\ufffd"),
    fact("an error", 404, {"error": "m"}, NotFoundError, None, "404: m"),
    fact("errors", 403, {"errors": "m"}, PermissionDeniedError, None, "403: m"),
    fact("errors in an object", 422, {"errors": {"a": ["m"]}}, BadRequestError, None, '422: {"a":["m"]}'),
    fact("a message is cut after 500", 400, {"error": "x" * 600}, BadRequestError, None, "400: " + "x" * 500),
    fact("a documented error", 500, documented(7000), ServerError, 7000, "500/7000: m"),
    fact("a documented key", 403, documented(7001), AuthenticationError, 7001, "403/7001: m"),
    fact("documented JSON", 403, documented(7002), BadRequestError, 7002, "403/7002: m"),
    fact("a documented parameter", 400, documented(7003), BadRequestError, 7003, "400/7003: m"),
    fact("a documented payment", 403, documented(7004), PaymentRequiredError, 7004, "403/7004: m"),
    fact("a code that nobody knows", 403, documented(9999), PermissionDeniedError, 9999, "403/9999: m"),
    fact("a code beside a 401", 401, documented(7004), AuthenticationError, 7004, "401/7004: m"),
    fact("a code that is a truth", 403, documented(True), PermissionDeniedError, None, "403: m"),
    fact("a code that is a text", 403, documented("7001"), PermissionDeniedError, None, "403: m"),
    fact("a code and a message", 403, {"code": 7001, "message": "m"}, AuthenticationError, 7001, "403/7001: m"),
    fact("a code alone", 403, {"code": 7001}, AuthenticationError, 7001, "403/7001: no message"),
    fact("a type alone", 400, {"type": "APIError"}, BadRequestError, None, "400: no message"),
    fact("a message alone", 400, {"message": "m"}, BadRequestError, None, '400: {"message":"m"}'),
    fact("another type", 400, {"type": 1, "message": 2}, BadRequestError, None, '400: {"type":1,"message":2}'),
    fact("an error beside a message", 400, {"error": "e", "message": "m"}, BadRequestError, None, "400: e"),
    fact("an array", 400, ["m"], BadRequestError, None, '400: ["m"]'),
    fact("payment", 402, b"", PaymentRequiredError, None, "402: no message"),
    fact("a timeout of the server's", 408, b"", ServerError, None, "408: no message"),
    fact("load", 429, b"", RateLimitError, None, "429: no message"),
    fact("the last of 4xx", 499, b"", BadRequestError, None, "499: no message"),
    fact("a method", 405, b"", BadRequestError, None, "405: no message"),
    fact("a conflict told by a page", 409, b"<html>m</html>", BadRequestError, None, "409: <html>m</html>"),
    fact("JSON without end", 503, b"[" * 100_000, ServerError, None, "503: " + "[" * 120),
    fact("beyond 5xx, no text", 600, b"\xff\xfe", ServerError, None, "600: \ufffd\ufffd"),
    fact("the first of 5xx", 500, b"", ServerError, None, "500: no message"),
    fact("beyond all of HTTP", 999, b"", ServerError, None, "999: no message"),
    fact("an interim answer", 101, b"", APIError, None, "101: no message"),
    fact("the last below 200", 199, b"", APIError, None, "199: no message"),
    fact("the first of 3xx", 300, b"", RedirectError, None, "300: redirected to 'nowhere', not followed"),
    fact("the last of 3xx", 399, b"x", RedirectError, None, "399: redirected to 'nowhere', not followed"),
]


@pytest.mark.parametrize(("status", "body", "kind", "code", "message"), TOLD)
def test_an_answer_is_told_by_its_status_code_and_message(
    status: int, body: Any, kind: type[APIError], code: int | None, message: str
) -> None:
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    error = wire.error_of(wire.Response(status, {}, data), NOW)
    assert (type(error), error.status, error.code, error.message) == (kind, status, code, message)
    assert (error.request_id, error.retry_after) == (None, None)


NOWHERE = "302: redirected to 'nowhere', not followed"


@pytest.mark.parametrize(
    ("headers", "request_id", "seconds", "message"),
    [
        fact(
            "where a redirect leads",
            {"location": "/é?x"},
            None,
            None,
            r"302: redirected to '/\xe9?x', not followed",
        ),
        fact("a request id", {"x-request-id": "r"}, "r", None, NOWHERE),
        fact("Amazon's", {"x-amzn-requestid": "r", "cf-ray": "s"}, "r", None, NOWHERE),
        fact("Cloudflare's", {"cf-ray": "s"}, "s", None, NOWHERE),
        fact("seconds", {"retry-after": "7"}, None, 7.0, NOWHERE),
        fact(
            "a date, by the server's clock",
            {"retry-after": "Thu, 01 Jan 2026 10:00:07 GMT", "date": "Thu, 01 Jan 2026 10:00:00 GMT"},
            None,
            7.0,
            NOWHERE,
        ),
        fact("a date, by ours", {"retry-after": "Thu, 01 Jan 2026 00:00:07 GMT"}, None, 7.0, NOWHERE),
        fact("a date of another zone", {"retry-after": "Thu, 01 Jan 2026 09:00:07 +0900"}, None, 7.0, NOWHERE),
        fact("a date of no zone", {"retry-after": "Thu, 01 Jan 2026 00:00:07 -0000"}, None, 7.0, NOWHERE),
    ],
)
def test_the_headers_of_an_error_are_told(
    headers: dict[str, str], request_id: str | None, seconds: float | None, message: str
) -> None:
    error = wire.error_of(wire.Response(302, headers, b""), NOW)
    assert (error.request_id, error.retry_after, error.message) == (request_id, seconds, message)


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        fact("a key", documented(7001), AuthenticationError, 7001),
        fact("a parameter", documented(7003), BadRequestError, 7003),
        fact("the server", documented(7000), APIError, 7000),
        fact("no code", {"errors": "m"}, APIError, None),
    ],
)
def test_an_error_inside_a_success_is_told_by_its_code(body: Any, kind: type[APIError], code: int | None) -> None:
    error = wire.reported_error(msgspec.json.encode(body))
    assert error is not None
    assert (type(error), error.status, error.code) == (kind, 200, code)
    assert error.message == f"200{'' if code is None else f'/{code}'} with an error inside: m"


@pytest.mark.parametrize(
    ("body", "begins"),
    [
        fact("nothing", b"", "''"),
        fact("HTML", b"<p> a\n b", "'<p> a b'"),
        fact("broken beside a lone surrogate", rb'{"title":"\ud800",}', r"""'{"title":"\\ud800",}'"""),
        fact("too deep", b'{"a":' * 5000, "'" + '{"a":' * 24 + "'"),
    ],
)
def test_a_body_that_is_no_json_is_told_by_the_parsers_reason_and_its_beginning(body: bytes, begins: str) -> None:
    with pytest.raises(DecodeError) as raised:
        wire.decoder(Conversation)(body)
    reason = "nested too deeply"
    try:
        msgspec.json.decode(wire.repair_surrogates(body), type=Conversation)
    except msgspec.DecodeError as error:
        reason = str(error)
    except RecursionError:
        assert not raised.value.malformed  # another attempt would bring the same
    assert raised.value.message == f"the answer is no JSON: {reason}; it begins {begins}"


@pytest.mark.parametrize(
    ("body", "what"),
    [
        fact("an array", b"[]", "Expected `object`, got `array` at $"),
        fact("a field", b'{"id":1}', "Expected `str`, got `int` at $.id"),
        fact(
            "a field beside a lone surrogate", rb'{"title":"\ud800","id":1}', "Expected `str`, got `int` at $.id"
        ),
    ],
)
def test_json_of_another_shape_is_told_by_what_was_expected_and_where(body: bytes, what: str) -> None:
    with pytest.raises(DecodeError) as raised:
        wire.decoder(Conversation)(body)
    assert raised.value.message == f"the answer is not what the contract says: {what}"


@pytest.mark.parametrize(
    ("status", "success"), [(199, False), (200, True), (204, True), (299, True), (300, False)]
)
def test_a_success_is_2xx_and_nothing_else(status: int, success: bool) -> None:
    assert wire.is_success(wire.Response(status, {}, b"")) is success


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the clock's zone cannot be set here")
def test_a_date_without_a_zone_is_not_of_this_machines_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Seoul-9")
        time.tzset()
        try:
            assert wire.retry_after("Thu, 01 Jan 2026 00:00:07 -0000", None, NOW) == 7.0
        finally:
            patch.undo()
            time.tzset()


@pytest.mark.parametrize(
    ("status", "body", "kind", "outcome"),
    [
        fact("a key", 403, documented(7001), AuthenticationError, "rejected"),
        fact("nothing there", 404, {"error": "m"}, NotFoundError, "rejected"),
        fact("the server", 503, b"[" * 100_000, ServerError, "unknown"),
    ],
)
async def test_the_error_of_an_answer_says_what_was_asked_and_what_came_of_it(
    make_client: ClientFactory, status: int, body: Any, kind: type[APIError], outcome: str
) -> None:
    async with ScriptedServer(answer(status, body, headers=[("X-Request-Id", "r-1")])) as server:
        with pytest.raises(kind) as raised:
            await make_client(server, retry=ONCE).conversations.get("a/b")
    error = raised.value
    assert (type(error), error.status, error.request_id) == (kind, status, "r-1")
    assert (error.method, error.path) == ("GET", "/webapi/v2/conversations/a%2Fb")
    assert (error.attempts, error.outcome) == (1, outcome)
    assert error.elapsed > 0


async def test_an_error_that_calls_itself_a_success_is_an_error(make_client: ClientFactory) -> None:
    inside = answer(200, {"type": "APIError", "code": 7001, "message": "no"})
    async with ScriptedServer(inside, answer(200, {"error": "no"}), answer(200, {"errors": None})) as server:
        client = make_client(server)
        with pytest.raises(AuthenticationError):
            await client.conversations.get("a")
        with pytest.raises(APIError, match="no"):
            await client.conversations.stop("a")
        await client.conversations.stop("a")


async def test_an_error_says_what_was_asked_how_often_and_for_how_long(
    make_client: ClientFactory, sleeps: list[float]
) -> None:
    async with ScriptedServer(answer(500, {"error": "m"}, headers=[("X-Request-Id", "r-7")])) as server:
        with pytest.raises(AlliError) as raised:
            await make_client(server).conversations.get("a b")
        error = raised.value
        assert (error.request, error.attempts) == ("GET /webapi/v2/conversations/a%20b", 4)
        why = "4 attempts are the most (max_attempts)"
        told = f"4 attempts in {error.elapsed:.1f} s, unknown, request id r-7; not tried again: {why}"
        assert str(error) == f"500: m [{error.request}: {told}]"
