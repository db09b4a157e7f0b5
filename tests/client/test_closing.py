"""Closing a client: what it ends, how fast, and what is left."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alli_async import AlliClient, ClientStateError, ConfigurationError, Request, Response, RetryPolicy
from alli_async.export import export
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer, reset, silence
from tests.support.servers import OK, fact, get, python

PATIENT = RetryPolicy(base=60, cap=60)


def of_the_client(before: set[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    """Tasks that were not there before, except those of servers."""
    return [
        task
        for task in asyncio.all_tasks() - before
        if not any(name in repr(task) for name in ("ScriptedServer", "sandbox", "aiohttp/web"))
    ]


def test_the_error_of_a_closed_client_is_no_configuration_error() -> None:
    assert not issubclass(ClientStateError, ConfigurationError)
    assert ClientStateError("x").outcome == "not_sent"


@pytest.mark.parametrize(
    ("first", "outcome"), [(silence, "unknown"), (reset, "unknown"), (answer(429, b"{}"), "rejected")]
)
async def test_closing_ends_a_call_at_once_wherever_it_is_and_nothing_is_sent_afterwards(
    make_client: ClientFactory, first: Any, outcome: str
) -> None:
    async with ScriptedServer(first, OK) as server:
        client = make_client(server, retry=PATIENT)
        call = asyncio.create_task(client.conversations.set_title("a", "x"))
        await server.asked()
        await asyncio.sleep(0.05)  # a backoff of a minute has begun, where there is one
        await client.aclose()
        async with asyncio.timeout(5):
            with pytest.raises(ClientStateError, match="closed while the call was in flight") as raised:
                await call
        assert raised.value.outcome == outcome
        assert raised.value.request == "PUT /webapi/v2/conversations/a/title"
        assert raised.value.__cause__ is raised.value.__context__ is None
        assert len(server.requests) == 1


async def test_a_call_that_waits_in_the_queue_when_the_client_is_closed_was_not_sent(
    make_client: ClientFactory,
) -> None:
    async with ScriptedServer(silence) as server:
        client = make_client(server, max_concurrency=1)
        calls = [asyncio.create_task(client.conversations.stop("a")) for _ in range(3)]
        await server.asked()
        await client.aclose()
        async with asyncio.timeout(5):
            results = await asyncio.gather(*calls, return_exceptions=True)
        assert sorted(each.outcome for each in results if isinstance(each, ClientStateError)) == [
            "not_sent",
            "not_sent",
            "unknown",
        ]
        for late in (client, client.with_options(timeout=1)):
            with pytest.raises(ClientStateError, match="closed") as raised:
                await late.conversations.stop("a")
            assert (raised.value.attempts, raised.value.outcome) == (0, "not_sent")
            assert str(raised.value).endswith("stop: 0 attempts in 0.0 s, not_sent]")


async def test_a_cancellation_that_comes_with_the_closing_is_not_swallowed(make_client: ClientFactory) -> None:
    async with ScriptedServer(silence) as server:
        client = make_client(server)
        call = asyncio.create_task(client.conversations.stop("a"))
        await server.asked()
        call.cancel()
        await client.aclose()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert call.cancelled()


async def test_a_task_whose_call_was_ended_by_closing_goes_on_as_before(make_client: ClientFactory) -> None:
    async with ScriptedServer(silence) as server:
        client = make_client(server)

        async def work() -> str:
            try:
                await client.conversations.stop("a")
            except ClientStateError:
                task = asyncio.current_task()
                assert task is not None
                assert task.cancelling() == 0
                await asyncio.sleep(0)
                return "went on"
            return "was served"

        task = asyncio.create_task(work())
        await server.asked()
        await client.aclose()
        assert await task == "went on"


async def test_a_middleware_that_closes_the_client_ends_all_calls_but_its_own(make_client: ClientFactory) -> None:
    async def closes(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        if request.operation == "getConversation":
            await client.aclose()
        return response

    async with ScriptedServer(silence, OK) as server:
        client = make_client(server, middlewares=[closes])
        other = asyncio.create_task(client.conversations.stop("a"))
        await server.asked()
        assert (await client.conversations.get("a")).title == "t"
        with pytest.raises(ClientStateError):
            await other


async def test_waiting_for_an_answer_ends_when_the_client_is_closed(make_client: ClientFactory) -> None:
    async with ScriptedServer(answer(200, {"isRunning": True})) as server:
        client = make_client(server)
        waiting = asyncio.create_task(client.conversations.wait_until_idle("a", poll_interval=600))
        await server.asked()
        await asyncio.sleep(0.05)
        await client.aclose()
        async with asyncio.timeout(5):
            with pytest.raises(ClientStateError):
                await waiting


async def test_a_derived_client_closes_its_own_calls_and_streams_only() -> None:
    async with Sandbox(conversations=200, latency=0.02) as sandbox:
        async with AlliClient(sandbox.api_key, base_url=sandbox.url) as client:
            derived = client.with_options(agent_email="a@b.c")
            mine, other = aiter(derived.conversations.transcripts()), aiter(client.conversations.transcripts())
            await anext(mine)
            await anext(other)
            await derived.aclose()
            await derived.aclose()
            with pytest.raises(ClientStateError):
                await anext(mine)
            with pytest.raises(ClientStateError, match="closed"):
                await derived.conversations.list()
            seen = 1
            async for _ in other:
                seen += 1
            assert seen == 200
            assert (await client.with_options(timeout=5).conversations.list()).conversations


async def test_closing_ends_the_streams_of_derived_clients_too_and_leaves_no_task() -> None:
    async with Sandbox(conversations=600, latency=0.02) as sandbox:
        before = asyncio.all_tasks()
        client = AlliClient(sandbox.api_key, base_url=sandbox.url)
        streams = [
            aiter(each.conversations.transcripts(on_error="skip", ordered=ordered))
            for each in (client, client.with_options(timeout=5))
            for ordered in (False, True)
        ]
        for stream in streams:
            await anext(stream)
        waiting = [asyncio.create_task(_to_the_end(stream)) for stream in streams]
        await asyncio.sleep(0)
        await client.aclose()
        async with asyncio.timeout(10):
            results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in results] == [ClientStateError] * 4
        assert not of_the_client(before)


async def _to_the_end(stream: Any) -> None:
    async for _ in stream:
        pass


async def test_a_stream_that_is_closed_in_its_own_loop_just_ends() -> None:
    async with Sandbox(conversations=60) as sandbox, AlliClient(sandbox.api_key, base_url=sandbox.url) as client:
        stream, seen = client.conversations.transcripts(), 0
        async for _ in stream:
            seen += 1
            await stream.aclose()
        assert seen == 1
        async with stream:
            pass


async def test_a_stream_whose_client_is_closed_before_its_first_step_ends() -> None:
    async with Sandbox(conversations=60) as sandbox:
        client = AlliClient(sandbox.api_key, base_url=sandbox.url)
        first = asyncio.create_task(_to_the_end(client.conversations.transcripts()))
        await asyncio.sleep(0)
        await client.aclose()
        async with asyncio.timeout(5):
            with pytest.raises(ClientStateError):
                await first


async def test_a_stream_that_nobody_holds_any_more_leaves_no_task_without_the_client_being_closed() -> None:
    async with Sandbox(conversations=200, latency=0.01) as sandbox:
        async with AlliClient(sandbox.api_key, base_url=sandbox.url) as client:
            before = asyncio.all_tasks()
            async for _ in client.conversations.transcripts():
                break
            async with asyncio.timeout(10):
                while of_the_client(before):
                    await asyncio.sleep(0.01)


async def test_the_first_result_of_a_stream_can_be_had_without_a_name_for_its_iterator() -> None:
    async with Sandbox(conversations=60) as sandbox, AlliClient(sandbox.api_key, base_url=sandbox.url) as client:
        assert (await anext(aiter(client.conversations.transcripts()))).conversation.id


async def test_an_export_whose_client_is_closed_says_so_and_blames_no_conversation(tmp_path: Any) -> None:
    async with Sandbox(conversations=200, latency=0.02) as sandbox:
        client = AlliClient(sandbox.api_key, base_url=sandbox.url)
        job = asyncio.create_task(export(client, tmp_path / "backup"))
        async with asyncio.timeout(20):
            while sandbox.count() < 10:
                await asyncio.sleep(0.01)
        await client.aclose()
        async with asyncio.timeout(20):
            with pytest.raises(ClientStateError):
                await job
        async with AlliClient(sandbox.api_key, base_url=sandbox.url) as again:
            report = await export(again, tmp_path / "backup")
        assert (report.conversations, report.skipped) == (200, [])


# Each way of leaving a walk early; whatever is left open, or printed, belongs to one of them.
SCRIPT = """
import asyncio, sys
from alli_async import AlliClient

