"""Incremental runs, and compaction: the latest version of each conversation, and nothing lost on the way."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from alli_async import (
    ConfigurationError,
    ExportError,
    IncompleteError,
    Order,
    PaymentRequiredError,
    RetryPolicy,
)
from alli_async.export import ExportReport, compact, export
from alli_async.sandbox import Churn, Sandbox
from tests.conftest import ClientFactory
from tests.export.support import chats_by_id, lying, manifest, records, run, truth
from tests.support.destinations import unfinishable
from tests.support.late import late

ds = late("pyarrow.dataset")


def latest(dest: Path) -> dict[str, list[str]]:
    """The newest version of each conversation: the parts' names begin with the run."""
    return {record["id"]: [chat["id"] for chat in record["chats"]] for record in records(dest)}


@pytest.mark.parametrize(
    ("compression", "way"),
    [
        ("gzip", {"nulls": "first", "unit": "s"}),
        ("zstd", {}),
        ("none", {"cursor": "keyset"}),
    ],
)
async def test_the_next_run_writes_what_came_during_an_export_and_compaction_keeps_the_latest(
    make_client: ClientFactory, tmp_path: Path, way: dict[str, Any], compression: Any
) -> None:
    options: dict[str, Any] = {"compression": compression}
    async with Sandbox(conversations=300, churn=Churn(new_chats=3, new_conversations=1), **way) as sandbox:
        client = make_client(sandbox)
        before = truth(sandbox)
        first = await export(client, tmp_path, **options)
        assert first.kind == "full"
        found = latest(tmp_path) if compression != "zstd" else {}
        for each, chats in before.items():
            assert compression == "zstd" or set(found[each]) >= set(chats), each
    async with Sandbox(conversations=300, **way) as still:
        # The same data again, now at rest: what arrived since is new to the destination.
        new = still.add_conversations(3)
        for each in still.conversation_ids()[:40:10]:
            still.add_chats(2, each)
        client = make_client(still)
        second = await export(client, tmp_path, incremental=True, **options)
        assert (second.kind, second.run) == ("incremental", 2)
        assert 7 <= second.conversations < 150
        third = await export(client, tmp_path, incremental=True, **options)
        assert third.run == 3
        assert manifest(tmp_path)["runs"][1]["since"] is not None
        report = await compact(tmp_path)
        assert (report.kind, report.requests, report.finished_before) == ("compact", 0, False)
        total = manifest(tmp_path)["conversations"]
        if compression != "zstd":
            kept = chats_by_id(tmp_path)
            assert len(kept) == total
            assert {each: kept[each] for each in new} == {each: still.chat_ids(each) for each in new}
            for each in still.conversation_ids()[:40:10]:
                assert kept[each] == still.chat_ids(each)
        assert (await compact(tmp_path)).finished_before is True
        # It goes on from there.
        fourth = await export(client, tmp_path, incremental=True, **options)
        assert fourth.run == 5
        assert [each["run"] for each in manifest(tmp_path)["runs"]] == [1, 2, 3, 4, 5]


async def test_the_first_incremental_run_writes_everything_and_an_unfinished_one_is_resumed(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=100) as sandbox:
        client = make_client(sandbox, retry=RetryPolicy(base=0.001, cap=0.002, patience=0.0))
        first = await export(client, tmp_path, incremental=True)
        assert (first.kind, first.conversations) == ("full", 100)
        sandbox.add_chats(1, sandbox.conversation_ids()[0])
        sandbox.script("listConversations", ["ok", *["500"] * 20])
        with pytest.raises(Exception, match="500"):
            await export(client, tmp_path, incremental=True)
        sandbox.script("listConversations", [])
        with pytest.raises(ExportError, match="no complete export; finish it first"):
            await compact(tmp_path)
        second = await export(client, tmp_path)
        assert (second.kind, second.run) == ("incremental", 2)
        assert latest(tmp_path)[sandbox.conversation_ids()[0]] == sandbox.chat_ids(sandbox.conversation_ids()[0])
        assert (await export(client, tmp_path)).finished_before is True


