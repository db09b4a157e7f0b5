"""What a conversation costs as the job grows: time, requests over the least possible, and peak memory.

The server gives its answers at once. A million conversations are served with --full only.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from .backend import Backend, Run
from .contestants import CONTESTANTS, chosen
from .report import Options, Result, Table, bars, median

_SIZES = {1000: 5, 10_000: 5, 100_000: 3, 1_000_000: 1}
_HOUR = 3600.0


def run(options: Options) -> Result:
    """Let the job grow."""
    names = chosen(options.only, ("structs", "raw"))
    runs: dict[int, dict[str, list[Run]]] = {}
    least: dict[int, int] = {}
    for size, times in _SIZES.items():
        if size > (10_000 if options.quick else 1_000_000 if options.full else 100_000):
            continue
        with Backend(size) as backend:
            least[size] = backend.usage().least_requests
            runs[size] = {name: [] for name in names}
            for _ in range(options.runs or (1 if options.quick else times)):
                for name in names:
                    runs[size][name].append(measured := backend.race(name, timeout=_HOUR))
                    print(f"{size:9,}  {name:8} {measured.seconds:7.2f} s", file=sys.stderr, flush=True)
    tables = [_table(runs, least), bars("At the largest", _bars(runs, least))]
    return Result(tables, _values(runs, least), _drawing(runs), _failures(runs))


def _table(runs: dict[int, dict[str, list[Run]]], least: dict[int, int]) -> Table:
    rows = [
        (
            CONTESTANTS[name].label,
            size,
            len(each),
            seconds := median(run.seconds for run in each),
            seconds / size * 1e6,
            median(run.cpu_seconds for run in each) / size * 1e6,
            each[0].requests,
            each[0].requests / least[size],
            median(run.peak_mb for run in each),
            f"{median(run.server_cpu_seconds / run.seconds for run in each):.0%}",
            "yes" if all(run.whole for run in each) else "NO",
        )
        for size, contestants in runs.items()
        for name, each in contestants.items()
    ]
    head = (
        "",
        "conversations",
        "runs",
        "seconds",
        "µs each",
        "CPU µs each",
        "requests",
        "over least",
        "peak MB",
        "server busy",
        "whole",
    )
    return Table("Cost as the job grows; 0 ms, medians", head, rows)


def _bars(
    runs: dict[int, dict[str, list[Run]]], least: dict[int, int]
) -> list[tuple[str, float | None, float, bool]]:
    largest = max(runs)
    found: list[tuple[str, float | None, float, bool]] = []
    for name, each in runs[largest].items():
        what = f"{name}, {largest:,}: "
        peak = median(run.peak_mb for run in each)
        found.append((what + "requests / least possible", each[0].requests / least[largest], 1.05, False))
        found.append((what + "peak MB", peak, 200, False))
        if largest > 100_000:
            before = median(run.peak_mb for run in runs[100_000][name])
            found.append((what + "peak MB / that at 100,000", peak / before, 1.1, False))
    return found


def _values(runs: dict[int, dict[str, list[Run]]], least: dict[int, int]) -> list[dict[str, Any]]:
    return [
        {"size": size, "least_requests": least[size], "contestant": name, **msgspec.to_builtins(run)}
        for size, contestants in runs.items()
        for name, each in contestants.items()
        for run in each
    ]


def _failures(runs: dict[int, dict[str, list[Run]]]) -> list[str]:
    return [
        f"{name}, {size:,}: {run}"
        for size, contestants in runs.items()
        for name, each in contestants.items()
        for run in each
        if not run.whole
    ]


def _drawing(runs: dict[int, dict[str, list[Run]]]) -> Any:
    def draw(figure: Any) -> None:
        cost, memory = figure.subplots(1, 2)
        sizes = list(runs)
        for name in runs[sizes[0]]:
            label = CONTESTANTS[name].label
            each = [runs[size][name] for size in sizes]
            microseconds = [
                median(run.seconds for run in some) / size * 1e6 for size, some in zip(sizes, each, strict=True)
            ]
            cost.plot(sizes, microseconds, "o-", label=label)
            memory.plot(sizes, [median(run.peak_mb for run in some) for some in each], "o-", label=label)
        for axes, what in ((cost, "µs a conversation"), (memory, "peak resident memory, MB")):
            axes.set_xscale("log")
            axes.set_ylim(bottom=0)
            axes.set_xlabel("conversations")
            axes.set_title(what, fontsize=10)
            axes.legend()

    return draw
