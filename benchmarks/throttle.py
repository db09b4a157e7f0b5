"""The throttle against limits, chance and outages: how much of what is allowed is used, and how much refused.

The sandbox runs in a process of its own and is told of what changes over a pipe; 64 callers never stop. What
is allowed is what a client gets in the same run that was told the limit: by its `rate_limit` or
`max_concurrency`; and where only chance refuses, one that keeps 64 in flight whatever happens.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import time
from bisect import bisect
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from alli_async import AlliClient, AlliError, RetryPolicy
from alli_async._transport.throttle import Throttle
from alli_async.sandbox import Fault, Sandbox

from .report import Options, Result, Table

_CALLERS = 64
_LATENCY = 0.02
# Calls that never give up: what is measured is the throttle, not the retry quota.
_RETRY = RetryPolicy(max_attempts=50, quota=1_000_000)


@dataclass(frozen=True)
class Case:
    """A server, and what a client would be told of it.

    Attributes:
        name: What the server does.
        seconds: How long it is called.
        server: Options of the sandbox.
        told: Options of the client that knows; None where nobody would be told a limit.
        change: `"outage"` or `"lifted"`: what changes in mid-run, and ends a quarter of the run before its end.
    """

    name: str
    seconds: float
    server: dict[str, Any]
    told: dict[str, Any] | None = None
    change: str = ""


@dataclass
class Measured:
    """What came of it: answers and refusals, and when each answer came, in seconds from the start."""

    served: int = 0
    refused: int = 0
    gave_up: int = 0
    times: list[float] = field(default_factory=list)

    def rate(self, start: float, end: float) -> float:
        return (bisect(self.times, end) - bisect(self.times, start)) / (end - start)


class _Unthrottled(Throttle):
    """Keeps `ceiling` in flight, whatever is answered."""

    def answered(self) -> None:
        self.allowance.limit = 64.0

    def pushed_back(self, admitted_in: int, pause: float | None) -> None:
        self.allowance.limit = 64.0


def cases(*, quick: bool) -> list[Case]:
    """All of them; with `quick`, each for a few seconds."""
    long, short = (2.0, 2.0) if quick else (60.0, 20.0)
    found = []
    for after in ("none", "seconds"):
        suffix = "" if after == "none" else ", Retry-After"
        rate = {"rate_limit": 60.0, "burst": 20.0, "retry_after": after}
        places = {"max_in_flight": 8, "retry_after": after}
        found += [
            Case(f"60 a second{suffix}", long, rate, {"rate_limit": 60.0}),
            Case(f"8 in flight{suffix}", long, places, {"max_concurrency": 8}),
            Case(f"outage of 3 s{suffix}", short, {"retry_after": after}, change="outage"),
            Case(f"60 a second, lifted{suffix}", 2 * short, rate, change="lifted"),
            Case(f"8 in flight, lifted{suffix}", 2 * short, places, change="lifted"),
        ]
    for status in ("429", "503"):
        for share in (0.02, 0.05, 0.1):
            server = {"faults": {status: share}, "retry_after": "none"}
            found.append(Case(f"{status} by chance, {share:.0%}", short, server, {}))
    return found


def run(options: Options) -> Result:
    """Call every server."""
    values = []
    for case in cases(quick=options.quick):
        if options.only and not any(each in case.name for each in options.only):
            continue
        ours = measure(case)
        told = measure(case, told=True) if case.told is not None else None
        values.append(_value(case, ours, told))
        print(f"{case.name:36} {ours.served:7,} served, {ours.refused:5,} refused", file=sys.stderr, flush=True)
    return Result([_table(values)], values, _drawing(values))


def measure(case: Case, *, told: bool = False) -> Measured:
    """Call one server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, case.server), daemon=True)
    process.start()
    try:
        return asyncio.run(_call(case, ours, told=told))
    finally:
        process.kill()
        process.join()


