"""Exports into a bucket of a real S3 server: the same shards and records as in a directory, and as safe."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from alli_async import ConfigurationError, ExportError, LockedError
from alli_async.export import compact, export
from alli_async.export.destination import Destination
from alli_async.export.storage.directory import DirectoryStore
from alli_async.export.storage.lease import Holder, LeaseTimes, is_dead, life
from alli_async.export.storage.object_errors import store_refusals
from alli_async.export.storage.object_store import ObjectStore, ObjectTuning, Patience
from alli_async.export.storage.opening import open_store
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.export.support import COMMAND, chats_by_id, environment, manifest, records, run, truth, wait_for
from tests.support.buckets import ENVIRONMENT, Front, fetched, objects, put, uploads
from tests.support.exports import SMALL_ONE_AT_A_TIME, export_tuned


@pytest.fixture(scope="module")
def few() -> Iterator[Sandbox]:
    with Sandbox(conversations=200) as sandbox:
        yield sandbox


def exports(sandbox: Sandbox) -> dict[str, str]:
    return {"ALLI_BASE_URL": sandbox.url, "ALLI_API_KEY": sandbox.api_key}


def holder(**changes: Any) -> Holder:
    return Holder(**{"token": "other", "host": "elsewhere", "process": 7, "life": None, **changes})


def store_with(dest: str, **times: float) -> ObjectStore:
    """A store whose lease holds for other times."""
    return ObjectStore(dest, tuning=ObjectTuning(lease=LeaseTimes(**times)))


# --- what is there ----------------------------------------------------------------------------------------


async def test_an_export_into_a_bucket_is_what_the_server_holds_and_a_finished_one_says_so(
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
async def test_incremental_runs_and_compaction_keep_the_latest_of_each(
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
def test_killed_at_random_it_is_gone_on_with_at_once_and_ends_whole(dest: str, tmp_path: Path) -> None:
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
async def test_killed_before_or_after_a_request_of_a_commit_it_ends_whole(
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


async def test_two_that_do_not_know_of_each_other_commit_each_shard_once(
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


async def test_what_another_may_still_commit_is_not_removed_before_the_run_has_ended(
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


# --- the lock ---------------------------------------------------------------------------------------------


def test_the_lock_of_another_machine_holds_until_it_was_not_renewed_for_two_minutes(dest: str) -> None:
    put(dest, "_journal/lock", msgspec.json.encode(holder()))
    store = open_store(dest)
    with pytest.raises(ExportError, match=r"\(process 7 on elsewhere\); without .* counts as dead in 1[12]\d s"):
        store.lock().__enter__()
    with store_with(dest, abandoned=0.0).lock():
        held = json.loads(objects(dest)["_journal/lock"])
        assert (held["process"], held["held"]) == (os.getpid(), True)
    assert json.loads(objects(dest)["_journal/lock"])["held"] is False


def test_the_lock_is_renewed_and_who_finds_it_taken_over_writes_no_more(dest: str, front: Front) -> None:
    store = store_with(dest, renew=0.05)
    with store.lock():
        first = objects(dest)["_journal/lock"]
        wait_for(lambda: objects(dest)["_journal/lock"] != first)
        lost: list[str] = []

        def lose_renewals(method: str, path: str) -> str | None:
            if method == "PUT" and path.endswith("lock"):
                lost.append(path)
                return "lost"
            return None

        front.rule = lose_renewals
        wait_for(lambda: len(lost) >= 2)
        front.rule = lambda *_: None
        store.put_record("one.json", b"1")
        put(dest, "_journal/lock", msgspec.json.encode(holder()))

        def noticed() -> bool:
            try:
                store.put_record("one.json", b"1", replace=True)
            except ExportError:
                return True
            return False

        wait_for(noticed)
        changes: list[Callable[[], object]] = [
            lambda: store.put_record("two.json", b"2"),
            lambda: store.remove("one.json"),
            lambda: store.upload("part.jsonl", io.BytesIO(b"3")),
        ]
        for change in changes:
            with pytest.raises(ExportError, match=r"written by another export \(process 7 on elsewhere\)$"):
                change()
    assert json.loads(objects(dest)["_journal/lock"])["token"] == "other"
    assert sorted(objects(dest)) == ["_journal/lock", "one.json"]
    assert not [each for each in threading.enumerate() if each.name == "alli-async lock"]


def test_after_a_pause_the_lock_is_looked_at_before_anything_is_written(dest: str) -> None:
    store = store_with(dest, fresh=-1.0)
    with store.lock():
        store.put_record("one.json", b"1")
        put(dest, "_journal/lock", msgspec.json.encode(holder()))
        with pytest.raises(ExportError, match="another export"):
            store.put_record("two.json", b"2")
    with pytest.raises(ExportError, match="another export"):
        store.remove("one.json")


def test_once_the_lock_is_released_nothing_is_written(dest: str) -> None:
    store = open_store(dest)
    with store.lock():
        store.put_record("one.json", b"1")
    with pytest.raises(ExportError, match="is not held any more"):
        store.remove("one.json")


def test_of_two_who_take_an_abandoned_lock_one_has_it(dest: str, front: Front) -> None:
    put(dest, "_journal/lock", msgspec.json.encode(holder()))

    def rule(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/clock"):
            put(dest, "_journal/lock", msgspec.json.encode(holder(process=8)))

    front.rule = rule
    with pytest.raises(ExportError, match="process 8 on elsewhere"):
        store_with(dest, abandoned=0.0).lock().__enter__()


async def test_a_store_that_does_not_know_conditional_writes_is_refused(
    make_client: ClientFactory, front: Front, dest: str
) -> None:
    front.dropped = {"if-none-match"}
    async with Sandbox(conversations=1) as sandbox:
        with pytest.raises(ExportError, match="the store writes over what is there, though asked not to"):
            await export(make_client(sandbox), dest)
        assert sandbox.count() == 0


def test_a_lock_whose_answers_are_lost_is_ours_all_the_same(dest: str, front: Front) -> None:
    def lose_the_first(method: str, path: str) -> str | None:
        return "lost" if method == "PUT" and sum(asked == "PUT" for asked, _ in front.asked) == 1 else None

    for _ in ("put where none is", "put in place of one that was let go"):
        front.asked.clear()
        front.rule = lose_the_first
        with open_store(dest).lock():
            front.rule = lambda *_: None
            assert json.loads(objects(dest)["_journal/lock"])["held"] is True
        assert json.loads(objects(dest)["_journal/lock"])["held"] is False


def test_a_lock_that_cannot_be_read_and_a_release_that_does_not_arrive(dest: str, front: Front) -> None:
    put(dest, "_journal/lock", b"flock")
    with pytest.raises(ExportError, match=r"_journal/lock is not a lock of this version; remove it"):
        open_store(dest).lock().__enter__()
    open_store(dest).remove("_journal/lock")
    with open_store(dest).lock():
        front.rule = lambda *_: 403
    front.rule = lambda *_: None
    assert json.loads(objects(dest)["_journal/lock"])["held"] is True


def test_a_process_is_dead_only_when_this_machine_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = life(os.getpid())
    if mine is None:
        pytest.skip("the system does not tell")
    here, _, _ = mine.rpartition(" ")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    its = life(child.pid)
    assert not is_dead(holder(process=os.getpid(), life=mine))
    assert not is_dead(holder(process=child.pid, life=its))
    assert is_dead(holder(process=child.pid, life=f"{here} 1"))  # the number was given to another since
    child.kill()
    while life(child.pid) == its:
        time.sleep(0.01)
    assert is_dead(holder(process=child.pid, life=its))  # not yet waited for
    child.communicate()
    assert is_dead(holder(process=child.pid, life=its))
    assert not is_dead(holder(process=child.pid, life="another-boot pid:[1] 5"))
    assert not is_dead(holder(process=child.pid))

    # A process of another user, which a test that runs as root cannot have.
    def kill(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    assert not is_dead(holder(process=child.pid, life=its))


# --- what is refused --------------------------------------------------------------------------------------


async def test_a_bucket_that_is_not_there_is_one_line_before_anything_is_asked(
    make_client: ClientFactory, front: Front
) -> None:
    async with Sandbox(conversations=1) as sandbox:
        line = r"^cannot write s3://nowhere/x/_journal/lock: no such bucket \(404 NoSuchBucket\)$"
        with pytest.raises(ExportError, match=line):
            await export(make_client(sandbox), "s3://nowhere/x")
        assert sandbox.count() == 0
    with pytest.raises(ExportError, match=r"^cannot read s3://nowhere/x/_journal: no such bucket"):
        await compact("s3://nowhere/x")


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


async def test_a_store_that_stumbles_or_whose_answers_are_lost_costs_nothing(
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


def test_a_full_disk_for_the_parts_on_their_way_is_one_line(dest: str) -> None:
    limited = ("bash", "-c", 'ulimit -f 100; exec "$@"', "-")
    done = run({}, "export", dest, "--sandbox", "200", "--compression", "none", prefix=limited)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "cannot write the temporary file of s3://bucket/" in done.stderr
    assert "File too large" in done.stderr


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "the store cannot be reached, or hung up"),
        ({"AWS_ALLOW_HTTP": "false"}, "an endpoint without TLS must be allowed (AWS_ALLOW_HTTP=true)"),
    ],
)
def test_why_a_store_cannot_be_reached_is_said_in_a_line(
    dest: str, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], why: str
) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ExportError) as raised:
        open_store(dest).lock().__enter__()
    assert str(raised.value) == f"cannot write {dest}/_journal/lock: {why}"


@pytest.mark.parametrize(
    ("status", "why"), [(418, "the store answered 418 InternalError"), (503, "the store is too busy")]
)
def test_what_a_store_answers_is_said_in_a_line(dest: str, front: Front, status: int, why: str) -> None:
    store = ObjectStore(dest, tuning=ObjectTuning(patient=Patience(seconds=1, retries=12)))
    front.rule = lambda *_: status
    with pytest.raises(ExportError, match=why):
        store.read("x")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (
            (400, "<Code>AuthorizationHeaderMalformed</Code><Message>the-secret-key</Message>"),
            "the bucket is in another region (AWS_REGION), or elsewhere (400 AuthorizationHeaderMalformed)",
        ),
        ((301, "<Code>PermanentRedirect</Code>"), "the bucket is in another region (AWS_REGION), or elsewhere"),
        (
            (400, "<Code>ExpiredToken</Code><Token-0>the-secret-key</Token-0>"),
            "the credentials have expired (400 ExpiredToken)",
        ),
        (
            (403, "<Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>the-access-key</AWSAccessKeyId>"),
            "permission denied (403 SignatureDoesNotMatch)",
        ),
        ((200, "<html>hello</html>"), "what answers there is no such store"),
    ],
)
async def test_a_store_that_cannot_be_used_is_one_line_without_a_secret_before_anything_is_asked(
    make_client: ClientFactory, front: Front, dest: str, answer: tuple[int, str], why: str
) -> None:
    front.rule = lambda *_: answer
    async with Sandbox(conversations=1) as sandbox:
        with pytest.raises(ExportError) as raised:
            await export(make_client(sandbox), dest)
        assert str(raised.value) == f"cannot write {dest}/_journal/lock: {why}"
        assert sandbox.count() == 0


def test_a_folder_that_may_not_be_listed_is_said_in_a_line(dest: str, front: Front) -> None:
    front.rule = lambda *_: 403
    with pytest.raises(
        ExportError, match=r"^cannot read s3://\S+ \S+/_journal: permission denied \(403 AccessDen"
    ):
        open_store(dest).names("_journal")


def test_a_disk_that_fails_below_an_upload_is_named_as_what_it_is() -> None:
    with (
        pytest.raises(ExportError, match=r"^cannot write here: Input/output error$"),
        store_refusals("write", "here"),
    ):
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("s3://the-key:the-secret@bucket/x", "credentials belong in the environment"),
        ("s3://the-key@bucket/x", "credentials belong in the environment"),
        ("az://bucket/x?sig=the-secret", "credentials belong in the environment"),
        ("s3://bucket/x#the-secret", "credentials belong in the environment"),
        ("s3://[bucket/x", "no address; expected s3://bucket/prefix"),
        ("s3:/bucket/x", "has lost a slash; give an address as a string, not as a Path"),
        ("s3://bucket/all.jsonl.gz", "named like a file"),
        ("memory:///x", "no object store that can be held"),
        ("https://example.com/x", "no object store that can be held"),
        ("ftp://bucket/x", "cannot be used: expected an address like s3://bucket/prefix"),
        ("s3://", "cannot be used: expected an address like s3://bucket/prefix"),
        ("az://container/x", "needs AZURE_STORAGE_ACCOUNT_NAME"),
        ("file://elsewhere/x", "no path of this machine; expected file:///path"),
    ],
)
async def test_an_address_that_cannot_be_right_is_refused_before_anything_is_sent(
    make_client: ClientFactory, front: Front, address: str, why: str
) -> None:
    async with Sandbox(conversations=1) as sandbox:
        with pytest.raises(ConfigurationError) as raised:
            await export(make_client(sandbox), address)
        assert str(raised.value).startswith("dest: ")
        assert why in str(raised.value)
        assert "the-" not in str(raised.value)
        assert sandbox.count() == len(front.asked) == 0


async def test_without_obstore_the_error_names_the_extra(
    make_client: ClientFactory, dest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    async with Sandbox(conversations=1) as sandbox:
        with pytest.raises(ConfigurationError, match=r"needs obstore: pip install 'alli-async\[objectstore\]'"):
            await export(make_client(sandbox), dest)
        assert sandbox.count() == 0


def test_where_an_export_is_kept_is_seen_by_its_address(dest: str, tmp_path: Path) -> None:
    assert isinstance(open_store(tmp_path), DirectoryStore)
    assert isinstance(open_store("s3"), DirectoryStore)
    assert isinstance(open_store(dest), ObjectStore)
    assert str(open_store(f"{dest}/")) == dest


async def test_no_credential_is_in_a_report_an_object_or_a_log(
    make_client: ClientFactory, front: Front, dest: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with Sandbox(conversations=20) as sandbox:
        report = await export(make_client(sandbox), dest)
        front.rule = lambda *_: 403
        with pytest.raises(ExportError) as raised:
            await export(make_client(sandbox), dest)
        front.rule = lambda *_: None
        seen = f"{report} {raised.value!r} {objects(dest)} {caplog.text}"
        assert not any(ENVIRONMENT[name] in seen for name in ENVIRONMENT if name.endswith(("_ID", "_ACCESS_KEY")))
