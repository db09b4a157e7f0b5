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

COUNT, FEW = 1500, 300
PARTIAL = {
    "part": "conversations/.run-00001-shard-00000.jsonl.gz.partial",
    "fate": "_journal/.run-00001-shard-00000.json.partial",
    "plan": "_journal/.run-00001-plan.json.partial",
    "complete": "_journal/.run-00001-complete.json.partial",
    "manifest": ".manifest.json.partial",
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[dict[str, str]]:
    with serving("--conversations", str(COUNT), "--latency", "0.002") as exports:
        yield exports


@pytest.fixture(scope="module")
def few() -> Iterator[dict[str, str]]:
    with serving("--conversations", str(FEW)) as exports:
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


@pytest.mark.slow
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
            wait = draw.uniform(0.25, 0.9)
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


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize(
    ("name", "call"),
    [
        *(("part", call) for call in ("fsync", "rename", "directory")),
        *(("fate", call) for call in ("write", "rename")),
        ("plan", "rename"),
        ("complete", "rename"),
        ("manifest", "rename"),
    ],
)
def test_killed_at_a_step_of_a_commit_it_ends_whole(
    few: dict[str, str], name: str, call: str, tmp_path: Path
) -> None:
    dest = tmp_path / "all"
    path = dest / PARTIAL[name]
    what, place = ("fsync", path.parent) if call == "directory" else (call, path)
    done = run(few, "export", str(dest), prefix=traced(what, "signal=SIGKILL", place, 1))
    assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), done.stderr
    done = run(few, "export", str(dest))
    assert done.returncode == 0, done.stderr
    assert len(chats_by_id(dest)) == manifest(dest)["conversations"] == FEW
    assert not list(dest.rglob(".*"))
