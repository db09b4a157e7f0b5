"""Bad days: faults of every kind, data that changes meanwhile, crowds, and records that cannot be decoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alli_async import DecodeError, ExportError, RetryPolicy
from alli_async._listing.filters import Filters
from alli_async.export import ExportProgress, export, plan_export
from alli_async.export.planning import plan_run
from alli_async.export.tuning import Tuning
from alli_async.sandbox import Churn, Sandbox
from tests.conftest import ClientFactory
from tests.export.support import chats_by_id, manifest, read_record, run
from tests.support.exports import export_tuned

FAULTS = (
    "429",
    "500",
    "503",
    "reset_before",
    "reset_after",
    "truncated",
    "cut_gzip",
    "html",
    "broken_json",
    "slow",
)
# A few hundred conversations show what three million would.
DENSE = Tuning(dense_rows=120, piece_rows=60, rows_ahead=60)
MANY_TRIES = RetryPolicy(base=0.001, cap=0.002, max_attempts=12, quota=100_000)


async def test_one_request_in_ten_fails_in_some_way_and_nothing_is_lost(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    faults = dict.fromkeys(FAULTS, 0.1 / len(FAULTS))
    async with Sandbox(conversations=1200, faults=faults, retry_after="none") as sandbox:
        report = await export(make_client(sandbox, retry=MANY_TRIES), tmp_path)
        assert report.retries > 5
        assert (report.skipped, report.quarantined) == ([], 0)
        assert chats_by_id(tmp_path) == {each: sandbox.chat_ids(each) for each in sandbox.conversation_ids()}
        assert manifest(tmp_path)["retries"] == report.retries


@pytest.mark.parametrize("way", [{}, {"nulls": "first"}, {"cursor": "keyset", "bounds": "open"}], ids=str)
async def test_what_stood_at_the_snapshot_is_there_with_at_least_its_chats_of_then(
    make_client: ClientFactory, tmp_path: Path, way: dict[str, Any]
) -> None:
    churn = Churn(new_chats=40, new_conversations=2)
    async with Sandbox(conversations=800, churn=churn, **way) as sandbox:
        before = {each: sandbox.chat_ids(each) for each in sandbox.conversation_ids()}
        client = make_client(sandbox)
        await export_tuned(client, tmp_path)
        found = chats_by_id(tmp_path)
        assert all(set(found[each]) >= set(chats) for each, chats in before.items())


async def test_a_shard_that_is_too_dense_is_split_and_goes_on(make_client: ClientFactory, tmp_path: Path) -> None:
    for way in ({"bounds": "open", "unit": "s"}, {"cursor": "keyset"}):
        dest = tmp_path / "-".join(["all", *map(str, way)])
        async with Sandbox(conversations=640, **way) as sandbox:  # type: ignore[arg-type]
            await export_tuned(make_client(sandbox), dest, DENSE)
            assert chats_by_id(dest) == {each: sandbox.chat_ids(each) for each in sandbox.conversation_ids()}
        names = [part["name"] for part in manifest(dest)["parts"]]
        assert any("00000.1.jsonl.gz" in name for name in names), names
        fates = [json.loads(path.read_text()) for path in (dest / "_journal").glob("run-*-shard-*.json")]
        assert any("split" in record for record in fates)


async def test_what_cannot_be_made_whole_beyond_a_cut_is_told_of_once(
    make_client: ClientFactory, tmp_path: Path
) -> None:

    async def lies(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        if request.path.endswith("/chats") and any(each in request.path for each in bad):
            response.body = response.body.replace(b'"totalCount":', b'"totalCount":1')
        return response

    async with Sandbox(conversations=640, embed=0) as sandbox:
        ids = [each for each in sandbox.conversation_ids() if sandbox.chat_ids(each)]
        wrong = ids[150:300:15]
        bad = [each.replace("=", "%3D") for each in wrong]
        report = await export_tuned(make_client(sandbox, middlewares=[lies]), tmp_path, DENSE)
        assert sorted(str(each.id) for each in report.skipped) == sorted(wrong)
        assert set(chats_by_id(tmp_path)) == set(sandbox.conversation_ids()) - set(wrong)


async def test_transcripts_that_were_short_are_written_once_and_whole(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    """A count that is proved and disproved later: what was taken on its word is given again."""

    async def understates(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        if request.path.endswith("/conversations"):
            page = json.loads(response.body)
            for each in page["conversations"]:
                if each["id"] in short:
                    each["chats"] = each["chats"][:-1]
                    each["chatCount"] = len(each["chats"])
                elif each["id"] == telling:
                    each["chatCount"] = len(each["chats"]) - 1
            response.body = json.dumps(page).encode()
        return response

    async with Sandbox(conversations=600) as sandbox:
        ids = [each for each in sandbox.conversation_ids() if 2 <= len(sandbox.chat_ids(each)) <= 20]
        short, telling = set(ids[20:200:40]), ids[-30]
        report = await export(make_client(sandbox, middlewares=[understates]), tmp_path)
        found = chats_by_id(tmp_path)
        assert len(found) == report.conversations == 600
        for each in short:
            if found[each] != sandbox.chat_ids(each):
                # In a shard of its own that met nothing to doubt.
                assert found[each] == sandbox.chat_ids(each)[:-1]
        assert any(found[each] == sandbox.chat_ids(each) for each in short)


# --- records that cannot be decoded -----------------------------------------------------------------------


def spoiling(bad: dict[str, Any], chats_of: str = "") -> Any:
    """A server whose list shows some conversations as nobody expects them."""

    async def spoil(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        if request.path.endswith("/conversations"):
            page = json.loads(response.body)
            page["conversations"] = [{**each, **bad.get(each["id"], {})} for each in page["conversations"]]
            response.body = json.dumps(page).encode()
        elif chats_of and chats_of in request.path:
            response.body = response.body.replace(b'"id":"', b'"id":null,"was":"', 1)
        return response

    return spoil


async def test_a_record_that_cannot_be_decoded_is_put_aside_with_why_and_the_others_are_there(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=900, embed=2) as sandbox:
        ids = sandbox.conversation_ids()
        empty = next(each for each in ids if not sandbox.chat_ids(each))
        long = next(each for each in ids[300:] if len(sandbox.chat_ids(each)) > 5)
        bad = {ids[0]: {"id": 7}, ids[70]: {"chatCount": "many"}, ids[-1]: {"chats": {}}, empty: {"id": None}}
        assert len({*bad, long}) == 5
        client = make_client(sandbox, middlewares=[spoiling(bad, chats_of=long.replace("=", "%3D"))])
        report = await export(client, tmp_path)
        assert report.quarantined == 5
        assert set(chats_by_id(tmp_path)) == set(ids) - {*bad, long}
        lines = [json.loads(line) for line in (tmp_path / "quarantine.jsonl").read_text("utf-8").splitlines()]
        assert len(lines) == manifest(tmp_path)["quarantined"] == 5
        assert all("not what the contract says" in line["why"] for line in lines)
        assert any(line.get("id") == long and '"was"' in line["record"] for line in lines)
        assert any("Expected `int`, got `str`" in line["why"] and '"many"' in line["record"] for line in lines)
        with pytest.raises(DecodeError):
            await export(client, tmp_path / "strict", on_error="raise")


def test_quarantine_makes_the_exit_code_3(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'export' in sys.argv:\n"
        "    from alli_async.sandbox import render\n"
        "    whole = render.Renderer.conversation\n"
        "    def spoiled(self, row, *rest):\n"
        "        made = whole(self, row, *rest)\n"
        '        return made.replace(b\'"chatCount":\', b\'"chatCount":"x","was":\') if row.number == 5 '
        "else made\n"
        "    render.Renderer.conversation = spoiled\n"
    )
    done = run({"PYTHONPATH": str(tmp_path)}, "export", str(tmp_path / "all"), "--sandbox", "200")
    assert done.returncode == 3, done.stderr
    assert "Exported 199 conversations" in done.stdout
    assert "not decodable: 1, in " in done.stdout
    again = run({}, "export", str(tmp_path / "all"), "--sandbox", "200")
    assert again.returncode == 3
    assert len((tmp_path / "all" / "quarantine.jsonl").read_text().splitlines()) == 1


# --- what is told -----------------------------------------------------------------------------------------


async def test_progress_tells_what_was_resumed_and_what_is_expected(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=600) as sandbox:
        client = make_client(sandbox)
        seen: list[ExportProgress] = []

        def stop(progress: ExportProgress) -> None:
            seen.append(progress)
            if progress.shards_done >= 3:
                raise RuntimeError("enough")

        with pytest.raises(RuntimeError, match="enough"):
            await export_tuned(client, tmp_path, on_progress=stop)
        seen.clear()
        report = await export_tuned(client, tmp_path, on_progress=seen.append)
        last = seen[-1]
        assert last.expected == pytest.approx(600, rel=0.05)
        assert report.resumed == last.resumed > 50
        assert last.resumed + last.conversations == report.conversations == 600
        assert last.shards == last.shards_done >= report.parts > 1
        assert len(chats_by_id(tmp_path)) == 600


async def test_a_run_that_an_earlier_version_has_begun_is_refused_in_one_line(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    def stop(progress: ExportProgress) -> None:
        if progress.shards_done:
            raise RuntimeError("enough")

    async with Sandbox(conversations=1200) as sandbox:
        client = make_client(sandbox)
        with pytest.raises(RuntimeError, match="enough"):
            await export(client, tmp_path, on_progress=stop)
        path = tmp_path / "_journal" / "run-00001-plan.json"
        plan = read_record(path)
        # It knew a span, but not how the server behaves.
        del plan["profile"]
        path.write_text(json.dumps(plan), "utf-8")
        with pytest.raises(ExportError, match="run 1 was begun by an earlier version") as caught:
            await export(client, tmp_path)
        assert "\n" not in str(caught.value)


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    done = run({}, "export", "all", "--sandbox", "3000", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, *shards = done.stdout.splitlines()
    assert first.startswith("About 2,9"), first
    assert "shards; about " in first
    assert shards[0].startswith("  00000  open")
    assert " 2024-01-0" in shards[0]
    done = run({}, "export", "all", "--sandbox", "60", "--dry-run", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["expected"] == 60
    done = run({}, "export", "all", "--sandbox", "60", "--dry-run", "--started-at", "@5", cwd=tmp_path)
    assert done.stdout.startswith("An unknown number of conversations in 1 shard.")
    assert not list(tmp_path.iterdir())


async def test_a_span_is_exported_exactly(make_client: ClientFactory, tmp_path: Path) -> None:
    async with Sandbox(conversations=1500) as sandbox:
        client = make_client(sandbox)
        everything = [each async for each in client.conversations.list(order="FIRST_CHAT_TIME_ASC")]
        low, high = everything[200].created, everything[1300].created
        listed = client.conversations.list(first_chat_started_at=low, first_chat_end_at=high)
        expected = {each.id async for each in listed}
        report = await export(client, tmp_path, since=low, until=high)
        assert set(chats_by_id(tmp_path)) == expected
        plan = (await plan_export(client, since=low, until=high)).plan
        assert 1 < report.parts <= len(plan.shards)


async def test_a_plan_for_some_of_the_conversations_does_not_use_the_counts_of_all(
    make_client: ClientFactory,
) -> None:
    async with Sandbox(conversations=1500) as sandbox:
        client = make_client(sandbox)
        await plan_run(client.conversations._session, Filters.checked({"active_only": True}))
        assert sandbox.count("getDailyConversationCount") == 0
