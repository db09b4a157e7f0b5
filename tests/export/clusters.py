"""What the tests of clusters share: a server whose key workers have, and workers in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from alli_async._listing.filters import Filters
from alli_async.export import ExportProgress
from alli_async.export.commit_log import RunLog, read_destination
from alli_async.export.dask.messages import Assignment, JoinRequest
from alli_async.export.dask.sharing import CLUSTER_SESSION_FILE
from alli_async.export.dask.workers import WorkerSession
from alli_async.export.planning import plan_run
from alli_async.export.records import ExportSpec
from alli_async.export.storage.store import Store
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.support.exports import SMALL
from tests.support.late import late

distributed = late("distributed")

LINES = ExportSpec(format="jsonl", compression="gzip", filters=[])


@asynccontextmanager
async def served(monkeypatch: pytest.MonkeyPatch, **options: Any) -> AsyncIterator[Sandbox]:
    """A sandbox, whose key this process has in its environment, and so have workers in it."""
    async with Sandbox(**options) as sandbox:
        monkeypatch.setenv("ALLI_API_KEY", sandbox.api_key)
        yield sandbox


def local(workers: int = 2, *, protocol: str = "inproc") -> Any:
    """A cluster of workers of one thread each, in this process and on its event loop."""
    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=False,
        asynchronous=True,
        protocol=protocol,
        host=None if protocol == "inproc" else "127.0.0.1",
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        silence_logs=False,
    )


def once(when: Callable[[ExportProgress], bool], what: Callable[[], Any]) -> Callable[[ExportProgress], None]:
    """A listener to the progress that does something once."""
    done = False

    def told(progress: ExportProgress) -> None:
        nonlocal done
        if not done and when(progress):
            done = True
            what()

    return told


class Worker:
    """What is asked of a worker."""

    def __init__(self, number: int) -> None:
        self.address = f"worker-{number}"
        self.status = distributed.Status.running


async def seated(
    sandbox: Sandbox, make_client: ClientFactory, store: Store, session: str, count: int
) -> tuple[list[WorkerSession], RunLog]:
    """Places in an export, of workers that nobody drives, and the log of the run that they work at."""
    dest = str(store)
    store.put_record(CLUSTER_SESSION_FILE, session.encode(), replace=True)
    runs = [RunLog(store, state, end) for state, end in read_destination(store, ()).runs]
    if not runs:
        planned = await plan_run(make_client(sandbox).conversations._session, Filters(()), tuning=SMALL)
        runs = [RunLog.begin(store, planned.plan)]
    work = Assignment(plan=runs[0].plan, filters=Filters(()), on_error="skip")
    request = JoinRequest(session=session, place=dest, spec=LINES, options={}, tuning=SMALL)
    found = []
    for number in range(count):
        joined = WorkerSession(request, store, make_client(sandbox), Worker(number))
        await joined.limiter.change(32, None)
        joined.begin(work)
        found.append(joined)
    return found, runs[0]


def committed_parts(log: RunLog, shard: str) -> list[str]:
    """The names of the parts that were committed of a shard."""
    record = log.read_record(shard)
    assert record is not None
    assert record.commit is not None
    return [part.name for part in record.commit.parts]
