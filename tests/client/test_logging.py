"""The log: every attempt, every wait with its cause, every give-up; and never a key."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from alli_async import AlliError, RetryPolicy
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer, hang_up
from tests.support.servers import OK, get, post, python

KEY = "canary-0123456789"
BUSY = answer(503, {"error": "busy"}, headers=[("X-Request-Id", "r-1")])


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    records = [each for each in caplog.records if each.name == "alli_async" and each.levelno == level]
    return [each.getMessage() for each in records]


async def test_each_attempt_is_a_line_at_debug_and_each_retry_one_at_info(
    make_client: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "alli_async")
    async with ScriptedServer(BUSY, hang_up, OK) as server:
        await get(make_client(server).conversations)
    first, second, third = lines(caplog, logging.DEBUG)
    assert first.startswith("getConversation attempt 1, request id r-1: 503 in ")
    assert second.startswith("getConversation attempt 2, request id -: AlliConnectionError in ")
    assert third.startswith("getConversation attempt 3, request id -: 200 in ")
    retries = lines(caplog, logging.INFO)
    assert [each.split(": ", 1)[0] for each in retries] == [
        "getConversation attempt 1, request id r-1",
        "getConversation attempt 2, request id -",
    ]
    assert "retry in " in retries[0]
    assert retries[0].endswith(" s, after: 503: busy")
    assert lines(caplog, logging.WARNING) == []


async def test_a_pause_of_all_tasks_is_told_with_its_cause(
    make_client: ClientFactory, caplog: pytest.LogCaptureFixture, sleeps: list[float]
) -> None:
    caplog.set_level(logging.INFO, "alli_async")
    refusal = answer(429, headers=[("Retry-After", "1"), ("X-Request-Id", "r-2")])
    async with ScriptedServer(refusal, OK) as server:
        await get(make_client(server).conversations)
    told = [each for each in lines(caplog, logging.INFO) if "all requests pause" in each]
    assert len(told) == 1
    assert told[0].startswith("getConversation attempt 1, request id r-2: all requests pause for ")
    assert told[0].endswith("after: 429: no message")


async def test_giving_up_is_a_warning_and_a_definite_answer_is_none(
    make_client: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "alli_async")
    async with ScriptedServer(BUSY, answer(404)) as server:
        client = make_client(server, retry=RetryPolicy(max_attempts=1))
        with pytest.raises(AlliError):
            await post(client.conversations)
        with pytest.raises(AlliError):
            await get(client.conversations)
    assert len(lines(caplog, logging.WARNING)) == 1
    assert lines(caplog, logging.WARNING)[0].startswith("stopConversation attempt 1, request id r-1: gave up: 503")


async def test_calls_that_wait_for_an_outage_say_so_and_why(
    make_client: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "alli_async")
    async with ScriptedServer(BUSY) as server:
        client = make_client(server, retry=RetryPolicy(base=0.02))
        async with asyncio.timeout(20):
            failed: list[Any] = []
            while not any(isinstance(each, AlliError) and each.is_outage for each in failed):
                failed = await asyncio.gather(
                    *(get(client.conversations) for _ in range(8)), return_exceptions=True
                )
        with pytest.raises(AlliError):
            await get(client.conversations)
    waits = [each for each in lines(caplog, logging.INFO) if "waits while the server serves nothing" in each]
    assert waits
    assert "503: busy" in waits[-1]


SCRIPT = """
import asyncio, sys
from alli_async import AlliClient, AlliError, RetryPolicy

async def main():
    async with AlliClient(sys.argv[2], base_url=sys.argv[1], retry=RetryPolicy(base=0.01, max_attempts=2)) as alli:
        try:
            await alli.conversations.get("a")
        except AlliError:
            pass

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("level", "levels"),
    [
        ("INFO", {"INFO", "WARNING"}),
        ("", set()),
        ("loud", {"DEBUG", "INFO", "WARNING"}),
    ],
)
async def test_alli_log_shows_the_log_on_standard_error_without_the_key(level: str, levels: set[str]) -> None:
    async with ScriptedServer(
        answer(503, {"error": KEY}, headers=[("X-Request-Id", KEY), ("Retry-After", "0.01")])
    ) as server:
        status, out, err = await python(SCRIPT, server.url, KEY, ALLI_LOG=level)
    assert (status, out) == (0, "")
    assert {each.split()[2] for each in err.splitlines()} == levels
    assert KEY not in err
    assert ("ALLI_LOG: expected one of" in err) == (level == "loud")
