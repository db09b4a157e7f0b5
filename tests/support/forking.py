"""Commands that start at once: each is forked from a process that has imported them.

A new interpreter takes some 0.4 s of CPU before it runs the command; a forked process takes a tenth of that, and
is a process all the same: it has its own arguments, environment, folder, standard streams and exit code. What only
a new interpreter does (obey `PYTHON…` and the locale, find modules, import late) needs a new one.

The server forks for each request that comes over its socket: the length of the request, the request in JSON, and
four descriptors. Over the first one it answers with the exit code; the others are the standard streams of the
command.
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from .processes import ROOT

# Variables that begin so are read when the interpreter starts or alli_async is imported: too early for a fork.
_READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "ALLI_LOG")
# What commands import late, so that a fork finds it imported. Few commands use pyarrow or matplotlib.
_IMPORTED = (
    "alli_async.client",
    "alli_async.export",
    "alli_async.export.job",
    "alli_async.export.reading",
    "alli_async.export.verifying",
    "alli_async.sandbox.sandbox",
    "markdown_it",
    "jinja2",
    "rich.markdown",
    "rich.progress",
    "rich.table",
    "uvloop",
)
_LENGTH_BYTES = 4


def forked(
    arguments: Sequence[str],
    env: dict[str, str],
    streams: tuple[int, int, int],
    *,
    cwd: Path | None = None,
    is_terminal: bool = False,
) -> socket.socket:
    """Start the alli-async command.

    Args:
        arguments: The arguments of the command.
        env: The environment of the command.
        streams: The descriptors of the standard input, output and error of the command.
        cwd: The folder of the command; None for the one of this process.
        is_terminal: Whether the standard input is a terminal, which the command then controls.

    Returns:
        A socket for `exit_code`.
    """
    for name in {*env, *os.environ}:
        is_the_same = env.get(name) == os.environ.get(name)
        assert is_the_same or not name.startswith(_READ_AT_START), f"{name} needs a new interpreter"
    answers, its = socket.socketpair()
    request = {"arguments": arguments, "env": env, "cwd": str(cwd or Path.cwd()), "is_terminal": is_terminal}
    with its:
        _server().send(json.dumps(request).encode(), [its.fileno(), *streams])
    return answers


def exit_code(answers: socket.socket, seconds: float = 170.0) -> int:
    """Wait until a command has ended; gives its exit code, minus the signal if one killed it."""
    answers.settimeout(seconds)
    with answers:
        told = answers.recv(16)
    assert told, "the server of forks has ended"
    return int(told)


class _Server:
    """The process that forks."""

    def __init__(self) -> None:
        self._requests, its = socket.socketpair()
        self._lock = threading.Lock()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(its.fileno())],
                cwd=ROOT,
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def send(self, request: bytes, descriptors: list[int]) -> None:
        with self._lock:
            socket.send_fds(self._requests, [len(request).to_bytes(_LENGTH_BYTES, "big")], descriptors)
            self._requests.sendall(request)

    def end(self) -> None:
        self._requests.close()
        self._process.wait(60)


@functools.cache
def _server() -> _Server:
    server = _Server()
    atexit.register(server.end)
    return server


# --- the process that forks ---------------------------------------------------------------------------------


def serve(requests: socket.socket) -> None:
    """Fork for each request. Returns in the forked processes, which are ready to run the command then."""
    answers: dict[int, socket.socket] = {}

    def reap(*_: Any) -> None:
        for pid in list(answers):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                with answers.pop(pid) as answer:
                    answer.sendall(str(os.waitstatus_to_exitcode(status)).encode())

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C at the terminal is for the tests
    signal.signal(signal.SIGCHLD, reap)
    while request := _received(requests):
        asked, answer, streams = request
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        if not (pid := os.fork()):
            requests.close()
            for each in (answer, *answers.values()):
                each.close()
            _become(asked, streams)
            return
        answers[pid] = answer
        for descriptor in streams:
            os.close(descriptor)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    sys.exit()


def _received(requests: socket.socket) -> tuple[dict[str, Any], socket.socket, list[int]] | None:
    header, descriptors, *_ = socket.recv_fds(requests, _LENGTH_BYTES, 4)
    if not header:
        return None
    length, request = int.from_bytes(header, "big"), b""
    while len(request) < length:
        request += requests.recv(length - len(request))
    return json.loads(request), socket.socket(fileno=descriptors[0]), descriptors[1:]


def _become(asked: dict[str, Any], streams: list[int]) -> None:
    """Make this process the one that a command would find itself in, had a shell started it."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    if asked["is_terminal"]:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    time.tzset()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    sys.stdin, sys.stdout, sys.stderr = (_stream(number) for number in range(3))
    sys.argv = ["alli-async", *asked["arguments"]]


def _stream(number: int) -> TextIO:
    """A standard stream, as a new interpreter makes it."""
    before: Any = (sys.stdin, sys.stdout, sys.stderr)[number]
    is_line_buffered = number == 2 or os.isatty(number)
    stream: TextIO = open(  # noqa: SIM115 - it stays open as long as the process is there
        number,
        "w" if number else "r",
        encoding=before.encoding,
        errors=before.errors,
        buffering=1 if is_line_buffered else -1,
        closefd=False,
    )
    return stream


def _import_commands() -> None:
    import alli_async.cli

    for module in pkgutil.iter_modules(alli_async.cli.__path__, "alli_async.cli."):
        importlib.import_module(module.name)
    for name in _IMPORTED:
        importlib.import_module(name)


if __name__ == "__main__":
    _import_commands()
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
    from alli_async.cli import main

    main()
