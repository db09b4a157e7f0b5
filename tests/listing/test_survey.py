"""The survey finds out how a server answers list requests, in at most nine of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from alli_async import AlliClient
from alli_async._listing.filters import ConversationFilters, Filters
from alli_async._listing.page_reader import PageReader
from alli_async._listing.pages import decode_conversations
from alli_async._listing.survey import ServerProfile, Span, Survey, survey_list
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory


async def survey_of(client: AlliClient, **filters: Any) -> Survey[Any]:
    checked: ConversationFilters = filters  # type: ignore[assignment]
    pages: PageReader[Any] = PageReader(
        client.conversations._session, Filters.checked(checked), decode_conversations
    )
    return await survey_list(pages)


@pytest.mark.parametrize("unit", ["ms", "s"])
@pytest.mark.parametrize(
    ("cursor", "kind"), [("offset", "offset"), ("relay", "offset"), ("keyset", "keyset"), ("opaque", "opaque")]
)
async def test_the_kind_of_cursor_is_what_a_bound_shows(
    make_client: ClientFactory, cursor: Any, kind: str, unit: Any
) -> None:
    async with Sandbox(conversations=1200, cursor=cursor, unit=unit) as sandbox:
        survey = await survey_of(make_client(sandbox))
        profile = survey.profile
        assert sandbox.count() <= 9
    assert (profile.order_kept, profile.windows_kept, profile.cursor_accepts_nearer_end) == (True, True, True)
    assert profile.units_per_second == (1000.0 if unit == "ms" else 1.0)
    assert profile.cursor == kind
    assert (profile.offsets is not None) == (kind == "offset")
    assert survey.span is not None
    assert survey.span.low < survey.span.last_cut < survey.span.high


@pytest.mark.parametrize("cursor", ["offset", "keyset"])
async def test_a_list_that_begins_with_conversations_without_chats_is_read_in_partitions(
    make_client: ClientFactory, cursor: Any
) -> None:
    async with Sandbox(conversations=3000, cursor=cursor, nulls="first") as sandbox:
        survey = await survey_of(make_client(sandbox))
        assert (survey.profile.order_kept, survey.profile.windows_kept) == (True, True)
        assert survey.span is not None
        assert sandbox.count() <= 9


async def test_a_server_that_ignores_the_order_is_read_by_last_chat(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=600, order="ignored") as sandbox:
        survey = await survey_of(make_client(sandbox))
        assert not survey.profile.order_kept
        assert survey.by_last_chat
        assert survey.span is None
        assert sandbox.count() <= 9


async def test_a_server_that_refuses_orders_by_first_chat_is_read_by_last_chat(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=600, first_chat_orders="refused") as sandbox:
        survey = await survey_of(make_client(sandbox))
        assert survey.by_last_chat
        assert sandbox.count() == 1


async def test_a_server_that_ignores_windows_is_not_read_in_partitions(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=600, first_chat_filters="ignored") as sandbox:
        survey = await survey_of(make_client(sandbox))
        assert survey.profile.order_kept
        assert not survey.profile.windows_kept
        assert survey.span is None
        assert sandbox.count() <= 9


@pytest.mark.parametrize("conversations", [0, 1, 50, 51, 100, 101, 150])
async def test_a_list_of_few_pages_is_not_cut_into_partitions(
    make_client: ClientFactory, conversations: int
) -> None:
    async with Sandbox(conversations=conversations) as sandbox:
        survey = await survey_of(make_client(sandbox))
        assert survey.span is None
        assert not survey.by_last_chat
        assert sandbox.count() <= 4


async def test_a_filter_on_the_last_chat_is_read_by_last_chat_without_a_survey(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=600) as sandbox:
        survey = await survey_of(make_client(sandbox), started_at=1)
        assert survey.by_last_chat
        assert sandbox.count() == 0


@pytest.mark.parametrize("numbers", ["whole", "seconds"])
async def test_windows_are_used_where_filters_are_whole_numbers_only(
    make_client: ClientFactory, numbers: Any
) -> None:
    async with Sandbox(conversations=1200, filter_numbers=numbers) as sandbox:
        survey = await survey_of(make_client(sandbox))
        assert survey.profile.windows_kept
        assert survey.span is not None
        assert not sandbox.count(status=400)


async def test_a_time_that_is_nonsense_does_not_decide_the_span(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=1200) as sandbox:
        plain = await survey_of(make_client(sandbox))
        ids = [each.id async for each in make_client(sandbox).conversations.list(order="FIRST_CHAT_TIME_ASC")]
        sandbox.override(ids[0], {"createdAt": 1e300, "lastChatTime": 1e300})
        sandbox.override(ids[1], {"createdAt": -5.0})
        survey = await survey_of(make_client(sandbox))
        assert plain.span is not None
        assert survey.span is not None
        assert survey.profile.units_per_second == 1000.0
        assert survey.span.high == plain.span.high
        assert abs(survey.span.low - plain.span.low) < 86_400_000 * 30


@pytest.mark.parametrize("switch", [{"page_cap": 20}, {"null_last_chat": 0.3}, {"first_chat_fallback": True}])
async def test_other_habits_of_a_server_do_not_keep_it_from_being_read_in_partitions(
    make_client: ClientFactory, switch: dict[str, Any]
) -> None:
    async with Sandbox(conversations=1200, **switch) as sandbox:
        survey = await survey_of(make_client(sandbox))
        assert survey.span is not None
        assert sandbox.count() <= 9


async def test_the_span_keeps_to_the_bounds_that_were_asked_for(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=2000) as sandbox:
        times = sorted([each.created_at async for each in make_client(sandbox).conversations.list()])
        bounds = {"first_chat_started_at": times[200], "first_chat_end_at": times[1800]}
        survey = await survey_of(make_client(sandbox), **bounds)
        assert survey.span is not None
        assert survey.span.bounded
        # Readers ask for a second more on each side, and leave out what that brings.
        assert times[200] - 1000 <= survey.span.low < survey.span.high <= times[1800] + 1000


def test_a_span_of_an_earlier_plan_is_read_on() -> None:
    written = b'{"low":1.0,"high":9.0,"second":1000.0,"resolution":1000.0,"density":0.5,"bounded":false}'
    span = msgspec.json.decode(written, type=Span)
    assert span.units_per_second == 1000.0
    assert msgspec.json.encode(span) == written


def test_a_server_profile_of_an_earlier_plan_is_read_on() -> None:
    written = (
        b'{"second":1.0,"cursor":"offset","offsets":{"head":"offset:","tail":"","shift":-1,"codec":2},'
        b'"order_kept":true,"windows_kept":true,"cursor_keeps_bounds":false}'
    )
    profile = msgspec.json.decode(written, type=ServerProfile)
    assert profile.units_per_second == 1.0
    assert profile.offsets is not None
    assert profile.offsets.cursor(50) == "offset:49"
    assert msgspec.json.encode(profile) == written
