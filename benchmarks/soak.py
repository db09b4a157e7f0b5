"""Everything again and again from a server that fails one request in twenty: nothing grows, nothing is lost.

The server is a sandbox in a process of its own. Ten minutes; twenty seconds with --quick.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from alli_async import AlliClient, RetryPolicy
from alli_async.sandbox import Sandbox

from .backend import pin
from .report import Options, Result, Table, bars, median

_SECONDS, _QUICK_SECONDS = 600.0, 20.0
_CONVERSATIONS = 1000
_CONCURRENCY = 64
# More would themselves be what grows.
_LEAST_SAMPLES, _MOST_SAMPLES = 6, 100
# One in twenty. Silence is rare, since each costs a timeout.
_FAULTS = {
    "429": 0.006,
    "500": 0.008,
    "503": 0.006,
    "reset_before": 0.008,
    "reset_after": 0.006,
    "truncated": 0.005,
    "cut_gzip": 0.003,
    "html": 0.003,
    "broken_json": 0.003,
    "slow": 0.0018,
    "silence": 0.0002,
}
_OPTIONS: dict[str, Any] = {"conversations": _CONVERSATIONS, "retry_after": "none", "compress": True}
_SERVER = f"""
import sys
from alli_async.sandbox import Sandbox
with Sandbox(**{_OPTIONS!r}, faults={_FAULTS!r}) as sandbox:
    print(sandbox.url, flush=True)
    sys.stdin.read()
    print(sandbox.count(), flush=True)
