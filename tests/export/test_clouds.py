"""Exports into Azure's and Google's object stores: resumed, held by one, brought up to date, compacted, killed."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import from_url

from alli_async import ExportError, LockedError
from alli_async.export import compact, export
from alli_async.export.storage.lease import LeaseTimes
from alli_async.export.storage.object_store import ObjectStore, ObjectTuning
from alli_async.export.storage.opening import open_store
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.export.support import COMMAND, chats_by_id, environment, manifest, truth, wait_for
from tests.support.clouds import Cloud, azure, google

NUMBERS = count()


@pytest.fixture(scope="module", params=[azure, google], ids=["azure", "google"])
def cloud(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    with request.param() as made:
        yield made


@pytest.fixture
def place(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> str:
    """A destination of its own in the store."""
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    return f"{cloud.address}/{next(NUMBERS)}"


def objects(place: str) -> dict[str, bytes]:
    store: Any = from_url(place)
    return {
        each["path"]: bytes(obstore.get(store, each["path"]).bytes())
        for page in obstore.list(store)
        for each in page
    }


def fetched(place: str, folder: Path) -> Path:
    for name, data in objects(place).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


async def test_an_export_is_brought_up_to_date_and_compacted(
    make_client: ClientFactory, place: str, tmp_path: Path
) -> None:
    async with Sandbox(conversations=120) as sandbox:
        client = make_client(sandbox)
        await export(client, place)
        sandbox.add_conversations(3)
        sandbox.add_chats(5)
        await export(client, place, incremental=True)
        await compact(place)
        found = fetched(place, tmp_path)
        assert chats_by_id(found) == truth(sandbox)
        assert manifest(found)["complete"] is True
        assert sandbox.api_key.encode() not in b"".join(objects(place).values())


async def test_one_export_at_a_time_holds_the_place(make_client: ClientFactory, place: str) -> None:
    async with Sandbox(conversations=3) as sandbox:
        store = open_store(place)
        with store.lock():
            with pytest.raises(LockedError, match="is being written by another export"):
                await export(make_client(sandbox), place)
            assert json.loads(store.read("_journal/lock"))["held"] is True
        assert json.loads(store.read("_journal/lock"))["held"] is False
        await export(make_client(sandbox), place)


def test_a_holder_whose_lock_was_taken_over_writes_no_more(place: str) -> None:
    store = ObjectStore(place, tuning=ObjectTuning(lease=LeaseTimes(fresh=-1.0)))
    other = ObjectStore(place, tuning=ObjectTuning(lease=LeaseTimes(abandoned=0.0)))
    with store.lock():
        with other.lock():
            with pytest.raises(ExportError, match="another export"):
                store.put_record("one.json", b"1")
    assert "one.json" not in objects(place)


@pytest.mark.slow
async def test_a_killed_export_is_resumed(make_client: ClientFactory, place: str, tmp_path: Path) -> None:
    async with Sandbox(conversations=700, latency=0.03) as sandbox:
        settings = {"ALLI_BASE_URL": sandbox.url, "ALLI_API_KEY": sandbox.api_key}
        process = subprocess.Popen(  # noqa: ASYNC220 - it only starts it
            [*COMMAND, "export", place, "--max-concurrency", "4"],
            env=environment(settings),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        is_written = "/run-00001-shard-"
        await asyncio.to_thread(wait_for, lambda: any(is_written in f"/{name}" for name in objects(place)))
        process.kill()
        await asyncio.to_thread(process.wait, 30)
        committed = [name for name in objects(place) if name.startswith("_journal/run-00001-shard-")]
        assert "manifest.json" not in objects(place)
        report = await export(make_client(sandbox), place)
        assert report.conversations == 700
        assert (report.resumed > 0) == bool(committed)
        found = fetched(place, tmp_path)
        assert chats_by_id(found) == truth(sandbox)
        assert manifest(found)["conversations"] == 700
