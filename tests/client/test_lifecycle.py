"""Lifecycle: cancelled, closed in use, another loop, after a fork, never closed, shared, one in each thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from alli_async import AlliClient, ClientStateError, RetryPolicy
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, silence
from tests.support.servers import OK, Call, fact, get, patch, python

ONCE = RetryPolicy(max_attempts=1)


def others(before: set[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    """Tasks that were not there before, but for the scripted server's own."""
    return [task for task in asyncio.all_tasks() - before if "ScriptedServer" not in repr(task)]


async def gone(condition: Callable[[], Any]) -> None:
    """Wait until something is no more."""
    async with asyncio.timeout(20):
        while condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("limit", "deadline"),
    [fact("one at a time", 1, None), fact("64 at a time", 64, None), fact("all under a deadline", 64, 60)],
)
async def test_hundreds_cancelled_in_flight_leave_no_task_no_place_and_a_client_that_works(
    make_client: ClientFactory, limit: int, deadline: float | None
) -> None:
    async with ScriptedServer(silence) as server:
        client = make_client(server, max_concurrency=limit, deadline=deadline)
        before = asyncio.all_tasks()
        calls = [asyncio.create_task(client.conversations.is_running("a")) for _ in range(300)]
        await server.asked()
        for call in calls:
            call.cancel()
        async with asyncio.timeout(20):
            await asyncio.wait(calls)
        assert all(call.cancelled() for call in calls)
        await gone(lambda: others(before))
        limiter = client._tenant.limiter
        assert (limiter.in_flight, client.conversations._session.stats.in_flight) == (0, 0)
        server.answers = [OK]
        assert (await client.conversations.get("a")).title == "t"


async def test_hundreds_cancelled_on_the_wire_leave_no_connection_and_a_client_that_works(
    make_client: ClientFactory,
) -> None:
    async with ScriptedServer(silence) as server:
        client = make_client(server, max_concurrency=300)
        limiter = client._tenant.limiter
        while limiter.max_in_flight < 300:  # answers to full windows make the window grow
            tickets = [await limiter.acquire() for _ in range(limiter.max_in_flight)]
            for ticket in tickets:
                limiter.answered(ticket)
            for _ in tickets:
                limiter.release()
        calls = [asyncio.create_task(client.conversations.is_running("a")) for _ in range(300)]
        await gone(lambda: len(server.requests) < 300)
        assert (server.connections, server.open, limiter.in_flight) == (300, 300, 300)
        for call in calls:
            call.cancel()
        async with asyncio.timeout(20):
            await asyncio.wait(calls)
        assert all(call.cancelled() for call in calls)
        assert (limiter.in_flight, client.conversations._session.stats.in_flight) == (0, 0)
        http = client._connection.http()
        assert http.connector is not None
        assert not http.connector._acquired
        server.default = OK
        assert (await client.conversations.get("a")).title == "t"


@pytest.mark.parametrize("call", [get, patch])
async def test_a_client_closed_while_in_use_ends_its_calls_with_an_error_and_takes_no_more(
    make_client: ClientFactory, call: Call
) -> None:
    async with ScriptedServer(silence) as server:
        client = make_client(server, retry=ONCE)
        calls = [asyncio.ensure_future(call(client.conversations)) for _ in range(20)]
        await server.asked()
        await client.aclose()
        async with asyncio.timeout(20):
            results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in results} == {ClientStateError}
        # What is on the wire may have happened; what waits for the rate limiter has not.
        assert "unknown" in {each.outcome for each in results if isinstance(each, ClientStateError)}
        for late in (client, client.with_options(timeout=1)):
            with pytest.raises(ClientStateError, match="closed"):
                await call(late.conversations)


async def test_a_stream_whose_client_is_closed_ends_with_an_error_and_leaves_no_task(
    make_client: ClientFactory,
) -> None:
    async with Sandbox(conversations=200, latency=0.02) as sandbox:
        client = make_client(sandbox)
        before = asyncio.all_tasks()
        with pytest.raises(ClientStateError):
            async for _ in client.conversations.transcripts():
                await client.aclose()
        await gone(
            lambda: [
                task for task in others(before) if "sandbox" not in repr(task) and "aiohttp" not in repr(task)
            ]
        )


