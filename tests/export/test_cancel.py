"""An export that is cancelled, at whichever moment: it ends as cancelled, holds nothing, and can go on."""

from __future__ import annotations

import asyncio
import random
import tempfile
from itertools import count
from pathlib import Path

from alli_async.export import export
from alli_async.export.storage.opening import open_store
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.export.support import chats_by_id
from tests.support.cancelling import cancel_at_each
from tests.support.exports import export_tuned


def look_at(dest: Path) -> None:
    """See that nobody holds a directory, and that no part in it is unfinished."""
    if dest.exists():
        with open_store(dest).lock():
            pass
        assert [path.name for path in dest.glob("**/.*partial*")] == []


async def test_an_export_that_is_cancelled_at_any_of_its_awaits_leaves_no_task_lock_or_file(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    dests = count()
    async with Sandbox(conversations=60, page_cap=20) as sandbox:
        client, dest = make_client(sandbox), tmp_path / "none"

        async def run() -> None:
            nonlocal dest
            dest = tmp_path / str(next(dests))
            await export_tuned(client, dest, compression="none")

        async def check() -> None:
            look_at(dest)
            assert client.limits.in_flight == client.limits.waiting == 0
            if int(dest.name) % 10 == 0:
                report = await export_tuned(client, dest, compression="none")
                assert report.conversations == 60
                assert set(chats_by_id(dest)) == set(sandbox.conversation_ids())

        assert await cancel_at_each(run, check, most=60) > 40


async def test_an_export_into_a_file_that_is_cancelled_at_any_of_its_awaits_leaves_the_earlier_file(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    dest = tmp_path / "all.jsonl"
    async with Sandbox(conversations=60, page_cap=20) as sandbox:
        client = make_client(sandbox)

        async def run() -> None:
            dest.write_text("the earlier one\n")
            await export(client, dest)

        def check() -> None:
            assert [path.name for path in tmp_path.iterdir() if path.name != dest.name] == []
            assert dest.read_text() == "the earlier one\n" or len(dest.read_text().splitlines()) == 60

        assert await cancel_at_each(run, check, most=60) > 30


async def test_an_export_under_faults_that_is_cancelled_again_and_again_ends_whole(
    make_client: ClientFactory,
) -> None:
    faults = {"500": 0.02, "503": 0.02, "429": 0.05, "reset_after": 0.05, "silence": 0.01}
    draw = random.Random(5)
    async with Sandbox(conversations=400, latency=0.001, faults=faults, retry_after="none") as sandbox:
        client = make_client(sandbox, timeout=1.0)
        with tempfile.TemporaryDirectory() as folder:
            dest = Path(folder) / "all"
            for _ in range(15):
                task = asyncio.create_task(export_tuned(client, dest))
                await asyncio.sleep(draw.uniform(0.0, 0.3))
                is_asked = task.cancel()
                done, _ = await asyncio.wait([task], timeout=10)
                assert done
                assert task.cancelled() is is_asked
                look_at(dest)
            await export_tuned(client, dest)
            assert set(chats_by_id(dest)) == set(sandbox.conversation_ids())
