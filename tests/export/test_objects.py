"""Exports into a bucket of a real S3 server: the same shards and records as in a directory, and as safe."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alli_async import ExportError, LockedError
from alli_async.export import compact, export
from alli_async.export.destination import Destination
from alli_async.export.storage.directory import DirectoryStore
from alli_async.export.storage.object_store import ObjectStore, ObjectTuning, Patience
from alli_async.export.storage.opening import open_store
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.export.support import COMMAND, chats_by_id, environment, manifest, records, run, truth
from tests.support.buckets import Front, fetched, objects, put, uploads
from tests.support.exports import SMALL_ONE_AT_A_TIME, export_tuned


@pytest.fixture(scope="module")
def few() -> Iterator[Sandbox]:
    with Sandbox(conversations=200) as sandbox:
        yield sandbox


def exports(sandbox: Sandbox) -> dict[str, str]:
    return {"ALLI_BASE_URL": sandbox.url, "ALLI_API_KEY": sandbox.api_key}


# --- what is there ----------------------------------------------------------------------------------------


async def test_an_export_into_a_bucket_holds_what_the_server_holds_and_is_not_repeated(
    make_client: ClientFactory, dest: str, tmp_path: Path
) -> None:
    async with Sandbox(conversations=200) as sandbox:
        client = make_client(sandbox)
        report = await export_tuned(client, dest + "/")
        assert (report.path, report.conversations, report.finished_before) == (dest, 200, False)
        found = fetched(dest, tmp_path)
        assert chats_by_id(found) == truth(sandbox)
        assert manifest(found)["parts"][0]["name"].startswith("conversations/run-00001-shard-00000-")
        assert sandbox.api_key.encode() not in b"".join(objects(dest).values())
        asked = sandbox.count()
        again = await export_tuned(client, dest)
        assert (again.finished_before, again.conversations) == (True, 200)
        assert sandbox.count() - asked <= 1


@pytest.mark.parametrize("options", [{}, {"format": "parquet"}], ids=str)
async def test_incremental_runs_and_compaction_in_a_bucket_keep_the_latest_version_of_each(
    make_client: ClientFactory, dest: str, tmp_path: Path, options: dict[str, Any]
) -> None:
    async with Sandbox(conversations=120) as sandbox:
        client = make_client(sandbox)
        await export(client, dest, **options)
        new = sandbox.add_conversations(2)
        sandbox.add_chats(3, sandbox.conversation_ids()[5])
        second = await export(client, dest, incremental=True, **options)
        assert (second.kind, second.run) == ("incremental", 2)
        report = await compact(dest)
        assert (report.path, report.kind, report.requests) == (dest, "compact", 0)
        found = fetched(dest, tmp_path)
        assert manifest(found)["conversations"] == report.conversations == 120 + len(new)
        assert {each.split("/")[1][:9] for each in objects(dest) if not each.startswith(("_", "m"))} == {
            "run-00003"
        }
        if not options:
            assert chats_by_id(found) == truth(sandbox)
        assert (await compact(dest)).finished_before


def test_the_command_writes_into_a_bucket_and_compacts_it(dest: str) -> None:
    done = run({}, "export", dest, "--sandbox", "30")
    assert done.returncode == 0, done.stderr
    assert f"1 in {dest}/conversations, run 1 (full)" in done.stdout
    done = run({}, "compact", dest)
    assert done.stdout.startswith("Complete already: 30 conversations"), done.stderr


async def test_a_file_address_is_a_directory(make_client: ClientFactory, tmp_path: Path) -> None:
    async with Sandbox(conversations=5) as sandbox:
        place = tmp_path / "with a space"
        report = await export(make_client(sandbox), f"file://{tmp_path}/with%20a%20space")
        assert report.path == str(place)
        assert len(records(place)) == 5
        assert (await compact(f"file://localhost{place}")).finished_before
        report = await export(make_client(sandbox), f"file://{tmp_path}/one.jsonl")
        assert (tmp_path / "one.jsonl").read_bytes().count(b"\n") == 5


# --- killed -----------------------------------------------------------------------------------------------


def begin(sandbox: Sandbox, dest: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, "export", dest],
        env=environment(exports(sandbox)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_an_export_that_is_killed_at_random_resumes_at_once_and_ends_whole(dest: str, tmp_path: Path) -> None:
    draw = random.Random(3)
    with Sandbox(conversations=1200, latency=0.006) as sandbox:
        kills = 0
        for _ in range(4):
            process = begin(sandbox, dest)
            began, wait = time.monotonic(), draw.uniform(0.5, 1.3)
            while time.monotonic() - began < wait and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        assert kills >= 2
        done = run(exports(sandbox), "export", dest)
        assert done.returncode == 0, done.stderr
        assert chats_by_id(fetched(dest, tmp_path)) == truth(sandbox)
        assert manifest(tmp_path)["conversations"] == 1200


@pytest.mark.parametrize(
    ("step", "after"),
    [
        ("/conversations/run-", True),
        ("-shard-00000.json", True),
        ("/manifest.json", False),
        # Either leaves the same in the bucket as another step does.
        pytest.param("-shard-00000.json", False, marks=pytest.mark.slow),
        pytest.param("-plan.json", True, marks=pytest.mark.slow),
    ],
)
async def test_an_export_that_is_killed_at_a_request_of_a_commit_ends_whole(
    make_client: ClientFactory, front: Front, few: Sandbox, dest: str, tmp_path: Path, step: str, after: bool
) -> None:
    process = begin(few, dest)

    def rule(method: str, path: str) -> int | str | None:
        if method != "PUT" or step not in path:
            return None
        process.send_signal(signal.SIGKILL)
        return "lost" if after else 503

    front.rule = rule
    assert process.wait(30) == -signal.SIGKILL
    front.rule = lambda *_: None
    assert any(step in f"/{name}" for name in objects(dest)) is after
    report = await export(make_client(few), dest)
    assert not report.finished_before or step == "/manifest.json"
    assert chats_by_id(fetched(dest, tmp_path)) == truth(few)
    assert manifest(tmp_path)["conversations"] == 200


# --- two at once ------------------------------------------------------------------------------------------


async def test_a_second_export_into_the_same_prefix_is_refused_while_the_first_runs(
    make_client: ClientFactory, front: Front, few: Sandbox, dest: str, tmp_path: Path
) -> None:
    first = begin(few, dest)
    stopped = threading.Event()

    def stop_at_the_plan(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("-plan.json"):
            first.send_signal(signal.SIGSTOP)
            stopped.set()

    front.rule = stop_at_the_plan
    try:
        assert await asyncio.to_thread(stopped.wait, 60)
        with pytest.raises(LockedError) as raised:
            await export(make_client(few), dest)
    finally:
        first.send_signal(signal.SIGCONT)
    who = f"{dest} is being written by another export (process {first.pid} on {socket.gethostname()})"
    assert str(raised.value).startswith(who)
    assert re.search(r"counts as dead in 1[012]\d s$", str(raised.value))
    assert await asyncio.to_thread(first.wait, 50) == 0
    assert len(chats_by_id(fetched(dest, tmp_path))) == 200


async def test_two_exports_that_both_hold_the_lock_commit_each_shard_once(
    make_client: ClientFactory, front: Front, dest: str, tmp_path: Path
) -> None:
    front.is_free_for_all = True
    async with Sandbox(conversations=400, latency=0.01) as sandbox:
        refused = 0
        report = None
        while report is None:
            pair = [export_tuned(make_client(sandbox), dest) for _ in range(2)]
            for ended in await asyncio.gather(*pair, return_exceptions=True):
                if isinstance(ended, BaseException):
                    assert isinstance(ended, ExportError), ended
                    assert "it is there already" in str(ended)
                    refused += 1
                else:
                    report = ended
        assert refused > 0
        # What those left behind that were refused goes with the next.
        assert (await export_tuned(make_client(sandbox), dest)).finished_before
        assert chats_by_id(fetched(dest, tmp_path)) == truth(sandbox)
        assert manifest(tmp_path)["conversations"] == 400


async def test_a_part_that_another_process_may_still_commit_stays_until_the_run_has_ended(
    make_client: ClientFactory, front: Front, few: Sandbox, dest: str
) -> None:
    client = make_client(few)
    front.rule = lambda method, path: 403 if method == "PUT" and "/conversations/" in path else None
    with pytest.raises(ExportError, match="permission denied"):
        await export(client, dest)
    front.rule = lambda *_: None
    left = "conversations/run-00001-shard-00000-0badcafe.jsonl.gz"
    put(dest, left, b"of a process that hangs")
    put(dest, "conversations/notes.txt", b"of someone else")
    Destination(open_store(dest)).load()
    assert left in objects(dest)
    await export(client, dest)
    found = objects(dest)
    assert left not in found
    assert found["conversations/notes.txt"] == b"of someone else"


# --- parts and records ---


async def test_a_store_that_refuses_in_the_middle_is_one_line_and_the_next_run_goes_on(
    make_client: ClientFactory, front: Front, dest: str, tmp_path: Path
) -> None:
    async with Sandbox(conversations=300) as sandbox:
        client = make_client(sandbox)
        told: list[str] = []

        def no_part_after_the_first(method: str, path: str) -> int | None:
            if method == "PUT" and "/_journal/run-00001-shard-" in path:
                told.append(path)
            return 403 if told and method == "PUT" and "/conversations/" in path else None

        front.rule = no_part_after_the_first
        with pytest.raises(ExportError) as raised:
            await export_tuned(client, dest, SMALL_ONE_AT_A_TIME)
        pattern = r"cannot write s3://bucket/a prefix/\d+/conversations/run-00001-shard-\d+-\w{8}\.jsonl\.gz: "
        assert re.fullmatch(pattern + r"permission denied \(403 AccessDenied\)", str(raised.value))
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__
        # It lists, but may not read or remove.
        front.rule = lambda method, path: 403 if method == "GET" and path.endswith("plan.json") else None
        with pytest.raises(ExportError, match=r"cannot read .*plan.json: permission denied \(403 AccessDenied\)"):
            await export_tuned(client, dest, SMALL_ONE_AT_A_TIME)
        front.rule = lambda *_: None
        report = await export_tuned(client, dest, SMALL_ONE_AT_A_TIME)
        assert 0 < report.resumed < 300
        assert chats_by_id(fetched(dest, tmp_path)) == truth(sandbox)
        assert manifest(tmp_path)["conversations"] == 300


async def test_failed_requests_and_lost_answers_of_a_store_lose_nothing(
    make_client: ClientFactory, front: Front, dest: str, tmp_path: Path
) -> None:
    draw = random.Random(5)

    def rule(method: str, path: str) -> int | str | None:
        return draw.choice((503, 500, "lost")) if draw.random() < 0.15 else None

    front.rule = rule
    async with Sandbox(conversations=300) as sandbox:
        await export_tuned(make_client(sandbox), dest)
        front.rule = lambda *_: None
        assert chats_by_id(fetched(dest, tmp_path)) == truth(sandbox)
        assert manifest(tmp_path)["conversations"] == 300


def test_a_record_is_written_once_and_a_part_never_takes_the_place_of_another(dest: str) -> None:
    store = open_store(dest)
    store.put_record("_journal/one.json", b"1")
    store.put_record("_journal/one.json", b"1")
    with pytest.raises(ExportError, match=r"cannot write s3://.*/_journal/one.json: it is there already"):
        store.put_record("_journal/one.json", b"2")
    store.put_record("manifest.json", b"1")
    store.put_record("manifest.json", b"2", replace=True)
    written = {}
    for data in (b"first", b"second"):
        sink = store.sink("conversations/run-00001-shard-00003.12.jsonl.gz")
        sink.write(data)
        written[sink.commit("conversations/run-00001-shard-00003.12.jsonl.gz")] = data
        sink.discard()
    assert all(re.fullmatch(r"conversations/run-00001-shard-00003\.12-\w{8}\.jsonl\.gz", name) for name in written)
    for name, data in written.items():
        with store.open(name) as part:
            assert part.read() == data
    assert store.names("conversations") == {name: len(data) for name, data in written.items()}
    assert store.names("") == {"manifest.json": 1}
    assert (store.read("manifest.json"), store.names("chats")) == (b"2", {})
    store.remove("manifest.json")
    store.remove("manifest.json")
    store.sweep()
    for ask in (store.read, store.open):
        with pytest.raises(ExportError, match=r"cannot read s3://.*/manifest.json: it is not there"):
            ask("manifest.json")


def test_a_large_part_goes_up_in_pieces_and_is_not_seen_before_it_is_whole(dest: str, front: Front) -> None:
    data = random.Random(1).randbytes(12 << 20)
    store = ObjectStore(dest, tuning=ObjectTuning(piece=5 << 20, patient=Patience(seconds=1, retries=12)))

    def sent() -> str:
        sink = store.sink("conversations/large.jsonl")
        try:
            sink.write(data)
            return sink.commit("conversations/large.jsonl")
        finally:
            sink.discard()

    front.rule = lambda method, path: 403 if method == "PUT" and "partNumber=2" in path else None
    with pytest.raises(ExportError, match="permission denied"):
        sent()
    front.rule = lambda *_: None
    assert (objects(dest), uploads()) == ({}, 0)
    name = sent()
    assert uploads() == 0
    assert sum("partNumber=" in path for _, path in front.asked) >= 3
    with store.open(name) as file:
        assert file.read() == data


def test_the_address_of_a_destination_decides_its_store(dest: str, tmp_path: Path) -> None:
    assert isinstance(open_store(tmp_path), DirectoryStore)
    assert isinstance(open_store("s3"), DirectoryStore)
    assert isinstance(open_store(dest), ObjectStore)
    assert str(open_store(f"{dest}/")) == dest
