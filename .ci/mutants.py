"""Mutation testing: of small changes that break the code, how many does a test notice?

    nox -f .ci/noxfile.py -s mutants                  # 40 mutants of each package
    nox -f .ci/noxfile.py -s mutants -- listing 100   # 100 mutants of one

The mutants are drawn by a seed from those of cosmic-ray, one for a place in the code. Mutants that change only
annotations, decorators or log messages are left out. Each is run, in a clone of what is committed, against the
tests that reach its line; those that reach the fewest lines come first. A mutant that survives is shown as a diff:
it changes nothing that a user can see, or a test is missing.
"""

from __future__ import annotations

import ast
import difflib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import coverage
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "transport": ("alli_async/_transport/*.py", ["tests/transport"]),
    "listing": ("alli_async/_listing/*.py", ["tests/listing"]),
    "commit_log": (
        "alli_async/export/commit_log.py",
        [f"tests/export/test_{name}.py" for name in ("commit_log", "recovery", "shards", "incremental")],
    ),
}
SEED = 16
# How many tests a mutant meets at most: for a line that hundreds of tests reach, the closest tell enough.
MOST_TESTS = 80
# A test that hangs in a mutant is ended after so many seconds; pytest then fails, which counts as noticed.
TEST_SECONDS = 60
# Decorators are often hints for types only; cosmic-ray fails on tuples of exceptions, and asks which variables.
_LEFT_OUT = ("RemoveDecorator", "ExceptionReplacer", "Variable")


class Mutant(NamedTuple):
    """A change of one place in a module.

    Attributes:
        path: The module, from the root.
        line: The number of the line that is changed.
        operator: The name of cosmic-ray's operator.
        before: The source of the module.
        after: The source once it is changed.
    """

    path: str
    line: int
    operator: str
    before: str
    after: str

    def diff(self) -> str:
        """The change, as a diff."""
        lines = difflib.unified_diff(self.before.splitlines(), self.after.splitlines(), lineterm="", n=2)
        return "\n".join([f"{self.path}:{self.line} {self.operator}", *list(lines)[2:]])


# --- which tests reach a line -------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Note for which test lines are reached; pytest loads this module as a plugin for that."""
    if measuring := coverage.Coverage.current():
        measuring.switch_context(item.nodeid)
    return (yield)


def _run(where: Path, *command: str, **more: Any) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"PYTHONPATH": f"{where}{os.pathsep}{Path(__file__).parent}", **more}
    return subprocess.run([sys.executable, "-m", *command], cwd=where, env=environ, check=False, text=True)


def _tests_by_line(clone: Path, folders: list[str]) -> dict[tuple[str, int], list[str]]:
    """The tests that reach each line, by path and line; the closest come first. Line 0 is the whole module."""
    data = clone / ".coverage"
    done = _run(clone, "coverage", "run", "-m", "pytest", "-q", "-n", "logical", "-p", "mutants", *folders)
    if done.returncode:
        sys.exit("the tests must pass before mutants are run")
    _run(clone, "coverage", "combine", "-q", str(clone))
    measured = coverage.CoverageData(basename=str(data))
    measured.read()
    reached: dict[tuple[str, int], list[str]] = {}
    size: dict[str, int] = defaultdict(int)
    for file in measured.measured_files():
        path = str(Path(file).relative_to(clone))
        for line, tests in measured.contexts_by_lineno(file).items():
            named = [test for test in tests if "::" in test]
            reached[path, line] = named
            for test in named:
                size[test] += 1
        reached[path, 0] = list(
            {test: None for (where, _), some in reached.items() if where == path for test in some}
        )
    return {place: sorted(tests, key=size.__getitem__) for place, tests in reached.items()}


# --- the mutants --------------------------------------------------------------------------------------------


class _Essence(ast.NodeTransformer):
    """Leaves out what no test can or need notice: annotations, decorators, docstrings, and lines of the log."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for name in ("annotation", "returns"):
            if getattr(node, name, None) is not None:
                setattr(node, name, ast.Constant(None))
        if hasattr(node, "decorator_list"):
            node.decorator_list = []
        return super().generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        says = ast.unparse(node)
        return None if says.startswith(("logger.", "'", '"')) else self.generic_visit(node)


def _essence(source: str) -> str:
    return ast.dump(_Essence().visit(ast.parse(source)))


def _places(path: Path) -> list[tuple[Path, list[tuple[str, int]]]]:
    """Each place of a module that can be changed, with the operators that change it and their occurrences."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    nodes = list(ast_nodes(get_ast(path.read_text("utf-8"))))
    places: dict[tuple[int, int], list[tuple[str, int]]] = defaultdict(list)
    for name in sorted(operator_names()):
        if any(each in name for each in _LEFT_OUT):
            continue
        operator = get_operator(name)()
        starts = (start for node in nodes for start, _ in operator.mutation_positions(node))
        for number, start in enumerate(starts):
            places[start].append((name, number))
    return [(path, places[start]) for start in sorted(places)]


def _mutants(paths: list[Path]) -> Iterator[Mutant]:
    """The mutants of modules in a drawn order, one for each place that holds more than annotations and the log."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    draw = random.Random(SEED)
    places = [place for path in paths for place in _places(path)]
    draw.shuffle(places)
    for path, changes in places:
        name, number = draw.choice(changes)
        before = path.read_text("utf-8")
        after = mutate_code(before, get_operator(name)(), number)
        try:
            changes_something = after and _essence(after) != _essence(before)
        except SyntaxError:
            continue
        if changes_something:
            old, new = before.splitlines(), after.splitlines()
            line = next(n for n, pair in enumerate(zip(old, new, strict=False), 1) if pair[0] != pair[1])
            yield Mutant(str(path.relative_to(ROOT)), line, name, before, after)


def _is_noticed(mutant: Mutant, clone: Path, tests: list[str]) -> bool:
    place = clone / mutant.path
    place.write_text(mutant.after, "utf-8")
    options = ("-q", "-x", "-p", "no:cacheprovider", "-o", f"timeout={TEST_SECONDS}", "--tb=no", "--no-header")
    try:
        return _run(clone, "pytest", *options, *tests, PYTHONDONTWRITEBYTECODE="1").returncode == 1
    finally:
        place.write_text(mutant.before, "utf-8")


def measure(name: str, number: int) -> tuple[int, int]:
    """Run a sample of the mutants of a package.

    Returns:
        How many mutants were noticed, and how many there were.
    """
    modules, folders = PACKAGES[name]
    sample = list(islice(_mutants(sorted(ROOT.glob(modules))), number))
    noticed = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        tests = _tests_by_line(clone, folders)
        for mutant in sample:
            # What runs at import (a constant, a default) is reached by no test: any test of the module may notice.
            reaching = (tests.get((mutant.path, mutant.line)) or tests.get((mutant.path, 0), []))[:MOST_TESTS]
            if reaching and _is_noticed(mutant, clone, reaching):
                noticed += 1
            else:
                sys.stdout.write(f"\n== survives {len(reaching)} tests: {mutant.diff()}\n")
                sys.stdout.flush()
    return noticed, len(sample)


def main(arguments: list[str]) -> None:
    """Measure the packages that are named, or all."""
    number = next((int(each) for each in arguments if each.isdigit()), 40)
    names = [each for each in arguments if not each.isdigit()] or list(PACKAGES)
    results = {name: measure(name, number) for name in names}
    sys.stdout.write(json.dumps({name: "{}/{}".format(*found) for name, found in results.items()}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
