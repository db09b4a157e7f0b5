"""One signal ends the command, whatever stalls; and closed standard streams abort nothing."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.platform != "win32":
    import fcntl
    import termios

from tests.export.support import COMMAND, chats_by_id, environment, run, serving

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

CODES = pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
LAST_LINE = {130: "alli-async: interrupted", 143: "alli-async: terminated"}


@pytest.fixture(scope="module")
def served() -> Iterator[dict[str, str]]:
    with serving("--conversations", "600", "--latency", "0.005") as exports:
        yield exports


@CODES
def test_a_signal_ends_a_command_whose_output_nobody_reads(
    served: dict[str, str], number: signal.Signals, code: int
) -> None:
    with subprocess.Popen(
        [*COMMAND, "conversations"],
        env=environment(served),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        time.sleep(1)  # the pipe is full by then; should it not be, the test is only easier
        assert process.poll() is None
        process.send_signal(number)
        process.wait(30)
        assert process.stderr is not None
        assert process.stderr.read().startswith(LAST_LINE[code])
    assert process.returncode == code


@pytest.mark.skipif(sys.platform != "linux", reason="the size of a pipe is set as Linux does it")
def test_a_signal_ends_an_export_whose_log_nobody_reads(served: dict[str, str], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(
        [*COMMAND, "export", str(tmp_path / "all"), "--max-concurrency", "2"],
        env=environment(served) | {"ALLI_LOG": "debug"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=writer,
    )
    os.close(writer)
    try:
        held = -1
        while (now := waiting_bytes(reader)) != held or now < 2048:  # it is full when it grows no more
            assert process.poll() is None
            held = now
            time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    finally:
        process.kill()
        process.wait()
        os.close(reader)
    # What is committed stays, and the next run removes what the stalled one has left.
    again = run(served, "export", str(tmp_path / "all"))
    assert again.returncode == 0, again.stderr
    assert len(chats_by_id(tmp_path / "all")) == 600
    assert not list((tmp_path / "all").rglob("*.partial"))


def waiting_bytes(descriptor: int) -> int:
    """How many bytes wait in a pipe."""
    return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))[0])


CLEANS_UP_FOR_EVER = """
import asyncio, threading
from alli_async._aio.threads import in_thread
from alli_async.cli.runtime import asynchronous

@asynchronous
async def command():
    print("begun", flush=True)
    await in_thread(threading.Event().wait)

command()
"""


@CODES
def test_one_signal_ends_a_command_with_a_thread_that_cannot_be_ended(number: signal.Signals, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CLEANS_UP_FOR_EVER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors.strip()) == (code, LAST_LINE[code])


@pytest.mark.slow
def test_exports_that_are_signalled_at_random_moments_end_and_go_on(tmp_path: Path) -> None:
    draw, dest = random.Random(11), tmp_path / "all"
    with serving("--conversations", "600", "--latency", "0.03") as slow:
        for _ in range(3):
            number = draw.choice([signal.SIGINT, signal.SIGTERM])
            process = subprocess.Popen(
                [*COMMAND, "export", str(dest)],
                env=environment(slow) | {"ALLI_LOG": "debug"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert process.stderr is not None
            process.stderr.readline()  # of the first request
            time.sleep(draw.uniform(0.0, 1.0))
            process.send_signal(number)
            _, errors = process.communicate(timeout=30)
            # Python itself may meet a signal once the command has ended: to a shell that is 128 + number too.
            assert process.returncode in (0, 128 + number, -number), errors
            assert not list(dest.rglob("*.partial"))
    with serving("--conversations", "600") as quick:
        done = run(quick, "export", str(dest))
        assert done.returncode == 0, done.stderr
        assert len(chats_by_id(dest)) == 600


@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_abort_no_export(served: dict[str, str], closed: str, tmp_path: Path) -> None:
    dest = tmp_path / "all"
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *COMMAND, "export", str(dest)],
        env=environment(served),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(chats_by_id(dest)) == 600