@pytest.mark.parametrize("derived", [False, True])
def test_a_client_of_another_loop_says_so_and_stays_good_for_its_own(derived: bool) -> None:
    client = AlliClient("the-key")
    with asyncio.Runner() as first, asyncio.Runner() as second:

        async def serve() -> ScriptedServer:
            return await ScriptedServer(OK).__aenter__()

        server = first.run(serve())
        mine = client.with_options(base_url=server.url)
        first.run(mine.conversations.get("a"))
        other = mine.with_options(timeout=5) if derived else mine
        with pytest.raises(ClientStateError, match="another event loop; make one for each"):
            second.run(other.conversations.get("a"))
        assert first.run(mine.conversations.get("a")).title == "t"  # type: ignore[arg-type]
        first.run(client.aclose())
        first.run(server.__aexit__())


WHERE = "[GET /webapi/v2/conversations/a: 1 attempt in 0.0 s, not_sent]"
FORKED = """
import asyncio, os, sys
from alli_async import AlliClient, ClientStateError

client = AlliClient("the-key", base_url=sys.argv[1])

async def use():
    return (await client.conversations.get("a")).title

async def parent():
    assert await use() == "t"
    if (child := os.fork()) == 0:
        asyncio.events._set_running_loop(None)
        try:
            asyncio.run(use())
        except ClientStateError as error:
            print("child:", error, flush=True)
        asyncio.run(client.aclose())
        os._exit(0)
    os.waitpid(child, 0)
    assert await use() == "t"
    print("parent: fine", flush=True)
    await client.aclose()

asyncio.run(parent())
"""
# A loop that is not running while it is copied goes on in the child, where nothing but the process is another.
FORKED_BETWEEN = """
import asyncio, os, sys
from alli_async import AlliClient, ClientStateError

client = AlliClient("the-key", base_url=sys.argv[1])
loop = asyncio.new_event_loop()

async def use():
    return (await client.conversations.get("a")).title

assert loop.run_until_complete(use()) == "t"
if (child := os.fork()) == 0:
    try:
        loop.run_until_complete(use())
    except ClientStateError as error:
        print("child:", error, flush=True)
    loop.run_until_complete(client.aclose())
    os._exit(0)
os.waitpid(child, 0)
assert loop.run_until_complete(use()) == "t"
print("parent: fine", flush=True)
loop.run_until_complete(client.aclose())
loop.close()
"""


@pytest.mark.parametrize("script", [fact("in mid-loop", FORKED), fact("between two runs", FORKED_BETWEEN)])
async def test_a_client_after_a_fork_says_so_and_the_parents_connection_lives_on(script: str) -> None:
    async with ScriptedServer(OK) as server:
        status, out, err = await python(script, server.url)
        assert (status, err) == (0, "")
        assert out.splitlines() == [
            f"child: the client belongs to another process (it was made before a fork); make one for each {WHERE}",
            "parent: fine",
        ]
        assert (len(server.requests), server.connections) == (2, 1)


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


async def test_two_clients_on_one_session_do_not_close_it_and_keep_their_keys_apart() -> None:
    async with ScriptedServer(OK) as server, aiohttp.ClientSession() as http:
        one = AlliClient("key-one", base_url=server.url, session=http)
        two = AlliClient(token="key-two", base_url=server.url, session=http, agent_email="a@b.c")
        await asyncio.gather(*(each.conversations.get("a") for each in [one, two] * 10))
        await one.aclose()
        with pytest.raises(ClientStateError, match="closed"):
            await one.conversations.get("a")
        assert not http.closed
        assert (await two.conversations.get("a")).title == "t"
        await two.aclose()
        assert not http.closed
        sent = {
            (each.header("api-key"), each.header("authorization"), each.header("agent-email"))
            for each in server.requests
        }
        assert sent == {("key-one", None, None), (None, "Bearer key-two", "a@b.c")}


async def test_a_callers_session_closed_by_the_caller_is_a_clear_error(make_client: ClientFactory) -> None:
    async with ScriptedServer(OK) as server:
        async with aiohttp.ClientSession() as http:
            client = make_client(server, session=http)
            await get(client.conversations)
        with pytest.raises(ClientStateError, match="closed") as raised:
            await get(client.conversations)
        assert raised.value.outcome == "not_sent"


def test_a_client_in_each_of_eight_threads() -> None:
    found: dict[int, list[str]] = {}

    def work(number: int, url: str, key: str) -> None:
        async def all_of_it() -> list[str]:
            async with AlliClient(key, base_url=url) as client:
                return sorted([each.id async for each in client.conversations.transcripts()])

        found[number] = asyncio.run(all_of_it())

    with Sandbox(conversations=120) as sandbox:
        threads = [
            threading.Thread(target=work, args=(number, sandbox.url, sandbox.api_key)) for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
        assert list(found.values()) == [sorted(sandbox.conversation_ids())] * 8


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
