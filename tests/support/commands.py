"""The alli-async command as its users meet it: a process, its output, its exit code, or a terminal."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import click

from alli_async.cli.groups import LazyGroup
from alli_async.sandbox import Sandbox

from .forking import exit_code, forked

COMMAND = [sys.executable, "-m", "alli_async"]


def environment(sandbox: Sandbox | None = None, **more: str) -> dict[str, str]:
    """The environment without settings of this machine, and with those of a sandbox."""
    settings = ("ALLI_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "TZ")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    if sandbox is not None:
        clean |= {"ALLI_BASE_URL": sandbox.url, "ALLI_API_KEY": sandbox.api_key}
    return clean | more


def all_commands(group: LazyGroup, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """All commands, by the words that are typed."""
    for name, lazy in group.lazy_commands.items():
        command = lazy.load()
        if isinstance(command, LazyGroup):
            yield from all_commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended: its exit code, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def run(
    *arguments: str,
    sandbox: Sandbox | None = None,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    input: str = "",  # noqa: A002 - the name that subprocess gives it
) -> Ended:
    """Run a command to its end, in a process that is forked from one that has imported it."""
    with TemporaryFile() as typed, ThreadPoolExecutor(2) as threads:
        typed.write(input.encode())
        typed.seek(0)
        (out, its_out), (err, its_err) = os.pipe(), os.pipe()
        streams = (typed.fileno(), its_out, its_err)
        answers = forked(arguments, environment(sandbox) if env is None else env, streams, cwd=cwd)
        os.close(its_out)
        os.close(its_err)
        stdout, stderr = threads.map(_read_all, (out, err))
    return Ended(exit_code(answers), stdout, stderr)


def _read_all(descriptor: int) -> str:
    with open(descriptor, "rb") as file:
        return file.read().decode()


def begun(*arguments: str, sandbox: Sandbox | None = None) -> subprocess.Popen[str]:
    """Start a command in a new interpreter."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment(sandbox),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_process(*arguments: str, env: dict[str, str]) -> Ended:
    """Run a command to its end in a new interpreter, for what only a new one does (see `forking`)."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=170,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


async def run_beside(*arguments: str, url: str, **environ: str) -> tuple[int, str, str]:
    """Run a command while a server of this event loop answers it; gives its code, output and errors."""
    env = environment(None, ALLI_BASE_URL=url, ALLI_API_KEY="k", **environ)
    done = await asyncio.to_thread(run, *arguments, env=env)
    return done.returncode, done.stdout, done.stderr


def terminal(
    arguments: Sequence[str],
    env: dict[str, str],
    send: dict[bytes, bytes] | None = None,
    code: int = 0,
    columns: int = 80,
) -> bytes:
    """Run a command on a terminal of its own; gives all that it showed.

    Args:
        arguments: The arguments of the command.
        env: The environment of the command.
        send: What is typed once a text is shown, by that text.
        code: The exit code that is expected.
        columns: The width of the terminal.
    """
    shown_on, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    answers = forked(arguments, env, (its, its, its), is_terminal=True)
    os.close(its)
    shown = b""
    waiting = dict(send or {})
    while block := _shown(shown_on):
        shown += block
        for prompt in [each for each in waiting if each in shown]:
            os.write(shown_on, waiting.pop(prompt))
    os.close(shown_on)
    assert exit_code(answers) == code, shown
    return shown


def _shown(terminal: int) -> bytes:
    """What a terminal shows next; nothing once no process holds it."""
    if not select.select([terminal], [], [], 60)[0]:
        return b""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
