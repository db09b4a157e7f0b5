"""Event loops, processes and threads: where a client may be used, and what it keeps when its loop is closed."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import aiohttp
import pytest
from asgiref.sync import async_to_sync

from alli_async import AlliClient, ClientStateError, ConfigurationError, RateLimitError
from alli_async.export import arrow_batches, compact, export, plan_export, verify
from alli_async.sandbox import Sandbox
from tests.support import ScriptedServer
from tests.support.late import late
from tests.support.servers import OK, ONCE, fact, python

trio = late("trio")


async def first_page(client: AlliClient) -> int:
    return len((await client.conversations.list()).conversations)


async def derived_page(client: AlliClient) -> int:
    return await first_page(client.with_options(timeout=5))


def in_uvloop(work: Coroutine[Any, Any, Any]) -> Any:
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


@pytest.mark.parametrize("run", [asyncio.run, in_uvloop])
def test_a_client_is_used_in_one_loop_after_another_and_leaves_no_socket_behind(run: Callable[..., Any]) -> None:
    with Sandbox(conversations=60) as sandbox, warnings.catch_warnings():
        warnings.simplefilter("error")
        client = AlliClient(sandbox.api_key, base_url=sandbox.url)
        assert [run(first_page(client)) for _ in range(3)] == [50] * 3
        gc.collect()

        async def all_ids() -> set[str]:
            async with client:
                return {each.id async for each in client.conversations.transcripts()}

        assert run(all_ids()) == set(sandbox.conversation_ids())
        with pytest.raises(ClientStateError, match="closed"):
            run(first_page(client))


def test_a_client_works_in_synchronous_code_of_django() -> None:
    with Sandbox(conversations=60) as sandbox:
        client = AlliClient(sandbox.api_key, base_url=sandbox.url)
        derived = client.with_options(timeout=5)
        for _ in range(3):
            assert async_to_sync(first_page)(client) == 50
            assert async_to_sync(first_page)(derived) == 50
        async_to_sync(client.aclose)()
        async_to_sync(client.aclose)()


@pytest.mark.filterwarnings("ignore:unclosed transport")
def test_a_loop_that_ends_with_calls_in_flight_takes_no_place_from_the_next_one() -> None:
    with Sandbox(conversations=60, latency=0.2) as sandbox:
        client = AlliClient(sandbox.api_key, base_url=sandbox.url, max_concurrency=2)
        derived = client.with_options(max_concurrency=1)
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # asyncio complains of tasks that were never finished
        calls = [loop.create_task(first_page(each)) for each in [client, derived] * 5]
        stream = aiter(client.conversations.transcripts())
        loop.run_until_complete(anext(stream))
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()

        async def work() -> list[int]:
            async with asyncio.timeout(20):
                return await asyncio.gather(*(first_page(each) for each in [client, derived] * 3))

        assert asyncio.run(work()) == [50] * 6
        del calls, stream
        gc.collect()
        assert asyncio.run(work()) == [50] * 6
        assert (client.limits.in_flight, derived.limits.in_flight) == (0, 0)
        asyncio.run(client.aclose())


def test_the_old_loop_is_not_touched_once_it_is_closed() -> None:
    with Sandbox(conversations=60) as sandbox:
        client = AlliClient(sandbox.api_key, base_url=sandbox.url)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(first_page(client))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        touched: list[str] = []
        for name in ("call_soon", "call_soon_threadsafe", "call_later", "call_at", "call_exception_handler"):
            setattr(loop, name, lambda *_, name=name, **__: touched.append(name))
        assert asyncio.run(first_page(client)) == 50
        asyncio.run(client.aclose())
        gc.collect()
        assert touched == []


def test_what_was_learnt_in_one_loop_holds_in_the_next_one() -> None:
    with Sandbox(conversations=60) as sandbox:
        client = AlliClient(sandbox.api_key, base_url=sandbox.url, retry=ONCE)
        sandbox.script("listConversations", ["429"])

        async def refused() -> None:
            with pytest.raises(RateLimitError):
                await first_page(client)

        asyncio.run(refused())
        retry_after = 1.0  # of the sandbox
        loop = asyncio.new_event_loop()
        began = loop.time()
        assert loop.run_until_complete(first_page(client)) == 50
        assert loop.time() - began > retry_after / 2
        loop.run_until_complete(client.aclose())
        loop.close()


def test_a_client_of_a_living_loop_is_refused_in_another_one_and_may_not_be_closed_there() -> None:
    with Sandbox(conversations=60) as sandbox, asyncio.Runner() as runner:
        client = AlliClient(sandbox.api_key, base_url=sandbox.url)
        runner.run(first_page(client))
        found: list[BaseException] = []

        def elsewhere() -> None:
            for work in (first_page, derived_page, AlliClient.aclose, AlliClient.__aenter__, stream):
                try:
                    asyncio.run(work(client))
                except ClientStateError as error:
                    found.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join(30)
        assert len(found) == 5
        assert all("another event loop; make one for each" in str(each) for each in found)
        assert runner.run(first_page(client)) == 50
        runner.run(client.aclose())


def test_a_callers_session_is_not_replaced_when_its_loop_is_closed() -> None:
    with Sandbox(conversations=60) as sandbox:

        async def use() -> AlliClient:
            async with aiohttp.ClientSession() as http:
                client = AlliClient(sandbox.api_key, base_url=sandbox.url, session=http)
                assert await first_page(client) == 50
                return client

        client = asyncio.run(use())
        with pytest.raises(ClientStateError, match="session"):
            asyncio.run(first_page(client))


async def enter(client: AlliClient) -> None:
    async with client:
        pass


async def stream(client: AlliClient) -> None:
    async for _ in client.conversations.transcripts():
        pass


async def chats(client: AlliClient) -> None:
    async for _ in client.conversations.list_chats("a"):
        pass


async def transcript(client: AlliClient) -> None:
    await client.conversations.transcript("a")


async def wait(client: AlliClient) -> None:
    await client.conversations.wait_until_idle("a", timeout=5)


async def watch(client: AlliClient) -> None:
    async for _ in client.conversations.watch("a", timeout=5):
        pass


async def request(client: AlliClient) -> None:
    await client.request("GET", "/a")


async def exported(client: AlliClient) -> None:
    await export(client, "never-made")


async def planned(client: AlliClient) -> None:
    await plan_export(client, "never-made")


async def batches(client: AlliClient) -> None:
    async for _ in arrow_batches(client):
        pass


async def verified(_: AlliClient) -> None:
    await verify("never-made")


async def compacted(_: AlliClient) -> None:
    await compact("never-made")


EXPORTS = [exported, planned, batches, verified, compacted]


@pytest.mark.parametrize("work", [first_page, enter, stream, chats, transcript, wait, watch, request, *EXPORTS])
def test_under_trio_a_client_says_that_it_needs_asyncio(work: Callable[[AlliClient], Awaitable[Any]]) -> None:
    client = AlliClient("k")
    with pytest.raises(ConfigurationError, match="asyncio only") as raised:
        trio.run(work, client)
    assert (raised.value.attempts, raised.value.outcome) == (0, "not_sent")
    trio.run(client.aclose)


GLOBAL = """
import asyncio, sys
from alli_async import AlliClient

