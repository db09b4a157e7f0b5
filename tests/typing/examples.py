"""How the library is typed, for mypy --strict to check; nothing here is run."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any, assert_type

import alli_async
from alli_async import (
    AlliClient,
    AlliError,
    Chat,
    ChatPage,
    Conversation,
    ConversationFilters,
    ConversationPage,
    ConversationUpdate,
    DailyCounts,
    Feedback,
    Handler,
    ItemResult,
    Order,
    RawTranscript,
    Request,
    Response,
    ResponseInfo,
    RetryPolicy,
    Skipped,
    StreamStats,
    Transcript,
    TranscriptStream,
)
from alli_async.export import ExportReport, export
from alli_async.sandbox import Churn, Sandbox


async def trace(request: Request, call_next: Handler) -> Response:
    request.headers["X-Trace"] = request.operation
    return await call_next(request)


async def reading(alli: AlliClient) -> None:
    filters: ConversationFilters = {"user_ids": ["a"], "started_at": datetime.now(UTC), "active_only": True}
    pages = alli.conversations.list(order=Order.FIRST_CHAT_TIME_ASC, page_size=10, **filters)
    async for conversation in pages:
        assert_type(conversation, Conversation)
        assert_type(conversation.last_chat, datetime | None)
        assert_type(conversation.to_dict(wire_names=True), dict[str, Any])
        assert_type(conversation.to_json(), str)
        assert_type(conversation.raw, bytes)
        assert_type(conversation.response, ResponseInfo | None)
        assert_type(dataclasses.asdict(conversation), dict[str, Any])
    assert_type(pages.pages(), AsyncGenerator[ConversationPage, None])
    assert_type(await pages, ConversationPage)
    chats = alli.conversations.list_chats("c")
    async for chat in chats:
        assert_type(chat, Chat)
    assert_type(await chats, ChatPage)
    assert_type(await alli.conversations.get("c", variables=["v"]), Conversation)
    assert_type(await alli.conversations.transcript("c"), Transcript)
    assert_type(await alli.conversations.daily_counts("2026-01-01", "2026-01-02"), DailyCounts)
    assert_type(await alli.conversations.is_running("c"), bool)


async def many(alli: AlliClient) -> None:
    async for result in alli.conversations.for_each(["a", "b"], alli.conversations.get, on_error="skip"):
        assert_type(result, ItemResult[str, Conversation])
        assert_type(result.error, AlliError | None)
        assert_type(result.value, Conversation)


async def streaming(alli: AlliClient, filters: ConversationFilters) -> None:
    async with alli.conversations.transcripts(ordered=True, on_error="skip", **filters) as stream:
        async for transcript in stream:
            assert_type(transcript, Transcript)
        assert_type(stream.stats, StreamStats)
        assert_type(stream.skipped, list[Skipped])
    async for record in alli.conversations.transcripts(raw=True):
        assert_type(record, RawTranscript)
        assert_type(record.json, bytes)


async def streaming_in_either_form(alli: AlliClient, raw: bool) -> None:
    stream = alli.conversations.transcripts(raw=raw, active_only=True)
    assert_type(stream, TranscriptStream[Transcript] | TranscriptStream[RawTranscript])
    async for each in stream:
        assert_type(each, Transcript | RawTranscript)


async def writing(alli: AlliClient) -> None:
    assert_type(await alli.conversations.update("c", title=None, state="eo"), Conversation)
    assert_type(await alli.conversations.set_title("c", "t"), Conversation)
    feedback = await alli.conversations.send_feedback("c", "x", rating=True, selection=["inaccurate"])
    assert_type(feedback, Feedback)
    await alli.conversations.bulk_update(ConversationUpdate(title="t"), conversation_ids=["c"])
    alli.conversations.list(page_size="10")  # type: ignore[arg-type]
    alli.conversations.list(nonsense=1)  # type: ignore[call-arg]
    alli.conversations.transcripts(on_error="log")  # type: ignore[call-overload]


async def clients() -> None:
    async with Sandbox(conversations=10, cursor="keyset", churn=Churn(new_chats=1)) as sandbox:
        async with AlliClient(
            sandbox.api_key, base_url=sandbox.url, retry=RetryPolicy(max_attempts=2), middlewares=[trace]
        ) as alli:
            assert_type(alli.with_options(agent_email="a@b.c", timeout=5), AlliClient)
            assert_type(await export(alli, "dest", active_only=True), ExportReport)
            alli.with_options(session=None)  # type: ignore[call-arg]


def names() -> None:
    assert_type(alli_async.RetryPolicy(), RetryPolicy)
    assert_type(alli_async.errors.AlliError("x"), alli_async.AlliError)
    alli_async.AlliClients  # type: ignore[attr-defined]  # noqa: B018
