"""Load: everything again and again from a server that fails one request in twenty, for twenty seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.soak import Sample, Soak
from tests.support.servers import ROOT


@pytest.mark.slow
def test_nothing_grows_and_every_conversation_is_accounted_for(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "soak", "--quick", "--no-plot", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "soak.json").read_text(encoding="utf-8"))["values"]
    assert found["unaccounted"] == found["left_open"] == 0
    assert found["conversations"] == 1000 * found["rounds"] > 0
    last = found["samples"][-1]
    assert last["retries"] > 0
    assert last["tasks"] == 1
    assert last["connections"] <= 64


def sample(value: float) -> Sample:
    return Sample(value, 50 + value, 20, 400_000, 1, 8, 16, 100, 5)


def test_growth_is_what_the_last_third_holds_over_the_first() -> None:
    assert Soak(samples=[sample(0)] * 9).growth("rss_mb") == 1.0
    assert Soak(samples=[sample(value) for value in (0, 0, 0, 10, 10, 10, 50, 50, 50)]).growth("rss_mb") == 2.0
