"""Supply chain: what is installed with the library, and from which versions on it works."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CORE = ["aiohttp", "msgspec", "anyio", "tenacity"]
# aiohttp's own types of URLs and headers, which its functions take and give.
WITH_AIOHTTP = ["yarl", "multidict"]


def test_every_requirement_says_from_which_version_on() -> None:
    extras = [each for some in PROJECT["optional-dependencies"].values() for each in some]
    for requirement in [*PROJECT["dependencies"], *extras]:
        assert ">=" in requirement or requirement.startswith("alli-async["), requirement


@pytest.mark.parametrize("name", CORE)
def test_what_is_installed_here_is_what_is_allowed(name: str) -> None:
    (requirement,) = [each for each in PROJECT["dependencies"] if each.startswith(name)]
    least = re.search(r">=([\d.]+)", requirement)
    assert least is not None
    assert numbers(version(name)) >= numbers(least[1])


def numbers(text: str) -> list[int]:
    return [int(each) for each in re.findall(r"\d+", text)[:3]]


def test_the_core_imports_what_it_requires_and_nothing_that_happens_to_be_there() -> None:
    required = {re.split(r"[ ;<>=]", each)[0] for each in requires("aiohttp") or []}
    assert set(WITH_AIOHTTP) <= required
    distributions = packages_distributions()
    for path in (ROOT / "alli_async").rglob("*.py"):
        if path.relative_to(ROOT / "alli_async").parts[0] in ("cli", "contrib", "sandbox", "_pydantic.py"):
            continue
        for name in imported_at_once(path):
            if name not in sys.stdlib_module_names and name != "alli_async":
                assert set(distributions[name]) <= {*CORE, *WITH_AIOHTTP}, (path, name)


def imported_at_once(path: Path) -> set[str]:
    """The packages that importing a module imports."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_every_python_that_is_promised_is_one_that_ci_runs_where_it_is_installed() -> None:
    promised = {each.rpartition(" ")[2] for each in PROJECT["classifiers"] if ":: Python :: 3." in each}
    ci = (ROOT / ".ci" / "run").read_text("utf-8") + (ROOT / ".ci" / "noxfile.py").read_text("utf-8")
    assert PROJECT["requires-python"] == f">={min(promised, key=numbers)}"
    for each in promised - {min(promised, key=numbers)}:
        assert f"python{each}" in ci
    assert '"--resolution", "lowest-direct"' in ci
    assert "steps lowest" in ci
