"""An export on a cluster of one, two and four workers, against a server that takes its time.

Each run is a process of its own, with a scheduler and its workers as processes under it, all on one core, and the
server on another; runs are interleaved. Measured is the export alone, from the call to the manifest: by then the
cluster stands. After each run the parts are read back: every conversation must be there once, and every chat.
With --full the server answers at once, and one worker is compared with no cluster: what a worker costs.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from .backend import Backend
from .export import ids_in
from .report import Options, Result, Table, median

_WORKERS, _THREADS = (0, 1, 2, 4), 1
# So long that it is waited for, and not computed, on one core too.
_LATENCY = 0.2


class Run(msgspec.Struct, rename="camel"):
    """What one run gave and took."""

    seconds: float
    conversations: int
    chats: int
    distinct: int
    requests: int
    parts: int


Runs = Mapping[int, list[Run]]


def run(options: Options) -> Result:
    """Export with more and more workers."""
    if find_spec("distributed") is None:
        sys.exit("benchmarks: not installed: distributed; pip install '.[dask]'")
    counts = _WORKERS[:2] if options.full else _WORKERS[:3] if options.quick else _WORKERS
    # More shards than one worker walks at a time.
    conversations = 50_000 if options.full else 1000 if options.quick else 30_000
    latency = 0.0 if options.full else 0.02 if options.quick else _LATENCY
    times = options.runs or (1 if options.quick else 3)
    runs: Runs = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as folder, Backend(conversations) as backend:
        backend.set_latency(latency)
        for number in range(times):
            for count in (*counts[number % len(counts) :], *counts[: number % len(counts)]):
                dest = f"{folder}/{count}-{number}"
                measured = backend.child("cluster", str(count), backend.url, dest, timeout=300.0)
                runs[count].append(msgspec.convert(measured, Run))
                note = f"{number + 1}/{times}  {_label(count):16} {runs[count][-1].seconds:7.2f} s"
                print(note, file=sys.stderr, flush=True)
        chats = backend.usage().chats
    title = f"{conversations:,} conversations, {chats:,} chats; {latency * 1000:g} ms; medians of {times}"
    values = [{"workers": count, **msgspec.to_builtins(each)} for count, some in runs.items() for each in some]
    failures = [
        f"{_label(value['workers'])}: {value}"
        for value in values
        if (value["conversations"], value["distinct"], value["chats"]) != (conversations, conversations, chats)
    ]
    return Result([_table(title, runs)], values, _drawing(title, runs), failures)


def _label(count: int) -> str:
    return {0: "no cluster", 1: "1 worker"}.get(count, f"{count} workers")


def _table(title: str, runs: Runs) -> Table:
    one = median(each.seconds for each in runs[1])
    rows = []
    for count, each in runs.items():
        seconds = median(run.seconds for run in each)
        rows.append((_label(count), seconds, one / seconds, each[0].conversations / seconds, each[0].requests))
    return Table(title, ("", "seconds", "times one worker", "a second", "requests"), rows)


def _drawing(title: str, runs: Runs) -> Any:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        heights = [median(run.seconds for run in each) for each in runs.values()]
        drawn = axes.bar([_label(count) for count in runs], heights)
        axes.bar_label(drawn, fmt="%.2g s")
        axes.set_ylabel("seconds")
        axes.set_title(title, fontsize=9)

    return draw


# --- one run, in a process of its own ---------------------------------------------------------------------


async def _export(count: int, url: str, dest: str) -> dict[str, Any]:
    from alli_async import AlliClient
    from alli_async.export import export

    async with AlliClient(base_url=url, max_concurrency=256) as alli:
        if not count:
            began = time.perf_counter()
            report = await export(alli, dest)
            seconds = time.perf_counter() - began
        else:
            from distributed import LocalCluster

            started = LocalCluster(
                n_workers=count,
                threads_per_worker=_THREADS,
                asynchronous=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
            )
            async with started as cluster:
                began = time.perf_counter()
                report = await export(alli, dest, cluster=cluster.scheduler_address)
                seconds = time.perf_counter() - began
    found = {"conversations": report.conversations, "chats": report.chats, "requests": report.requests}
    return found | {"seconds": seconds, "parts": report.parts, "distinct": len(set(ids_in(Path(dest))))}


def main(count: str, url: str, dest: str) -> None:
    """Do it, look at what was written, and print what it took."""
    os.environ["ALLI_API_KEY"] = "the-key"
    print(json.dumps(asyncio.run(_export(int(count), url, dest))))


if __name__ == "__main__":
    main(*sys.argv[1:])
