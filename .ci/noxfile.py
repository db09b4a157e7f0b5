"""The checks of this project, a session for each step.

    pipx install 'nox[uv]'               # or pip, into an environment of your own
    nox -f .ci/noxfile.py -l             # lists the steps
    nox -f .ci/noxfile.py -s lint types  # runs two of them

`.ci/run` runs them all, some at the same time, after `.ci/servers` has installed the servers that tests talk to.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent.parent
# What hangs most on the libraries below: what is sent, what is read, and what goes wrong in between.
FACTS = ["tests/transport", "-m", "wire and not slow"]
REFERENCE = [
    *("alli_async", "alli_async.client", "alli_async.export", "alli_async.sandbox"),
    *("alli_async.contrib.opentelemetry", "alli_async.contrib.dlt"),
]

nox.needs_version = ">=2025.2"
nox.options.envdir = str(ROOT / ".nox")
nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "layers", "reference"]


def _python(version: str) -> str | None:
    """The first Python of a version that runs: of the PATH, or of those that pyenv keeps."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    name = f"python{version}"
    candidates = [shutil.which(name), *map(str, sorted(pyenv.glob(f"{version}.*/bin/{name}")))]
    for each in filter(None, candidates):
        if subprocess.run([each, "-c", ""], capture_output=True, check=False).returncode == 0:
            return each
    return None


def _install(session: nox.Session, *what: str) -> None:
    session.chdir(ROOT)
    session.install("-q", *what)


def _readme(session: nox.Session, block: int) -> Path:
    """Run a shell block of the README, word for word, in a fresh clone of what is committed. Returns the clone."""
    readme = (ROOT / "README.md").read_text("utf-8")
    command = re.findall(r"^```sh\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)[block]
    clone = Path(tempfile.mkdtemp(prefix="alli-async-"))
    session.chdir(ROOT)
    session.run("git", "clone", "-q", ".", str(clone), external=True)
    session.chdir(clone)
    session.log(command.strip())
    session.run("bash", "-euo", "pipefail", "-c", command, external=True)
    return clone


@nox.session
def lint(session: nox.Session) -> None:
    """Style and format."""
    _install(session, "ruff>=0.14")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types: mypy --strict, and pyright over what users see."""
    _install(session, "-e", ".[dev,recipes]")
    session.run("mypy")
    session.run("pyright", "--pythonpath", str(Path(session.bin) / "python"))


@nox.session
def layers(session: nox.Session) -> None:
    """Imports run down one way."""
    _install(session, "-e", ".", "import-linter>=2.1")
    session.run("lint-imports")


@nox.session
def reference(session: nox.Session) -> None:
    """The API reference, without a warning."""
    _install(session, "-e", ".[dlt,otel,dask,parquet,objectstore]", "pdoc>=15")
    # dlt runs `file` when it is imported, which pdoc keeps from being run unless this is set.
    env = {"PDOC_ALLOW_EXEC": "1"}
    session.run(
        "python", "-W", "error", "-m", "pdoc", "-d", "google", "-o", session.create_tmp(), *REFERENCE, env=env
    )


@nox.session(venv_backend="none")
def readme_job(session: nox.Session) -> None:
    """The README's main job, in a fresh clone."""
    clone = _readme(session, 0)
    session.run("bash", "-c", "[ $(zcat backup/conversations/*.jsonl.gz | wc -l) -eq 10000 ]", external=True)
    shutil.rmtree(clone)


@nox.session(venv_backend="none")
def readme_tests(session: nox.Session) -> None:
    """The README's tests with their coverage, in a fresh clone."""
    shutil.rmtree(_readme(session, 1))


@nox.session
def slow(session: nox.Session) -> None:
    """The tests that take long: random draws, every await, every moment of a kill."""
    _install(session, "-e", ".[dev,recipes]")
    session.run("pytest", "-q", "-n", "logical", "-m", "slow", *session.posargs)


def _facts(session: nox.Session, *options: str) -> None:
    _install(session, *options, "-e", ".[dev]")
    session.run("pytest", "-q", "-n", "1", *FACTS)


@nox.session
def lowest(session: nox.Session) -> None:
    """The lowest versions of the libraries that are allowed."""
    session.chdir(ROOT)
    versions = Path(session.create_tmp()) / "lowest.txt"
    session.install("-q", "uv")
    how = ["--resolution", "lowest-direct", "--no-header", "--no-annotate"]
    session.run("uv", "pip", "compile", "-q", *how, "pyproject.toml", "-o", str(versions))
    session.log(" ".join(versions.read_text("utf-8").split()))
    _facts(session, "-c", str(versions))


def _other_python(version: str) -> None:
    found = _python(version)

    @nox.session(python=found, venv_backend="uv" if found else "none", name=f"python{version}")
    def other_python(session: nox.Session) -> None:
        """Another Python; the step is skipped where that is not installed."""
        if found is None:
            session.skip(f"Python {version} is not installed here")
        _facts(session)


_other_python("3.12")
_other_python("3.13")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Twenty seconds of random answers."""
    _install(session, "-e", ".[dev]")
    try:
        session.install("-q", "atheris")
    except nox.command.CommandFailed:
        session.skip("atheris cannot be installed for this Python")
    session.run("python", "-m", "tests.support.fuzz", "-max_total_time=20", "-timeout=10")


@nox.session
def mutants(session: nox.Session) -> None:
    """Mutation tests of a sample; for a maintainer, not a part of `.ci/run` (see mutants.py)."""
    _install(session, "-e", ".[dev,recipes]", "cosmic-ray>=8.4")
    session.run("python", ".ci/mutants.py", *session.posargs)


@nox.session
def audit(session: nox.Session) -> None:
    """Known vulnerabilities of what is installed. What the advisories' service does not answer for is listed."""
    _install(session, "-e", ".[dev,recipes]", "uv", "pip-audit")
    installed = Path(session.create_tmp()) / "installed.txt"
    frozen = session.run("uv", "pip", "freeze", "--exclude-editable", silent=True)
    installed.write_text(str(frozen), "utf-8")
    session.run("pip-audit", "--progress-spinner", "off", "--no-deps", "--disable-pip", "-r", str(installed))
