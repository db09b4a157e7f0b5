"""The eleven operations, against the sandbox in each of its modes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from alli_async import (
    AlliClient,
    AlliTimeoutError,
    APIError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    Conversation,
    ConversationState,
    ConversationUpdate,
    NotFoundError,
    Order,
)
from alli_async.sandbox import Sandbox
from tests.conftest import QUICK, ClientFactory
from tests.support.modes import MODES, mode_name


@pytest.fixture(params=MODES, ids=mode_name)
async def sandbox(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    async with Sandbox(conversations=160, seed=3, **request.param) as served:
        yield served


@pytest.fixture
def alli(sandbox: Sandbox, make_client: ClientFactory) -> AlliClient:
    # Faults are many in some modes; what is tested here is that the operations come through.
    return make_client(sandbox, retry=replace(QUICK, max_attempts=12, quota=100_000))


async def some_id(alli: AlliClient, *, chats: int = 1) -> Conversation:
    async for conversation in alli.conversations.list():
        if len((await alli.conversations.transcript(conversation.id)).chats) >= chats:
            return conversation
    raise AssertionError("no such conversation")


async def test_list_gives_every_conversation_once_in_each_order(sandbox: Sandbox, alli: AlliClient) -> None:
    for order in (None, *Order):
        found = [conversation async for conversation in alli.conversations.list(order=order)]
        assert sorted(each.id for each in found) == sorted(sandbox.conversation_ids())
        if order in (Order.LAST_CHAT_TIME_ASC, Order.LAST_CHAT_TIME_DESC):
            times = [each.last_chat_time for each in found if each.last_chat_time is not None]
            assert times == sorted(times, reverse=order is Order.LAST_CHAT_TIME_DESC)


async def test_list_filters_and_a_datetime_is_sent_in_the_servers_unit(sandbox: Sandbox, alli: AlliClient) -> None:
    everything = [each async for each in alli.conversations.list(page_size=20)]
    one = next(each for each in everything if each.user is not None and each.last_chat is not None)
    assert one.user is not None
    by_user = [each async for each in alli.conversations.list(user_ids=[one.user.user_id])]
    assert {each.id for each in by_user} == {
        each.id for each in everything if each.user is not None and each.user.user_id == one.user.user_id
    }
    assert one.last_chat is not None
    margin = timedelta(seconds=1)
    start, end = one.last_chat - margin, one.last_chat + margin
    around = [each async for each in alli.conversations.list(started_at=start, end_at=end)]
    expected = {
        each.id
        for each in everything
        if each.last_chat is not None and abs(each.last_chat - one.last_chat) < margin
    }
    assert {each.id for each in around} == expected
    active = [each async for each in alli.conversations.list(active_only=True)]
    assert {each.id for each in active} == {each.id for each in everything if not each.is_end}
    none = [each async for each in alli.conversations.list(started_at=one.created + timedelta(days=9999))]
    assert none == []


async def test_get_and_its_variables(sandbox: Sandbox, alli: AlliClient) -> None:
    async for each in alli.conversations.list():
        if each.variables:
            break
    name = next(iter(each.variables or {}))
    found = await alli.conversations.get(each.id, variables=[name])
    assert (found.id, found.title, found.created_at) == (each.id, each.title, each.created_at)
    assert found.variables == {name: (each.variables or {})[name]}
    with pytest.raises(NotFoundError):
        await alli.conversations.get("no/such==")


async def test_chats_and_transcripts_are_whole(sandbox: Sandbox, alli: AlliClient) -> None:
    for conversation_id in sandbox.conversation_ids()[:8]:
        chats = [chat.id async for chat in alli.conversations.list_chats(conversation_id)]
        found = await alli.conversations.transcript(conversation_id)
        assert chats == [chat.id for chat in found.chats] == sandbox.chat_ids(conversation_id)


async def test_writes_change_what_is_read_later(sandbox: Sandbox, alli: AlliClient) -> None:
    one = await some_id(alli, chats=2)
    api = alli.conversations
    assert (await api.set_title(one.id, "제목 \U0001f600")).title == "제목 \U0001f600"
    assert (await api.get(one.id)).title == "제목 \U0001f600"
    chats = sandbox.chat_ids(one.id)
    await api.delete_chat(one.id, chats[0])
    assert [chat.id async for chat in api.list_chats(one.id)] == chats[1:]
    if sandbox.options.faults:
        return
    with pytest.raises(NotFoundError):
        await api.delete_chat(one.id, chats[0])
    changed = await api.update(one.id, category_ids=["a", "b"], title=None, state=ConversationState.EA)
    assert (changed.categories, changed.title, changed.is_end) == (["a", "b"], "", True)
    feedback = await api.send_feedback(one.id, chats[1], rating=False, suggested_answer="better")
    assert (feedback.conversation_id, feedback.chat_id, feedback.rating) == (one.id, chats[1], False)
    assert (await api.transcript(one.id)).chats[0].rating is False
    some = sandbox.conversation_ids()[:3]
    await api.bulk_update(ConversationUpdate(title="all the same"), conversation_ids=some)
    assert {(await api.get(each)).title for each in some} == {"all the same"}
    assert (await api.get(sandbox.conversation_ids()[4])).title != "all the same"
    await api.bulk_update(ConversationUpdate(category_ids=["z"]), all_conversations=True)
    assert {tuple(each.categories or ()) async for each in api.list()} == {("z",)}


async def test_a_running_conversation_is_waited_for_and_stopped(sandbox: Sandbox, alli: AlliClient) -> None:
    api = alli.conversations
    one, two, *_ = sandbox.conversation_ids()
    assert not await api.is_running(one)
    sandbox.running(one, polls=3)
    sandbox.running(two)
    await api.wait_until_idle(one, poll_interval=0.001, timeout=30)
    assert await api.is_running(two)
    if not sandbox.options.faults:
        assert [each.id async for each in api.list(background_running=True)] == [two]
        began = time.monotonic()
        with pytest.raises(AlliTimeoutError, match="still running"):
            await api.wait_until_idle(two, timeout=0.05, poll_interval=0.01)
        assert time.monotonic() - began < 5
        await api.stop(two)
    else:
        sandbox.running(two, polls=1)
    await api.wait_until_idle(two, poll_interval=0.001, timeout=30)


async def test_daily_counts_count_and_tell_their_failure(sandbox: Sandbox, alli: AlliClient) -> None:
    first = min([each.created async for each in alli.conversations.list()])
    counts = await alli.conversations.daily_counts(first.date(), first.date() + timedelta(days=400))
    assert len(counts.days) == 401
    assert 0 < sum(day.active_count for day in counts.days) <= 160
    with pytest.raises(APIError) as raised:
        await alli.conversations.daily_counts("0001-01-01", "9999-12-31")
    assert raised.value.status == 200


# --- what goes wrong --------------------------------------------------------------------------------------


async def test_wrong_input_meets_the_documented_errors(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=5) as sandbox:
        api = make_client(sandbox).conversations
        with pytest.raises(BadRequestError) as refused:
            await api.list(cursor="nonsense")
        assert (refused.value.status, refused.value.code) == (400, 7003)
        async with AlliClient("another-key", base_url=sandbox.url) as stranger:
            with pytest.raises(AuthenticationError) as unknown:
                await stranger.conversations.list()
        assert (unknown.value.status, unknown.value.code) == (403, 7001)
        async with AlliClient(token=sandbox.api_key, base_url=sandbox.url) as bearer:
            assert len((await bearer.conversations.list()).conversations) == 5


async def test_a_delete_that_was_cut_off_is_not_reported_as_missing(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=30) as sandbox:
        alli = make_client(sandbox)
        one = await some_id(alli)
        sandbox.script("deleteConversationChat", ["reset_after"])
        await alli.conversations.delete_chat(one.id, sandbox.chat_ids(one.id)[0])
        assert sandbox.count("deleteConversationChat") == 2
        assert sandbox.count("deleteConversationChat", 404) == 1


async def test_a_write_of_many_ids_is_sent_whole_and_again_when_refused(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=5) as sandbox:
        some = sandbox.conversation_ids()
        sandbox.script("bulkUpdateConversations", ["429", "ok"])
        await make_client(sandbox, retry=replace(QUICK, retry_after_cap=5)).conversations.bulk_update(
            ConversationUpdate(title="new"), conversation_ids=[f"{number:064}" for number in range(40_000)] + some
        )
        first, second = (each.body for each in sandbox.received)
        assert len(first) > 2_000_000
        assert first == second
        assert {each.title async for each in make_client(sandbox).conversations.list()} == {"new"}


START = datetime(2024, 1, 1, tzinfo=UTC)


async def test_a_datetime_filter_in_an_empty_project_finds_nothing(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=0) as sandbox:
        alli = make_client(sandbox)
        for requests in (2, 4):  # nothing tells the unit, which is asked for again
            assert [row async for row in alli.conversations.list(started_at=START)] == []
            assert sandbox.count() == requests


async def test_the_unit_is_asked_for_once_and_only_when_a_datetime_needs_it(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=60, unit="s") as sandbox:
        alli = make_client(sandbox)
        await alli.conversations.list(started_at=1704067200)
        assert sandbox.count() == 1
        for _ in range(2):
            await alli.conversations.list(started_at=START)
        assert sandbox.count() == 4
        assert ("startedAt", "1704067200") in sandbox.received[-1].query


async def test_wait_until_idle_needs_no_timeout(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=2) as sandbox:
        api = make_client(sandbox).conversations
        sandbox.running(sandbox.conversation_ids()[0], polls=2)
        async with asyncio.timeout(10):
            await api.wait_until_idle(sandbox.conversation_ids()[0], poll_interval=0)


async def test_an_id_of_another_type_is_refused(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=1) as sandbox:
        with pytest.raises(ConfigurationError, match="conversation id"):
            make_client(sandbox).conversations.list_chats(7)  # type: ignore[arg-type]
        assert sandbox.count() == 0
