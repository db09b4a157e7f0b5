"""What every web app over Alli must do, asked of each recipe as a process behind a real socket."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from importlib.util import find_spec

import aiohttp
import pytest

from alli_async.sandbox import Fault, Sandbox
from tests.support.processes import Program, environment_of, serving

pytestmark = pytest.mark.slow

UVICORN = ("uvicorn", "--port", "{port}", "--timeout-graceful-shutdown", "5")
APPS = {
    "fastapi": (*UVICORN, "tests.recipes.fastapi_app:app"),
    "litestar": (*UVICORN, "tests.recipes.litestar_app:app"),
    "django": (*UVICORN, "tests.recipes.django_app:application"),
    "aiohttp": ("tests.recipes.aiohttp_app", "{port}"),
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """More conversations than the buffers on the way hold: a stream is still going when its client leaves."""
    with Sandbox(conversations=1500, seed=5) as served:
        yield served


@pytest.fixture(scope="module", params=APPS)
def command(request: pytest.FixtureRequest) -> tuple[str, ...]:
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed: pip install -e '.[recipes]'")
    words: tuple[str, ...] = APPS[request.param]
    return words


@pytest.fixture(scope="module")
def app(command: tuple[str, ...], sandbox: Sandbox) -> Iterator[Program]:
    """A process of the app for all tests that leave it running."""
    with serving(*command, environment=environment_of(sandbox)) as program:
        yield program


@pytest.fixture(autouse=True)
def nothing_from_the_test_before(sandbox: Sandbox) -> None:
    sandbox.reset_counters()


async def none_in_flight(sandbox: Sandbox) -> None:
    """Wait until nothing is asked of the sandbox any more, and see that it stays so."""
    quiet = 0
    async with asyncio.timeout(20):
        while quiet < 10:
            before = sandbox.count()
            await asyncio.sleep(0.05)
            quiet = quiet + 1 if sandbox.in_flight == 0 and sandbox.count() == before else 0


async def test_many_at_once_get_their_own_conversation_with_their_own_identity(
    app: Program, sandbox: Sandbox, web: aiohttp.ClientSession
) -> None:
    ids = sandbox.conversation_ids()[:500]

    async def get(number: int, conversation_id: str) -> str:
        headers = {"X-User-Email": f"user{number}@example.com"}
        async with web.get(f"{app.url}/conversations/{conversation_id}", headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            found: str = (await answer.json())["id"]
            return found

    assert await asyncio.gather(*(get(number, each) for number, each in enumerate(ids))) == ids
    told = {each.headers["USER-EMAIL"] for each in sandbox.received}
    assert told == {f"user{number}@example.com" for number in range(len(ids))}


async def test_a_conversation_that_there_is_not_is_not_found(
    app: Program, sandbox: Sandbox, web: aiohttp.ClientSession
) -> None:
    async with web.get(f"{app.url}/conversations/bm9ib2R5") as answer:
        assert answer.status == 404
        assert "detail" in await answer.json()


async def test_a_stream_of_transcripts_is_every_conversation_once(
    app: Program, sandbox: Sandbox, web: aiohttp.ClientSession
) -> None:
    async with web.get(f"{app.url}/transcripts") as answer:
        assert answer.content_type == "application/x-ndjson"
        rows = [json.loads(line) async for line in answer.content]
    assert sorted(each["id"] for each in rows) == sorted(sandbox.conversation_ids())
    assert all(len(each["chats"]) == each["chatCount"] for each in rows)


async def test_the_work_upstream_ends_when_the_client_leaves_a_stream(
    app: Program, sandbox: Sandbox, web: aiohttp.ClientSession
) -> None:
    for _ in range(5):
        async with web.get(f"{app.url}/transcripts") as answer:
            assert await answer.content.readline()
            answer.close()
    await none_in_flight(sandbox)
    assert sandbox.count("listConversations") < 5 * 30
    async with web.get(f"{app.url}/conversations/{sandbox.conversation_ids()[0]}") as answer:
        assert answer.status == 200
    assert "Traceback" not in app.output
    assert "never retrieved" not in app.output


async def test_an_error_in_the_middle_of_a_stream_does_not_look_like_its_end(
    app: Program, sandbox: Sandbox, web: aiohttp.ClientSession
) -> None:
    poisoned = sandbox.conversation_ids()[750]
    sandbox.poison(poisoned, everywhere=True)
    with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError)):
        async with web.get(f"{app.url}/transcripts") as answer:
            assert answer.status == 200
            await answer.read()
    sandbox.poison(poisoned, None)


async def test_sigterm_lets_requests_in_flight_be_answered(
    command: tuple[str, ...], sandbox: Sandbox, web: aiohttp.ClientSession
) -> None:
    ids = sandbox.conversation_ids()[:10]
    with serving(*command, environment=environment_of(sandbox)) as app:

        async def get(conversation_id: str) -> int:
            async with web.get(f"{app.url}/conversations/{conversation_id}") as answer:
                await answer.read()
                return answer.status

        sandbox.script("getConversation", [Fault("ok", seconds=1)] * len(ids))
        answers = [asyncio.create_task(get(each)) for each in ids]
        async with asyncio.timeout(20):
            while not sandbox.in_flight:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)  # so that all requests have arrived; what is asserted holds without it
        app.send(signal.SIGTERM)
        assert await asyncio.gather(*answers) == [200] * len(ids)
        assert await app.ended() in (0, -signal.SIGTERM)  # uvicorn raises the signal again, once all is closed
        assert "Traceback" not in app.output
        assert "Unclosed" not in app.output


# The last one to use the process: the client in it is paused afterwards.
async def test_a_refusal_upstream_is_passed_on_with_the_seconds_to_wait(
    app: Program, sandbox: Sandbox, web: aiohttp.ClientSession
) -> None:
    sandbox.script("getConversation", [Fault("429", retry_after="500")])
    async with web.get(f"{app.url}/conversations/{sandbox.conversation_ids()[0]}") as answer:
        assert answer.status == 429
        assert 0 < int(answer.headers["Retry-After"]) <= 500
