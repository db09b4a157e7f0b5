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
import time
from typing import Any

from alli_async.sandbox import Sandbox

COMMAND = [sys.executable, "-m", "alli_async"]


def environment(sandbox: Sandbox | None = None, **more: str) -> dict[str, str]:
    """The environment without settings of this machine, and with those of a sandbox."""
    settings = ("ALLI_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "TZ")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    if sandbox is not None:
        clean |= {"ALLI_BASE_URL": sandbox.url, "ALLI_API_KEY": sandbox.api_key}
    return clean | more


def begun(*arguments: str, sandbox: Sandbox | None = None) -> subprocess.Popen[str]:
    """Start a command."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment(sandbox),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str, sandbox: Sandbox | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    more.setdefault("env", environment(sandbox))
    if "input" not in more:
        more.setdefault("stdin", subprocess.DEVNULL)
    more = {"capture_output": True, "text": True, "encoding": "utf-8", "timeout": 170} | more
    return subprocess.run([*COMMAND, *arguments], check=False, **more)


async def run_beside(*arguments: str, url: str, **environ: str) -> tuple[int, str, str]:
    """Run a command while a server of this event loop answers it; gives its code, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        env=environment(None, ALLI_BASE_URL=url, ALLI_API_KEY="k", **environ),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


def terminal(
    command: list[str],
    env: dict[str, str],
    send: dict[bytes, bytes] | None = None,
    code: int = 0,
    columns: int = 80,
) -> bytes:
    """Run a command on a terminal of its own; gives all that it showed."""
    pid, descriptor = pty.fork()
    if not pid:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        os.execvpe(command[0], command, env)
    shown = b""
    waiting = dict(send or {})
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if not select.select([descriptor], [], [], 1)[0]:
            continue
        try:
            block = os.read(descriptor, 65536)
        except OSError:
            break
        if not block:
            break
        shown += block
        for prompt in [each for each in waiting if each in shown]:
            os.write(descriptor, waiting.pop(prompt))
    os.close(descriptor)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code, shown
    return shown
