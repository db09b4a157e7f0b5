"""Exports through outages, ended by signals, killed at every step: how many end as they must, after how long.

Each case has a server of its own, a sandbox in a process, which is killed and started again on the same port,
stopped, or replaced by one that answers 503. Several cases run at a time, since they mostly wait.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import msgspec

from .report import Options, Result, Table, median

_COMMAND = [sys.executable, "-m", "alli_async"]
_CONVERSATIONS = 800
_AT_A_TIME = 4
# Conversations of an export that is killed at each of its steps, and the system calls between which the
# destination changes: a kill comes before the call.
_FEW = 60
_CALLS = ("mkdir", "write", "fsync", "rename", "unlink")
_PARTIAL = (
    ".manifest.json.partial",
    "_journal/.export.json.partial",
    "_journal/.run-00001-plan.json.partial",
    "_journal/.run-00001-shard-00000.json.partial",
    "_journal/.run-00001-complete.json.partial",
    "conversations/.run-00001-shard-00000.jsonl.partial",
)
_UNAVAILABLE = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_POST = do_GET
    def log_message(self, *_): pass
ThreadingHTTPServer.allow_reuse_address = True
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Case(msgspec.Struct):
    """What became of one export.

    Attributes:
        kind: What was done to it.
        is_right: Whether it ended as it must.
        seconds: From the outage's end, or the signal, to the end of the process.
        told: Its exit code, and the last line of what it said if that was not right.
    """

    kind: str
    is_right: bool
    seconds: float
    told: str


def run(options: Options) -> Result:
    """Disturb exports."""
    times = options.runs or (1 if options.quick else 20)
    outages = [("away", 0.5)] if options.quick else [("away", 0.5), ("away", 5.0), ("away", 60.0), ("503", 30.0)]
    modes = ["well"] if options.quick else ["well", "slow", "silent", "away"]
    jobs: list[Callable[[int], Case]] = [
        *(partial(_outage, kind, seconds) for kind, seconds in outages for _ in range(times)),
        *(partial(_signal, mode) for mode in modes for _ in range(times if options.quick else 25)),
    ]
    with _Server(conversations=_FEW) as few, _Server() as many, ThreadPoolExecutor(_AT_A_TIME) as pool:
        jobs += _kills(few, many, 2 if options.quick else 60)
        if options.only:
            jobs = [job for job in jobs if _name(job).startswith(options.only)]
        cases = list(pool.map(_do, enumerate(jobs)))
    kinds = list(dict.fromkeys(each.kind for each in cases))
    rows = []
    for kind in kinds:
        some = [each for each in cases if each.kind == kind]
        seconds = [each.seconds for each in some]
        right = sum(each.is_right for each in some)
        rows.append((kind, len(some), right, round(median(seconds), 2), round(max(seconds), 2)))
    table = Table("Exports that were disturbed", ("what", "exports", "ended right", "s, median", "s, most"), rows)
    return Result(
        [table],
        [msgspec.to_builtins(each) for each in cases],
        _drawing(cases, kinds),
        [f"{each.kind}: {each.told}" for each in cases if not each.is_right],
    )


def _drawing(cases: list[Case], kinds: list[str]) -> Any:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.boxplot([[each.seconds for each in cases if each.kind == kind] for kind in kinds], vert=False)
        axes.set_yticks(range(1, len(kinds) + 1), labels=kinds)
        axes.set_xlabel("seconds from the outage's end, or from the signal, to the end of the process")

    return draw


def _do(numbered: tuple[int, Callable[[int], Case]]) -> Case:
    case = numbered[1](numbered[0])
    print(f"{case.kind}: {'right' if case.is_right else 'WRONG: ' + case.told}", file=sys.stderr, flush=True)
    return case


def _name(job: Any) -> str:
    return "-".join(str(each) for each in (job.func.__name__[1:], *job.args[:2]))


def _outage(kind: str, seconds: float, number: int) -> Case:
    draw = random.Random(number)
    with _Server() as server, _export(server) as (process, dest):
        _wait_for_plan(process, dest)
        time.sleep(draw.uniform(0.0, 0.6))
        server.kill()
        if kind == "503":
            with server.unavailable():
                time.sleep(seconds)
        else:
            time.sleep(seconds)
        was_running = process.poll() is None
        server.start()
        began = time.monotonic()
        errors = _ended(process, 300.0)
        took = time.monotonic() - began
        lost = _difference(dest) if process.returncode == 0 else "incomplete"
        told = f"code {process.returncode}, running in the outage: {was_running}, {lost or 'whole'}: {errors}"
        return Case(f"{kind} for {seconds:g} s", process.returncode == 0 and not lost, took, told)


def _signal(mode: str, number: int) -> Case:
    draw = random.Random(number)
    what = draw.choice([signal.SIGTERM, signal.SIGINT])
    with _Server(latency=2.0 if mode == "slow" else 0.02) as server, _export(server) as (process, dest):
        _wait_for_plan(process, dest, seconds=5.0)
        time.sleep(draw.uniform(0.0, 1.0))
        if mode == "silent":
            server.process.send_signal(signal.SIGSTOP)
        elif mode == "away":
            server.kill()
        time.sleep(draw.uniform(0.0, 2.0) if mode in ("silent", "away") else 0.0)
        had_ended = process.poll() is not None
        began = time.monotonic()
        process.send_signal(what)
        errors = _ended(process, 30.0)
        took = time.monotonic() - began
        code = process.returncode
        server.kill()
        server.start(latency=0.0)
        again = subprocess.run(
            _arguments(dest), env=server.environment, capture_output=True, text=True, check=False
        )
        lost = _difference(dest)
        is_right = had_ended or (code == 128 + what and took <= 3.0)
        is_right = is_right and again.returncode == 0 and not lost
        told = f"{what.name}: code {code} after {took:.1f} s, {errors}; "
        told += f"again: {again.returncode} {lost} {again.stderr[-300:]}"
        return Case(f"signal, server {mode}", is_right, took, told)


def _kills(few: _Server, many: _Server, random_ones: int) -> list[Callable[[int], Case]]:
    """Kills at random moments, and where strace is there, at each system call that changes the destination."""
    jobs: list[Callable[[int], Case]] = [partial(_kill, "", 0, many) for _ in range(random_ones)]
    if shutil.which("strace") is not None:
        jobs += [
            partial(_kill, call, nth, few) for call, count in _steps(few).items() for nth in range(1, count + 1)
        ]
    return jobs


def _steps(server: _Server) -> dict[str, int]:
    """How often each of the calls is made in an export of a few conversations."""
    with tempfile.TemporaryDirectory() as folder:
        log, dest = f"{folder}/log", Path(folder) / "all"
        command = ["strace", "-f", "-qq", "-y", "-o", log, "-e", f"trace={','.join(_CALLS)}", *_arguments(dest)]
        subprocess.run(command, env=server.environment, capture_output=True, timeout=120, check=True)
        lines = [line for line in Path(log).read_text().splitlines() if str(dest) in line]
    return {call: sum(f" {call}(" in line for line in lines) for call in _CALLS}


def _kill(call: str, nth: int, server: _Server, number: int) -> Case:
    with tempfile.TemporaryDirectory() as folder:
        dest, draw = Path(folder) / "all", random.Random(number)
        names = ["", "/_journal", "/conversations", "/_journal/lock", *(f"/{name}" for name in _PARTIAL)]
        at = ["-P" + str(dest) + name for name in names]
        prefix = ["strace", "-f", "-qq", "-o", "/dev/null", f"-etrace={call}", *at]
        prefix.append(f"-einject={call}:signal=SIGKILL:when={nth}")
        command = [*(prefix if call else []), *_arguments(dest)]
        process = subprocess.Popen(
            command, env=server.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if not call:
            time.sleep(draw.uniform(0.3, 3.0))
            process.kill()
        code = process.wait(120)
        began = time.monotonic()
        again = subprocess.run(
            _arguments(dest), env=server.environment, capture_output=True, text=True, timeout=300, check=False
        )
        left = [path.name for path in dest.rglob("*.partial")]
        lost = _difference(dest, server.conversations)
        told = f"code {code}, again: {again.returncode} {lost} {left} {again.stderr[-300:]}"
        kind = f"killed at a {call}" if call else "killed at random"
        return Case(kind, again.returncode == 0 and not lost and not left, time.monotonic() - began, told)


class _Server:
    """A sandbox in a process, at one port for good."""

    def __init__(self, latency: float = 0.02, conversations: int = _CONVERSATIONS) -> None:
        self._latency, self.conversations = latency, conversations
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self, latency: float | None = None) -> None:
        arguments = ["--conversations", str(self.conversations), "--port", str(self.port)]
        arguments += ["--latency", str(self._latency if latency is None else latency)]
        self.process = subprocess.Popen(
            [*_COMMAND, "sandbox", *arguments],
            env={name: value for name, value in os.environ.items() if not name.startswith("ALLI_")},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        lines = [self.process.stdout.readline() for _ in range(2)]
        pairs = [line.removeprefix("export ").strip().split("=", 1) for line in lines]
        self.environment = {**os.environ, **dict(pairs)}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    @contextmanager
    def unavailable(self) -> Iterator[None]:
        """Another server at the same port, which answers 503."""
        process = subprocess.Popen([sys.executable, "-c", _UNAVAILABLE, str(self.port)])
        try:
            yield
        finally:
            process.kill()
            process.wait()


def _arguments(dest: Path) -> list[str]:
    return [*_COMMAND, "export", str(dest), "--compression", "none", "--max-concurrency", "8"]


@contextmanager
def _export(server: _Server) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    with tempfile.TemporaryDirectory() as folder:
        dest = Path(folder) / "all"
        process = subprocess.Popen(
            _arguments(dest),
            env=server.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process, dest
        finally:
            process.kill()
            process.communicate()


def _wait_for_plan(process: subprocess.Popen[str], dest: Path, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None and not list((dest / "_journal").glob("run-*plan*")):
        time.sleep(0.005)


def _ended(process: subprocess.Popen[str], seconds: float) -> str:
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        _, errors = process.communicate()
        return f"it was still there after {seconds:g} s: {errors[-300:]}"
    return errors.strip().splitlines()[-1] if errors.strip() else ""


def _difference(dest: Path, expected: int = _CONVERSATIONS) -> str:
    """What an export holds too often or not at all, in words; empty where it is right."""
    ids = Counter(
        json.loads(line)["id"]
        for path in (dest / "conversations").glob("[!.]*.jsonl")
        for line in path.read_bytes().splitlines()
    )
    twice = sum(times > 1 for times in ids.values())
    return "" if len(ids) == expected and not twice else f"{len(ids)} conversations, {twice} twice"
