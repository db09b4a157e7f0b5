"""Outages: one request at a time while nothing is served, and who waits how long."""

from __future__ import annotations

import asyncio
import math
import random
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alli_async import (
    AlliClient,
    AlliConnectionError,
    AlliError,
    AlliTimeoutError,
    NotFoundError,
    RetryPolicy,
    ServerError,
)
from alli_async.export import export
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.support import Answer, Exchange, ScriptedServer, answer, chat, conversation, hang_up, reset
from tests.support.replies import split
from tests.support.servers import fact, get

ROWS = 120
SHORT = RetryPolicy(base=0.05, cap=0.2, patience=30)


class Project(ScriptedServer):
    """Serves a project of conversations, unless a test says otherwise.

    Attributes:
        fault: Gives the answer to a request in place of the project's; None for the project's.
        under_way: Requests that arrived and were not answered yet; `most` is the most there were.
    """

    def __init__(self, rows: int = ROWS) -> None:
        super().__init__(self._reply)
        self.rows = [
            conversation(id=f"c{n}", chatCount=1, chats=[], createdAt=1704067200000 + n) for n in range(rows)
        ]
        self.fault: Callable[[Exchange], Answer | None] = lambda _: None
        self.latency = 0.002
        self.under_way = self.most = 0

    def fail_for(self, seconds: float, fault: Answer) -> None:
        """Give this answer to every request from now on, for so long."""
        until = time.monotonic() + seconds
        self.fault = lambda _: fault if time.monotonic() < until else None

    async def _reply(self, exchange: Exchange) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(self.latency)
            fault = self.fault(exchange)
        finally:
            self.under_way -= 1
        if fault is None:
            await exchange.send(self._page(exchange))
        elif isinstance(fault, bytes):
            await exchange.send(fault)
        else:
            await fault(exchange)

    def _page(self, exchange: Exchange) -> bytes:
        path, query = split(exchange.request)
        if path.endswith("/chats"):
            return answer(200, {"chats": [chat(1)], "totalCount": 1, "pageNo": 1})
        if not path.endswith("/conversations"):
            name = path.rsplit("/", 1)[1]
            found = [row for row in self.rows if row["id"] == name]
            return answer(200, found[0]) if found else answer(404, {"error": "none"})
        start, size = int(query.get("cursor", "0")), int(query["pageSize"])
        rows = self.rows[start : start + size]
        end = start + len(rows)
        return answer(200, {"conversations": rows, "cursor": str(end) if end < len(self.rows) else None})


FAULTS = [
    fact("500", answer(500)),
    fact("503", answer(503)),
    fact("522", answer(522, b"<html>")),
    fact("a page of a gateway", answer(200, b"<html>maintenance</html>")),
    fact("FIN", hang_up),
    fact("RST", reset),
]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_stream_lives_through_an_outage_that_is_longer_than_any_call_and_misses_nothing(
    make_client: ClientFactory, fault: Answer
) -> None:
    async with Project() as server:
        client = make_client(server, retry=SHORT)
        found, down_at = [], 0
        async for transcript in client.conversations.transcripts():
            found.append(transcript.id)
            if len(found) == 40:
                down_at = len(server.requests)
                server.fail_for(0.8, fault)
        assert sorted(found) == sorted(row["id"] for row in server.rows)
        assert len(server.requests) > down_at


async def served_on(port: int) -> asyncio.subprocess.Process:
    """The sandbox in a process of its own, once it listens."""
    options = ["--port", str(port), "--conversations", "300", "--latency", "0.01"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "alli_async", "sandbox", *options), stdout=PIPE, stderr=DEVNULL
    )
    assert process.stdout is not None
    await process.stdout.readline()
    return process


async def test_a_stream_lives_through_a_server_that_is_killed_and_started_again() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    whole = Sandbox(conversations=300, port=port)
    process = await served_on(port)
    try:
        async with AlliClient(whole.api_key, base_url=f"http://127.0.0.1:{port}", retry=SHORT) as client:
            found: list[str] = []
            stream = client.conversations.transcripts()
            async for transcript in stream:
                found.append(transcript.id)
                if len(found) == 40:
                    process.kill()
                    await process.wait()
                    restart = asyncio.create_task(served_on(port))
        process = await restart
        assert stream.stats.retries > 0
        assert sorted(found) == sorted(whole.conversation_ids())
    finally:
        process.kill()
        await process.wait()


