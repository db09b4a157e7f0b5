"""The rate limiter against every form of limit on a virtual clock, beside peers; and real nginx and haproxy."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alli_async import AlliClient

from .gateways import count_failed, measure_gateways
from .limit_cases import Case, cases
from .limit_peers import PEERS
from .limiters import Limiter
from .report import Options, Result, Table
from .virtualclock import MemoryServer, run_virtual

__all__ = ["Case", "Outcome", "cases", "measure", "run"]

_SIZES = (800, 3000)
_LATENCIES = (0.005, 0.02, 0.1)
_WORKERS = 64
_PEER_FORMS = ("bucket 60/s burst 20", "fixed 60 in 1 s", "8 in flight", "5% by chance")


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        elapsed: Seconds.
        failed: Number of calls that failed.
        served: Number of requests that were served.
        refused: Number of requests that were refused.
        first: Number of requests that were in flight when the first one was refused.
        undercut: Number of requests that were sent before a Retry-After had passed.
        rates: Requests per second of each client, while all of them worked.
        bans: Number of bans.
    """

    elapsed: float
    failed: int
    served: int
    refused: int
    first: int
    undercut: int
    rates: tuple[float, ...]
    bans: int = 0


def measure(case: Case, requests: int, latency: float, *, seed: int = 1, workers: int = _WORKERS) -> Outcome:
    """Run a job of a whole client on a virtual clock.

    Args:
        case: The form of limit.
        requests: Number of calls.
        latency: Seconds from a request to its answer.
        seed: Seed of all random numbers, phases included.
        workers: Number of tasks that call one after the other.
    """
    random.seed(seed)
    limiter = case.make(random.Random(seed))
    servers = [
        MemoryServer(limiter, latency, seed=seed + number, **case.options) for number in range(case.clients)
    ]
    return run_virtual(_jobs(servers, requests, workers, limiter))


