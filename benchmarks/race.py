"""Ten thousand conversations with all their chats: this library, other ways to get them, and the floor.

Each run of each contestant is a process of its own, on one core; the server is another process, on another core.
Runs are interleaved: every contestant once at a latency, then the next latency, then all of it again, each time
beginning with another contestant, since a machine's speed drifts. Whether each got every conversation and every
chat is checked in every run. How fast the server is by itself stands in a table of its own, and beside each
contestant how busy the server was: where that is far below 100 %, the server is not what was measured.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import msgspec

from .backend import Backend, Run
from .contestants import CONTESTANTS, chosen
from .report import Options, Result, Table, bars, draw_seconds, median

Runs = Mapping[float, Mapping[str, list[Run]]]


def run(options: Options) -> Result:
    """Race them."""
    names = chosen(options.only, [name for name in CONTESTANTS if not name.endswith(("_duckdb", "_ours"))])
    conversations = 1000 if options.quick else 10_000
    latencies = (0.0, 0.02) if options.quick else (0.0, 0.02, 0.1)
    times = options.runs or (1 if options.quick else 5)
    with tempfile.TemporaryDirectory() as folder, Backend(conversations) as backend:
        if "generated" in names:
            from .contestants.generated import generate

            generate(folder)
        server = [
            backend.child("probe", backend.url, str(conversations), kind) for kind in ("list", "chats", "mixed")
        ]
        runs: Runs = {latency: {name: [] for name in names} for latency in latencies}
        for number in range(times):
            for latency in latencies:
                backend.set_latency(latency)
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    runs[latency][name].append(measured := backend.race(name, folder))
                    note = f"{number + 1}/{times}  {latency * 1000:3.0f} ms  {name:10} {measured.seconds:7.2f} s"
                    print(note, file=sys.stderr, flush=True)
        held = backend.usage()
    title = (
        f"{held.conversations:,} conversations, {held.chats:,} chats, at least {held.least_requests:,} requests"
    )
    tables = [_server_table(server)]
    tables += [
        _table(f"{title}; {latency * 1000:g} ms; medians of {times}", runs[latency]) for latency in latencies
    ]
    if not options.quick:  # the bars are for ten thousand conversations
        tables.append(bars("Ratios of medians", _bars(runs)))
    return Result(tables, {"server": server, "runs": _values(runs)}, _drawing(title, runs), _failures(runs))


def _server_table(server: list[dict[str, Any]]) -> Table:
    rows = [
        (each["kind"], each["kb"], each["answers_per_second"], each["server_cpu_us"], 1e6 / each["server_cpu_us"])
        for each in server
    ]
    head = ("answers", "KB", "a second, to a raw client", "server's CPU µs each", "so at most, a second")
    return Table("The server by itself, 0 ms, 16 connections", head, rows)


def _table(title: str, runs: Mapping[str, list[Run]]) -> Table:
    floor = median(run.seconds for run in runs["floor"]) if "floor" in runs else None
    rows = []
    for name, each in runs.items():
        seconds = median(run.seconds for run in each)
        rows.append(
            (
                CONTESTANTS[name].label,
                seconds,
                seconds / floor if floor else "",
                median(run.cpu_seconds for run in each),
                median(run.peak_mb for run in each),
                each[0].requests,
                f"{median(run.server_cpu_seconds / run.seconds for run in each):.0%}",
                "yes" if all(run.whole for run in each) else "NO",
            )
        )
    head = ("", "seconds", "over floor", "CPU s", "peak MB", "requests", "server busy", "whole")
    return Table(title, head, rows)


def _bars(runs: Runs) -> list[tuple[str, float | None, float, bool]]:
    def ratio(latency: float, one: str, other: str, what: str = "seconds") -> float | None:
        of = runs.get(latency, {})
        if one not in of or other not in of:
            return None
        return median(getattr(run, what) for run in of[one]) / median(getattr(run, what) for run in of[other])

    return [
        ("20 ms: structs / floor", ratio(0.02, "structs", "floor"), 1.5, False),
        ("20 ms: raw / floor", ratio(0.02, "raw", "floor"), 1.25, False),
        ("20 ms: script / structs", ratio(0.02, "script", "structs"), 5, True),
        ("20 ms: generated / structs", ratio(0.02, "generated", "structs"), 10, True),
        ("0 ms: raw / loop by hand, CPU", ratio(0.0, "raw", "loop", "cpu_seconds"), 1.2, False),
        ("0 ms: structs / structs by hand, CPU", ratio(0.0, "structs", "structs_loop", "cpu_seconds"), 1.3, False),
        ("0 ms: raw / script", ratio(0.0, "raw", "script"), 0.75, False),
        ("0 ms: structs / script", ratio(0.0, "structs", "script"), 1.1, False),
    ]


def _values(runs: Runs) -> list[dict[str, Any]]:
    return [
        {"latency": latency, "contestant": name, **msgspec.to_builtins(run)}
        for latency, contestants in runs.items()
        for name, each in contestants.items()
        for run in each
    ]


def _failures(runs: Runs) -> list[str]:
    return [
        f"{name} at {latency * 1000:g} ms: {run}"
        for latency, contestants in runs.items()
        for name, each in contestants.items()
        for run in each
        if not run.whole
    ]


def _drawing(title: str, runs: Runs) -> Any:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        names = list(next(iter(runs.values())))
        seconds = {
            latency: [median(run.seconds for run in contestants[name]) for name in names]
            for latency, contestants in runs.items()
        }
        draw_seconds(axes, seconds, [CONTESTANTS[name].label for name in names], title)
        axes.set_xscale("log")
        axes.set_xlabel("seconds (logarithmic)")
        axes.legend(loc="upper right")

    return draw