async def test_an_export_lives_through_an_outage_and_is_whole(make_client: ClientFactory, tmp_path: Path) -> None:
    async with Project() as server:
        client = make_client(server, retry=SHORT)
        served = [0]

        def fail_in_the_middle(_: Exchange) -> None:
            served[0] += 1
            if served[0] == 60:
                server.fail_for(0.8, answer(503))

        server.fault = fail_in_the_middle
        report = await export(client, tmp_path / "x")
        assert served[0] >= 60
        assert (report.conversations, report.skipped, report.quarantined) == (ROWS, [], 0)


async def test_an_export_whose_patience_an_outage_outlives_goes_on_when_called_again(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Project() as server:
        client = make_client(server, retry=RetryPolicy(base=0.02, cap=0.1, patience=0.5))
        served = [0]

        def fail_from_the_middle_on(_: Exchange) -> Answer | None:
            served[0] += 1
            return answer(503) if served[0] > 60 else None

        server.fault = fail_from_the_middle_on
        with pytest.raises(ServerError) as raised:
            await export(client, tmp_path / "x", on_error="skip")
        assert raised.value.is_outage
        server.fault = lambda _: None
        report = await export(client, tmp_path / "x", on_error="skip")
        assert (report.conversations, report.skipped) == (ROWS, [])


async def test_while_nothing_is_served_one_request_at_a_time_is_sent(make_client: ClientFactory) -> None:
    async with Project() as server:
        client = make_client(server, retry=RetryPolicy(base=0.05, cap=0.1, patience=1.5))
        at_once: list[int] = []

        def fail(_: Exchange) -> Answer:
            server.latency = 0.02
            at_once.append(server.under_way)
            return answer(500)

        with pytest.raises(ServerError) as raised:
            async for _ in client.conversations.transcripts():
                server.fault = fail
        # The first may have been under way already when the outage was noticed.
        assert len(at_once) >= 8
        assert set(at_once[-5:]) == {1}
        assert raised.value.is_outage
        assert raised.value.retry_after is not None
        assert "has served nothing for" in str(raised.value)


async def test_a_stream_that_skips_never_skips_because_of_an_outage(make_client: ClientFactory) -> None:
    async with Project() as server:
        client = make_client(server, retry=RetryPolicy(base=0.02, cap=0.05, patience=0.5))
        stream = client.conversations.transcripts(on_error="skip")
        with pytest.raises(ServerError) as raised:
            async for _ in stream:
                server.fault = lambda _: answer(500)
        assert raised.value.is_outage
        assert stream.skipped == []


async def test_a_deadline_in_an_outage_ends_a_stream_that_skips_too(make_client: ClientFactory) -> None:
    async with Project() as server:
        client = make_client(server, retry=SHORT, deadline=0.7)
        stream = client.conversations.transcripts(on_error="skip")
        with pytest.raises(AlliError) as raised:
            async for _ in stream:
                server.fault = lambda _: answer(500)
        assert stream.skipped == []
        assert isinstance(raised.value, AlliTimeoutError | ServerError)


async def test_a_request_at_fault_is_skipped_while_others_are_served(make_client: ClientFactory) -> None:
    async with Project() as server:
        server.fault = lambda exchange: answer(500) if "/c7/" in exchange.request.target else None
        client = make_client(server, retry=SHORT)
        stream = client.conversations.transcripts(on_error="skip", concurrency=1)
        found = [each.id async for each in stream]
        assert [each.id for each in stream.skipped] == ["c7"]
        assert len(found) == ROWS - 1
        assert "(max_attempts)" in str(stream.skipped[0].error)


async def test_rows_that_a_gateway_always_answers_with_503_slow_down_neither_the_others_nor_each_other(
    make_client: ClientFactory,
) -> None:
    bad = [f"c{n}" for n in range(20, ROWS, 20)]
    page = answer(503, b"<html>Service Unavailable</html>")
    async with Project() as server:
        server.fault = lambda each: page if {*each.request.target.split("/")} & {*bad} else None
        client = make_client(server, retry=RetryPolicy(base=0.3, cap=2))
        stream = client.conversations.transcripts(on_error="skip")
        async with asyncio.timeout(60):  # where each refusal slows the next request down, it takes minutes
            found = [each.id async for each in stream]
        assert sorted(each.id or "" for each in stream.skipped) == sorted(bad)
        assert len(found) == ROWS - len(bad)
        assert client.limits.rate == math.inf
        assert client.limits.max_in_flight >= 8


@pytest.mark.parametrize("use", ["stream", "export"])
async def test_a_wrong_url_fails_at_once_whatever_the_patience(
    make_client: ClientFactory, use: str, tmp_path: Any
) -> None:
    async with ScriptedServer() as server:
        pass
    client = make_client(server, retry=RetryPolicy(base=0.01, cap=0.02, patience=600))
    async with asyncio.timeout(60):
        with pytest.raises(AlliConnectionError):
            if use == "export":
                await export(client, tmp_path / "x")
            async for _ in client.conversations.transcripts():
                pass


async def test_patience_from_the_start_waits_for_a_server_that_is_not_up_yet(make_client: ClientFactory) -> None:
    async with Project() as server:
        server.fail_for(1.0, answer(502))
        policy = RetryPolicy(base=0.01, cap=0.05, patience=30, patience_from_start=True)
        client = make_client(server, retry=policy)
        found = [each.id async for each in client.conversations.transcripts()]
        assert len(found) == ROWS


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 501])
async def test_a_definite_answer_never_starts_the_patience(make_client: ClientFactory, status: int) -> None:
    async with Project() as server:
        client = make_client(server, retry=SHORT)
        async with asyncio.timeout(20):
            with pytest.raises(AlliError) as raised:
                async for _ in client.conversations.transcripts():
                    server.fault = lambda _: answer(status)
        assert not raised.value.is_outage


