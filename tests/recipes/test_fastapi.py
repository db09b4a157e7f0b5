"""What only the FastAPI recipe does: typed answers, deadlines, events, and several processes under gunicorn."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator

import aiohttp
import pytest

from alli_async.sandbox import Fault, Sandbox
from tests.support.processes import Program, environment_of, serving

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install -e '.[recipes]'")

UVICORN = ("uvicorn", "--port", "{port}", "--timeout-graceful-shutdown", "2", "tests.recipes.fastapi_app:app")
GUNICORN = ("gunicorn", "--bind", "127.0.0.1:{port}", "--worker-class", "uvicorn_worker.UvicornWorker")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(conversations=300, seed=5) as served:
        yield served


@pytest.fixture(scope="module")
def app(sandbox: Sandbox) -> Iterator[Program]:
    """A process of the app for all tests that leave it running."""
    with serving(*UVICORN, environment=environment_of(sandbox)) as program:
        yield program


@pytest.fixture(autouse=True)
def nothing_from_the_test_before(sandbox: Sandbox) -> None:
    sandbox.reset_counters()


async def test_the_openapi_document_and_the_answers_have_the_models_in_snake_case(
    app: Program, sandbox: Sandbox, web: aiohttp.ClientSession
) -> None:
    async with web.get(f"{app.url}/openapi.json") as answer:
        document = await answer.json()
    get = document["paths"]["/conversations/{conversation_id}"]["get"]["responses"]["200"]
    assert get["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Conversation"}
    fields = document["components"]["schemas"]["Conversation"]["properties"]
    chat_fields = document["components"]["schemas"]["Chat"]["properties"]
    conversation_id = sandbox.conversation_ids()[0]
    async with web.get(f"{app.url}/conversations/{conversation_id}") as answer:
        conversation = await answer.json()
    async with web.get(f"{app.url}/conversations/{conversation_id}/chats") as answer:
        chats = await answer.json()
    assert set(conversation) == set(fields) >= {"created_at", "chat_count"}
    assert len(chats) == conversation["chat_count"]
    assert all(set(chat) == set(chat_fields) for chat in chats)


async def test_a_deadline_and_an_identity_hold_for_their_request_alone(
    app: Program, sandbox: Sandbox, web: aiohttp.ClientSession
) -> None:
    url = f"{app.url}/conversations/{sandbox.conversation_ids()[0]}"
    sandbox.script("getConversation", [Fault("silence", seconds=600)])
    async with web.get(url, headers={"X-Deadline": "0.5", "X-User-Email": "a@example.com"}) as answer:
        assert answer.status == 504
    async with web.get(url) as answer:
        assert answer.status == 200
    assert sandbox.received[-1].headers.get("USER-EMAIL") is None
    async with web.get(url, headers={"X-Deadline": "1000"}) as answer:
        assert answer.status == 422  # FastAPI's own


async def test_a_filter_that_cannot_be_right_is_refused_before_a_stream_begins(
    app: Program, sandbox: Sandbox, web: aiohttp.ClientSession
) -> None:
    async with web.get(f"{app.url}/transcripts", params={"user_id": ""}) as answer:
        assert answer.status == 422
        assert "user_ids" in (await answer.json())["detail"]
    assert not sandbox.requests


async def test_events_tell_new_chats_and_end_with_the_answer(
    app: Program, sandbox: Sandbox, web: aiohttp.ClientSession
) -> None:
    conversation_id = sandbox.conversation_ids()[0]
    sandbox.running(conversation_id)
    async with web.get(f"{app.url}/conversations/{conversation_id}/events") as answer:
        assert answer.content_type == "text/event-stream"
        async with asyncio.timeout(20):
            while sandbox.count("listConversationChats") < 2:
                await asyncio.sleep(0.05)
        added = sandbox.add_chats(2, conversation_id)
        sandbox.running(conversation_id, polls=1)
        text = (await answer.read()).decode()
    events = [dict(line.split(": ", 1) for line in event.splitlines()) for event in text.strip().split("\n\n")]
    assert [each["id"] for each in events] == added
    assert [json.loads(each["data"])["id"] for each in events] == added
    async with web.get(f"{app.url}/conversations/bm9ib2R5/events") as answer:
        assert answer.status == 404


async def test_the_polls_end_when_the_client_leaves_the_events(
    app: Program, sandbox: Sandbox, web: aiohttp.ClientSession
) -> None:
    conversation_id = sandbox.conversation_ids()[0]
    sandbox.running(conversation_id)
    async with web.get(f"{app.url}/conversations/{conversation_id}/events") as answer:
        answer.close()
    before = -1
    async with asyncio.timeout(30):
        while sandbox.count() != before:  # no poll for longer than the interval of polls
            before = sandbox.count()
            await asyncio.sleep(2.5)


async def test_sigterm_ends_events_that_would_not_end_by_themselves(
    sandbox: Sandbox, web: aiohttp.ClientSession
) -> None:
    conversation_id = sandbox.conversation_ids()[1]
    sandbox.running(conversation_id)
    with serving(*UVICORN, environment=environment_of(sandbox)) as app:
        async with web.get(f"{app.url}/conversations/{conversation_id}/events") as answer:
            assert answer.status == 200
            app.send(signal.SIGTERM)
            await app.ended()
            answer.close()
        assert sandbox.in_flight == 0
        assert "never retrieved" not in app.output
        assert "Unclosed" not in app.output


@pytest.mark.slow
async def test_two_workers_of_gunicorn_that_were_loaded_before_the_fork_both_serve(
    sandbox: Sandbox, web: aiohttp.ClientSession
) -> None:
    ids = sandbox.conversation_ids()[:60]
    command = (*GUNICORN, "--workers", "2", "--preload", "tests.recipes.fastapi_app:app")
    with serving(*command, environment=environment_of(sandbox)) as app:

        async def get(conversation_id: str) -> int:
            headers = {"Connection": "close"}  # so that the kernel chooses a worker for each request
            async with web.get(f"{app.url}/conversations/{conversation_id}", headers=headers) as answer:
                await answer.read()
                return answer.status

        assert await asyncio.gather(*map(get, ids)) == [200] * len(ids)
        workers = _children(app.process.pid)
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGTERM)  # gunicorn starts another one
        assert await asyncio.gather(*map(get, ids)) == [200] * len(ids)
        app.send(signal.SIGTERM)
        assert await app.ended() == 0
        assert "Traceback" not in app.output


# The last ones to use the process: the client in it is paused afterwards.
@pytest.mark.parametrize(
    ("fault", "status", "retry_after"),
    [
        (Fault("status", status=401, body=b'{"error": "no"}'), 502, None),
        (Fault("status", status=400, body=b'{"type": "APIError", "code": 7003, "message": "no"}'), 422, None),
        (Fault("html"), 502, None),
        (Fault("429", retry_after="300"), 429, "300"),
        (Fault("status", status=503, body=b"{}", retry_after="300"), 503, "300"),
    ],
)
async def test_an_error_upstream_is_told_in_terms_of_the_caller(
    app: Program,
    sandbox: Sandbox,
    web: aiohttp.ClientSession,
    fault: Fault,
    status: int,
    retry_after: str | None,
) -> None:
    sandbox.script("getConversation", [fault] * 4)  # as often as the client tries
    async with web.get(f"{app.url}/conversations/{sandbox.conversation_ids()[0]}") as answer:
        body = await answer.json()
        assert (answer.status, answer.headers.get("Retry-After")) == (status, retry_after), body
    assert sandbox.api_key not in json.dumps(body)


def _children(process: int) -> list[int]:
    with open(f"/proc/{process}/task/{process}/children", encoding="ascii") as file:
        return [int(each) for each in file.read().split()]