async def test_an_incremental_run_after_an_empty_export_finds_nothing_on_an_empty_server(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=0) as sandbox:
        client = make_client(sandbox)
        assert (await export(client, tmp_path)).conversations == 0
        report = await export(client, tmp_path, incremental=True)
        assert (report.kind, report.conversations) == ("incremental", 0)


async def test_incremental_is_refused_with_bounds_on_the_last_chat(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=1) as sandbox:
        with pytest.raises(ConfigurationError, match="incremental: sets started_at itself"):
            await export(make_client(sandbox), tmp_path / "x", incremental=True, started_at=5)
        assert not (tmp_path / "x").exists()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("rename", "_journal/.run-00003-complete.json.partial"),
        ("unlink", "conversations/run-00001-shard-00000.jsonl.gz"),
        ("rename", ".manifest.json.partial"),
    ],
)
async def test_a_compaction_that_is_killed_leaves_a_whole_export(
    make_client: ClientFactory, tmp_path: Path, call: str, name: str
) -> None:
    dest = tmp_path / "all"
    async with Sandbox(conversations=100) as sandbox:
        client = make_client(sandbox)
        for incremental in (False, True):
            await export(client, dest, incremental=incremental)
        whole = latest(dest)
        prefix = (
            "strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-P", str(dest / name),
            "-e", f"inject={call}:signal=SIGKILL:when=1",
        )  # fmt: skip
        done = await asyncio.to_thread(run, {}, "compact", str(dest), prefix=prefix)
        assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), done.stderr
        assert latest(dest) == whole
        assert (await compact(dest)).kind == "compact"
        assert chats_by_id(dest) == whole
        assert manifest(dest)["conversations"] == 100
        assert (await export(client, dest)).finished_before


async def test_the_next_export_drops_an_unfinished_compaction(make_client: ClientFactory, tmp_path: Path) -> None:
    async with Sandbox(conversations=100) as sandbox:
        client = make_client(sandbox)
        await export(client, tmp_path)
        await export(client, tmp_path, incremental=True)
        whole = latest(tmp_path)
        with unfinishable(tmp_path, 3), pytest.raises(ExportError):
            await compact(tmp_path)
        assert (await export(client, tmp_path)).finished_before
        assert latest(tmp_path) == whole
        assert [each["run"] for each in manifest(tmp_path)["runs"]] == [1, 2]


@pytest.mark.parametrize("options", [{}, {"format": "parquet"}], ids=["jsonl", "parquet"])
async def test_an_incomplete_conversation_is_asked_for_again_until_it_is_whole_or_gone(
    make_client: ClientFactory, tmp_path: Path, options: dict[str, Any]
) -> None:
    def listed() -> list[str]:
        return sorted(each["id"] for each in manifest(tmp_path)["incomplete"])

    def skipped(report: ExportReport) -> list[str]:
        return sorted(str(each.id) for each in report.skipped)

    def noticed() -> list[str]:
        lines = (tmp_path / "deleted.jsonl").read_text("utf-8").splitlines()
        return [json.loads(line)["id"] for line in lines]

    def written() -> dict[str, int]:
        """Each conversation that is there, and in how many versions."""
        if not options:
            return dict(Counter(each["id"] for each in records(tmp_path)))
        column = ds.dataset(tmp_path / "conversations", format="parquet").to_table()["id"]
        return dict(Counter(column.to_pylist()))

    async with Sandbox(conversations=120, embed=0) as sandbox:
        # All of them long before the latest chat: no walk of what is new comes by.
        oldest = make_client(sandbox).conversations.list(order=Order.LAST_CHAT_TIME_ASC)
        wrong = sorted([each.id async for each in oldest if each.last_chat_time][:5])
        about, gone = list(wrong), [wrong[4]]
        client = make_client(sandbox, middlewares=[lying(about, gone)])
        first = await export(client, tmp_path, **options)
        assert skipped(first) == listed() == wrong
        second = await export(client, tmp_path, incremental=True, **options)
        # One of them is gone by now: that is noted, once.
        assert skipped(second) == listed() == wrong[:4]
        assert (second.deleted, noticed()) == (1, gone)
        about[:] = wrong[:2]
        third = await export(client, tmp_path, incremental=True, **options)
        assert skipped(third) == listed() == wrong[:2]
        assert (third.deleted, noticed()) == (0, gone)
        assert written().keys() == set(sandbox.conversation_ids()) - {*wrong[:2], *gone}
        about.clear()
        # Now one of them has a newer chat: the walk brings it, and it is asked for once only.
        sandbox.add_chats(1, wrong[0])
        fourth = await export(client, tmp_path, incremental=True, **options)
        assert (fourth.skipped, listed()) == ([], [])
        assert {each: written()[each] for each in wrong[:4]} == dict.fromkeys(wrong[:4], 1)
        before = sandbox.count("getConversation")
        await export(client, tmp_path, incremental=True, **options)
        # To know the project by; nothing is left to ask for.
        assert sandbox.count("getConversation") == before + 1
        kept = set(sandbox.conversation_ids()) - set(gone)
        assert written().keys() == kept
        await compact(tmp_path)
        assert written() == dict.fromkeys(kept, 1)
        assert (listed(), noticed()) == ([], gone)


