"""Every block of code in the README runs, and says what is true."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from alli_async.sandbox import Sandbox

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [code for language, code in BLOCKS if language == "sh"]
MAIN_JOB, TESTS, *COMMANDS = SHELL


@pytest.fixture
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


@pytest.mark.parametrize("code", PYTHON, ids=lambda code: code.strip().splitlines()[-1].strip()[:40])
def test_each_python_block_runs(code: str, sandbox: Sandbox, tmp_path: Path) -> None:
    for name in re.findall(r"^import (\w+)", code, re.MULTILINE):
        pytest.importorskip(name)
    if "def test_" in code:
        (tmp_path / "test_block.py").write_text(code, "utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-o", "asyncio_mode=auto", "-p", "no:cacheprovider", "."]
    else:
        main = re.findall(r"async def (\w+)\(\)", code)[-1]
        if "asyncio.run" not in code:
            code += f"\n\nimport asyncio\nasyncio.run({main}())\n"
        (tmp_path / "block.py").write_text(code, "utf-8")
        command = [sys.executable, "-W", "error", "block.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(sandbox), capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
    assert "passed" in done.stdout or not done.stderr


@pytest.mark.parametrize("line", "".join(COMMANDS).splitlines())
def test_each_command_runs(line: str, sandbox: Sandbox, tmp_path: Path) -> None:
    done = subprocess.run(
        shlex.split(line),
        cwd=tmp_path,
        env=environment(sandbox),
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_two_commands_install_and_do_all_the_rest() -> None:
    # Continuous integration runs both word for word in fresh copies; here, what follows the installation.
    for command, extra in ((MAIN_JOB, "'.[cli,speed]'"), (TESTS, "'.[dev,recipes]'")):
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
        assert extra in command
        assert len(command.splitlines()) == 1
    assert "coverage run -m pytest" in TESTS
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "readme 0" in script
    assert "readme 1" in script


def test_the_main_job_of_the_readme_does_what_it_says(tmp_path: Path) -> None:
    words = shlex.split(MAIN_JOB.rpartition("&& ")[2])
    assert words[0] == ".venv/bin/alli-async"
    done = subprocess.run(
        [sys.executable, "-m", "alli_async", *words[1:]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Exported 10,000 conversations" in done.stdout
