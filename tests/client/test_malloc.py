"""Freed memory that the process keeps: counted in page faults, which do not depend on the speed of the machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Blocks that glibc gives back to the kernel unless it was asked not to. Smaller ones it keeps by itself once an
# import has freed a larger one.
BLOCKS = """
import resource, sys

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        block = bytes(bytearray(3_000_000))
        del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""


def is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):
        return False


needs_glibc = pytest.mark.skipif(
    not is_glibc(), reason="only glibc gives freed blocks back that it can be asked to keep"
)


def printed(code: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ALLI_", "MALLOC_"))}
    command = [sys.executable, "-c", BLOCKS + code]
    done = subprocess.run(
        command, env=clean | environment, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout


@needs_glibc
def test_tune_malloc_keeps_freed_blocks_in_the_process() -> None:
    code = (
        "import alli_async\nprint(faults())\nalli_async.tune_malloc()\nalli_async.tune_malloc()\nprint(faults())"
    )
    before, after = map(int, printed(code).split())
    assert after < before / 5


@needs_glibc
def test_settings_of_malloc_in_the_environment_are_kept() -> None:
    code = "import alli_async\nprint(faults())\nalli_async.tune_malloc()\nprint(faults())"
    before, after = map(int, printed(code, MALLOC_TRIM_THRESHOLD_="100000").split())
    assert after > before / 2


@needs_glibc
def test_a_command_keeps_freed_blocks() -> None:
    code = "from alli_async.cli.app import run\nprint(faults())\nrun(['chats', 'x'])\nprint(faults())"
    before, after = map(int, printed(code).split())
    assert after < before / 5


def test_tune_malloc_does_no_harm_where_a_process_may_not_have_so_much_memory() -> None:
    limit = "alli_async.tune_malloc\nresource.setrlimit(resource.RLIMIT_AS, (30 << 20, 30 << 20))"
    code = f"import alli_async\n{limit}\nalli_async.tune_malloc()\nprint('well')"
    assert printed(code) == "well\n"
