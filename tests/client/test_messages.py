"""Errors: what is said of arguments and calls, and what is counted."""

from __future__ import annotations

import re
import time
from email.utils import formatdate
from typing import Any

import pytest

from alli_async import (
    AlliConnectionError,
    AlliError,
    ConfigurationError,
    ConversationUpdate,
    FeedbackReason,
    RetryPolicy,
)
from alli_async._transport import bodies
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer, hang_up, reset, servers
from tests.support.servers import OK, fact, get


def update(**changes: Any) -> Any:
    return bodies.checked_update(ConversationUpdate(**changes))


feedback = bodies.checked_feedback


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (update, "nothing is set: give state, assignee, category_ids or title"),
        (lambda: update(assignee=7), "assignee: expected a text or None, got 7"),
        (lambda: update(title=7), "title: expected a text or None, got 7"),
        (lambda: update(category_ids="x"), "category_ids: expected a list of texts, got 'x'"),
        (lambda: feedback(*[bodies.UNSET] * 3), "nothing is set: give rating, selection or suggested_answer"),
        (lambda: feedback(None, "x", None), "selection: expected a list of texts, got 'x'"),
        (lambda: feedback(None, [], None), "selection: an empty list; leave it out to select everything"),
        (lambda: feedback(7, None, None), "rating: expected True, False or None, got 7"),
        (lambda: feedback(None, None, 7), "suggested_answer: expected a text or None, got 7"),
    ],
)
def test_a_value_that_cannot_be_sent_is_told_by_its_name(call: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        call()
    assert raised.value.message == message


def test_feedback_is_all_that_was_given() -> None:
    found = bodies.checked_feedback(False, ["inaccurate"], "better")
    assert (found.rating, found.feedback_selection, found.suggested_answer) == (
        False,
        [FeedbackReason.INACCURATE],
        "better",
    )


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        fact("no HTTP", servers.NO_HTTP, r"not HTTP: Bad status line.*'SSH-2.0-OpenSSH_9.9'"),
        fact("a short body", servers.CUT_BODY, r"Not enough data to satisfy content length.*"),
        fact("gzip that is none", servers.NO_GZIP, r"Can not decode content-encoding: gzip"),
        fact("FIN", hang_up, r"the server closed it"),
        fact("RST", reset, r".*reset.*"),
    ],
)
async def test_what_broke_an_answer_is_told_in_one_line(
    make_client: ClientFactory, broken: Any, message: str
) -> None:
    async with ScriptedServer(broken) as server:
        with pytest.raises(AlliConnectionError) as raised:
            await make_client(server, retry=RetryPolicy(max_attempts=1)).conversations.get("a")
        whole = f"the connection failed before the answer was whole: {message}"
        assert re.fullmatch(whole, raised.value.message), raised.value.message


async def test_a_retry_after_date_is_measured_by_our_clock_where_the_server_shows_none(
    make_client: ClientFactory, sleeps: list[float]
) -> None:
    soon = formatdate(time.time() + 60, usegmt=True)
    async with ScriptedServer(answer(500, headers=[("Retry-After", soon)]), OK) as server:
        await get(make_client(server).conversations)
        assert 30 < sleeps[0] <= 61


async def test_what_a_call_took_is_counted(make_client: ClientFactory, sleeps: list[float]) -> None:
    refusals = [answer(500, b"x" * 11), hang_up, answer(503, b"x" * 5)]
    async with ScriptedServer(*refusals, OK, default=OK) as server:
        client = make_client(server)
        await get(client.conversations)
        stats = client.conversations._session.stats
        body = len(OK.partition(b"\r\n\r\n")[2])
        assert (stats.requests, stats.retries, stats.refused, stats.in_flight) == (4, 3, 1, 0)
        assert stats.bytes == body + 16
        assert stats.seconds_waited >= sum(sleeps)
        await get(client.conversations)
        assert (stats.requests, stats.retries, stats.bytes) == (5, 3, 2 * body + 16)


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
