"""How long other tasks of the event loop wait beside `transcripts()`: 20,000 conversations, in structs and raw.

A task beside the stream asks to be woken every millisecond, as a web application's other requests would, and
notes how late it is woken. The wall clock also counts what other processes take of the core, so the CPU time that
this process took between two wake-ups stands beside it: that much of the delay is the stream's own doing.
Runs of each way are interleaved, each in a process of its own.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from typing import Any

from alli_async import AlliClient

from .backend import Backend
from .contestants import KEY
from .report import Options, Result, Table, bars, median

_CONVERSATIONS = 20_000
_WAYS = {"structs": "alli_async, structs", "raw": "alli_async, raw"}
# Seconds between two wake-ups of the task that is delayed.
_BEAT = 0.001


def run(options: Options) -> Result:
    """Measure each way at each latency, interleaved."""
    times = options.runs or (1 if options.quick else 5)
    found: dict[tuple[float, str], list[dict[str, float]]] = {}
    with Backend(1000 if options.quick else _CONVERSATIONS) as backend:
        for _ in range(times):
            for latency in (0.0, 0.02):
                backend.set_latency(latency)
                for way in _WAYS:
                    measured = backend.child("lag", backend.url, way, timeout=600)
                    found.setdefault((latency, way), []).append(measured)
    values: list[dict[str, Any]] = [
        {"latency": latency, "way": way, **{name: median(each[name] for each in runs) for name in runs[0]}}
        for (latency, way), runs in found.items()
    ]
    rows = [
        (
            f"{_WAYS[each['way']]}, {each['latency'] * 1000:g} ms",
            *(each[name] for name in ("p50", "p99", "worst", "cpu_p99", "cpu_worst", "collection_worst")),
        )
        for each in values
    ]
    head = ("", "p50", "p99", "worst", "p99, CPU", "worst, CPU", "longest collection")
    structs = [each for each in values if each["way"] == "structs"]
    limits = [
        ("structs: p99, ms", max(each["p99"] for each in structs), 20, False),
        ("structs: worst, ms", max(each["worst"] for each in structs), 50, False),
    ]
    table = Table(f"Delay of other tasks, ms; medians of {times}", head, rows)
    return Result([table, bars("Beside a stream", limits)], values, _drawing(values))


async def _measure(url: str, way: str) -> dict[str, float]:
    delays: list[float] = []
    cpu_times: list[float] = []
    collections: list[float] = []
    gc.callbacks.append(_collection_timer(collections))
    beat = asyncio.create_task(_beat(delays, cpu_times))
    async with AlliClient(KEY, base_url=url) as alli:
        count = 0
        async for _ in alli.conversations.transcripts(raw=way == "raw"):
            count += 1
    beat.cancel()
    return {
        "conversations": count,
        "p50": _quantile(delays, 0.5),
        "p99": _quantile(delays, 0.99),
        "worst": max(delays) * 1000,
        "cpu_p99": _quantile(cpu_times, 0.99),
        "cpu_worst": max(cpu_times) * 1000,
        "collection_worst": max(collections, default=0.0) * 1000,
    }


async def _beat(delays: list[float], cpu_times: list[float]) -> None:
    while True:
        due, cpu = time.perf_counter() + _BEAT, time.thread_time()
        await asyncio.sleep(_BEAT)
        delays.append(max(0.0, time.perf_counter() - due))
        cpu_times.append(time.thread_time() - cpu)


def _collection_timer(collections: list[float]) -> Any:
    began = 0.0

    def note(phase: str, _: dict[str, int]) -> None:
        nonlocal began
        if phase == "start":
            began = time.perf_counter()
        else:
            collections.append(time.perf_counter() - began)

    return note


def _quantile(seconds: list[float], share: float) -> float:
    """A quantile, in milliseconds."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


def _drawing(values: list[dict[str, Any]]) -> Any:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        labels = [f"{_WAYS[each['way']]}, {each['latency'] * 1000:g} ms" for each in values]
        for place, name in enumerate(("p99", "worst")):
            places = [row + place * 0.4 for row in range(len(values))]
            drawn = axes.barh(places, [each[name] for each in values], 0.4, label=name)
            axes.bar_label(drawn, fmt="%.0f", padding=3, fontsize=8)
        axes.set_yticks([row + 0.2 for row in range(len(values))])
        axes.set_yticklabels(labels)
        axes.invert_yaxis()
        axes.set_xlabel("delay of other tasks, ms")
        axes.legend()

    return draw


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_measure(sys.argv[1], sys.argv[2]))))