async def test_compaction_keeps_the_list_of_incomplete_conversations_of_the_latest_run(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=100, embed=0) as sandbox:
        wrong = sorted([each for each in sandbox.conversation_ids() if sandbox.chat_ids(each)][20:22])
        about = list(wrong)
        client = make_client(sandbox, middlewares=[lying(about, [])])
        await export(client, tmp_path)
        del about[0]
        await export(client, tmp_path, incremental=True)
        before = manifest(tmp_path)["incomplete"]
        assert [each["id"] for each in before] == wrong[1:]
        await compact(tmp_path)
        assert manifest(tmp_path)["incomplete"] == before
        about.clear()
        await export(client, tmp_path, incremental=True)
        assert manifest(tmp_path)["incomplete"] == []
        assert latest(tmp_path) == truth(sandbox)


async def test_an_error_that_is_not_about_one_conversation_ends_the_run_that_asks_again(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=100, embed=0) as sandbox:
        wrong = [each for each in sandbox.conversation_ids() if sandbox.chat_ids(each)][20]
        about = [wrong]
        client = make_client(sandbox, middlewares=[lying(about, [])])
        await export(client, tmp_path)
        sandbox.script("getConversation", ["ok", 403])
        with pytest.raises(PaymentRequiredError):
            await export(client, tmp_path, incremental=True)
        with pytest.raises(IncompleteError):
            await export(client, tmp_path, incremental=True, on_error="raise")
        about.clear()
        assert (await export(client, tmp_path, incremental=True)).run == 2
        assert latest(tmp_path) == truth(sandbox)


@pytest.mark.parametrize("again", ["export", "compact"])
async def test_the_number_of_a_dropped_run_is_not_used_again(
    make_client: ClientFactory, tmp_path: Path, again: str
) -> None:
    async with Sandbox(conversations=100) as sandbox:
        client = make_client(sandbox)
        await export(client, tmp_path)
        await export(client, tmp_path, incremental=True)
        for run_number in (3, 4):
            with unfinishable(tmp_path, run_number), pytest.raises(ExportError):
                await compact(tmp_path)
        # Parts of runs 3 and 4 have been there for all to see.
        if again == "compact":
            assert (await compact(tmp_path)).run == 5
        else:
            assert (await export(client, tmp_path, incremental=True)).run == 5
        assert len(list((tmp_path / "_journal").glob("*-dropped.json"))) == 1
        assert (await export(client, tmp_path, incremental=True)).run == 6
        assert latest(tmp_path) == truth(sandbox)