client = AlliClient()

async def use():
    return len((await client.conversations.list()).conversations)

print(asyncio.run(use()), asyncio.run(use()))
"""


async def test_a_global_client_that_is_never_closed_prints_no_error_when_the_program_ends() -> None:
    async with Sandbox(conversations=60) as sandbox:
        environ = {"ALLI_API_KEY": sandbox.api_key, "ALLI_BASE_URL": sandbox.url, "PYTHONWARNINGS": "ignore"}
        status, out, err = await python("import warnings\nwarnings.simplefilter('ignore')" + GLOBAL, **environ)
        assert (status, out, err) == (0, "50 50\n", "")


FORKED_BEFORE_USE = """
import os, sys, asyncio
from alli_async import AlliClient

client = AlliClient()

async def use():
    return len((await client.conversations.list()).conversations)

if (child := os.fork()) == 0:
    print("child:", asyncio.run(use()), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(asyncio.run(use()))
asyncio.run(client.aclose())
"""


async def test_a_client_that_was_not_used_before_a_fork_may_be_used_in_both_processes() -> None:
    async with Sandbox(conversations=60) as sandbox:
        environ = {"ALLI_API_KEY": sandbox.api_key, "ALLI_BASE_URL": sandbox.url}
        assert await python(FORKED_BEFORE_USE, **environ) == (0, "child: 50\n50\n", "")


WHERE = "[GET /webapi/v2/conversations/a: 0 attempts in 0.0 s, not_sent]"


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
