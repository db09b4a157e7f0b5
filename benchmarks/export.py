"""What writing costs: exports in every format beside the engine alone.

Each run is a process of its own, on one core, the server on another; runs are interleaved. The destination is a
directory for temporary files, whatever disk that is on. With --full there are a hundred thousand conversations,
and what a job costs once, its plan, weighs as little as in a real one. After each run, outside of its time, the
parts are read back: every conversation must be there once, and every chat.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from .backend import Backend
from .report import Options, Result, Table, bars, draw_seconds, median

WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "engine": ("the engine alone, raw", {}),
    "plain": ("JSON Lines, plain", {"compression": "none"}),
    "gzip": ("JSON Lines, gzip", {"compression": "gzip"}),
    "zstd": ("JSON Lines, zstd", {"compression": "zstd"}),
    "parquet": ("Parquet, zstd", {"format": "parquet"}),
}


class Run(msgspec.Struct, rename="camel"):
    """What one run gave and took; sizes in bytes."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    conversations: int
    chats: int
    distinct: int
    uncompressed: int
    written: int
    requests: int


Runs = Mapping[float, Mapping[str, list[Run]]]


def run(options: Options) -> Result:
    """Export in every way."""
    names = list(options.only or WAYS)
    if unknown := set(names) - set(WAYS):
        sys.exit(f"benchmarks: no way {', '.join(sorted(unknown))}; there are {', '.join(WAYS)}")
    lacking = [package for package in ("pyarrow", "backports.zstd", "uvloop") if not _is_there(package)]
    if lacking:
        sys.exit(f"benchmarks: not installed: {', '.join(lacking)}; pip install '.[speed,zstd,parquet]'")
    conversations = 1000 if options.quick else 100_000 if options.full else 10_000
    times = options.runs or (1 if options.quick else 5)
    with Backend(conversations) as backend:
        runs: Runs = {latency: {name: [] for name in names} for latency in (0.0, 0.02)}
        for number in range(times):
            for latency, ways in runs.items():
                backend.set_latency(latency)
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    with tempfile.TemporaryDirectory() as folder:
                        printed = backend.child("export", name, backend.url, f"{folder}/all", timeout=600.0)
                    measured = msgspec.convert(printed, Run)
                    ways[name].append(measured)
                    note = f"{number + 1}/{times}  {latency * 1000:3.0f} ms  {name:8} {measured.seconds:7.2f} s"
                    print(note, file=sys.stderr, flush=True)
        chats = backend.usage().chats
    title = f"{conversations:,} conversations, {chats:,} chats"
    tables = [_table(f"{title}; {latency * 1000:g} ms; medians of {times}", runs[latency]) for latency in runs]
    if not options.quick:
        tables.append(bars("Seconds at 20 ms, over the engine alone", _bars(runs[0.02])))
    values = [
        {"latency": latency, "way": name, **msgspec.to_builtins(each)}
        for latency, ways in runs.items()
        for name, some in ways.items()
        for each in some
    ]
    failures = [
        f"{value['way']} at {value['latency'] * 1000:g} ms: {value}"
        for value in values
        if (value["conversations"], value["distinct"], value["chats"]) != (conversations, conversations, chats)
    ]
    return Result(tables, values, _drawing(title, runs), failures)


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _table(title: str, runs: Mapping[str, list[Run]]) -> Table:
    engine = median(each.seconds for each in runs["engine"]) if "engine" in runs else None
    rows = []
    for name, each in runs.items():
        seconds = median(one.seconds for one in each)
        rows.append(
            (
                WAYS[name][0],
                seconds,
                seconds / engine if engine else "",
                each[0].conversations / seconds,
                each[0].uncompressed / seconds / 1e6,
                each[0].written / 1e6,
                median(one.cpu_seconds for one in each),
                median(one.peak_mb for one in each),
                each[0].requests,
            )
        )
    head = ("", "seconds", "over engine", "a second", "MB/s of JSON", "MB written", "CPU s", "peak MB", "requests")
    return Table(title, head, rows)


def _bars(runs: Mapping[str, list[Run]]) -> list[tuple[str, float | None, float, bool]]:
    if "engine" not in runs:
        return []
    engine = median(each.seconds for each in runs["engine"])
    return [
        (WAYS[name][0], median(each.seconds for each in some) / engine, 1.25, False)
        for name, some in runs.items()
        if name != "engine"
    ]


def _drawing(title: str, runs: Runs) -> Any:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        names = list(next(iter(runs.values())))
        seconds = {
            latency: [median(run.seconds for run in ways[name]) for name in names]
            for latency, ways in runs.items()
        }
        draw_seconds(axes, seconds, [WAYS[name][0] for name in names], title)
        axes.set_xlabel("seconds")
        axes.legend(loc="lower right")

    return draw


# --- one run, in a process of its own ---------------------------------------------------------------------


async def _engine(url: str, found: dict[str, Any]) -> None:
    from alli_async import AlliClient

    ids, chats, size = set(), 0, 0
    async with AlliClient("the-key", base_url=url) as alli:
        stream = alli.conversations.transcripts(raw=True)
        async for each in stream:
            ids.add(each.id)
            chats += each.chat_count
            size += len(each.json) + 1
    found |= {"conversations": stream.stats.conversations, "chats": chats, "distinct": len(ids)}
    found |= {"uncompressed": size, "written": 0, "requests": stream.stats.requests}


async def _export(name: str, url: str, dest: str, found: dict[str, Any]) -> None:
    from alli_async import AlliClient
    from alli_async.export import export

    how: dict[str, Any] = WAYS[name][1]
    async with AlliClient("the-key", base_url=url) as alli:
        report = await export(alli, dest, **how)
    found |= {"conversations": report.conversations, "chats": report.chats, "requests": report.requests}
    found |= {"uncompressed": report.uncompressed_bytes, "written": report.bytes}


def ids_in(dest: Path) -> Iterator[str]:
    """Of what was written."""
    for path in (dest / "conversations").iterdir():
        if path.suffix == ".parquet":
            yield from import_module("pyarrow.parquet").read_table(path, columns=["id"])["id"].to_pylist()
        else:
            module: Any = {".gz": gzip, ".zst": import_module("backports.zstd")}.get(path.suffix)
            with module.open(path) if module else path.open("rb") as lines:
                yield from (json.loads(line)["id"] for line in lines)


def main(name: str, url: str, dest: str) -> None:
    """Do it, look at what was written, and print what it took."""
    import uvloop

    from .contestants.__main__ import peak_mb

    import_module("alli_async.export")
    # As the command does.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if name == "parquet":
        for module in ("parquet", "json", "compute"):
            import_module(f"pyarrow.{module}")
    found: dict[str, Any] = {}
    began, cpu = time.perf_counter(), time.process_time()
    uvloop.run(_engine(url, found) if name == "engine" else _export(name, url, dest, found))
    found |= {"seconds": time.perf_counter() - began, "cpuSeconds": time.process_time() - cpu, "peakMb": peak_mb()}
    if name != "engine":
        found["distinct"] = len(set(ids_in(Path(dest))))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
