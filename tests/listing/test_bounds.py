"""The user's bounds on times: every conversation within them, whatever a server makes of its filters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from alli_async import AlliClient
from alli_async._listing.bounds import TimeBounds
from alli_async.export import export
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory

SERVERS: list[dict[str, Any]] = [
    {},
    {"unit": "s"},
    {"filter_numbers": "whole"},
    {"filter_numbers": "whole", "unit": "s"},
    {"filter_numbers": "seconds", "bounds": "open"},
    {"filter_numbers": "seconds", "unit": "s"},
    {"bounds": "open", "cursor": "keyset"},
    {"bounds": "open", "first_chat_fallback": True},
]


async def first_chats(client: AlliClient) -> dict[str, datetime]:
    """The time of the first chat of each conversation that has one."""
    found = client.conversations.transcripts()
    return {each.conversation.id: each.chats[0].sent async for each in found if each.chats}


USES = [
    (server, use) for n, server in enumerate(SERVERS) for use in ("export", ("stream", "raw", "ordered")[n % 3])
]


@pytest.mark.parametrize(("server", "use"), USES, ids=str)
async def test_conversations_at_the_bounds_are_there_and_none_beyond(
    make_client: ClientFactory, tmp_path: Path, server: dict[str, Any], use: str
) -> None:
    async with Sandbox(conversations=260, seed=5, **server) as sandbox:
        client = make_client(sandbox)
        times = await first_chats(client)
        start, end = sorted(times.values())[40], sorted(times.values())[200]
        wanted = {each for each, time in times.items() if start <= time <= end}
        if use == "export":
            report = await export(client, tmp_path / "all", since=start, until=end)
            assert report.conversations == len(wanted) + len(await created(sandbox, client, start, end))
            return
        options: dict[str, Any] = {} if use == "stream" else {use: True}
        stream: Any = client.conversations.transcripts(
            first_chat_started_at=start, first_chat_end_at=end, **options
        )
        found = [each.id if use == "raw" else each.conversation.id async for each in stream]
        assert len(found) == len(set(found))
        assert set(found) == wanted | set(await created(sandbox, client, start, end))


async def created(sandbox: Sandbox, client: AlliClient, start: datetime, end: datetime) -> list[str]:
    """Conversations without chats that were created between, where the server takes that for their first chat."""
    found = [each async for each in client.conversations.list() if not each.chat_count]
    return [each.id for each in found if sandbox.options.first_chat_fallback and start <= each.created <= end]


@pytest.mark.parametrize("server", SERVERS, ids=lambda each: " ".join(map(str, each.values())) or "exact")
async def test_bounds_on_the_last_chat_hold_too(make_client: ClientFactory, server: dict[str, Any]) -> None:
    async with Sandbox(conversations=200, seed=5, **server) as sandbox:
        client = make_client(sandbox)
        times = {each.id: each.last_chat async for each in client.conversations.list() if each.last_chat}
        start, end = sorted(times.values())[40], sorted(times.values())[150]
        found = [
            each.conversation.id async for each in client.conversations.transcripts(started_at=start, end_at=end)
        ]
        assert sorted(found) == sorted(each for each, time in times.items() if start <= time <= end)


@pytest.mark.parametrize("unit", ["ms", "s"])
async def test_a_list_takes_a_moment_with_microseconds_where_only_whole_numbers_are_taken(
    make_client: ClientFactory, unit: Any
) -> None:
    moment = datetime(2024, 1, 3, 12, 0, 0, 123_457, UTC)
    async with Sandbox(conversations=200, unit=unit, filter_numbers="whole") as sandbox:
        api = make_client(sandbox).conversations
        found = {each.id async for each in api.list(started_at=moment)}
        times = {each.id: each.last_chat async for each in api.list() if each.last_chat}
    wanted = {each for each, time in times.items() if time >= moment}
    assert wanted <= found
    assert all(times[each] >= moment - timedelta(seconds=1) for each in found)


def test_what_is_further_outside_than_the_wider_filter_reaches_is_the_servers_choice() -> None:
    bounds = TimeBounds((10_000.0, 20_000.0), (float("-inf"), 50_000.0), 1000.0)
    outside = [
        bounds.is_left_out(time, None) for time in (7_000, 9_000, 9_999, 10_000, 20_000, 20_001, 22_400, 23_000)
    ]
    assert outside == [False, True, True, False, False, True, True, False]
    assert bounds.is_left_out(15_000, 50_001)
    assert not bounds.is_left_out(None, None)
