"""Nightly runs: nothing is forgotten, and nothing is called complete that is not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from alli_async import ConfigurationError, ExportError
from alli_async.export import compact, export, plan_export, verify
from tests.conftest import ClientFactory
from tests.export.support import chats_by_id, lines_of, manifest, records
from tests.support.backend import Backend
from tests.support.destinations import unfinishable

DAY = 86_400.0


def latest(dest: Path) -> dict[str, list[str]]:
    """The latest version of each conversation: the names of later runs come later."""
    return {record["id"]: [chat["id"] for chat in record["chats"]] for record in records(dest)}


def deleted(dest: Path) -> list[str]:
    return [each["id"] for each in lines_of(dest / "deleted.jsonl")]


def parts(dest: Path) -> list[str]:
    return sorted(path.name for path in (dest / "conversations").glob("*"))


# --- since when -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [7200.0, 3 * DAY])
@pytest.mark.parametrize("second", [1.0, 1000.0])
async def test_a_chat_that_is_dated_ahead_does_not_decide_what_is_asked_for_next(
    make_client: ClientFactory, tmp_path: Path, ahead: float, second: float
) -> None:
    async with Backend(second=second) as backend:
        backend.add(40)
        backend.add(1, at=time.time() + ahead)
        client = make_client(backend)
        await export(client, tmp_path)
        new = backend.add(30)
        report = await export(client, tmp_path, incremental=True)
        assert set(new) <= latest(tmp_path).keys()
        assert report.conversations == 30
        assert latest(tmp_path) == backend.truth()


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 31 Dec 9999 23:59:59 -1400",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Mon, 01 Jan 0001 00:00:00 +1400",
        "yesterday",
    ],
)
async def test_a_date_header_that_is_nonsense_leaves_nothing_out(
    make_client: ClientFactory, tmp_path: Path, date: str
) -> None:
    async with Backend(date=date) as backend:
        backend.add(20)
        client = make_client(backend)
        await export(client, tmp_path)
        backend.add(5)
        await export(client, tmp_path, incremental=True)
        assert latest(tmp_path) == backend.truth()


@pytest.mark.parametrize("second", [1.0, 1000.0])
async def test_what_comes_after_a_run_on_an_empty_project_is_brought(
    make_client: ClientFactory, tmp_path: Path, second: float
) -> None:
    async with Backend(second=second) as backend:
        client = make_client(backend)
        assert (await export(client, tmp_path)).conversations == 0
        assert parts(tmp_path) == []
        backend.add(205)
        assert (await export(client, tmp_path, incremental=True)).conversations == 205
        assert latest(tmp_path) == backend.truth()


async def test_chats_that_are_dated_behind_the_clock_are_brought(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Backend() as backend:
        backend.add(30, at=time.time() - 300 * DAY)
        client = make_client(backend)
        await export(client, tmp_path)
        new = backend.add(5, at=time.time() - 299 * DAY)
        await export(client, tmp_path, incremental=True)
        assert set(new) <= latest(tmp_path).keys()


async def test_a_quiet_night_leaves_no_part(make_client: ClientFactory, tmp_path: Path) -> None:
    async with Backend() as backend:
        backend.add(30)
        client = make_client(backend)
        await export(client, tmp_path)
        before = parts(tmp_path)
        for number in (2, 3):
            report = await export(client, tmp_path, incremental=True)
            assert (report.run, report.conversations, report.parts) == (number, 0, 0)
        assert parts(tmp_path) == before
        assert [each["run"] for each in manifest(tmp_path)["runs"]] == [1, 2, 3]


async def test_a_chat_that_changed_within_the_overlap_is_brought(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Backend() as backend:
        ids = backend.add(30)
        client = make_client(backend)
        await export(client, tmp_path)
        backend.talks[ids[-1]].texts = "the answer, finished"
        report = await export(client, tmp_path, incremental=True)
        assert (report.conversations, report.parts) == (1, 1)
        assert records(tmp_path)[-1]["chats"][0]["message"] == "the answer, finished"


# --- whose conversations ----------------------------------------------------------------------------------


async def test_retention_of_all_conversations_that_were_noted_does_not_end_a_destination(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Backend() as backend:
        ids = backend.add(60)
        client = make_client(backend)
        await export(client, tmp_path)
        for each in [*ids[:20], *ids[-20:]]:
            del backend.talks[each]
        new = backend.add(5, prefix="new")
        await export(client, tmp_path, incremental=True)
        assert latest(tmp_path).keys() == {*ids, *new}


async def test_one_conversation_in_the_middle_that_is_still_known_proves_the_project(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Backend() as backend:
        ids = backend.add(60, at=time.time() - DAY, step=60)
        await export(make_client(backend), tmp_path)
        for each in [*ids[:25], *ids[30:]]:
            del backend.talks[each]
        # Later ones at both ends of every order: more than a page of each.
        earlier = backend.add(60, at=time.time() - 300 * DAY, prefix="imported")
        later = backend.add(60, prefix="new")
        assert (await plan_export(make_client(backend), tmp_path, incremental=True)).state == "incremental"
        await export(make_client(backend), tmp_path, incremental=True)
        assert latest(tmp_path).keys() >= {*ids, *later}
        await export(make_client(backend), tmp_path, refresh=True)
        assert latest(tmp_path).keys() == {*ids, *earlier, *later}


@pytest.mark.parametrize("is_killed", [False, True], ids=["complete", "unfinished"])
async def test_where_everything_was_deleted_the_user_vouches_once_for_the_project(
    make_client: ClientFactory, tmp_path: Path, *, is_killed: bool
) -> None:
    async with Backend() as backend:
        ids = backend.add(60, at=time.time() - DAY, step=60)
        client = make_client(backend)
        await export(client, tmp_path)
        if is_killed:
            (tmp_path / "_journal" / "run-00001-complete.json").unlink()
        backend.talks.clear()
        new = backend.add(60, prefix="new")
        before = sorted(path.name for path in tmp_path.rglob("*"))
        with pytest.raises(ExportError, match=r"of another project\? .* say so once by same_project"):
            await export(client, tmp_path, incremental=True)
        with pytest.raises(ExportError, match="of another project"):
            await plan_export(client, tmp_path, incremental=True)
        assert sorted(path.name for path in tmp_path.rglob("*")) == before
        await export(client, tmp_path, incremental=True, same_project=True)
        await export(client, tmp_path, incremental=True, same_project=is_killed)
        assert latest(tmp_path).keys() == {*ids, *new}
        # From now on the new ones prove it.
        backend.add(1, prefix="newer")
        assert (await export(client, tmp_path, incremental=True)).conversations >= 1
        report = await export(client, tmp_path, refresh=True)
        assert (report.deleted, sorted(deleted(tmp_path))) == (60, ids)


async def test_a_first_run_that_wrote_nothing_goes_on_although_all_that_it_noted_is_deleted(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Backend() as backend:
        backend.add(5)
        client = make_client(backend)
        (tmp_path / "_journal").mkdir()
        with unfinishable(tmp_path, 1), pytest.raises(ExportError):
            await export(client, tmp_path)
        for path in [*tmp_path.glob("_journal/run-*-shard-*"), *tmp_path.glob("conversations/*")]:
            path.unlink()
        backend.talks.clear()
        new = backend.add(3, prefix="new")
        assert (await export(client, tmp_path)).run == 1
        assert latest(tmp_path).keys() == set(new)


async def test_the_key_of_another_project_mixes_nothing_in(make_client: ClientFactory, tmp_path: Path) -> None:
    async with Backend() as backend, Backend() as other:
        other.add(40, prefix="other")
        await export(make_client(backend), tmp_path)
        backend.add(205)
        await export(make_client(backend), tmp_path, incremental=True)
        before = latest(tmp_path)
        for incremental, refresh in ((False, False), (True, False), (False, True)):
            with pytest.raises(ExportError, match="of another project"):
                await export(make_client(other), tmp_path, incremental=incremental, refresh=refresh)
        assert latest(tmp_path) == before
        # Of a project without any conversation nothing can be known.
        async with Backend() as empty:
            with pytest.raises(ExportError, match="of another project"):
                await export(make_client(empty), tmp_path, refresh=True)
        assert not (tmp_path / "deleted.jsonl").exists()


# --- what is missing --------------------------------------------------------------------------------------


def html_for(each: str) -> Any:
    """A gateway's page in place of the chats of one conversation."""

    def instead(request: web.Request) -> web.Response | None:
        if request.path.endswith(f"/{each}/chats"):
            return web.Response(text="<html>Bad gateway, kind of</html>", content_type="text/html")
        return None

    return instead


