"""Switches: True and False, and nothing that merely resembles them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alli_async import AlliClient, ConfigurationError, ConversationUpdate
from alli_async.export import compact, export, plan_export
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer


async def _bulk_update(client: AlliClient, _: Path, value: Any) -> None:
    await client.conversations.bulk_update(ConversationUpdate(title="x"), all_conversations=value)


async def _bulk_update_of_some(client: AlliClient, _: Path, value: Any) -> None:
    update = ConversationUpdate(title="x")
    await client.conversations.bulk_update(update, conversation_ids=["a"], all_conversations=value)


async def _raw(client: AlliClient, _: Path, value: Any) -> None:
    client.conversations.transcripts(raw=value)


async def _ordered(client: AlliClient, _: Path, value: Any) -> None:
    client.conversations.transcripts(ordered=value)


async def _history(client: AlliClient, _: Path, value: Any) -> None:
    client.conversations.watch("a", history=value)


async def _allow_http(client: AlliClient, _: Path, value: Any) -> None:
    client.with_options(allow_http=value)


async def _incremental(client: AlliClient, path: Path, value: Any) -> None:
    await export(client, path, incremental=value)


async def _refresh(client: AlliClient, path: Path, value: Any) -> None:
    await plan_export(client, path, refresh=value)


async def _drop_deleted(_: AlliClient, path: Path, value: Any) -> None:
    await compact(path, drop_deleted=value)


SWITCHES: dict[Callable[..., Any], str] = {
    _bulk_update: "all_conversations",
    _bulk_update_of_some: "all_conversations",
    _raw: "raw",
    _ordered: "ordered",
    _history: "history",
    _allow_http: "allow_http",
    _incremental: "incremental",
    _refresh: "refresh",
    _drop_deleted: "drop_deleted",
}


@pytest.mark.parametrize("value", ["false", "no", "", 0, 1, [0], None])
async def test_a_switch_that_is_no_bool_is_refused_before_anything_is_sent_or_written(
    make_client: ClientFactory, tmp_path: Path, value: Any
) -> None:
    async with ScriptedServer(answer(200)) as server:
        for call, name in SWITCHES.items():
            with pytest.raises(ConfigurationError, match=rf"^{name}: expected True or False, got "):
                await call(make_client(server), tmp_path / "all", value)
        assert server.requests == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [True, 0, "2", 1.0])
async def test_a_concurrency_that_is_no_whole_number_is_refused(make_client: ClientFactory, value: Any) -> None:
    async with ScriptedServer(answer(200)) as server:
        api = make_client(server).conversations
        with pytest.raises(ConfigurationError, match=r"^concurrency: expected a whole number of at least 1"):
            api.transcripts(concurrency=value)
        with pytest.raises(ConfigurationError, match=r"^concurrency: expected a whole number of at least 1"):
            api.for_each(["a"], api.get, concurrency=value)