async def _jobs(servers: Sequence[MemoryServer], requests: int, workers: int, limiter: Limiter) -> Outcome:
    jobs = [_job(server, requests // len(servers), workers) for server in servers]
    ended = await asyncio.gather(*jobs)
    both = min(moment for moment, _ in ended)
    return Outcome(
        elapsed=max(moment for moment, _ in ended),
        failed=sum(failed for _, failed in ended),
        served=sum(len(server.served) for server in servers),
        refused=sum(len(server.refused) for server in servers),
        first=sum(server.first_overrun for server in servers),
        undercut=sum(server.undercut for server in servers),
        rates=tuple(sum(moment <= both for moment in server.served) / both for server in servers),
        bans=getattr(limiter, "bans", 0),
    )


async def _job(server: MemoryServer, requests: int, workers: int) -> tuple[float, int]:
    async with AlliClient("k" * 20, base_url="http://127.0.0.1:9", middlewares=[server]) as client:
        failed = await count_failed(client, requests, workers)
        return asyncio.get_running_loop().time(), failed


def run(options: Options) -> Result:
    """Measure every form, the peers, and the gateways that are installed."""
    chosen = [case for case in cases() if not options.only or any(each in case.name for each in options.only)]
    sizes, latencies = ((800,), (0.02,)) if options.quick else (_SIZES, _LATENCIES)
    seeds = range(1, 1 + (options.runs or 1))
    forms = [
        _value(case, size, latency, seed)
        for case in chosen
        for size in sizes
        for latency in latencies
        for seed in seeds
    ]
    peers = [
        _peer(name, case, sizes[-1])
        for case in chosen
        if case.name in _PEER_FORMS
        for name in ("alli_async", *PEERS)
    ]
    gateways, notes = measure_gateways(quick=options.quick)
    for note in notes:
        print(f"benchmarks: limits: {note}", file=sys.stderr)
    tables = [_form_table(forms, size) for size in sizes] + [_peer_table(peers), _gateway_table(gateways)]
    failures = [f"{each['form']}: {each['failed']} calls failed" for each in forms if each["failed"]]
    failures += [f"{each['gateway']}: {each['failed']} calls failed" for each in gateways if each["failed"]]
    values = {"forms": forms, "peers": peers, "gateways": gateways, "notes": notes}
    return Result(tables, values, _drawing(forms), failures)


def _value(case: Case, size: int, latency: float, seed: int) -> dict[str, Any]:
    found = measure(case, size, latency, seed=seed)
    share = case.share(size, latency, found.elapsed)
    refused = max(0, found.refused - found.first) / size
    bar = case.bars[size > _SIZES[0]]
    return {
        "form": case.name,
        "requests": size,
        "latency": latency,
        "seed": seed,
        "share": share,
        "refused": refused,
        "failed": found.failed,
        "bans": found.bans,
        "rates": found.rates,
        "bar": bar,
        "reached": share >= bar and refused <= case.most_refused and not found.failed and not found.bans,
    }


def _peer(name: str, case: Case, size: int) -> dict[str, Any]:
    latency = 0.02
    if name == "alli_async":
        found = measure(case, size, latency)
        elapsed, failed, refused = found.elapsed, found.failed, found.refused
    else:
        server = MemoryServer(case.make(random.Random(1)), latency, **case.options)
        elapsed, failed = run_virtual(PEERS[name](server, size, case.rate))
        refused = len(server.refused)
    share = case.share(size - failed, latency, elapsed)
    return {"form": case.name, "peer": name, "share": share, "refused": refused / size, "failed": failed}


def _form_table(values: list[dict[str, Any]], size: int) -> Table:
    latencies = sorted({each["latency"] for each in values})
    rows = []
    for form in dict.fromkeys(each["form"] for each in values):
        cells = []
        for latency in latencies:
            same = [
                each
                for each in values
                if (each["form"], each["requests"], each["latency"]) == (form, size, latency)
            ]
            worst = min(same, key=lambda each: (each["reached"], each["share"]))
            mark = "failed" if worst["failed"] else "ban" if worst["bans"] else "" if worst["reached"] else "*"
            cells.append(f"{worst['share']:4.0%} {worst['refused']:5.1%} {mark}".rstrip())
        rows.append([form, f"{same[0]['bar']:.0%}", *cells])
    head = ["share, refused; * under the bar", "bar", *(f"{latency * 1000:g} ms" for latency in latencies)]
    return Table(f"{size:,} requests, {_WORKERS} tasks, virtual clock", head, rows)


def _peer_table(values: list[dict[str, Any]]) -> Table:
    rows = [
        (each["form"], each["peer"], f"{each['share']:.0%}", f"{each['refused']:.1%}", each["failed"])
        for each in values
    ]
    return Table("Beside peers, 20 ms", ("", "", "share", "refused", "failed calls"), rows)


def _gateway_table(values: list[dict[str, Any]]) -> Table:
    rows = [
        (each["gateway"], f"{each['rate']:.1f}", f"{each['told']:.1f}", each["refused"], each["failed"])
        for each in values
    ]
    head = ("real servers on loopback", "a second", "one who was told", "refused", "failed calls")
    return Table("nginx and haproxy", head, rows)


def _drawing(values: list[dict[str, Any]]) -> Any:
    def draw(figure: Any) -> None:
        largest = max(each["requests"] for each in values)
        shown = [each for each in values if each["requests"] == largest and each["latency"] == 0.02]
        axes = figure.subplots()
        axes.barh([each["form"] for each in shown], [min(each["share"], 1.2) for each in shown])
        axes.plot([each["bar"] for each in shown], [each["form"] for each in shown], "k|", label="bar")
        axes.invert_yaxis()
        axes.tick_params(labelsize=5)
        axes.set_title(f"share of what is allowed, {largest:,} requests at 20 ms", fontsize=10)
        axes.legend(fontsize=7)

    return draw