async def test_html_in_place_of_chats_for_one_night_is_kept_and_asked_for_again_until_it_is_whole(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Backend() as backend:
        ids = backend.add(60, at=time.time() - 5 * DAY, step=60, chats=8)
        backend.instead = html_for(ids[7])
        client = make_client(backend)
        first = await export(client, tmp_path)
        assert first.quarantined + len(first.skipped) == 1
        (line,) = lines_of(tmp_path / "quarantine.jsonl")
        assert (line["id"], "<html>" in line["record"]) == (ids[7], True)
        again = await export(client, tmp_path)
        assert again.finished_before
        assert again.quarantined + len(again.skipped) == 1
        second = await export(client, tmp_path, incremental=True)
        assert second.quarantined + len(second.skipped) == 1
        backend.instead = lambda _: None
        third = await export(client, tmp_path, incremental=True)
        assert (third.quarantined, third.skipped) == (0, [])
        assert latest(tmp_path) == backend.truth()
        assert not (tmp_path / "quarantine.jsonl").exists()
        assert manifest(tmp_path)["conversations"] == 60


@pytest.mark.parametrize("second", [1.0, 1000.0])
async def test_rows_that_cannot_be_decoded_are_asked_for_again_until_they_can(
    make_client: ClientFactory, tmp_path: Path, second: float
) -> None:
    async with Backend(second=second) as backend:
        ids = backend.add(400, at=time.time() - 5 * DAY, step=60)
        backend.talks[ids[50]].chats.clear()
        wrong: dict[str, dict[str, Any]] = {
            ids[3]: {"id": 7},
            ids[9]: {"chatCount": "many"},
            ids[50]: {"id": None},
            ids[-1]: {"id": ["x"]},
        }

        def spoil(row: dict[str, Any]) -> None:
            row.update(wrong.get(row.get("id", ""), {}) if isinstance(row.get("id"), str) else {})

        backend.spoiled = spoil
        client = make_client(backend)
        first = await export(client, tmp_path)
        assert first.quarantined == 4
        second_run = await export(client, tmp_path, incremental=True)
        assert second_run.quarantined == 4
        wrong.clear()
        third = await export(client, tmp_path, incremental=True)
        assert (third.quarantined, third.skipped) == (0, [])
        assert latest(tmp_path) == backend.truth()
        assert third.conversations == 4


async def test_a_conversation_that_is_deleted_in_mid_export_is_noted_and_not_missing(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Backend() as backend:
        ids = backend.add(60, at=time.time() - 5 * DAY, step=60, chats=8)
        backend.add(60, chats=8)

        def instead(request: web.Request) -> web.Response | None:
            if request.path.endswith(f"/{ids[7]}/chats"):
                backend.talks.pop(ids[7], None)
            return None

        backend.instead = instead
        report = await export(make_client(backend), tmp_path, on_error="raise")
        assert (report.skipped, report.quarantined, report.deleted) == ([], 0, 1)
        assert deleted(tmp_path) == [ids[7]]
        assert latest(tmp_path) == backend.truth()
        assert (await export(make_client(backend), tmp_path, incremental=True)).deleted == 0


async def test_a_plain_run_tells_of_all_that_is_held_and_not_of_the_last_run(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Backend() as backend:
        ids = backend.add(499, at=time.time() - DAY, step=60)
        client = make_client(backend)
        await export(client, tmp_path)
        backend.talks[ids[3]].chats.append(time.time())
        assert (await export(client, tmp_path, incremental=True)).conversations == 1
        report = await export(client, tmp_path)
        total = 499 * 2 + 1
        assert (report.finished_before, report.conversations, report.chats) == (True, 499, total)
        told = manifest(tmp_path)
        assert (told["conversations"], told["chats"], told["superseded"]) == (499, total, 1)
        assert told["server"] == backend.url
        assert told["project"]
        assert backend.api_key not in (tmp_path / "manifest.json").read_text()
        assert all("T" in each["snapshot"] and "T" in each["finished"] for each in told["runs"])


# --- refresh ----------------------------------------------------------------------------------------------


async def test_a_refresh_sees_what_no_incremental_run_can_and_keeps_what_is_gone(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Backend() as backend:
        ids = backend.add(500, at=time.time() - DAY, step=60)
        client = make_client(backend)
        await export(client, tmp_path)
        backend.talks[ids[5]].title = "another title"
        gone = [ids[1], ids[100], ids[499]]
        before = backend.truth()
        for each in gone:
            del backend.talks[each]
        report = await export(client, tmp_path, refresh=True)
        assert (report.kind, report.conversations, report.deleted) == ("refresh", 497, 3)
        assert sorted(deleted(tmp_path)) == sorted(gone)
        assert latest(tmp_path) == before
        titles = {each["id"]: each["title"] for each in records(tmp_path)}
        assert titles[ids[5]] == "another title"
        told = manifest(tmp_path)
        assert (told["conversations"], told["deleted"]) == (500, 3)
        # What is known to be deleted is not asked for again.
        assert (await export(client, tmp_path, refresh=True)).deleted == 0
        assert len(deleted(tmp_path)) == 3
        assert (await export(client, tmp_path)).conversations == 500
        kept = await compact(tmp_path)
        assert (kept.conversations, len(parts(tmp_path))) == (500, 1)
        assert chats_by_id(tmp_path) == before
        assert sorted(deleted(tmp_path)) == sorted(gone)
        dropped = await compact(tmp_path, drop_deleted=True)
        assert dropped.conversations == 497
        assert chats_by_id(tmp_path) == backend.truth()
        assert (await verify(tmp_path)).ok


async def test_a_conversation_that_left_the_filter_is_not_taken_for_deleted(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Backend() as backend:
        ids = backend.add(20, at=time.time() - DAY)
        client = make_client(backend)
        await export(client, tmp_path, started_at=1.5e12)
        backend.talks[ids[3]].chats[:] = [1.4e9]
        del backend.talks[ids[4]]
        report = await export(client, tmp_path, refresh=True, started_at=1.5e12)
        assert (report.conversations, report.deleted) == (18, 1)
        assert deleted(tmp_path) == [ids[4]]
        assert latest(tmp_path).keys() == set(ids)


async def test_an_unfinished_refresh_goes_on_first_and_the_earlier_run_stays_until_it_is_complete(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Backend() as backend:
        ids = backend.add(60, at=time.time() - DAY)
        client = make_client(backend)
        await export(client, tmp_path)
        before = (tmp_path / "manifest.json").read_bytes()
        backend.talks[ids[5]].title = "another title"

        def refuse(request: web.Request) -> web.Response | None:
            is_planned = (tmp_path / "_journal" / "run-00002-plan.json").exists()
            return web.json_response({"type": "APIError", "code": 7004}, status=403) if is_planned else None

        backend.instead = refuse
        with pytest.raises(Exception, match="7004"):
            await export(client, tmp_path, refresh=True)
        assert (tmp_path / "manifest.json").read_bytes() == before
        assert latest(tmp_path).keys() == set(ids)
        backend.instead = lambda _: None
        report = await export(client, tmp_path, incremental=True)
        assert (report.kind, report.run) == ("refresh", 2)
        assert {each["id"]: each["title"] for each in records(tmp_path)}[ids[5]] == "another title"


async def test_refresh_does_not_go_with_incremental_and_needs_a_directory(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Backend() as backend:
        with pytest.raises(ConfigurationError, match=r"refresh: .* does not go with incremental"):
            await export(make_client(backend), tmp_path / "all", incremental=True, refresh=True)
        with pytest.raises(ConfigurationError, match="need a directory"):
            await export(make_client(backend), tmp_path / "all.jsonl", refresh=True)
        assert not list(tmp_path.iterdir())
