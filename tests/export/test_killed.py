"""An export that is killed, at any moment and at every step of a commit, ends as if it had not been."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.export.support import COMMAND, chats_by_id, environment, manifest, run, serving

COUNT = 2400


@pytest.fixture(scope="module")
def sandbox() -> Iterator[dict[str, str]]:
    with serving("--conversations", str(COUNT), "--latency", "0.002") as exports:
        yield exports


@pytest.fixture(scope="module")
def expected(sandbox: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What an export that nobody disturbs holds."""
    dest = tmp_path_factory.mktemp("whole") / "all"
    done = run(sandbox, "export", str(dest))
    assert done.returncode == 0, done.stderr
    found = chats_by_id(dest)
    assert len(found) == COUNT
    return found


@pytest.mark.timeout(120)
def test_killed_thirty_times_at_random_it_ends_whole(
    sandbox: dict[str, str], expected: dict[str, list[str]], tmp_path: Path
) -> None:
    draw = random.Random(7)
    kills = round_ = 0
    while kills < 30:
        dest = tmp_path / f"round-{round_}"
        round_ += 1
        for _ in range(5):
            process = subprocess.Popen(
                [*COMMAND, "export", str(dest)],
                env=environment(sandbox),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            # From before the first request to about the end.
            began = time.monotonic()
            wait = draw.uniform(0.25, 1.2)
            while time.monotonic() - began < wait and process.poll() is None:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        done = run(sandbox, "export", str(dest))
        assert done.returncode == 0, done.stderr
        assert chats_by_id(dest) == expected
        assert manifest(dest)["conversations"] == COUNT
        shutil.rmtree(dest)
    assert kills >= 30


def traced(call: str, inject: str, path: Path, nth: int) -> tuple[str, ...]:
    return (
        "strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-P", str(path),
        "-e", f"inject={call}:{inject}:when={nth}",
    )  # fmt: skip


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("conversations", ".run-00001-shard-00000.jsonl.gz.partial"),
        ("_journal", ".run-00001-shard-00000.json.partial"),
        ("_journal", ".run-00001-plan.json.partial"),
        ("_journal", ".run-00001-complete.json.partial"),
        ("", ".manifest.json.partial"),
    ],
    ids=["part", "fate", "plan", "complete", "manifest"],
)
@pytest.mark.parametrize("call", ["openat", "write", "fsync", "rename", "fsync-directory"])
def test_killed_at_a_step_of_a_commit_it_ends_whole(folder: str, name: str, call: str, tmp_path: Path) -> None:
    with serving("--conversations", "400") as sandbox:
        dest = tmp_path / "all"
        path = dest / folder / name
        if call == "fsync-directory":
            prefix = traced("fsync", "signal=SIGKILL", path.parent, 1)
        else:
            prefix = traced(call, "signal=SIGKILL", path, 1)
        done = run(sandbox, "export", str(dest), prefix=prefix)
        assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), done.stderr
        done = run(sandbox, "export", str(dest))
        assert done.returncode == 0, done.stderr
        assert len(chats_by_id(dest)) == manifest(dest)["conversations"] == 400
        assert not list(dest.rglob(".*"))
