"""Exports of lists with pages that cannot be had, or rows that cannot be decoded."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from alli_async import AlliClient
from alli_async.export import compact, export, plan_export
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.export.support import chats_by_id, manifest, run, truth

WAYS: list[dict[str, Any]] = [{}, {"unit": "s", "nulls": "first"}, {"cursor": "relay"}, {"cursor": "keyset"}]


# Rows of the list that make their pages fail: among a hundred of one instant, at the end of a group, by itself.
PLACES = [(WAYS[0], 120), (WAYS[0], 250), (WAYS[0], 410), (WAYS[1], 120), (WAYS[2], 250), (WAYS[3], 410)]


def name_of(way: dict[str, Any]) -> str:
    return "-".join(map(str, way.values())) or "plain"


async def in_order(alli: AlliClient) -> list[tuple[str, float]]:
    """The ids of the conversations with chats in the order of their first chats, and when these were."""
    found = [
        (each.chats[0].timestamp, each.conversation.id)
        async for each in alli.conversations.transcripts()
        if each.chats
    ]
    return [(conversation_id, time) for time, conversation_id in sorted(found)]


# --- a row that makes every page that holds it fail -------------------------------------------------------


@pytest.mark.parametrize(("way", "place"), PLACES, ids=str)
async def test_a_row_that_cannot_be_listed_is_reported_with_its_span_and_all_others_are_written(
    make_client: ClientFactory, tmp_path: Path, way: dict[str, Any], place: int
) -> None:
    async with Sandbox(conversations=450, **way) as sandbox:
        alli = make_client(sandbox)
        poisoned, time = (await in_order(alli))[place]
        sandbox.poison(poisoned)
        report = await export(alli, tmp_path)
        expected = truth(sandbox)
        del expected[poisoned]
        assert chats_by_id(tmp_path) == expected
        assert [each.id for each in report.skipped] == [None]
        span = report.skipped[0].span
        assert span is not None
        assert span[0] <= time <= span[1]
        assert "500" in str(report.skipped[0].error)
        assert [each["span"] for each in manifest(tmp_path)["incomplete"]] == [list(span)]


@pytest.mark.parametrize("place", [0, -1])
async def test_a_row_at_an_end_of_the_list_that_cannot_be_listed_does_not_end_the_export(
    make_client: ClientFactory, tmp_path: Path, place: int
) -> None:
    async with Sandbox(conversations=300) as sandbox:
        alli = make_client(sandbox)
        poisoned, _ = (await in_order(alli))[place]
        sandbox.poison(poisoned)
        report = await export(alli, tmp_path)
        assert chats_by_id(tmp_path).keys() == set(sandbox.conversation_ids()) - {poisoned}
        assert [each.id for each in report.skipped] == [None]


async def test_the_conversation_with_the_latest_chat_may_be_one_that_cannot_be_listed(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=400) as sandbox:
        alli = make_client(sandbox)
        poisoned = (await in_order(alli))[300][0]
        sandbox.add_chats(1, poisoned)
        sandbox.poison(poisoned)
        report = await export(alli, tmp_path)
        assert chats_by_id(tmp_path).keys() == set(sandbox.conversation_ids()) - {poisoned}
        assert [each.id for each in report.skipped] == [None]


async def test_the_next_run_writes_rows_that_could_not_be_listed_before(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=500) as sandbox:
        alli = make_client(sandbox)
        rows = await in_order(alli)
        poisoned = [rows[150][0], rows[450][0]]
        for each in poisoned:
            sandbox.poison(each)
        await export(alli, tmp_path)
        told = manifest(tmp_path)["incomplete"]
        assert [each["id"] for each in told] == [None, None]
        assert (await plan_export(alli, tmp_path, incremental=True)).plan.again == []
        for each in poisoned:
            sandbox.poison(each, None)
        sandbox.add_chats(1, poisoned[0])
        report = await export(alli, tmp_path, incremental=True)
        assert report.run == 2
        await compact(tmp_path)
        assert manifest(tmp_path)["incomplete"] == []
        assert chats_by_id(tmp_path).keys() == set(sandbox.conversation_ids())


async def test_the_command_reports_a_row_that_cannot_be_listed_and_exits_with_3(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=60) as sandbox:
        sandbox.poison([each for each in sandbox.conversation_ids() if sandbox.chat_ids(each)][40])
        await export(make_client(sandbox), tmp_path / "all")
        exports = {"ALLI_BASE_URL": sandbox.url, "ALLI_API_KEY": sandbox.api_key}
        done = await asyncio.to_thread(run, exports, "export", str(tmp_path / "all"))
        as_json = await asyncio.to_thread(run, exports, "export", str(tmp_path / "all"), "--json")
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("Complete already: 59 conversations")
    (said,) = [line for line in done.stdout.splitlines() if "skipped" in line]
    assert said.startswith(
        "  skipped   a conversation that could not be listed, with a first chat between 2024-01-01T0"
    )
    assert said.count("Z") == 2
    assert said.endswith("Z: 500/7000: Internal server error")
    assert as_json.returncode == 3
    (skipped,) = json.loads(as_json.stdout)["skipped"]
    assert (skipped["id"], len(skipped["span"])) == (None, 2)


# --- pages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS, ids=name_of)
async def test_pages_that_a_server_can_only_make_of_ten_rows_are_asked_for_in_tens(
    make_client: ClientFactory, tmp_path: Path, way: dict[str, Any]
) -> None:
    async with Sandbox(conversations=300, heavy_page=10, **way) as sandbox:
        report = await export(make_client(sandbox), tmp_path)
        assert chats_by_id(tmp_path) == truth(sandbox)
        assert (report.skipped, report.quarantined) == ([], 0)


@pytest.mark.parametrize("way", WAYS, ids=name_of)
async def test_answers_with_errors_beside_some_rows_or_none_are_asked_for_again(
    make_client: ClientFactory, tmp_path: Path, way: dict[str, Any]
) -> None:
    async with Sandbox(conversations=300, faults={"errors": 0.05, "errors_rows": 0.05}, **way) as sandbox:
        report = await export(make_client(sandbox), tmp_path)
        assert chats_by_id(tmp_path) == truth(sandbox)
        assert (report.skipped, report.quarantined) == ([], 0)
        assert report.retries > 0


# --- rows -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "time"),
    [
        (WAYS[0], 1e300),
        (WAYS[1], 4e12),
        *(
            pytest.param(way, time, marks=pytest.mark.slow)
            for way, time in (
                (WAYS[0], -5.0),
                (WAYS[0], 1.7e18),
                (WAYS[0], 4e12),
                (WAYS[1], 1e300),
                (WAYS[2], 1.7e18),
                (WAYS[3], -5.0),
            )
        ),
    ],
    ids=str,
)
async def test_a_nonsense_time_ends_no_export_and_loses_no_conversation(
    make_client: ClientFactory, tmp_path: Path, way: dict[str, Any], time: float
) -> None:
    async with Sandbox(conversations=400, **way) as sandbox:
        alli = make_client(sandbox)
        rows = [each for each, _ in await in_order(alli)]
        for each in (rows[0], rows[60], rows[300], rows[-1]):
            sandbox.override(each, {"createdAt": time})
        sandbox.override(rows[61], {"createdAt": time, "lastChatTime": time})
        report = await export(alli, tmp_path)
        assert chats_by_id(tmp_path) == truth(sandbox)
        assert (report.skipped, report.quarantined) == ([], 0)


@pytest.mark.parametrize("way", WAYS, ids=name_of)
async def test_rows_that_cannot_be_decoded_are_put_aside_wherever_they_stand(
    make_client: ClientFactory, tmp_path: Path, way: dict[str, Any]
) -> None:
    async with Sandbox(conversations=400, **way) as sandbox:
        alli = make_client(sandbox)
        rows = [each for each, _ in await in_order(alli)]
        empty = next(each for each in sandbox.conversation_ids() if not sandbox.chat_ids(each))
        bad = [rows[0], rows[60], rows[300], rows[-1], empty]
        wrong: list[dict[str, Any]] = [
            {"chatCount": "many"},
            {"chats": {}},
            {"createdAt": "noon"},
            {"id": None},
            {"id": 7},
        ]
        for each, fields in zip(bad, wrong, strict=True):
            sandbox.override(each, fields)
        report = await export(alli, tmp_path)
        assert set(chats_by_id(tmp_path)) == set(sandbox.conversation_ids()) - set(bad)
        assert (report.skipped, report.quarantined) == ([], 5)
        assert len((tmp_path / "quarantine.jsonl").read_text("utf-8").splitlines()) == 5
