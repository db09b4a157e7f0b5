"""Commands whose exit code is an answer by itself, where the caller has closed standard output (`>&-`)."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from alli_async.export import export
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.support.commands import COMMAND, environment, run


def run_closed(sandbox: Sandbox, *arguments: str) -> tuple[int, str]:
    """Run a command without a standard output; gives its exit code and its errors."""
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, *arguments],
        env=environment(sandbox),
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_change_that_was_made_is_no_failure_where_standard_output_is_closed() -> None:
    with Sandbox(conversations=3) as sandbox:
        one = sandbox.conversation_ids()[0]
        assert run_closed(sandbox, "conversations", "set-title", one, "Refund") == (0, "")
        assert '"title":"Refund"' in run("conversations", "get", one, "--json", sandbox=sandbox).stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_change_that_cannot_be_reported_on_a_full_disk_says_that_it_was_made() -> None:
    with Sandbox(conversations=3) as sandbox, Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, "conversations", "set-title", sandbox.conversation_ids()[0], "Refund"],
            env=environment(sandbox),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert 'title set to "Refund"' in done.stderr
    assert "No space left on device" in done.stderr


async def test_without_a_standard_output_the_exit_code_still_says_what_was_found(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=30) as sandbox:
        await export(make_client(sandbox), tmp_path)
        for command in (("compact", str(tmp_path)), ("doctor",)):
            assert await asyncio.to_thread(run_closed, sandbox, *command) == (0, ""), command
        next((tmp_path / "conversations").iterdir()).write_bytes(b"no part")
        assert await asyncio.to_thread(run_closed, sandbox, "verify", str(tmp_path), "--json") == (1, "")
