"""What a dry run says of a destination is what the export then does; and it changes nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from alli_async import AlliClient, ConfigurationError, ExportError
from alli_async.export import ExportPreview, compact, export, plan_export
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.export.support import lying, read_record
from tests.support.commands import run
from tests.support.destinations import unfinishable, when_committed
from tests.support.exports import SMALL_ONE_AT_A_TIME, export_tuned


def everything(dest: Path) -> dict[str, tuple[int, int]]:
    """What is in a destination, as it stands."""
    return {str(each): (each.stat().st_mtime_ns, each.stat().st_size) for each in [dest, *dest.rglob("*")]}


async def look(client: AlliClient, sandbox: Sandbox, dest: Path, requests: int, **options: Any) -> ExportPreview:
    """The preview, once it is proved that nothing was changed and how much was asked."""
    before, asked = everything(dest), sandbox.count()
    found = await plan_export(client, dest, **options)
    assert everything(dest) == before
    assert sandbox.count() - asked == requests
    return found


async def test_a_preview_of_an_unfinished_export_tells_which_shards_are_left(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=400) as sandbox:
        stop = when_committed(tmp_path, 3, lambda: running.cancel())
        running = asyncio.create_task(
            export_tuned(make_client(sandbox, middlewares=[stop]), tmp_path, SMALL_ONE_AT_A_TIME)
        )
        with pytest.raises(asyncio.CancelledError):
            await running
        client = make_client(sandbox)
        # What a killed process left half written stays as well.
        (tmp_path / "conversations" / ".run-00001-shard-99999.jsonl.gz.partial").write_bytes(b"x")
        found = await look(client, sandbox, tmp_path, 1)
        assert (found.state, found.plan.run, found.plan.kind) == ("unfinished", 1, "full")
        written = {path.name.split("-")[3].split(".")[0] for path in (tmp_path / "_journal").glob("*-shard-*")}
        assert {each.name for each in found.shards} == {each.name for each in found.plan.shards} - written
        assert found.requests is not None
        assert found.requests > 8
        report = await export_tuned(client, tmp_path, SMALL_ONE_AT_A_TIME)
        assert report.resumed == found.written > 0


async def test_a_preview_of_a_complete_export_tells_that_nothing_is_left_or_since_when_it_asks(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    about: list[str] = []
    async with Sandbox(conversations=300, embed=0) as sandbox:
        client = make_client(sandbox, middlewares=[lying(about, [])])
        about.append([each for each in sandbox.conversation_ids() if sandbox.chat_ids(each)][10])
        await export(client, tmp_path)
        found = await look(client, sandbox, tmp_path, 1)
        assert (found.state, found.shards, found.requests, found.written) == ("complete", [], 0, 299)
        with unfinishable(tmp_path, 2), pytest.raises(ExportError):
            await export(client, tmp_path, incremental=True)
        found = await look(client, sandbox, tmp_path, 1, incremental=True)
        assert (found.state, found.plan.run, found.shards) == ("unfinished", 2, [])
        assert (await export(client, tmp_path)).run == 2
        found = await look(client, sandbox, tmp_path, 2, incremental=True)
        assert (found.state, found.plan.run, found.plan.again) == ("incremental", 3, about)
        report = await export(client, tmp_path, incremental=True)
        assert (report.run, report.kind) == (3, "incremental")
        since = json.loads((tmp_path / "_journal" / "run-00003-plan.json").read_text("utf-8"))["since"]
        assert since == found.plan.since


async def test_a_preview_ignores_a_compaction_that_was_stopped(make_client: ClientFactory, tmp_path: Path) -> None:
    async with Sandbox(conversations=100) as sandbox:
        client = make_client(sandbox)
        await export(client, tmp_path)
        await export(client, tmp_path, incremental=True)
        with unfinishable(tmp_path, 3), pytest.raises(ExportError):
            await compact(tmp_path)
        assert (await look(client, sandbox, tmp_path, 1)).state == "complete"


async def test_a_preview_refuses_what_the_export_would_refuse(make_client: ClientFactory, tmp_path: Path) -> None:
    async with Sandbox(conversations=100) as sandbox, Sandbox(conversations=5, seed=9) as other:
        client = make_client(sandbox)
        await export(client, tmp_path / "all")
        with pytest.raises(ConfigurationError, match="holds another export"):
            await plan_export(client, tmp_path / "all", format="parquet")
        with pytest.raises(ConfigurationError, match="is a file"):
            await plan_export(client, tmp_path / "all.jsonl", incremental=True)
        with pytest.raises(ExportError, match="of another project"):
            await plan_export(make_client(other), tmp_path / "all")
        next((tmp_path / "all" / "conversations").iterdir()).unlink()
        with pytest.raises(ExportError, match="is gone"):
            await plan_export(client, tmp_path / "all")
        assert (await plan_export(client, tmp_path / "new" / "place")).state == "new"
        assert (await plan_export(client, tmp_path / "all.jsonl")).state == "new"
        assert [each.name for each in tmp_path.iterdir()] == ["all"]


async def test_a_dry_run_of_the_command_prints_the_preview(make_client: ClientFactory, tmp_path: Path) -> None:
    dest = tmp_path / "all"
    async with Sandbox(conversations=60) as sandbox:
        await export(make_client(sandbox), dest)

        async def said(*more: str) -> str:
            done = await asyncio.to_thread(run, "export", str(dest), "--dry-run", *more, sandbox=sandbox)
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert (await said()).startswith("Complete already: 60 conversations are there; nothing to do.")
        told = json.loads(await said("--json"))
        assert (told["state"], told["written"], told["shards"]) == ("complete", 60, [])
        last = max((dest / "_journal").glob("run-00001-shard-*"))
        record = read_record(last)
        record["commit"]["incomplete"] = [{"id": "one", "why": "its chats did not add up"}]
        last.write_text(json.dumps(record), "utf-8")
        first, second = (await said("--incremental")).splitlines()[:2]
        assert first.startswith("60 conversations are there. Run 2 asks for those with a chat since 2")
        assert second == "  and again for 1 that could not be made whole"
        (dest / "_journal" / "run-00001-complete.json").unlink()
        last.unlink()
        first, *shards = (await said()).splitlines()
        assert first.startswith("Run 1 (full) goes on: ")
        assert " left; about " in first
        assert len(shards) == 1
