"""Exports of a cluster into a bucket of a real S3 server: what workers need for it is their own."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from alli_async import ConfigurationError, ExportError
from alli_async.export import ExportProgress
from alli_async.export.dask.sharing import CLUSTER_SESSION_FILE, open_shared
from alli_async.export.dask.workers import SESSIONS
from alli_async.export.storage.lease import Holder
from tests.conftest import ClientFactory
from tests.export.clusters import committed_parts, distributed, local, once, seated, served
from tests.export.support import chats_by_id, manifest, truth
from tests.support.buckets import ENVIRONMENT, Front, fetched, objects, put
from tests.support.exports import SMALL_ONE_AT_A_TIME, export_tuned

pytestmark = pytest.mark.timeout(60)

SECRETS = [ENVIRONMENT[name].encode() for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]


async def test_workers_write_everything_into_a_bucket_once_and_no_credential_is_sent(
    make_client: ClientFactory,
    dest: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    held: list[bytes] = []
    async with served(monkeypatch, conversations=300, latency=0.01) as sandbox, local() as made:
        caplog.set_level("DEBUG")

        def look(_: ExportProgress) -> None:
            for task in made.scheduler.tasks.values():
                held.append(pickle.dumps(task.run_spec) + repr(task.run_spec).encode())
            for worker in made.workers.values():
                held.append(repr(list(worker.state.log)).encode())
            held.append(repr(made.scheduler.get_events()).encode())
            held.append(repr([vars(each) | vars(each.store) for each in SESSIONS.values()]).encode())

        report = await export_tuned(make_client(sandbox), dest, cluster=made.scheduler_address, on_progress=look)
        assert report.requests == sandbox.count()
        assert (report.path, report.conversations) == (dest, 300)
        assert chats_by_id(fetched(dest, tmp_path)) == truth(sandbox)
        again = await export_tuned(make_client(sandbox), dest, cluster=made.scheduler_address)
        assert again.finished_before
        held += [*objects(dest).values(), caplog.text.encode()]
        assert any(b"write_shard" in each for each in held)
        assert not [each for each in held for secret in (*SECRETS, sandbox.api_key.encode()) if secret in each]
    parts = [part["name"] for part in manifest(tmp_path)["parts"]]
    assert all(re.fullmatch(r"conversations/run-00001-shard-\d+-\w{8}\.jsonl\.gz", name) for name in parts)
    assert CLUSTER_SESSION_FILE not in objects(dest)
    assert not SESSIONS


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_after_a_worker_was_killed_a_bucket_holds_everything_once(
    make_client: ClientFactory, dest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: Any
) -> None:
    async with (
        served(monkeypatch, conversations=400, latency=0.05) as sandbox,
        distributed.Client(processes.scheduler_address, asynchronous=True, set_as_default=False) as client,
    ):
        await client.wait_for_workers(2)
        victim, *_ = (await client.run(os.getpid)).values()
        kill = once(lambda told: told.conversations > 50, lambda: os.kill(victim, signal.SIGKILL))
        report = await export_tuned(make_client(sandbox), dest, cluster=client, on_progress=kill)
        assert chats_by_id(fetched(dest, tmp_path)) == truth(sandbox)
        with pytest.raises(ProcessLookupError):
            os.kill(victim, 0)
    assert report.conversations == manifest(tmp_path)["conversations"] == 400


async def test_of_two_workers_at_one_shard_one_commits_and_one_of_an_earlier_export_does_not(
    make_client: ClientFactory, dest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(monkeypatch, conversations=400, latency=0.005) as sandbox:
        sessions, log = await seated(sandbox, make_client, open_shared(dest), "the-session", 2)
        first, second = log.plan.shards[:2]
        results = await asyncio.gather(*(session.write(first) for session in sessions))
        assert [result.recorded for result in results] == [["00000"], ["00000"]]
        parts = [name for name in objects(dest) if name.startswith("conversations/")]
        assert parts == committed_parts(log, "00000")
        put(dest, CLUSTER_SESSION_FILE, b"another")
        result = await sessions[0].write(second)
        assert "another goes on with it" in str(result.error)
        assert [name for name in objects(dest) if name.startswith("conversations/")] == parts
        await asyncio.gather(*(session.leave() for session in sessions))


async def test_an_export_whose_lock_is_taken_over_ends_and_so_do_its_workers(
    make_client: ClientFactory, dest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(monkeypatch, conversations=400, latency=0.02) as sandbox, local() as made:

        def take_over() -> None:
            other = Holder(token="other", host="elsewhere", process=7, life=None)
            put(dest, "_journal/lock", msgspec.json.encode(other))
            put(dest, CLUSTER_SESSION_FILE, b"of the other")

        taken = once(lambda told: told.shards_done > 0, take_over)
        with pytest.raises(ExportError, match="another goes on with it"):
            await export_tuned(
                make_client(sandbox), dest, SMALL_ONE_AT_A_TIME, cluster=made.scheduler_address, on_progress=taken
            )
        assert not SESSIONS
        found = objects(dest)
        assert (found[CLUSTER_SESSION_FILE], "manifest.json" in found) == (b"of the other", False)
        await asyncio.sleep(0.3)
        assert objects(dest).keys() == found.keys()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (403, "permission denied (403 AccessDenied)"),
        ((404, "<Code>NoSuchBucket</Code>"), "no such bucket (404 NoSuchBucket)"),
    ],
)
async def test_what_a_store_refuses_a_worker_is_said_in_a_line_before_anything_is_sent(
    make_client: ClientFactory, dest: str, front: Front, monkeypatch: pytest.MonkeyPatch, answer: Any, why: str
) -> None:
    front.rule = lambda method, path: answer if method == "GET" and path.endswith(CLUSTER_SESSION_FILE) else None
    async with served(monkeypatch, conversations=200) as sandbox, local(1) as made:
        with pytest.raises(ConfigurationError) as raised:
            await export_tuned(make_client(sandbox), dest, cluster=made.scheduler_address)
        pattern = rf"cluster: worker inproc://\S+: cannot read {dest}/{CLUSTER_SESSION_FILE}: {re.escape(why)}"
        assert re.fullmatch(pattern, str(raised.value))
        assert sandbox.count() == 0


@pytest.mark.parametrize(
    ("elsewhere", "why"),
    [
        ("http://127.0.0.1:9", "cannot read .*: the store cannot be reached, or hung up"),
        (None, "is not the place that the export writes to; the destination must be storage that"),
    ],
    ids=["nowhere", "another store"],
)
async def test_a_worker_whose_environment_leads_elsewhere_is_named_before_anything_is_sent(
    make_client: ClientFactory,
    dest: str,
    front: Front,
    monkeypatch: pytest.MonkeyPatch,
    processes: Any,
    elsewhere: str | None,
    why: str,
) -> None:
    # Another store: the exporting process comes by a way of its own, which is not where its record is seen.
    if elsewhere is None:
        front.rule = lambda method, path: (
            (404, "<Code>NoSuchKey</Code>") if method == "GET" and path.endswith(CLUSTER_SESSION_FILE) else None
        )
    async with (
        served(monkeypatch, conversations=200) as sandbox,
        distributed.Client(processes.scheduler_address, asynchronous=True, set_as_default=False) as client,
    ):
        await client.wait_for_workers(2)
        await client.run(os.environ.update, {"AWS_ENDPOINT_URL": elsewhere or front.url})
        try:
            with pytest.raises(ConfigurationError, match=rf"^cluster: worker tcp://\S+: .*{why}") as raised:
                await export_tuned(make_client(sandbox), dest, cluster=client)
        finally:
            await client.run(os.environ.update, {"AWS_ENDPOINT_URL": front.url})
        assert not [secret for secret in SECRETS if secret.decode() in str(raised.value)]
        assert sandbox.count() == 0
