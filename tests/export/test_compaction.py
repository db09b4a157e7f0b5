"""A compaction that is stopped: it ends soon, and the destination holds what it held."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from alli_async.export import compact, export, verify
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.export.support import manifest
from tests.support.buckets import Front, fetched, objects
from tests.support.tiers import one_in


def content(dest: str) -> dict[str, bytes]:
    """What counts of an export in a bucket: all but its lock, and the numbers of runs that were dropped."""
    kept = objects(dest).items()
    return {name: data for name, data in kept if not name.endswith(("/lock", "/clock", "-dropped.json"))}


PLANNED = ("PUT", "/_journal/run-00003-plan.json")
READING = ("GET", "/conversations/run-00001-shard-")
PROVING = ("GET", "/conversations/run-00003-shard-")


@pytest.mark.parametrize(
    ("form", "moment"),
    one_in(2, [("csv", PLANNED), ("jsonl", READING), ("parquet", READING), ("csv", PROVING), ("jsonl", PROVING)]),
)
async def test_a_compaction_that_is_cancelled_stops_there_and_takes_back_what_it_wrote(
    make_client: ClientFactory, front: Front, dest: str, tmp_path: Path, form: Any, moment: tuple[str, str]
) -> None:
    method, step = moment
    async with Sandbox(conversations=60) as sandbox:
        client = make_client(sandbox)
        await export(client, dest, format=form)
        new = sandbox.add_conversations(3)
        await export(client, dest, format=form, incremental=True)
    before = content(dest)
    loop = asyncio.get_running_loop()
    is_cancelled = threading.Event()

    def cancel() -> None:
        compaction.cancel()
        # The task has run by then.
        loop.call_later(0.1, is_cancelled.set)

    def rule(asked: str, path: str) -> None:
        if asked == method and step in path and not is_cancelled.is_set():
            loop.call_soon_threadsafe(cancel)
            assert is_cancelled.wait(30)

    front.rule = rule
    compaction = asyncio.create_task(compact(dest))
    with pytest.raises(asyncio.CancelledError):
        await compaction
    assert is_cancelled.is_set()
    next_step = "/_journal/run-00003-shard-" if "00003-shard" in step else "s/run-00003-shard-"
    assert not [path for asked, path in front.asked if asked == "PUT" and next_step in path]
    assert content(dest) == before
    assert (await verify(dest)).ok
    assert (await compact(dest)).run == 4
    assert manifest(fetched(dest, tmp_path))["conversations"] == 60 + len(new)