"""


class Sample(msgspec.Struct):
    """What a process holds between two rounds.

    Attributes:
        seconds: Since the beginning.
        rss_mb: Resident memory.
        heap_mb: Of the C library's heap, what is in use: objects of more than 512 bytes.
        blocks: Smaller objects.
        tasks: Of the event loop, with the one that asks.
        connections: Sockets that are open, but for those that were before.
        files: File descriptors of anything else.
        requests: Sent so far.
        retries: Of these.
    """

    seconds: float
    rss_mb: float
    heap_mb: float
    blocks: int
    tasks: int
    connections: int
    files: int
    requests: int
    retries: int


class Soak(msgspec.Struct):
    """What a soak found.

    Attributes:
        rounds: How often everything was fetched.
        conversations: Given in all of them.
        unaccounted: Conversations missing, repeated, or without one of their chats.
        left_open: File descriptors after the client was closed, beyond those before it was made.
        samples: One after each round, at most a hundred, but for the first few rounds, in which caches fill.
    """

    rounds: int = 0
    conversations: int = 0
    unaccounted: int = 0
    left_open: int = 0
    samples: list[Sample] = msgspec.field(default_factory=list)

    def growth(self, name: str) -> float:
        """The last third's median over the first third's."""
        values = [getattr(sample, name) for sample in self.samples]
        third = max(1, len(values) // 3)
        return median(values[-third:]) / median(values[:third])


def run(options: Options) -> Result:
    """Soak."""
    with _server() as url:
        soak = asyncio.run(_soak(url, _QUICK_SECONDS if options.quick else _SECONDS))
    last = soak.samples[-1]
    rows = [
        ("rounds", soak.rounds),
        ("conversations", soak.conversations),
        ("unaccounted for", soak.unaccounted),
        ("requests", last.requests),
        ("of these again", last.retries),
        ("left open", soak.left_open),
    ]
    ranges = [
        (name, *(f(getattr(sample, name) for sample in soak.samples) for f in (min, max)), soak.growth(name))
        for name in _HELD
    ]
    tables = [
        Table(f"{last.seconds:.0f} s at full speed, one request in twenty failing", ("", "count"), rows),
        Table("Held between rounds", ("", "least", "most", "last third / first"), ranges),
        bars("", [(f"{name}, last third / first", soak.growth(name), bar, False) for name, bar in _BARS.items()]),
    ]
    return Result(tables, msgspec.to_builtins(soak), _drawing(soak), _failures(soak))


# Connections come and go with the faults: theirs is the bound of requests in flight.
_BARS = {"rss_mb": 1.1, "heap_mb": 1.01, "blocks": 1.01, "tasks": 1.0, "files": 1.0}
_HELD = ("rss_mb", "heap_mb", "blocks", "tasks", "connections", "files")


def _failures(soak: Soak) -> list[str]:
    found = [f"{name} grew by {soak.growth(name):.3f}" for name, bar in _BARS.items() if soak.growth(name) > bar]
    if soak.unaccounted:
        found.append(f"{soak.unaccounted} conversations are not accounted for")
    if soak.left_open:
        found.append(f"{soak.left_open} file descriptors were left open")
    if (most := max(sample.connections for sample in soak.samples)) > _CONCURRENCY:
        found.append(f"{most} connections are more than may be in flight")
    return found


@contextmanager
def _server() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        pin(process.pid, 1)
        assert process.stdout is not None
        if not (url := process.stdout.readline().strip()):
            raise SystemExit("benchmarks: the sandbox did not start")
        yield url
    finally:
        process.communicate()  # closes its standard input, which ends it


async def _soak(url: str, seconds: float) -> Soak:
    whole = Sandbox(**_OPTIONS)  # not served: it knows what the served one must give
    expected = {each: len(whole.chat_ids(each)) for each in whole.conversation_ids()}
    soak, began, opened = Soak(), time.monotonic(), _descriptors()
    requests = retries = 0
    sampled = 0.0
    retry = RetryPolicy(max_attempts=10, base=0.01, cap=0.5)
    async with AlliClient(
        whole.api_key, base_url=url, timeout=5, retry=retry, max_concurrency=_CONCURRENCY
    ) as client:
        while (now := time.monotonic() - began) < seconds or len(soak.samples) < _LEAST_SAMPLES:
            stream = client.conversations.transcripts(raw=bool(soak.rounds % 2))
            found = [(each.id, _chats(each)) async for each in stream]
            soak.rounds += 1
            soak.conversations += len(found)
            soak.unaccounted += len(set(expected.items()) ^ set(found)) + len(found) - len(set(found))
            requests += stream.stats.requests
            retries += stream.stats.retries
            del stream, found
            if now > seconds / 10 and now - sampled >= seconds / _MOST_SAMPLES:
                sampled = now
                files, sockets = _descriptors()
                held = _rss_mb(), *_in_use(), len(asyncio.all_tasks()), sockets - opened[1], files
                soak.samples.append(Sample(time.monotonic() - began, *held, requests, retries))
    await asyncio.sleep(0.1)
    soak.left_open = sum(_descriptors()) - sum(opened)
    return soak


def _chats(transcript: Any) -> int:
    json = getattr(transcript, "json", None)
    return len(transcript.chats) if json is None else len(msgspec.json.decode(json)["chats"])


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class _Heap(ctypes.Structure):
    """What glibc's mallinfo2 gives: `uordblks` are the bytes in use, `hblkhd` those of large objects."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def _in_use() -> tuple[float, int]:
    """What is in use of the heap, in MB, and how many blocks of the interpreter's own.

    Resident memory moves by megabytes without a reason; these do not, so they tell a leak of a hundred bytes.
    """
    gc.collect()
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _Heap
    heap = mallinfo()
    return (heap.uordblks + heap.hblkhd) / 1e6, sys.getallocatedblocks()


def _descriptors() -> tuple[int, int]:
    """How many files are open that are no sockets, and how many sockets."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        try:
            found.append(os.readlink(each))
        except FileNotFoundError:  # the one that was listing them
            continue
    sockets = sum(target.startswith("socket:") for target in found)
    return len(found) - sockets, sockets


def _drawing(soak: Soak) -> Any:
    def draw(figure: Any) -> None:
        memory, counts = figure.subplots(1, 2)
        seconds = [sample.seconds for sample in soak.samples]
        memory.plot(seconds, [sample.rss_mb for sample in soak.samples])
        memory.set_title("resident memory, MB", fontsize=10)
        for name in ("tasks", "connections", "files"):
            counts.plot(seconds, [getattr(sample, name) for sample in soak.samples], label=name)
        counts.set_title("held between rounds", fontsize=10)
        counts.legend()
        for axes in (memory, counts):
            axes.set_xlabel("seconds")
            axes.set_ylim(bottom=0)

    return draw
