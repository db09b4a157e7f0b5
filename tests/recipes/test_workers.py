"""What every worker over Alli must do, asked of each recipe with a redis-server behind it."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from alli_async.sandbox import Fault, Sandbox
from tests.support.processes import environment_of, running
from tests.support.queues import QUEUES, Queue
from tests.support.redis import redis_server

pytestmark = pytest.mark.slow


@pytest.fixture(params=QUEUES)
def kind(request: pytest.FixtureRequest) -> str:
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed: pip install -e '.[recipes]'")
    name: str = request.param
    return name


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(conversations=300, seed=5) as served:
        yield served


@pytest.fixture
def settings(
    kind: str, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    with redis_server() as url:
        monkeypatch.setenv("REDIS_URL", url)
        yield environment_of(sandbox) | {"REDIS_URL": url, "ALLI_EXPORT": str(tmp_path / "out")}


@pytest.fixture
async def queue(kind: str, settings: dict[str, str]) -> AsyncIterator[Queue]:
    opened = QUEUES[kind]()
    await opened.open()
    yield opened
    await opened.close()


def exported(folder: Path) -> list[str]:
    parts = [gzip.decompress(path.read_bytes()) for path in folder.glob("conversations/*.gz")]
    return [json.loads(line)["id"] for part in parts for line in part.splitlines()]


async def test_tasks_update_wait_and_export_and_their_results_arrive(
    queue: Queue, settings: dict[str, str], sandbox: Sandbox
) -> None:
    ids = sandbox.conversation_ids()
    sandbox.running(ids[0], polls=2)
    with running(*queue.worker, environment=settings | queue.environment) as worker:
        updated = await queue.begin("categorize", conversation_ids=ids[:100], category_ids=["a", "b"])
        answered = await queue.begin("answered", conversation_id=ids[0])
        assert await queue.result(updated) == 100
        found = await queue.result(answered)
        assert (found["id"] if isinstance(found, dict) else found.id) == ids[0]
        assert await queue.result(await queue.begin("nightly")) == 300
        new = sandbox.add_conversations(2)
        assert await queue.result(await queue.begin("nightly")) >= 2
        assert set(exported(Path(settings["ALLI_EXPORT"]))) == set(ids) | set(new)
        worker.send(signal.SIGTERM)
        await worker.ended()
        assert "Traceback" not in worker.output
        assert "Unclosed" not in worker.output
    # Each queue promises at least once.
    assert sandbox.count("bulkUpdateConversations", 200) >= 1
    assert sandbox.count("getConversationRunning") >= 3


async def test_an_export_that_sigterm_cuts_short_goes_on_in_the_next_worker(
    queue: Queue, settings: dict[str, str], sandbox: Sandbox
) -> None:
    sandbox.script("listConversations", ["ok"] * 5 + [Fault("ok", seconds=600)] * 20)
    with running(*queue.worker, environment=settings | queue.environment) as worker:
        nightly = await queue.begin("nightly")
        async with asyncio.timeout(90):
            while sandbox.count("listConversations") < 5 or not sandbox.in_flight:
                worker.check()
                await asyncio.sleep(0.05)
        worker.send(signal.SIGTERM)
        await worker.ended()
        assert "was destroyed" not in worker.output
        assert "Unclosed" not in worker.output
    sandbox.script("listConversations", [])
    with running(*queue.worker, environment=settings | queue.environment):
        await queue.result(nightly)  # the same task, which the caller still waits for
    assert sorted(exported(Path(settings["ALLI_EXPORT"]))) == sorted(sandbox.conversation_ids())
