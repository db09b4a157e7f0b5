"""Hashed fields of an export on a cluster: each worker has the key in a file of its own, and nobody sends it."""

from __future__ import annotations

import hashlib
import hmac
import pickle
from pathlib import Path

import pytest

from alli_async import ConfigurationError
from alli_async.export import ExportProgress
from tests.conftest import ClientFactory
from tests.export.clusters import local, served
from tests.export.support import manifest, records
from tests.support.exports import export_tuned

KEY = b"a key of thirty-two random bytes"

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("ending", [b"", b"\n"], ids=["as it is", "a line"])
async def test_workers_hash_with_the_key_of_their_own_environment(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: bytes
) -> None:
    (tmp_path / "key").write_bytes(KEY + ending)
    monkeypatch.setenv("ALLI_REDACT_KEY_FILE", str(tmp_path / "key"))
    sent: list[bytes] = []
    async with served(monkeypatch, conversations=400) as sandbox, local() as made:
        client = make_client(sandbox)

        def look(_: ExportProgress) -> None:
            sent.extend(pickle.dumps(task.run_spec) for task in made.scheduler.tasks.values())
            sent.extend(repr(list(worker.state.log)).encode() for worker in made.workers.values())

        await export_tuned(
            client,
            tmp_path / "all",
            cluster=made.scheduler_address,
            redact={"title": KEY, "user": None},
            on_progress=look,
        )
        titles = {each.id: each.title async for each in client.conversations.list()}
    found = records(tmp_path / "all")
    assert len(manifest(tmp_path / "all")["parts"]) > 1
    assert {each["id"]: each["title"] for each in found} == {
        each: hmac.new(KEY, title.encode(), hashlib.sha256).hexdigest() for each, title in titles.items()
    }
    assert not any("user" in each for each in found)
    assert sent
    assert not [each for each in sent if KEY in each]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (None, "no key of hashed fields: set ALLI_REDACT_KEY_FILE in its environment to a file with the key"),
        ("nowhere", "ALLI_REDACT_KEY_FILE: cannot read .*nowhere: No such file or directory"),
        ("other", "ALLI_REDACT_KEY_FILE: the key in .*other is not that of this export"),
    ],
)
async def test_a_worker_without_the_key_is_named_before_anything_is_sent(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None, why: str
) -> None:
    (tmp_path / "other").write_bytes(b"another key of many random bytes")
    monkeypatch.delenv("ALLI_REDACT_KEY_FILE", raising=False)
    if name is not None:
        monkeypatch.setenv("ALLI_REDACT_KEY_FILE", str(tmp_path / name))
    async with served(monkeypatch, conversations=5) as sandbox, local(1) as made:
        with pytest.raises(ConfigurationError, match=rf"^cluster: worker inproc://\S+: {why}$") as raised:
            await export_tuned(
                make_client(sandbox), tmp_path / "all", cluster=made.scheduler_address, redact={"title": KEY}
            )
        assert KEY.decode() not in str(raised.value)
        assert sandbox.count() == 0
