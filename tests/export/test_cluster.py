"""Exports on a Dask cluster: whatever becomes of workers, scheduler or client, each conversation is there once."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from alli_async import AuthenticationError, ConfigurationError, ExportError, _malloc
from alli_async._listing.filters import Filters
from alli_async._transport.limiter import RateLimiter
from alli_async.export import ExportProgress
from alli_async.export.commit_log import RunLog
from alli_async.export.dask import workers
from alli_async.export.dask.cluster import ClusterExecutor
from alli_async.export.dask.messages import Assignment, JoinRequest, TaskResult
from alli_async.export.dask.scheduler import connected
from alli_async.export.dask.sharing import CLUSTER_SESSION_FILE, LimiterShare, SharedDirectory, split_evenly
from alli_async.export.dask.workers import SESSIONS
from alli_async.export.records import Shard
from alli_async.export.run_context import RunContext
from alli_async.export.storage.directory import FileSink
from alli_async.export.storage.opening import open_store
from alli_async.export.storage.store import TakenError
from alli_async.export.tuning import Tuning
from alli_async.sandbox import Fault, Sandbox
from tests.conftest import ClientFactory
from tests.export.clusters import LINES, Worker, committed_parts, local, once, seated, served
from tests.export.support import (
    COMMAND,
    chats_by_id,
    crossing,
    environment,
    manifest,
    planned,
    read_record,
    truth,
)
from tests.support.cancelling import cancel_at_each
from tests.support.destinations import when_committed
from tests.support.exports import SMALL, SMALL_ONE_AT_A_TIME, export_tuned
from tests.support.late import late
from tests.support.processes import ROOT

dask = late("dask")
distributed = late("distributed")

pytestmark = pytest.mark.timeout(60)


# --- it is an export like any other -----------------------------------------------------------------------


async def test_workers_write_everything_once_and_the_numbers_add_up(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[ExportProgress] = []
    async with served(monkeypatch, conversations=400) as sandbox, local() as made:
        client = make_client(sandbox)
        report = await export_tuned(
            client, tmp_path / "all", cluster=made.scheduler_address, on_progress=told.append
        )
        assert chats_by_id(tmp_path / "all") == truth(sandbox)
        assert report.requests == sandbox.count()
    written = manifest(tmp_path / "all")
    assert report.conversations == written["conversations"] == told[-1].conversations == 400
    assert report.chats == written["chats"] == told[-1].chats
    assert told[-1].shards == told[-1].shards_done >= len(written["parts"]) > 1  # the last shard holds nothing
    assert not list(tmp_path.rglob(".*"))
    assert not (tmp_path / "all" / CLUSTER_SESSION_FILE).exists()
    assert not SESSIONS


async def test_a_worker_of_one_thread_walks_as_many_shards_at_a_time_as_an_export_without_it(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once: list[int] = []
    async with served(monkeypatch, conversations=400, latency=0.1) as sandbox, local(1) as made:

        def told(_: ExportProgress) -> None:
            at_once.extend(each.shards for each in SESSIONS.values())

        await export_tuned(make_client(sandbox), tmp_path, cluster=made.scheduler_address, on_progress=told)
        assert chats_by_id(tmp_path) == truth(sandbox)
    assert max(at_once) > SMALL.shards_at_first
    manifest(tmp_path)


async def test_the_exporting_process_writes_the_last_shard_when_the_workers_have_committed_the_others(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(monkeypatch, conversations=400) as sandbox, local() as made:
        # A conversation without chats belongs to the last shard, whose part would else be empty.
        sandbox.delete_chats(len(sandbox.chat_ids(sandbox.conversation_ids()[0])), sandbox.conversation_ids()[0])
        await export_tuned(make_client(sandbox), tmp_path, cluster=made.scheduler_address)
        assert chats_by_id(tmp_path) == truth(sandbox)
    *others, last = sorted(tmp_path.glob("_journal/run-00001-shard-*"))
    assert last.stat().st_mtime_ns >= max(each.stat().st_mtime_ns for each in others)
    # A worker gives its parts names that no other attempt has.
    by_worker = [bool(re.search(r"shard-\d+-\w+\.", part["name"])) for part in manifest(tmp_path)["parts"]]
    assert by_worker == [True] * (len(by_worker) - 1) + [False]
    assert len(by_worker) > 1


@pytest.mark.parametrize("pages", [14, 24, 34])
async def test_a_row_that_moves_between_the_shards_of_two_workers_is_written_once(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    async with served(monkeypatch, conversations=600) as sandbox, local() as made:
        alli = make_client(sandbox)
        moving = list(await crossing(alli, await planned(alli, SMALL)))
        assert len(moving) > 50
        before = truth(sandbox)

        def move() -> None:
            for each in moving:
                sandbox.delete_chats(1, each, first=True)

        sandbox.after_pages(pages, move)
        report = await export_tuned(alli, tmp_path, cluster=made.scheduler_address)
        found = chats_by_id(tmp_path)
    assert found.keys() == before.keys()
    assert all(found[each] in (before[each], before[each][1:]) for each in moving)
    assert report.skipped == []
    assert all(sandbox.chat_ids(each) == before[each][1:] for each in moving)


async def test_a_client_of_another_thread_is_as_good_as_an_address_and_parquet_as_lines(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.dataset

    def start() -> Any:
        made = distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,
            protocol="tcp",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
        )
        return distributed.Client(made)

    async with served(monkeypatch, conversations=200) as sandbox:
        client = await asyncio.to_thread(start)
        try:
            report = await export_tuned(make_client(sandbox), tmp_path / "all", format="parquet", cluster=client)
            again = await export_tuned(make_client(sandbox), tmp_path / "all", format="parquet", cluster=client)
        finally:
            await asyncio.to_thread(client.cluster.close)
            await asyncio.to_thread(client.close)
        ids = pyarrow.dataset.dataset(tmp_path / "all" / "conversations").to_table()["id"].to_pylist()
        assert sorted(ids) == sorted(sandbox.conversation_ids())
    assert report.parts == len(manifest(tmp_path / "all")["parts"])
    assert again.finished_before


async def test_a_dense_shard_is_split_by_its_worker_and_the_rest_handed_to_others(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = Tuning(dense_rows=80, piece_rows=40, rows_ahead=40, poll=0.1)
    async with served(monkeypatch, conversations=600, latency=0.01) as sandbox, local() as made:
        await export_tuned(make_client(sandbox), tmp_path, dense, cluster=made.scheduler_address)
        assert chats_by_id(tmp_path) == truth(sandbox)
    fates = [json.loads(path.read_text()) for path in (tmp_path / "_journal").glob("run-*-shard-*.json")]
    assert any("split" in record for record in fates)
    manifest(tmp_path)


async def test_all_workers_together_keep_to_what_may_be_in_flight(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        served(monkeypatch, conversations=400, latency=0.01, max_in_flight=5) as sandbox,
        local(1) as made,
    ):
        client = make_client(sandbox, max_concurrency=5)
        more = once(lambda told: told.conversations > 50, lambda: made.scale(3))
        report = await export_tuned(client, tmp_path, cluster=made.scheduler_address, on_progress=more)
        assert chats_by_id(tmp_path) == truth(sandbox)
        # What went beyond would have been refused, and sent again.
        assert (report.retries, sandbox.peak_in_flight) == (0, 5)


def test_a_budget_is_cut_into_whole_shares_and_nothing_is_lost() -> None:
    assert split_evenly(64, 3) == [22, 21, 21]
    assert split_evenly(2, 3) == [1, 1, 0]
    assert split_evenly(5, 0) == []


async def test_a_share_that_shrinks_waits_for_what_is_in_flight_and_one_that_grows_lets_others_go() -> None:
    share = LimiterShare(RateLimiter(64))
    await share.change(3, 1000.0)
    for _ in range(3):
        await share.acquire()
    shrinking = asyncio.create_task(share.change(1, 500.0))
    waiting = asyncio.create_task(share.acquire())
    await asyncio.sleep(0.02)
    assert not shrinking.done()
    share.release()
    share.release()
    await asyncio.wait_for(shrinking, 5)
    assert not waiting.done()
    await share.change(2, None)
    await asyncio.wait_for(waiting, 5)
    assert share.in_flight == 2


# --- workers come and go ----------------------------------------------------------------------------------


async def test_a_worker_that_joins_is_given_work(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()
    async with served(monkeypatch, conversations=400, latency=0.03) as sandbox, local(1) as made:
        more = once(lambda told: told.shards_done > 0, lambda: made.scale(2))

        def told(progress: ExportProgress) -> None:
            more(progress)
            seen.update(address for (_, address), session in SESSIONS.items() if session.shards)

        await export_tuned(
            make_client(sandbox), tmp_path, SMALL_ONE_AT_A_TIME, cluster=made.scheduler_address, on_progress=told
        )
        assert chats_by_id(tmp_path) == truth(sandbox)
    assert len(seen) == 2
    manifest(tmp_path)


@pytest.mark.timeout(90)
async def test_a_worker_that_is_killed_costs_only_what_it_had_not_committed(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: Any
) -> None:
    async with (
        served(monkeypatch, conversations=400, latency=0.05) as sandbox,
        distributed.Client(processes.scheduler_address, asynchronous=True, set_as_default=False) as client,
    ):
        await client.wait_for_workers(2)
        victim, *_ = (await client.run(os.getpid)).values()
        kill = once(lambda told: told.conversations > 50, lambda: os.kill(victim, signal.SIGKILL))
        report = await export_tuned(make_client(sandbox), tmp_path, cluster=client, on_progress=kill)
        assert chats_by_id(tmp_path) == truth(sandbox)
        with pytest.raises(ProcessLookupError):
            os.kill(victim, 0)
    assert report.conversations == manifest(tmp_path)["conversations"] == 400


class Tasks:
    """Stands for the workers of a cluster: one worker, whose tasks all have the same result."""

    def __init__(self, result: Callable[[Shard], TaskResult | None]) -> None:
        self._result = result
        self.is_dismissed = False

    async def begin(self, assignment: Assignment) -> None: ...

    async def dismiss(self) -> None:
        self.is_dismissed = True

    def least_busy(self) -> str:
        return "the worker"

    def assign(self, worker: str, shard: Shard) -> asyncio.Task[TaskResult | None]:
        async def task() -> TaskResult | None:
            return self._result(shard)

        return asyncio.create_task(task())

    async def poll(self, *, everyone: bool) -> list[str]:
        return []


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda _: None, r"shard 000..: 4 workers were lost while they wrote it"),
        (
            lambda shard: TaskResult(recorded=[shard.name]),
            r"shard 000..: a worker has written its record, but the record cannot be seen here",
        ),
    ],
)
async def test_a_shard_that_no_worker_gets_into_the_journal_ends_the_export(
    make_client: ClientFactory, tmp_path: Path, result: Any, message: str
) -> None:
    tuning = replace(SMALL, polls_for_record=1)
    async with Sandbox(conversations=400) as sandbox:
        plan = await planned(make_client(sandbox), tuning)
        session = make_client(sandbox).conversations._session
    log = RunLog.begin(SharedDirectory(tmp_path), plan)
    tasks: Any = Tasks(result)
    context = RunContext(
        session=session, filters=Filters(), plan=plan, open_writer=unreachable, on_error="skip", tuning=tuning
    )
    with pytest.raises(ExportError, match=message):
        await ClusterExecutor(tasks, context, log).write_all(log.state.pending[:-1], lambda: None)
    assert tasks.is_dismissed


def unreachable(shard: str) -> Any:
    raise AssertionError(f"{shard} is written here")


async def failing() -> None:
    raise MemoryError("it is full")


async def test_a_task_that_fails_in_an_unforeseen_way_is_an_error_that_names_its_worker() -> None:
    async with local(1) as made, connected(made.scheduler_address, timeout=10) as scheduler:
        (worker,) = await scheduler.present()
        with pytest.raises(ExportError, match=r"worker inproc://.*: MemoryError: it is full"):
            await scheduler.run(worker, asyncio.Event(), "key", failing)


async def test_a_worker_that_has_lost_its_place_takes_it_again(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaving: list[Any] = []
    async with served(monkeypatch, conversations=400, latency=0.03) as sandbox, local(1) as made:

        def leave() -> None:
            leaving.extend(asyncio.ensure_future(session.leave()) for session in SESSIONS.values())

        told = once(lambda told: told.conversations > 50, leave)
        report = await export_tuned(
            make_client(sandbox), tmp_path, cluster=made.scheduler_address, on_progress=told
        )
        await asyncio.gather(*leaving)
        assert chats_by_id(tmp_path) == truth(sandbox)
    assert len(leaving) == 1
    assert report.conversations == manifest(tmp_path)["conversations"] == 400


async def test_when_the_last_worker_is_gone_the_export_ends_after_some_patience(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = replace(SMALL_ONE_AT_A_TIME, wait_for_workers=0.5)
    async with served(monkeypatch, conversations=400, latency=0.02) as sandbox, local(1) as made:
        gone = once(lambda told: told.shards_done > 0, lambda: made.scale(0))
        with pytest.raises(ExportError, match="has no worker left; what was committed stays"):
            await export_tuned(
                make_client(sandbox), tmp_path, impatient, cluster=made.scheduler_address, on_progress=gone
            )
        with pytest.raises(ExportError, match=r"the cluster at inproc://.* has no workers"):
            await export_tuned(make_client(sandbox), tmp_path, impatient, cluster=made.scheduler_address)


async def test_a_scheduler_that_dies_ends_the_export_and_without_it_the_rest_is_done(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(monkeypatch, conversations=400, latency=0.02) as sandbox:
        async with local(1, protocol="tcp") as made:
            end = once(
                lambda told: told.shards_done > 0,
                lambda: ending.append(asyncio.ensure_future(made.scheduler.close())),
            )
            ending: list[Any] = []
            with pytest.raises(ExportError, match=r"the scheduler at tcp://.* is gone; what was committed stays"):
                await export_tuned(
                    make_client(sandbox),
                    tmp_path,
                    SMALL_ONE_AT_A_TIME,
                    cluster=made.scheduler_address,
                    on_progress=end,
                )
            await asyncio.gather(*ending)
            # Else the cluster's own end waits half a minute for its scheduler.
            monkeypatch.setitem(dask.config.config["distributed"]["comm"]["timeouts"], "connect", "1s")
        report = await export_tuned(make_client(sandbox), tmp_path, SMALL_ONE_AT_A_TIME)
        assert report.resumed > 0
        assert chats_by_id(tmp_path) == truth(sandbox)
    manifest(tmp_path)


async def test_when_the_exporting_process_is_killed_the_next_goes_on_and_no_worker_writes_for_the_first(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = tmp_path / "all"
    async with (
        served(monkeypatch, conversations=400, latency=0.03) as sandbox,
        local(2, protocol="tcp") as made,
    ):
        variables = {"ALLI_API_KEY": sandbox.api_key, "ALLI_BASE_URL": sandbox.url}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.small_export", str(dest), made.scheduler_address,
            env=environment(variables),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        ends = time.monotonic() + 30
        while len(list((dest / "_journal").glob("run-*-shard-*"))) < 1 and time.monotonic() < ends:
            await asyncio.sleep(0.02)
        process.kill()
        await process.wait()
        orphans = list(SESSIONS.values())
        assert sum(session.shards for session in orphans) > 0
        report = await export_tuned(
            make_client(sandbox), dest, SMALL_ONE_AT_A_TIME, cluster=made.scheduler_address
        )
        assert report.resumed > 0
        assert chats_by_id(dest) == truth(sandbox)
        while SESSIONS:
            await asyncio.sleep(0.05)
    manifest(dest)


async def test_the_command_exports_on_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch, conversations=700) as sandbox, local(2, protocol="tcp") as made:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "export", str(tmp_path / "all"), "--dask", made.scheduler_address, "--json",
            env=environment({"ALLI_API_KEY": sandbox.api_key, "ALLI_BASE_URL": sandbox.url}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        printed, complaint = await process.communicate()
        assert process.returncode == 0, complaint
        assert json.loads(printed)["conversations"] == 700
        assert chats_by_id(tmp_path / "all") == truth(sandbox)


# --- the export is cancelled ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_an_export_on_a_cluster_that_is_cancelled_at_any_of_its_awaits_leaves_no_task_lock_or_worker(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dests, dest = count(), tmp_path / "none"
    async with served(monkeypatch, conversations=120, page_cap=20) as sandbox, local(2) as made:
        client = make_client(sandbox)

        async def run() -> None:
            nonlocal dest
            dest = tmp_path / str(next(dests))
            await export_tuned(client, dest, cluster=made.scheduler_address)

        async def check() -> None:
            assert not SESSIONS
            assert not (dest / CLUSTER_SESSION_FILE).exists()
            assert client.limits.in_flight == client.limits.waiting == 0
            if dest.exists():
                with open_store(dest).lock():
                    pass
                assert [path.name for path in dest.glob("**/.*partial*")] == []
            if int(dest.name) % 10 == 0:
                await export_tuned(client, dest, cluster=made.scheduler_address)
                assert chats_by_id(dest) == truth(sandbox)

        assert await cancel_at_each(run, check, most=60) > 40


# --- two at one shard -------------------------------------------------------------------------------------


def test_of_those_who_create_a_record_one_does(tmp_path: Path) -> None:
    first, second = SharedDirectory(tmp_path), SharedDirectory(tmp_path)
    first.put_record("_journal/one.json", b"first")
    with pytest.raises(TakenError, match=r"one.json: it is there already"):
        second.put_record("_journal/one.json", b"second")
    assert first.read("_journal/one.json") == b"first"
    second.put_record("_journal/one.json", b"third", replace=True)
    assert first.read("_journal/one.json") == b"third"
    assert [path.name for path in (tmp_path / "_journal").iterdir()] == ["one.json"]


def test_a_link_whose_answer_was_lost_and_that_was_asked_for_again_is_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    store = SharedDirectory(tmp_path)
    store.put_record("_journal/one.json", b"first")
    assert store.read("_journal/one.json") == b"first"


async def test_of_two_workers_at_one_shard_one_commits_and_both_say_so(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=200, latency=0.005) as sandbox:
        sessions, log = await seated(sandbox, make_client, SharedDirectory(tmp_path), "the-session", 2)
        shard = log.plan.shards[0]
        results = await asyncio.gather(*(session.write(shard) for session in sessions))
        assert [result.recorded for result in results] == [["00000"], ["00000"]]
        written = [str(path.relative_to(tmp_path)) for path in (tmp_path / "conversations").iterdir()]
        assert written == committed_parts(log, "00000")
        # A third only reads what became of it.
        asked = sandbox.count()
        assert (await sessions[0].write(shard)).recorded == ["00000"]
        assert sandbox.count() == asked
        await asyncio.gather(*(session.leave() for session in sessions))
        assert (await sessions[0].write(shard)).has_session is False


async def test_a_worker_whose_export_was_taken_over_commits_nothing(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=200) as sandbox:
        store = SharedDirectory(tmp_path)
        (session,), log = await seated(sandbox, make_client, store, "the-first", 1)
        store.put_record(CLUSTER_SESSION_FILE, b"the-second", replace=True)
        result = await session.write(log.plan.shards[0])
        assert "another goes on with it" in str(result.error)
        assert list((tmp_path / "conversations").iterdir()) == []
        assert log.read_record("00000") is None
        await session.leave()


class SlowDirectory(SharedDirectory):
    """A directory in which no part can be begun for a while."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked, self.may_open = threading.Event(), threading.Event()

    def sink(self, name: str) -> FileSink:
        if name.startswith("conversations/"):
            self.asked.set()
            assert self.may_open.wait(10)
        return super().sink(name)


