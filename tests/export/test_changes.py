"""Exports of a list that changes meanwhile: rows that go, that move between shards, or have no stable order."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from alli_async.export import ExportProgress, export
from alli_async.export.records import Shard
from alli_async.sandbox import Churn, Sandbox
from tests.conftest import ClientFactory
from tests.export.support import chats_by_id, crossing, manifest, planned, read_shards, truth
from tests.support.destinations import when_committed
from tests.support.exports import ONE_AT_A_TIME, SMALL, SMALL_ONE_AT_A_TIME, export_tuned

# The numbers of the pairs of `MOMENTS` that are tried each time: each way and each number of shards at least once.
_PAIRS = {0, 6, 12, 18, 24, 25, 31, 2, 9}

WAYS: list[dict[str, Any]] = [
    {},
    {"bounds": "open", "unit": "s"},
    {"nulls": "first"},
    {"cursor": "relay"},
    {"cursor": "keyset"},
    {"cursor": "opaque"},
    {"cursor": "opaque", "nulls": "first"},
]


# Every way of a server with every number of shards that are committed before rows move. Few of these pairs differ.
MOMENTS = [
    pytest.param(way, committed, marks=[] if number in _PAIRS else pytest.mark.slow)
    for number, (way, committed) in enumerate(product(WAYS, range(5)))
]


def name_of(way: dict[str, Any]) -> str:
    return "-".join(map(str, way.values())) or "plain"


# --- what goes --------------------------------------------------------------------------------------------


# What is deleted before each page, in chats, first chats and conversations, and how many chats come meanwhile.
GONE = Churn(new_chats=0, deleted_conversations=2)
DELETIONS = [
    Churn(new_chats=0, deleted_chats=6),
    Churn(new_chats=0, deleted_first_chats=4),
    Churn(new_chats=3, deleted_conversations=2),
]


@pytest.mark.parametrize(
    ("way", "churn"),
    [
        pytest.param({}, GONE),
        *(pytest.param(way, GONE, marks=pytest.mark.slow) for way in WAYS[1:]),
        *(
            pytest.param(way, DELETIONS[number % 3], marks=pytest.mark.slow)
            for number, way in enumerate([*WAYS, *WAYS[:2]])
        ),
    ],
    ids=str,
)
async def test_deletions_while_an_export_runs_lose_and_repeat_nothing(
    make_client: ClientFactory, tmp_path: Path, way: dict[str, Any], churn: Churn
) -> None:
    async with Sandbox(conversations=700, churn=churn, **way) as sandbox:
        before = set(sandbox.conversation_ids())
        report = await export(make_client(sandbox), tmp_path)
        found = set(chats_by_id(tmp_path))
        assert set(sandbox.conversation_ids()) <= found <= before
        assert (report.skipped, report.quarantined) == ([], 0)
        assert report.conversations == manifest(tmp_path)["conversations"] == len(found)


@pytest.mark.parametrize("way", WAYS, ids=name_of)
async def test_a_conversation_that_loses_its_only_chat_is_there_without_or_with_it(
    make_client: ClientFactory, tmp_path: Path, way: dict[str, Any]
) -> None:
    async with Sandbox(conversations=400, **way) as sandbox:
        before = truth(sandbox)
        single = [each for each, chats in before.items() if len(chats) == 1]
        assert len(single) > 30

        def delete(some: list[str]) -> None:
            for each in some:
                sandbox.delete_chats(1, each)

        # During the survey, the shards, and the last one.
        for number in range(20):
            sandbox.after_pages(2 * number + 1, lambda some=single[number::20]: delete(some))  # type: ignore[misc]
        report = await export(make_client(sandbox), tmp_path, page_size=20)
        assert all(not sandbox.chat_ids(each) for each in single[:-20])
        found = chats_by_id(tmp_path)
        assert found.keys() == before.keys()
        assert all(found[each] == chats for each, chats in before.items() if len(chats) != 1)
        assert report.skipped == []


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=name_of)
async def test_chats_that_come_and_go_while_an_export_runs_lose_and_repeat_no_conversation(
    make_client: ClientFactory, tmp_path: Path, way: dict[str, Any]
) -> None:
    async with Sandbox(conversations=1500, churn=Churn(new_chats=6, deleted_chats=3), **way) as sandbox:
        report = await export(make_client(sandbox), tmp_path)
        assert chats_by_id(tmp_path).keys() == set(sandbox.conversation_ids())
        # Nothing is lost; that a crowd of one second is whole may be impossible to prove while it changes.
        assert all(each.id is None for each in report.skipped)


async def test_a_conversation_that_is_deleted_after_it_was_deferred_to_the_last_shard_is_not_written(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=400) as sandbox:
        alli = make_client(sandbox)
        plan = await planned(alli, SMALL)
        # In the second shard before they are deleted, in a later one without their first chat.
        gone = [each for each, shard in (await crossing(alli, plan)).items() if shard == 1]
        before = set(sandbox.conversation_ids())

        def move() -> None:
            for each in gone:
                sandbox.delete_chats(1, each, first=True)

        def delete() -> None:
            for each in gone:
                sandbox.delete_conversations(1, each)

        hooks = [when_committed(tmp_path, 1, move), when_committed(tmp_path, len(plan.shards) - 1, delete)]
        report = await export_tuned(make_client(sandbox, middlewares=hooks), tmp_path, SMALL_ONE_AT_A_TIME)
        assert gone
        assert chats_by_id(tmp_path).keys() == before - set(gone)
        assert report.skipped == manifest(tmp_path)["incomplete"] == []


# --- rows that move from one shard to another -------------------------------------------------------------


@pytest.mark.parametrize(("way", "committed"), MOMENTS, ids=str)
async def test_a_row_that_moves_to_a_later_shard_is_written_once_however_many_shards_were_committed(
    make_client: ClientFactory,
    tmp_path: Path,
    way: dict[str, Any],
    committed: int,
) -> None:
    async with Sandbox(conversations=300, **way) as sandbox:
        alli = make_client(sandbox)
        moving = await crossing(alli, await planned(alli, SMALL))
        assert set(moving.values()) >= {0, 1, 2}
        before = truth(sandbox)

        def move() -> None:
            for each in moving:
                sandbox.delete_chats(1, each, first=True)

        report = await export_tuned(
            make_client(sandbox, middlewares=[when_committed(tmp_path, committed, move)]),
            tmp_path,
            SMALL_ONE_AT_A_TIME,
        )
        found = chats_by_id(tmp_path)
        assert found.keys() == before.keys()
        assert all(found[each] == chats for each, chats in before.items() if each not in moving)
        assert all(found[each] in (before[each], before[each][1:]) for each in moving)
        assert report.skipped == []


@pytest.mark.parametrize("way", WAYS, ids=name_of)
async def test_a_row_that_moves_from_an_unread_shard_into_a_read_one_is_given_once(
    make_client: ClientFactory, way: dict[str, Any]
) -> None:
    async with Sandbox(conversations=300, **way) as sandbox:
        alli = make_client(sandbox)
        plan = await planned(alli, SMALL)
        moving = await crossing(alli, plan)
        others = plan.shards[:-1][::-1]

        def move(shard: Any) -> None:
            for each in [each for each, first in moving.items() if plan.shards[first] == shard]:
                sandbox.delete_chats(1, each, first=True)

        found = await read_shards(alli, plan, [*others, plan.shards[-1]], before=move)
        assert [each for each, times in Counter(found).items() if times > 1] == []
        assert set(found) == set(sandbox.conversation_ids())


def move_before(sandbox: Sandbox, moment: Shard, moving: Iterable[str]) -> Callable[[Shard], None]:
    """Delete the first chats of conversations before a shard is read."""

    def move(shard: Shard) -> None:
        if shard is moment:
            for each in moving:
                sandbox.delete_chats(1, each, first=True)

    return move


async def test_as_many_rows_may_leave_shards_that_were_read_as_move_into_them(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=600) as sandbox:
        alli = make_client(sandbox)
        plan = await planned(alli, SMALL)
        assert len(plan.shards) > 14
        order = [*plan.shards[:11], plan.shards[12], plan.shards[11], *plan.shards[13:]]
        moving = await crossing(alli, plan)
        found = await read_shards(alli, plan, order, before=move_before(sandbox, order[12], moving))
        assert sorted(found) == sorted(sandbox.conversation_ids())


@pytest.mark.parametrize("seed", [*range(7), *(pytest.param(n, marks=pytest.mark.slow) for n in range(7, 12))])
async def test_rows_that_move_at_any_moment_are_given_once_in_whichever_order_shards_are_read(
    make_client: ClientFactory, seed: int
) -> None:
    draw = random.Random(seed)
    async with Sandbox(conversations=400, seed=1, **WAYS[seed % len(WAYS)]) as sandbox:
        alli = make_client(sandbox)
        plan = await planned(alli, SMALL)
        moving = sorted(await crossing(alli, plan))
        moving = draw.sample(moving, draw.randint(len(moving) // 2, len(moving)))
        order = draw.sample(plan.shards[:-1], len(plan.shards) - 1)
        before = move_before(sandbox, draw.choice(order), moving)
        found = await read_shards(alli, plan, [*order, plan.shards[-1]], before=before)
        assert sorted(found) == sorted(sandbox.conversation_ids())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "kind"),
    [({}, "raised"), *((way, ("cancelled", "raised")[number % 2]) for number, way in enumerate(WAYS))],
    ids=str,
)
async def test_a_stopped_export_resumes_and_has_every_row_once_although_rows_moved_in_between(
    make_client: ClientFactory, tmp_path: Path, way: dict[str, Any], kind: str
) -> None:
    async with Sandbox(conversations=1500, **way) as sandbox:
        alli = make_client(sandbox)
        moving = await crossing(alli, await planned(alli))
        before = set(sandbox.conversation_ids())

        def stop(progress: ExportProgress) -> None:
            if progress.shards_done >= 2:
                if kind == "raised":
                    raise RuntimeError("enough")
                running.cancel()

        running = asyncio.create_task(export_tuned(alli, tmp_path, ONE_AT_A_TIME, on_progress=stop))
        with pytest.raises((RuntimeError, asyncio.CancelledError)):
            await running
        for each in moving:
            sandbox.delete_chats(1, each, first=True)
        gone = sandbox.delete_conversations(20)
        new = sandbox.add_conversations(5)
        report = await export_tuned(alli, tmp_path, ONE_AT_A_TIME)
        found = set(chats_by_id(tmp_path))
        # What was written before it was deleted stays.
        assert (before - set(gone)) | set(new) <= found <= before | set(new)
        assert report.resumed > 500
        assert report.skipped == []


# --- rows in no stable order ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("way", [{}, {"cursor": "opaque"}, {"nulls": "first"}, {"unit": "s"}], ids=name_of)
async def test_rows_of_one_instant_in_any_order_are_written_once(
    make_client: ClientFactory, tmp_path: Path, way: dict[str, Any]
) -> None:
    async with Sandbox(conversations=1200, ties="shuffled", **way) as sandbox:
        report = await export(make_client(sandbox), tmp_path)
        assert chats_by_id(tmp_path) == truth(sandbox)
        # More of one instant than a page holds: it is told that nothing proves that these are all.
        assert all(each.id is None and each.span is not None for each in report.skipped)