async def test_a_bulk_read_waits_for_a_retry_after_above_the_cap_of_single_calls(
    make_client: ClientFactory,
) -> None:
    async with Project() as server:
        client = make_client(server, retry=RetryPolicy(base=0.01, retry_after_cap=0.5, patience=30))
        fault = [answer(503, headers=[("Retry-After", "1")])]
        async for _ in client.conversations.transcripts():
            if fault:
                server.fault = lambda _: fault.pop() if fault else None
        assert not fault

        server.fault = lambda _: answer(503, headers=[("Retry-After", "1")])
        with pytest.raises(ServerError) as raised:
            await get(client.conversations)
        assert raised.value.retry_after == 1
        sent = len(server.requests)
        with pytest.raises(ServerError, match="asked to wait") as raised:
            await get(client.conversations)
        assert (raised.value.outcome, len(server.requests)) == ("not_sent", sent)
        assert raised.value.retry_after is not None


async def test_refusals_without_end_do_not_use_up_the_attempts_of_a_bulk_read(make_client: ClientFactory) -> None:
    async with Project() as server:
        client = make_client(server, retry=RetryPolicy(base=0.01, cap=0.02, patience=30, max_attempts=2))
        left = [14]

        def refuse(_: Exchange) -> Answer | None:
            left[0] -= 1
            return answer(429) if left[0] > 0 else None

        found = []
        async for each in client.conversations.transcripts():
            found.append(each.id)
            if len(found) == 10:
                server.fault = refuse
        assert len(found) == ROWS


# --- single calls -----------------------------------------------------------------------------------------


async def outage_of(client: AlliClient, server: Project) -> None:
    """Let calls fail until the client knows that nothing is served."""
    await client.conversations.get("c1")
    server.fault = lambda _: answer(503, {"error": "down"})
    failed: list[Any] = []
    async with asyncio.timeout(30):
        while not any(isinstance(each, AlliError) and each.is_outage for each in failed):
            failed = await asyncio.gather(*(get(client.conversations) for _ in range(8)), return_exceptions=True)


async def test_a_single_call_waits_as_long_as_its_backoffs_then_fails_with_the_outages_cause(
    make_client: ClientFactory,
) -> None:
    async with Project() as server:
        client = make_client(server, retry=RetryPolicy(base=0.1, cap=0.4))
        await outage_of(client, server)
        began = time.monotonic()
        results = await asyncio.gather(
            *(client.conversations.stop("c1") for _ in range(50)), return_exceptions=True
        )
        took = time.monotonic() - began
        assert took < 10  # the backoffs of one call last 0.7 s at most
        waited = [each for each in results if isinstance(each, ServerError) and each.attempts == 0]
        assert len(waited) >= 40
        for error in waited:
            assert (error.status, error.outcome, error.is_outage) == (503, "not_sent", True)
            assert error.retry_after is not None
            assert "503: down" in str(error)