async def test_a_part_that_is_begun_only_after_its_worker_has_left_is_not_left_behind(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    store = SlowDirectory(tmp_path)
    async with Sandbox(conversations=200) as sandbox:
        (session,), log = await seated(sandbox, make_client, store, "the-session", 1)
        writing = asyncio.create_task(session.write(log.plan.shards[0]))
        assert await asyncio.to_thread(store.asked.wait, 10)
        leaving = asyncio.create_task(session.leave())
        await asyncio.sleep(0.05)
        store.may_open.set()
        await leaving
        assert (await writing).has_session is False
        assert list((tmp_path / "conversations").iterdir()) == []


# --- what is asked of workers -----------------------------------------------------------------------------


async def test_a_destination_that_is_not_shared_is_refused_before_anything_is_sent(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: Any
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    async with (
        served(monkeypatch, conversations=200) as sandbox,
        distributed.Client(processes.scheduler_address, asynchronous=True, set_as_default=False) as client,
    ):
        await client.wait_for_workers(2)
        await client.run(os.chdir, str(tmp_path / "there"))
        # The same name of two directories, as on two machines.
        with pytest.raises(ConfigurationError, match=r"cluster: worker tcp://.*/cwd/all is not the place"):
            await export_tuned(make_client(sandbox), "/proc/self/cwd/all", cluster=client)
        assert sandbox.count() == 0
    assert not (tmp_path / "there" / "all").exists()


async def test_a_worker_without_a_key_is_named_before_anything_is_sent(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(monkeypatch, conversations=200) as sandbox, local(1) as made:
        monkeypatch.delenv("ALLI_API_KEY")
        with pytest.raises(ConfigurationError, match=r"cluster: worker inproc://.*: no key: set ALLI_API_KEY"):
            await export_tuned(make_client(sandbox), tmp_path, cluster=made.scheduler_address)
        assert sandbox.count() == 0


async def test_a_run_goes_on_on_a_cluster_although_all_conversations_that_it_noted_are_deleted(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(monkeypatch, conversations=400) as sandbox, local(1) as made:
        stop = when_committed(tmp_path, 2, lambda: running.cancel())
        client = make_client(sandbox, middlewares=[stop])
        running = asyncio.create_task(export_tuned(client, tmp_path, tuning=SMALL_ONE_AT_A_TIME))
        with pytest.raises(asyncio.CancelledError):
            await running
        for each in read_record(tmp_path / "_journal" / "run-00001-plan.json")["ids"]:
            sandbox.delete_conversations(conversation_id=each)
        report = await export_tuned(make_client(sandbox), tmp_path, cluster=made.scheduler_address)
    assert report.resumed > 0
    assert set(chats_by_id(tmp_path)) >= set(sandbox.conversation_ids())


async def test_a_worker_whose_key_the_server_refuses_is_named_before_any_shard_is_fetched(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(monkeypatch, conversations=400) as sandbox, local(1) as made:
        monkeypatch.setenv("ALLI_API_KEY", "not-the-key")
        with pytest.raises(ConfigurationError, match="cluster: worker inproc://") as caught:
            await export_tuned(make_client(sandbox), tmp_path, cluster=made.scheduler_address)
        assert "not-the-key" not in str(caught.value)
    assert not (tmp_path / "conversations").exists()


async def test_what_a_worker_meets_is_raised_as_what_it_was(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(monkeypatch, conversations=400, latency=0.02) as sandbox, local(1) as made:
        answer = Fault("status", status=403, body=b'{"type":"APIError","code":7001,"message":"invalid key"}')
        refuse = once(
            lambda told: told.shards_done > 1, lambda: sandbox.script("listConversations", [answer] * 500)
        )
        with pytest.raises(AuthenticationError) as caught:
            await export_tuned(
                make_client(sandbox),
                tmp_path,
                SMALL_ONE_AT_A_TIME,
                cluster=made.scheduler_address,
                on_progress=refuse,
            )
        assert (caught.value.status, caught.value.attempts) == (403, 1)
        assert not SESSIONS
        sandbox.script("listConversations", [])


async def test_no_key_is_in_what_scheduler_and_workers_hold_and_log(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held: list[bytes] = []
    async with served(monkeypatch, conversations=400, latency=0.01) as sandbox, local() as made:
        caplog.set_level("DEBUG")

        def look(progress: ExportProgress) -> None:
            for task in made.scheduler.tasks.values():
                held.append(pickle.dumps(task.run_spec) + repr(task.run_spec).encode())
            for worker in made.workers.values():
                held.extend(pickle.dumps(each.run_spec) for each in worker.state.tasks.values())
                held.append(repr(list(worker.state.log)).encode())
            held.append(repr(made.scheduler.get_events()).encode())
            held.append(repr([vars(session) for session in SESSIONS.values()]).encode())

        client = make_client(sandbox, own_user_id="me")
        await export_tuned(client, tmp_path, cluster=made.scheduler_address, on_progress=look)
        assert any(b"write_shard" in each for each in held)
        key = sandbox.api_key
        assert not [each for each in held if key.encode() in each]
        assert key not in caplog.text
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("key", "message"),
    [("", "is left aside: no key"), ("not-the-key", "is left aside: 403/7001: Invalid API key")],
)
async def test_a_worker_that_joins_and_cannot_work_is_left_aside(
    make_client: ClientFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    key: str,
    message: str,
) -> None:
    async with served(monkeypatch, conversations=400, latency=0.03) as sandbox, local(1) as made:

        def join_without_the_key() -> None:
            monkeypatch.setenv("ALLI_API_KEY", key)
            made.scale(2)

        told = once(lambda told: told.shards_done > 0, join_without_the_key)
        await export_tuned(
            make_client(sandbox), tmp_path, SMALL_ONE_AT_A_TIME, cluster=made.scheduler_address, on_progress=told
        )
        assert chats_by_id(tmp_path) == truth(sandbox)
    assert message in caplog.text


async def test_a_worker_with_another_version_or_without_a_place_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLI_API_KEY", "the-key")
    store = SharedDirectory(tmp_path)
    store.put_record(CLUSTER_SESSION_FILE, b"one", replace=True)
    request = JoinRequest(session="one", place=str(tmp_path), spec=LINES, options={})
    other = JoinRequest(session="one", place=str(tmp_path), spec=LINES, options={}, sdk_version="0.0")
    assert "not 0.0; install the same" in str(await workers.join(other, Worker(1)))
    wrong = JoinRequest(session="one", place=str(tmp_path), spec=LINES, options={"timeout": 0})
    assert "timeout: expected a number" in str(await workers.join(wrong, Worker(1)))
    assert await workers.report_status("one", Worker(1)) is None
    assert await workers.leave("one", Worker(1)) is None
    await workers.set_share("one", {"worker-1": (1, None)}, Worker(1))
    work: Any = None
    assert await workers.begin("one", work, Worker(1)) == "it takes no part in the export any more"
    assert workers.write_shard("one", "worker-1", Shard(name="0")) == TaskResult(has_session=False)
    # Asked twice, since the answer was late, it has one place.
    assert await workers.join(request, Worker(1)) is None
    assert await workers.join(request, Worker(1)) is None
    assert await SESSIONS["one", "worker-1"].write(Shard(name="0")) == TaskResult(has_session=False)
    assert len(SESSIONS) == 1
    status = await workers.leave("one", Worker(1))
    assert status is not None
    assert status.progress == ExportProgress()
    assert not SESSIONS


@pytest.mark.parametrize("is_tuned", [False, True])
async def test_a_worker_keeps_freed_memory_if_the_exporting_process_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_tuned: bool
) -> None:
    # A process keeps freed memory for good; this one may have begun to in an earlier test.
    monkeypatch.setattr(_malloc, "_is_tuned", False)
    monkeypatch.setenv("ALLI_API_KEY", "the-key")
    SharedDirectory(tmp_path).put_record(CLUSTER_SESSION_FILE, b"one\n", replace=True)
    options = {"base_url": "http://127.0.0.1:9"}
    request = JoinRequest(session="one", place=str(tmp_path), spec=LINES, options=options, tunes_malloc=is_tuned)
    assert await workers.join(request, Worker(1)) is None
    assert _malloc.is_malloc_tuned() is is_tuned
    await workers.leave("one", Worker(1))


async def test_a_connection_that_was_closed_loses_tasks_and_says_that_the_scheduler_is_gone() -> None:
    async with local(1) as made:
        async with connected(made.scheduler_address, timeout=10) as scheduler:
            await scheduler._client.close()
            assert await scheduler.run("worker", asyncio.Event(), "key", quick) is None
            assert await scheduler.ask(quick, workers=["worker"]) == {}
            with pytest.raises(ExportError, match=r"the scheduler at inproc://.* is gone"):
                await scheduler.present()


async def quick() -> str:
    return "done"


async def test_a_worker_that_is_lost_while_results_are_fetched_takes_no_other_workers_result_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with local(1) as made, connected(made.scheduler_address, timeout=10) as scheduler:
        client, gone, going = scheduler._client, asyncio.Event(), asyncio.Event()
        fetch = client._gather_remote

        async def fetch_late(*how: Any) -> Any:
            await going.wait()
            return await fetch(*how)

        # Nothing else makes the results of two tasks arrive in one answer, which comes late.
        monkeypatch.setattr(client, "_gather_remote", fetch_late)
        (worker,) = await scheduler.present()
        first = asyncio.create_task(scheduler.run(worker, gone, "one", quick))
        second = asyncio.create_task(scheduler.run(worker, asyncio.Event(), "two", quick))
        while [each.status for each in client.futures.values()] != ["finished"] * 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        gone.set()
        assert await first is None
        going.set()
        assert await asyncio.wait_for(second, 10) == "done"
    assert not scheduler._awaited


# --- what is refused --------------------------------------------------------------------------------------


async def test_without_distributed_it_says_what_to_install(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    async with Sandbox(conversations=10) as sandbox:
        with pytest.raises(ConfigurationError, match=r"pip install 'alli-async\[dask\]'"):
            await export_tuned(make_client(sandbox), tmp_path, cluster="tcp://127.0.0.1:1")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("tcp://127.0.0.1:1", "cluster: no scheduler at tcp://127.0.0.1:1"),
        ("nonsense://there", "cluster: no scheduler at nonsense://there"),
        (7, "cluster: expected a distributed.Client or an address, got 7"),
    ],
)
async def test_what_is_no_scheduler_is_refused(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Any, message: str
) -> None:
    async with Sandbox(conversations=10) as sandbox:
        with pytest.raises(ConfigurationError, match=message):
            tuning = replace(SMALL, connect_seconds=0.5)
            await export_tuned(make_client(sandbox), tmp_path, tuning, cluster=given)
        assert sandbox.count() == 0


async def test_what_cannot_be_had_elsewhere_is_refused(make_client: ClientFactory, tmp_path: Path) -> None:
    async def nothing(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    async with Sandbox(conversations=10) as sandbox:
        client = make_client(sandbox, middlewares=[nothing])
        with pytest.raises(ConfigurationError, match="cluster: a client with middlewares or an aiohttp session"):
            await export_tuned(client, tmp_path, cluster="tcp://127.0.0.1:1")
        with pytest.raises(ConfigurationError, match=r"is a file; .* cluster= need a directory"):
            await export_tuned(make_client(sandbox), tmp_path / "all.jsonl", cluster="tcp://127.0.0.1:1")


def test_what_exports_does_not_import_distributed_until_it_is_asked_for() -> None:
    code = "import sys, alli_async.export, alli_async.cli.app; print('distributed' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
