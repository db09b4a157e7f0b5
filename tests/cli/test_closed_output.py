"""Commands whose exit code is an answer by itself, where the caller has closed standard output (`>&-`)."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from alli_async.export import export
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.support.commands import COMMAND, environment


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


async def test_without_a_standard_output_the_exit_code_still_says_what_was_found(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=30) as sandbox:
        await export(make_client(sandbox), tmp_path)
        for command in (("compact", str(tmp_path)), ("doctor",)):
            assert await asyncio.to_thread(run_closed, sandbox, *command) == (0, ""), command
        next((tmp_path / "conversations").iterdir()).write_bytes(b"no part")
        assert await asyncio.to_thread(run_closed, sandbox, "verify", str(tmp_path), "--json") == (1, "")