async def test_a_burst_of_calls_ends_within_the_time_of_their_backoffs_with_few_requests(
    make_client: ClientFactory,
) -> None:
    async with Project() as server:
        client = make_client(server, retry=RetryPolicy(base=0.2, cap=1))
        await client.conversations.get("c1")
        server.fault = lambda _: answer(503)
        began, before = time.monotonic(), len(server.requests)
        calls = [client.conversations.get("c1") for _ in range(100)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        # The backoffs of one call last 1.4 s at most; one after another, with the limit at one, they took 24 s.
        assert time.monotonic() - began < 10
        assert len(server.requests) - before < 60
        assert {type(each) for each in results} == {ServerError}


async def test_calls_that_wait_spend_no_attempts_and_succeed_when_the_server_is_back(
    make_client: ClientFactory,
) -> None:
    async with Project() as server:
        client = make_client(server, retry=RetryPolicy(base=0.2, cap=0.6))
        await outage_of(client, server)
        server.most = 0
        server.fail_for(0.2, answer(503))
        before = len(server.requests)
        results = await asyncio.gather(*(client.conversations.get(f"c{n}") for n in range(50)))
        assert [each.id for each in results] == [f"c{n}" for n in range(50)]
        # Each call's one request, and few canaries.
        assert len(server.requests) - before < 60


async def test_a_call_right_after_an_outage_is_served_and_not_kept_out_by_its_memory(
    make_client: ClientFactory,
) -> None:
    async with Project() as server:
        client = make_client(server, retry=RetryPolicy(base=0.02, cap=30))
        await outage_of(client, server)
        server.fault = lambda _: None
        for _ in range(3):
            await client.conversations.get("c1")


async def test_a_404_ends_an_outage_and_is_about_its_request(make_client: ClientFactory) -> None:
    async with Project() as server:
        client = make_client(server, retry=RetryPolicy(base=0.05, cap=0.1))
        await outage_of(client, server)
        server.fault = lambda _: None
        with pytest.raises(NotFoundError):
            await client.conversations.get("gone")
        sent = len(server.requests)
        await asyncio.gather(*(client.conversations.get(f"c{n}") for n in range(20)))
        assert len(server.requests) - sent == 20  # no canary among them


async def test_a_cancelled_canary_lets_the_next_call_ask(make_client: ClientFactory) -> None:
    async with Project() as server:
        client = make_client(server, retry=RetryPolicy(base=0.3, cap=1))
        await outage_of(client, server)
        server.latency = 5.0
        first = asyncio.ensure_future(client.conversations.get("c1"))
        async with asyncio.timeout(20):
            while not server.under_way:
                await asyncio.sleep(0.01)
        server.latency, server.fault = 0.0, lambda _: None
        second = asyncio.ensure_future(client.conversations.get("c2"))
        await asyncio.sleep(0.05)
        first.cancel()
        async with asyncio.timeout(20):
            assert (await second).id == "c2"


async def test_a_crowd_of_errors_that_is_no_outage_is_got_through(make_client: ClientFactory) -> None:
    # Four requests in ten fail: of 400 conversations, ten would fail four times in a row by chance.
    draw = random.Random(4)

    async with Sandbox(conversations=400, embed=0) as sandbox:
        client = make_client(sandbox)
        sandbox.script("*", (500 if draw.random() < 0.4 else "ok" for _ in range(6000)))
        stream = client.conversations.transcripts(raw=True, on_error="skip")
        count = sum([1 async for _ in stream])
    assert stream.skipped == []
    assert count == 400


async def test_a_bad_row_in_the_read_that_serves_as_canary_ends_no_job(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=400) as sandbox:
        client = make_client(sandbox, retry=SHORT)
        ids = sandbox.conversation_ids()
        stream = client.conversations.transcripts(raw=True, on_error="skip", concurrency=1)
        found = []
        async with asyncio.timeout(60), stream:
            async for each in stream:
                found.append(each.id)
                if len(found) == 100:  # in pages that were read before, and are canaries, and in some to come
                    for bad in (ids[0], ids[60], ids[-1], ids[-60]):
                        sandbox.poison(bad, 500)
    assert {each.id for each in stream.skipped} <= {None, *ids}
    assert len(stream.skipped) <= 4
    assert len(set(found)) >= 396


async def test_an_outage_interrupts_the_waits_for_a_derived_clients_own_limit(make_client: ClientFactory) -> None:
    async with Project() as server:
        parent = make_client(server, retry=RetryPolicy(base=0.02, cap=0.05))
        client = parent.with_options(rate_limit=0.02, retry=RetryPolicy(base=20))
        await client.conversations.get("c1")
        waiting = asyncio.create_task(client.conversations.get("c2"))
        while not client.limits.waiting:
            await asyncio.sleep(0)
        await outage_of(parent, server)
        async with asyncio.timeout(20):  # else it would wait for 50 s
            while client.limits.waiting:
                await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait([waiting])
