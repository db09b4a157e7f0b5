"""Programs that a test runs as what they are: processes, with a bound on their time."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alli_async.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
# For a start that imports a web framework, on a busy machine.
_SECONDS_TO_START = 60.0


class Program:
    """A process, what it printed, and for a server its URL."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, url: str) -> None:
        self.process = process
        self.url = url
        self._output = output

    @property
    def output(self) -> str:
        """What it has printed so far, errors included."""
        return self._output.read_text("utf-8", "replace")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def check(self) -> None:
        """It has not ended yet."""
        assert self.process.poll() is None, self.output

    async def ended(self, seconds: float = 60.0) -> int:
        """Wait for its end; gives the exit code, minus the signal if one killed it."""
        async with asyncio.timeout(seconds):
            while (code := self.process.poll()) is None:
                await asyncio.sleep(0.02)
        return code


def environment_of(sandbox: Sandbox) -> dict[str, str]:
    """The environment of a program that is to use a sandbox."""
    return {"ALLI_API_KEY": sandbox.api_key, "ALLI_BASE_URL": sandbox.url}


@contextmanager
def running(*command: str, environment: dict[str, str] | None = None, url: str = "") -> Iterator[Program]:
    """Run a module of Python, `running("uvicorn", "app:app")`, in a process group of its own, which is killed."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield Program(process, output, url)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def serving(*command: str, environment: dict[str, str] | None = None) -> Iterator[Program]:
    """Run a server; `{port}` in the command is a free port. It is given once it takes connections."""
    port = free_port()
    words = [word.format(port=port) for word in command]
    with running(*words, environment=environment, url=f"http://127.0.0.1:{port}") as program:
        wait_until_it_listens(program.process, port)
        yield program


def wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until a process takes connections at a port of this machine."""
    ends = time.monotonic() + _SECONDS_TO_START
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert process.poll() is None, f"{process.args!r} ended"
            assert time.monotonic() < ends, f"{process.args!r} did not start"
            time.sleep(0.02)
        else:
            return


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number
