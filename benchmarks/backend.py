"""The server and the contestants as processes, on a core each where there is more than one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

_ROOT = Path(__file__).parent.parent


class Usage(msgspec.Struct):
    """What a server holds, and has done since it was started."""

    conversations: int
    with_chats: int
    chats: int
    least_requests: int
    answers: int
    cpu_seconds: float


class Run(msgspec.Struct, rename="camel"):
    """What one run of a contestant gave and took.

    Attributes:
        seconds: From the first request to the last record, without the start of Python and the imports.
        cpu_seconds: In the same time, of all threads.
        peak_mb: Resident memory of the whole process at its highest.
        conversations: How many were given, repeated ones included.
        chats: How many were given.
        missing: Conversations that were not given.
        repeated: Conversations that were given more than once.
        requests: Which the server saw.
        server_cpu_seconds: Which it took for them.
        whole: Every conversation exactly once, and the right number of chats.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float
    conversations: int
    chats: int
    missing: int
    repeated: int
    requests: int = 0
    server_cpu_seconds: float = 0.0
    whole: bool = False


class Backend:
    """A server of so many conversations in a process of its own, for as long as the context lasts."""

    def __init__(self, conversations: int) -> None:
        self.conversations = conversations
        self.url = ""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.server", str(self.conversations)]
        self._process = subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        pin(self._process.pid, 1)
        self.url = self._process.stdout.readline().strip() if self._process.stdout else ""
        if not self.url:
            self.__exit__(None, None, None)
            raise SystemExit("benchmarks: the server did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()  # closes its standard input, which ends it

    def usage(self) -> Usage:
        """What it has done so far."""
        return msgspec.convert(self._control("usage"), Usage)

    def set_latency(self, seconds: float) -> None:
        """How long every answer takes from now on."""
        self._control(f"latency?seconds={seconds}")

    def race(self, contestant: str, folder: str = "", timeout: float = 900.0) -> Run:
        """Run a contestant in a process of its own."""
        before = self.usage()
        job = {
            "url": self.url,
            "conversations": self.conversations,
            "bounds": self._control("windows?parts=8"),
            "timed": before.with_chats,
            "folder": folder,
        }
        run = msgspec.convert(self.child("contestants", contestant, json.dumps(job), timeout=timeout), Run)
        after = self.usage()
        run.requests = after.answers - before.answers
        run.server_cpu_seconds = after.cpu_seconds - before.cpu_seconds
        run.whole = not run.missing and not run.repeated and run.chats == before.chats
        return run

    def child(self, module: str, *arguments: str, timeout: float = 60.0) -> Any:
        """The JSON that a module of this package prints, run on the clients' core."""
        command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
        with subprocess.Popen(
            command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            pin(process.pid, 0)
            try:
                printed, complaint = process.communicate(timeout=timeout)
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise RuntimeError(f"{module} {arguments[0]} failed:\n{complaint}")
        return json.loads(printed.splitlines()[-1])

    def _control(self, what: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/_bench/{what}", timeout=30) as answer:
            return json.load(answer)


def pin(process: int, place: int) -> None:
    """Keep a process on a core of its own, where the system can and there is more than one."""
    if hasattr(os, "sched_getaffinity") and len(cores := sorted(os.sched_getaffinity(os.getpid()))) > 1:
        os.sched_setaffinity(process, {cores[place]})


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import platform

    import aiohttp

    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "aiohttp": aiohttp.__version__,
        "msgspec": msgspec.__version__,
    }
