"""What the tests of exports share: a sandbox and exports in processes, and what they wrote."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "alli_async"]


def wait_for(condition: Callable[[], Any]) -> None:
    """Wait for what a thread or a process does by itself, for half a minute at most."""
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def records(dest: Path) -> list[dict[str, Any]]:
    """Every line of every part that is there."""
    return [
        json.loads(line)
        for path in sorted((dest / "conversations").glob("[!.]*.jsonl*"))
        for line in (
            gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        ).splitlines()
    ]


def chats_by_id(dest: Path) -> dict[str, list[str]]:
    """The ids of the chats of each conversation; one that is there twice is an error."""
    found = records(dest)
    twice = [each for each, times in Counter(record["id"] for record in found).items() if times > 1]
    assert not twice, twice
    return {record["id"]: [chat["id"] for chat in record["chats"]] for record in found}


def manifest(dest: Path) -> dict[str, Any]:
    """The manifest, once it is proved that the parts are what it says."""
    found: dict[str, Any] = json.loads((dest / "manifest.json").read_text("utf-8"))
    assert found["complete"] is True
    for part in found["parts"]:
        data = (dest / part["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (part["bytes"], part["sha256"])
    there = {
        str(path.relative_to(dest)) for name in ("conversations", "chats") for path in (dest / name).glob("*")
    }
    assert there == {part["name"] for part in found["parts"]}
    return found


def environment(exports: dict[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ALLI_")}
    return clean | exports


@contextmanager
def serving(*arguments: str) -> Iterator[dict[str, str]]:
    """A sandbox in a process of its own; gives the variables that lead to it."""
    process = subprocess.Popen(
        [*COMMAND, "sandbox", *arguments],
        env=environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(2)]
        yield dict(line.removeprefix("export ").strip().split("=", 1) for line in lines)
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def run(
    exports: dict[str, str], *arguments: str, prefix: tuple[str, ...] = (), measured: bool = True, **more: Any
) -> Any:
    """Run the command to its end; one that may not write can not tell what of it was covered."""
    env = environment(exports)
    if not measured:
        env = {name: value for name, value in env.items() if not name.startswith("COVERAGE_")}
    return subprocess.run(
        [*prefix, *COMMAND, *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        stdin=subprocess.DEVNULL,
        **more,
    )