async def main(walk, leave):
    async with AlliClient() as alli:
        number = 0
        async for each in walk(alli.conversations):
            number += 1
            if number == 30:
                if leave == "break":
                    break
                if leave == "return":
                    return
                raise SystemExit(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}, asyncio.all_tasks()

for leave in ("break", "return", "exit"):
    try:
        asyncio.run(main(lambda conversations: conversations.WALK, leave))
    except SystemExit:
        assert leave == "exit"
    else:
        assert leave != "exit"
print("left")
"""


@pytest.mark.parametrize(
    "walk",
    ["transcripts()", "transcripts(raw=True, ordered=True)", "list(page_size=10)", "list_chats(sys.argv[1])"],
)
async def test_leaving_a_walk_inside_the_clients_block_prints_nothing_and_leaves_no_task(walk: str) -> None:
    async with Sandbox(conversations=120, latency=0.02) as sandbox:
        busy = max(sandbox.conversation_ids(), key=lambda each: len(sandbox.chat_ids(each)))
        assert len(sandbox.chat_ids(busy)) > 100  # more than one page
        environ = {"ALLI_API_KEY": sandbox.api_key, "ALLI_BASE_URL": sandbox.url}
        found = await python(SCRIPT.replace("WALK", walk), busy, **environ)
        assert found == (0, "left\n", "")


async def test_closing_twice_at_once_and_before_any_use_is_fine(make_client: ClientFactory) -> None:
    async with ScriptedServer(OK) as server:
        for used in (True, False):
            client = make_client(server)
            if used:
                await get(client.conversations)
            await asyncio.gather(client.aclose(), client.aclose())
            await client.aclose()
            with pytest.raises(ClientStateError, match="closed"):
                await get(client.conversations)


UNCLOSED = """
import asyncio, sys
from alli_async import AlliClient

async def main():
    client = AlliClient(sys.argv[2], base_url=sys.argv[1])
    await client.conversations.list()
    print("used", flush=True)

asyncio.run(main())
"""


UNCLOSED_STREAM = UNCLOSED.replace(
    "await client.conversations.list()", "async for each in client.conversations.transcripts(): break"
)


@pytest.mark.parametrize("script", [fact("after a call", UNCLOSED), fact("in mid-stream", UNCLOSED_STREAM)])
async def test_a_client_that_is_never_closed_is_warned_of_and_ends_without_a_traceback(script: str) -> None:
    async with Sandbox(conversations=120) as sandbox:
        status, out, err = await python(script, sandbox.url, sandbox.api_key)
        assert (status, out) == (0, "used\n")
        assert "ResourceWarning: Unclosed client session" in err
        assert "Traceback" not in err
        assert sandbox.api_key not in err
