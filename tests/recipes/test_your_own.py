"""Tests of a program of one's own: against a sandbox, with answers of one's own, or with nothing sent at all.

The package brings the fixtures; these tests need pytest, pytest-asyncio and aioresponses. They are themselves an
example: `summary` stands for what your program does.
"""

from collections.abc import AsyncIterator

import pytest
from aioresponses import aioresponses

from alli_async import AlliClient, Call, CallHandler, NotFoundError, RateLimitError, RetryPolicy
from alli_async.sandbox import Sandbox


async def summary(alli: AlliClient, conversation_id: str) -> str:
    await alli.conversations.wait_until_idle(conversation_id, poll_interval=0.01)
    transcript = await alli.conversations.transcript(conversation_id)
    return f"{transcript.conversation.title}: {len(transcript.chats)} chats"


@pytest.fixture
async def alli(alli_sandbox: Sandbox) -> AsyncIterator[AlliClient]:
    async with AlliClient(
        alli_sandbox.api_key, base_url=alli_sandbox.url, retry=RetryPolicy(base=0.001)
    ) as client:
        yield client


@pytest.mark.asyncio
async def test_a_conversation_of_my_own_is_summed_up(alli: AlliClient, alli_sandbox: Sandbox) -> None:
    mine = alli_sandbox.put({"id": "c-1", "title": "Refund"}, chats=["Where is my money?", "On its way."])
    alli_sandbox.script("getConversationRunning", [{"isRunning": True}, 503, "reset_before"], id=mine)
    assert await summary(alli, mine) == "Refund: 2 chats"


@pytest.mark.asyncio
async def test_one_that_is_gone_is_an_error(alli: AlliClient, alli_sandbox: Sandbox) -> None:
    mine = alli_sandbox.put({"title": "Refund"})
    alli_sandbox.script("getConversation", [404], id=mine)
    with pytest.raises(NotFoundError):
        await summary(alli, mine)


@pytest.mark.asyncio
async def test_one_operation_can_be_faked_by_a_middleware() -> None:
    async def full(call: Call, call_next: CallHandler) -> object:
        if call.operation == "getConversationRunning":
            raise RateLimitError("made up", status=429)
        return await call_next(call)

    async with AlliClient("any-key", call_middlewares=[full]) as alli:
        with pytest.raises(RateLimitError):
            await summary(alli, "c-1")


@pytest.mark.asyncio
async def test_answers_can_be_written_by_hand(alli_responses: aioresponses) -> None:
    url = "https://backend.alli.ai/webapi/v2/conversations/c-1/running"
    alli_responses.get(url, payload={"isRunning": False})
    async with AlliClient("any-key") as alli:
        assert not await alli.conversations.is_running("c-1")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_anyios_plugin_works_as_well(alli_sandbox: Sandbox, anyio_backend: str) -> None:
    async with AlliClient(alli_sandbox.api_key, base_url=alli_sandbox.url) as alli:
        assert await alli.conversations.list(page_size=1)
