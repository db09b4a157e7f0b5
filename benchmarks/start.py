"""What a start costs: the command's help and first row, the import of the library, and its plugin in pytest.

Each is a process of its own, and they are interleaved; medians. CPU time of the whole process, children included,
stands beside the wall clock, since it does not count what others take of the machine.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from alli_async.sandbox import Sandbox

from .report import Options, Result, Table, bars, median

_DEPENDENCIES = "import aiohttp, msgspec"
_PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_nothing.py"]
_FIRST_ROW = [sys.executable, "-m", "alli_async", "conversations", "list", "--limit", "50"]
_STARTS = {
    "python": [sys.executable, "-c", "pass"],
    "alli-async --help": [sys.executable, "-m", "alli_async", "--help"],
    _DEPENDENCIES: [sys.executable, "-c", _DEPENDENCIES],
    "the same, and alli_async": [sys.executable, "-c", f"{_DEPENDENCIES}, alli_async"],
    "the same, and AlliClient": [sys.executable, "-c", f"{_DEPENDENCIES}\nfrom alli_async import AlliClient"],
    "an empty pytest run": _PYTEST,
    "the same, with the plugin": [*_PYTEST, "-p", "alli_async.sandbox.pytest_plugin"],
}


# Seconds that the sandbox takes for an answer: a round trip. The first row may come after one, and not after two.
_ROUND_TRIP = 0.05


def run(options: Options) -> Result:
    """Start each again and again."""
    times = options.runs or (2 if options.quick else 15)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in _STARTS}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_nothing.py").write_text("def test_nothing(): pass\n", encoding="utf-8")
        for each in _STARTS.values():  # bytecode is written once
            _start(each, folder)
        for _ in range(times):
            for name, command in _STARTS.items():
                found[name].append(_start(command, folder))
    values = {
        name: {"wall": median(wall for wall, _ in each), "cpu": median(cpu for _, cpu in each)}
        for name, each in found.items()
    }
    first_rows = _first_rows(times)
    rows = [(name, each["wall"] * 1000, each["cpu"] * 1000) for name, each in values.items()]

    def over(one: str, other: str) -> float:
        # Pairs of one round: the speed of the machine changes less within a round than between rounds.
        pairs = zip(found[one], found[other], strict=True)
        return median(with_it - without_it for (_, with_it), (_, without_it) in pairs) * 1000

    limits = [
        ("alli-async --help, ms", values["alli-async --help"]["wall"] * 1000, 150, False),
        (
            "import alli_async over aiohttp and msgspec, CPU ms",
            over("the same, and alli_async", _DEPENDENCIES),
            40,
            False,
        ),
        (
            "AlliClient over aiohttp and msgspec, CPU ms",
            over("the same, and AlliClient", _DEPENDENCIES),
            40,
            False,
        ),
        ("the plugin in pytest, CPU ms", over("the same, with the plugin", "an empty pytest run"), 30, False),
    ]
    wall, _, requests = map(median, zip(*first_rows, strict=True))
    limits += [
        (
            f"first row of conversations list, {_ROUND_TRIP * 1000:.0f} ms of round trip left out, ms",
            wall * 1000,
            350,
            False,
        ),
        ("requests before the first row", requests, 1, False),
    ]
    table = Table(f"Starts; medians of {times}", ("", "wall ms", "CPU ms"), rows)
    shown = [(f"round {number}", a * 1000, b * 1000, c) for number, (a, b, c) in enumerate(first_rows, 1)]
    first = Table("First row of conversations list", ("", "wall ms", "CPU ms", "requests"), shown)
    whole: dict[str, Any] = {**values, "first row": [list(each) for each in first_rows]}
    return Result([table, first, bars("Share of a start", limits)], whole, _drawing(values))


def _first_rows(times: int) -> list[tuple[float, float, float]]:
    """Seconds until the first row without the round trip, CPU seconds of the process, requests until then."""
    found = []
    with Sandbox(conversations=200, latency=_ROUND_TRIP) as sandbox:
        env = os.environ | {"ALLI_BASE_URL": sandbox.url, "ALLI_API_KEY": sandbox.api_key}
        for _ in range(times + 1):  # the first one warms up
            sent, before, began = (
                sandbox.count(),
                resource.getrusage(resource.RUSAGE_CHILDREN),
                time.perf_counter(),
            )
            with subprocess.Popen(_FIRST_ROW, env=env, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                assert process.stdout.readline(), "there is no row"
                seconds, requests = time.perf_counter() - began - _ROUND_TRIP, sandbox.count() - sent
                process.stdout.read()
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            found.append((seconds, cpu, float(requests)))
    return found[1:]


def _start(command: list[str], folder: str) -> tuple[float, float]:
    """Wall and CPU seconds of a process."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    # Other plugins of this environment would cost more than what is measured, and each time something else.
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True, timeout=120)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _drawing(values: Any) -> Any:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        drawn = axes.barh(list(values), [each["wall"] * 1000 for each in values.values()])
        axes.bar_label(drawn, fmt="%.0f", padding=3, fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel("ms")

    return draw
