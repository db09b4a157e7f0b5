"""Web apps and pipelines: a FastAPI route beside one by hand, streams that are left, and dlt into DuckDB.

The two routes are interleaved. CPU time stands beside requests a second, since it does not count what others take
of the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from alli_async.sandbox import Sandbox
from tests.support.processes import Program, environment_of, serving

from .backend import Backend, Run, pin
from .contestants import CONTESTANTS, KEY
from .data import Dataset
from .report import Options, Result, Table, bars, median

_ROOT = Path(__file__).parent.parent
_IN_FLIGHT = (64, 500)


def run(options: Options) -> Result:
    """Measure the routes, the streams and the pipelines."""
    routes = _routes(*(300, 1) if options.quick else (4000, options.runs or 5))
    streams = asyncio.run(_streams(50 if options.quick else 500))
    pipelines = _pipelines(300 if options.quick else 10_000, 1 if options.quick else options.runs or 3)
    ratios = [
        (f"route, {in_flight} at once: ours / by hand, {what}", median(values), 0.9, True)
        for in_flight, both in routes.items()
        for what, values in _ratios(both).items()
    ]
    ratios.append(("upstream requests end after the last stream was left, s", streams["seconds"], 0.5, False))
    seconds = {name: median(run.seconds for run in runs) for name, runs in pipelines.items()}
    ratios.append(("dlt to DuckDB: rest_api / ours", seconds["dlt_duckdb"] / seconds["dlt_ours"], 5, True))
    lost = [f"{name}: {run}" for name, runs in pipelines.items() for run in runs if not run.whole]
    return Result(
        tables=[
            _route_table(routes),
            _stream_table(streams),
            _pipeline_table(pipelines),
            bars("Doors", ratios),
        ],
        values={"routes": routes, "streams": streams, "pipelines": seconds},
        draw=lambda figure: _draw(figure, routes),
        failures=lost,
    )


Measured = dict[str, list[tuple[float, float]]]


def _ratios(both: Measured) -> dict[str, list[float]]:
    """Of each round: how fast ours is, as a part of what the other one reaches."""
    pairs = list(zip(both["ours"], both["bare"], strict=True))
    return {
        "requests/s": [ours[0] / bare[0] for ours, bare in pairs],
        "requests per CPU s": [bare[1] / ours[1] for ours, bare in pairs],
        # On a machine that does other work too, the least time is the one that holds least of it.
        "requests per least CPU s": [min(bare[1] for _, bare in pairs) / min(ours[1] for ours, _ in pairs)],
    }


def _routes(requests: int, runs: int) -> dict[int, Measured]:
    """Requests a second, and CPU microseconds of the app for each, by requests in flight and app."""
    with Backend(1000) as backend:
        ids = [json.loads(Dataset(1000).item(index))["id"] for index in range(200)]
        with _app("ours", backend.url) as ours, _app("bare", backend.url) as bare:
            apps = {"ours": ours, "bare": bare}
            found: dict[int, Measured] = {}
            for in_flight in _IN_FLIGHT:
                for app in apps.values():  # connections are made, code is warm
                    _load(app, in_flight, max(requests // 4, in_flight), ids)
                both = found[in_flight] = {name: [] for name in apps}
                for _ in range(runs):
                    for name, app in apps.items():
                        both[name].append(_load(app, in_flight, max(requests, in_flight), ids))
            return found


@contextmanager
def _app(name: str, upstream: str) -> Iterator[Program]:
    command = (
        "uvicorn",
        "--port",
        "{port}",
        "--no-access-log",
        "--backlog",
        "2048",
        f"benchmarks.door_apps:{name}",
    )
    environment = {"ALLI_API_KEY": KEY, "ALLI_BASE_URL": upstream}
    with serving(*command, environment=environment) as app:
        pin(app.process.pid, 0)
        yield app


def _load(app: Program, in_flight: int, requests: int, ids: list[str]) -> tuple[float, float]:
    before = _cpu_seconds(app.process.pid)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.door_load", app.url, str(in_flight), str(requests)],
        cwd=_ROOT,
        input=json.dumps(ids),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    cpu = _cpu_seconds(app.process.pid) - before
    return requests / json.loads(done.stdout), cpu / requests * 1e6


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _streams(number: int) -> dict[str, Any]:
    """Begin streams and leave them at random: what the app holds, and how soon nothing is asked upstream."""
    command = ("uvicorn", "--port", "{port}", "--no-access-log", "--factory", "benchmarks.door_apps:watched")
    with (
        Sandbox(conversations=3000, latency=0.02) as sandbox,
        serving(*command, environment=environment_of(sandbox)) as app,
    ):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await _begin_and_leave(session, app.url, number // 5)  # what is kept for good is there after these
            before = await _holdings(session, app)
            await _begin_and_leave(session, app.url, number)
            left = time.perf_counter()
            last = left
            while time.perf_counter() - last < 0.3:
                if sandbox.in_flight:
                    last = time.perf_counter()
                await asyncio.sleep(0.005)
            after = await _holdings(session, app)
    return {"streams": number, "seconds": last - left, "before": before, "after": after}


async def _begin_and_leave(session: aiohttp.ClientSession, url: str, number: int) -> None:
    draw = random.Random(7)
    waits = iter([draw.random() for _ in range(number)])

    async def leave_each() -> None:
        for wait in waits:
            async with session.get(f"{url}/transcripts") as answer:
                await asyncio.sleep(wait)
                answer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(leave_each())


async def _holdings(session: aiohttp.ClientSession, app: Program) -> dict[str, float]:
    await asyncio.sleep(1)
    async with session.get(f"{app.url}/_tasks") as answer:
        tasks = int(await answer.text())
    folder = Path(f"/proc/{app.process.pid}")
    status = (folder / "status").read_text("ascii")
    memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) / 1024
    return {"tasks": tasks, "files": len(list((folder / "fd").iterdir())), "MB": memory}


def _pipelines(conversations: int, runs: int) -> dict[str, list[Run]]:
    """All conversations by dlt into DuckDB, at 20 ms."""
    names = ("dlt_ours", "dlt_duckdb")
    found: dict[str, list[Run]] = {name: [] for name in names}
    with Backend(conversations) as backend:
        backend.set_latency(0.02)
        for _ in range(runs):
            for name in names:
                found[name].append(backend.race(name))
    return found


def _route_table(routes: dict[int, Measured]) -> Table:
    names = {"ours": "over client.conversations.get", "bare": "over aiohttp + msgspec by hand"}
    rows = [
        (f"{names[name]}, {in_flight} at once", median(each[0] for each in runs), median(each[1] for each in runs))
        for in_flight, both in routes.items()
        for name, runs in both.items()
    ]
    return Table("A FastAPI route with a typed response", ("", "requests/s", "the app's CPU µs each"), rows)


def _stream_table(streams: dict[str, Any]) -> Table:
    rows = [(name, streams["before"][name], streams["after"][name]) for name in streams["before"]]
    return Table(f"{streams['streams']} streams begun and left: what the app holds", ("", "before", "after"), rows)


def _pipeline_table(pipelines: dict[str, list[Run]]) -> Table:
    rows = [
        (
            CONTESTANTS[name].label,
            median(run.seconds for run in runs),
            median(run.cpu_seconds for run in runs),
            median(run.peak_mb for run in runs),
            "yes" if all(run.whole for run in runs) else "NO",
        )
        for name, runs in pipelines.items()
    ]
    return Table("dlt into DuckDB, 20 ms", ("", "seconds", "CPU s", "peak MB", "whole"), rows)


def _draw(figure: Any, routes: dict[int, Measured]) -> None:
    axes = figure.subplots()
    bars_of = [
        (f"{name}, {number}", median(r[0] for r in runs))
        for number, b in routes.items()
        for name, runs in b.items()
    ]
    axes.barh([name for name, _ in bars_of], [value for _, value in bars_of])
    axes.set_xlabel("requests a second")
