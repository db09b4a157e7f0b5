"""`arrow_batches`: every conversation with all its chats, as Arrow tables, without files."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from alli_async import ConfigurationError, DecodeError
from alli_async.export import arrow_batches, export
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.export.support import truth
from tests.support.late import late

pa = late("pyarrow")
pq = late("pyarrow.parquet")


def chats_of(tables: list[Any]) -> dict[str, list[str]]:
    """The ids of the chats of each conversation, by position."""
    found: dict[str, list[tuple[int, str]]] = {}
    for table in tables:
        for row in table.select(["conversation_id", "position", "id"]).to_pylist():
            found.setdefault(row["conversation_id"], []).append((row["position"], row["id"]))
    return {name: [each for _, each in sorted(some)] for name, some in found.items()}


async def test_batches_hold_every_conversation_and_chat_once_in_the_columns_of_a_parquet_export(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=430) as sandbox:
        client = make_client(sandbox)
        batches = arrow_batches(client, rows=100)
        pairs = [pair async for pair in batches]
        await export(client, tmp_path, format="parquet")
        assert [conversations.num_rows for conversations, _ in pairs] == [100, 100, 100, 100, 30]
        for place, name in enumerate(("conversations", "chats")):
            written = pq.read_table(tmp_path / name)
            read = pa.concat_tables([pair[place] for pair in pairs])
            assert read.schema.equals(written.schema)
            keys = ["id"] if place == 0 else ["conversation_id", "position"]
            kept = [each for each in written.column_names if each != "run"]
            order = [(key, "ascending") for key in keys]
            assert read.select(kept).sort_by(order).equals(written.select(kept).sort_by(order))
        ids = [each for conversations, _ in pairs for each in conversations["id"].to_pylist()]
        assert sorted(ids) == sorted(sandbox.conversation_ids())
        expected = {name: chats for name, chats in truth(sandbox).items() if chats}
        assert chats_of([chats for _, chats in pairs]) == expected
        assert (batches.stats.conversations, batches.skipped, batches.again) == (430, [], set())


async def test_filters_select_what_is_in_the_batches(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=60) as sandbox:
        client = make_client(sandbox)
        pairs = [pair async for pair in arrow_batches(client, active_only=True)]
        active = [each.id async for each in client.conversations.list(active_only=True)]
        assert sorted(pairs[0][0]["id"].to_pylist()) == sorted(active)
        assert 0 < len(active) < 60


async def test_a_list_without_conversations_gives_no_batch(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=0) as sandbox:
        assert [pair async for pair in arrow_batches(make_client(sandbox))] == []


async def test_leaving_in_the_middle_ends_the_work(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=2000, latency=0.01) as sandbox:
        client = make_client(sandbox)
        async with arrow_batches(client, rows=50) as batches:
            async for conversations, _ in batches:
                assert conversations.num_rows == 50
                break
        assert client.limits.in_flight == client.limits.waiting == 0
        assert not [task for task in asyncio.all_tasks() if "alli_async._" in repr(task.get_coro())]
        assert sandbox.count("listConversations") < 40


async def test_a_conversation_that_no_column_takes_ends_the_batches_or_is_noted(
    make_client: ClientFactory,
) -> None:
    async with Sandbox(conversations=60) as sandbox:
        client = make_client(sandbox)
        wrong = sandbox.conversation_ids()[7]
        sandbox.override(wrong, {"memo": {"not": "text"}})
        with pytest.raises(DecodeError):
            async for _ in arrow_batches(client):
                pass
        batches = arrow_batches(client, on_error="skip")
        ids = [each async for conversations, _ in batches for each in conversations["id"].to_pylist()]
        assert sorted(ids) == sorted(set(sandbox.conversation_ids()) - {wrong})
        assert [each.id for each in batches.skipped] == [wrong]


@pytest.mark.parametrize("rows", [0, -1, 1.5, True, "5"])
async def test_a_number_of_rows_that_cannot_be_right_is_refused(make_client: ClientFactory, rows: Any) -> None:
    async with Sandbox(conversations=1) as sandbox:
        with pytest.raises(ConfigurationError, match="rows: expected a whole number of at least 1, got"):
            arrow_batches(make_client(sandbox), rows=rows)


async def test_without_pyarrow_the_error_names_the_extra(
    make_client: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    async with Sandbox(conversations=1) as sandbox:
        with pytest.raises(ConfigurationError, match=r"pip install 'alli-async\[parquet\]'"):
            arrow_batches(make_client(sandbox))