def _serve(pipe: Connection, options: dict[str, Any]) -> None:
    with Sandbox(conversations=50, latency=_LATENCY, **options) as sandbox:
        pipe.send((sandbox.url, sandbox.api_key, sandbox.conversation_ids()))
        while change := pipe.recv():
            if change == "down":
                sandbox.script("*", [Fault("503")] * 1_000_000)
            elif change == "up":
                sandbox.script("*", [])
            else:
                sandbox._service._bucket = None
                object.__setattr__(sandbox.options, "max_in_flight", None)


async def _call(case: Case, pipe: Connection, *, told: bool) -> Measured:
    url, key, ids = pipe.recv()
    options = (case.told or {}) if told else {}
    found = Measured()
    async with AlliClient(key, base_url=url, retry=_RETRY, **options) as client:
        if told and not options:
            client._tenant.limiter.__class__ = _Unthrottled
            client._tenant.limiter.allowance.limit = 64.0
        began = time.monotonic()

        async def call_on(number: int) -> None:
            while True:
                try:
                    await client.conversations.get(ids[number % len(ids)])
                except AlliError:
                    found.gave_up += 1
                    await asyncio.sleep(0.01)
                else:
                    found.times.append(time.monotonic() - began)

        callers = [asyncio.create_task(call_on(number)) for number in range(_CALLERS)]
        for moment, change in _changes(case):
            await asyncio.sleep(began + moment - time.monotonic())
            pipe.send(change)
        await asyncio.sleep(began + case.seconds - time.monotonic())
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        found.served, found.refused = len(found.times), client.conversations._session.stats.refused
    return found


def _changes(case: Case) -> list[tuple[float, str]]:
    half = case.seconds / 2
    if case.change == "outage":
        return [(half - min(3.0, half / 2), "down"), (half, "up")]
    return [(half, "lifted")] if case.change else []


def back_after(case: Case, found: Measured) -> float | None:
    """Seconds from the change until half a second was served at 90 % of full speed; None if it never was."""
    at = case.seconds / 2
    full = (
        found.rate(0.5, at - min(3.0, at / 2))
        if case.change == "outage"
        else found.rate(case.seconds - 1, case.seconds)
    )
    steps = (at + 0.1 * step for step in range(int((case.seconds - at - 0.5) * 10) + 1))
    return next((moment - at for moment in steps if found.rate(moment, moment + 0.5) >= 0.9 * full), None)


def _value(case: Case, ours: Measured, told: Measured | None) -> dict[str, Any]:
    summary = {name: value for name, value in asdict(ours).items() if name != "times"}
    return {
        "case": case.name,
        "seconds": case.seconds,
        **summary,
        "told_served": told.served if told else None,
        "used": ours.served / told.served if told and told.served else None,
        "share_refused": ours.refused / max(1, ours.refused + ours.served),
        "back_after": back_after(case, ours) if case.change else None,
        "per_second": [ours.rate(second, second + 1) for second in range(int(case.seconds))],
    }


def _table(values: list[dict[str, Any]]) -> Table:
    rows = [
        (
            each["case"],
            each["seconds"],
            each["served"] / each["seconds"],
            "-" if each["used"] is None else f"{each['used']:.0%}",
            f"{each['share_refused']:.1%}",
            "-" if each["back_after"] is None else f"{each['back_after']:.1f}",
        )
        for each in values
    ]
    head = ("", "seconds", "a second", "of what one who knows gets", "refused", "back after, s")
    return Table(f"{_CALLERS} callers, {_LATENCY * 1000:.0f} ms", head, rows)


def _drawing(values: list[dict[str, Any]]) -> Any:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for each in values:
            axes.plot(each["per_second"], label=each["case"], linewidth=1)
        axes.set_yscale("symlog", linthresh=10)
        axes.set_xlabel("seconds")
        axes.set_title("answers a second", fontsize=10)
        axes.legend(fontsize=6, ncols=2)

    return draw
