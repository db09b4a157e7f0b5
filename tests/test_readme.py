"""Every block of code in the README runs, and says what is true."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import pytest

from alli_async.sandbox import Sandbox
from tests.support import commands

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [code for language, code in BLOCKS if language == "sh"]
MAIN_JOB, TESTS, *COMMANDS = SHELL


# What the test's own program prints after each block.
END = "-- the end of a block --"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(conversations=120) as served:
        yield served


def environment(sandbox: Sandbox) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "ALLI_BASE_URL": sandbox.url, "ALLI_API_KEY": sandbox.api_key, "PATH": path}


def test_the_readme_is_short_and_has_no_other_blocks() -> None:
    assert len(TEXT.splitlines()) <= 200
    assert {language for language, _ in BLOCKS} == {"python", "sh"}
    assert TEXT.count("```") == 2 * len(BLOCKS)


def run(*command: str, sandbox: Sandbox, folder: Path) -> str:
    """Run a command in a folder; gives what it printed."""
    done = subprocess.run(
        command, cwd=folder, env=environment(sandbox), capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "-W" not in command or not done.stderr
    return done.stdout


def is_installed(code: str) -> bool:
    return all(find_spec(name) for name in re.findall(r"^import (\w+)", code, re.MULTILINE))


def test_each_python_block_runs_and_prints(sandbox: Sandbox, tmp_path: Path) -> None:
    programs = [code for code in PYTHON if "def test_" not in code and is_installed(code)]
    assert len(programs) >= 3
    lines = []
    for code in programs:
        main = re.findall(r"async def (\w+)\(\)", code)[-1]
        start = "" if "asyncio.run" in code else f"import asyncio\nasyncio.run({main}())\n"
        # Names of one block are not there in the next one.
        lines += [f"exec({code + start!r}, {{'__name__': '__main__'}})", f"print({END!r})"]
    (tmp_path / "blocks.py").write_text("\n".join(lines), "utf-8")
    printed = run(sys.executable, "-W", "error", "blocks.py", sandbox=sandbox, folder=tmp_path).split(END)
    assert len(printed) == len(programs) + 1
    for code, each in zip(programs, printed, strict=False):
        assert each.strip(), code


def test_each_python_block_of_tests_passes(sandbox: Sandbox, tmp_path: Path) -> None:
    tests = [code for code in PYTHON if "def test_" in code]
    for number, code in enumerate(tests):
        (tmp_path / f"test_block_{number}.py").write_text(code, "utf-8")
    options = [
        "-q",
        "-o",
        "asyncio_mode=auto",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:faker",
        "-p",
        "no:schemathesis",
    ]
    printed = run(sys.executable, "-m", "pytest", *options, ".", sandbox=sandbox, folder=tmp_path)
    assert f"{len(tests)} passed" in printed


@pytest.mark.parametrize("line", "".join(COMMANDS).splitlines())
def test_each_command_runs(line: str, sandbox: Sandbox, tmp_path: Path) -> None:
    program, *words = shlex.split(line)
    assert which(program, path=str(Path(sys.executable).parent))
    done = commands.run(*words, sandbox=sandbox, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_the_two_commands_install_and_do_all_the_rest() -> None:
    # Continuous integration runs both word for word in fresh copies; here, what follows the installation.
    for command, extra in ((MAIN_JOB, "'.[cli,speed]'"), (TESTS, "'.[dev,recipes]'")):
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
        assert extra in command
        assert len(command.splitlines()) == 1
    assert "coverage run -m pytest" in TESTS
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "steps readme_job" in script
    assert "steps readme_tests" in script
    steps = (ROOT / ".ci" / "noxfile.py").read_text("utf-8")
    assert "_readme(session, 0)" in steps
    assert "_readme(session, 1)" in steps


def test_the_main_job_of_the_readme_does_what_it_says(tmp_path: Path) -> None:
    # Continuous integration runs it as it stands, and counts 10,000 lines; a few conversations do here.
    program, *words = shlex.split(MAIN_JOB.rpartition("&& ")[2])
    assert program == ".venv/bin/alli-async"
    assert words.pop() == "10000"
    done = commands.run(*words, "80", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Exported 80 conversations" in done.stdout
