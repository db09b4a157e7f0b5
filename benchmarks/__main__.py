"""`python -m benchmarks [NAME …] [--quick] [--out DIR]`: measure, print tables, write JSON and a PNG for each."""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from .backend import machine
from .report import Options, Result, save_plot, save_values

# Each is a module of this package with a `run(options) -> Result`; the first line of its docstring is its help.
BENCHMARKS = (
    "race",
    "growth",
    "percall",
    "lag",
    "start",
    "limits",
    "simulate",
    "soak",
    "export",
    "cluster",
    "nights",
    "doors",
)
_RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run what was asked for; 1 if something was found that must never be."""
    parser = _parser()
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in BENCHMARKS]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    if not asked.no_plot and find_spec("matplotlib") is None:
        sys.exit("benchmarks: the plots need matplotlib (pip install --group bench), or say --no-plot")
    options = Options(quick=asked.quick, full=asked.full, runs=asked.runs, only=tuple(asked.only))
    asked.out.mkdir(parents=True, exist_ok=True)
    failed = False
    for name in asked.names or BENCHMARKS:
        began = time.monotonic()
        result: Result = import_module(f".{name}", __package__).run(options)
        for table in result.tables:
            print(f"\n{table}", flush=True)
        about = {"benchmark": name, "quick": options.quick, **machine()}
        save_values(asked.out / f"{name}.json", about | {"values": result.values})
        if not asked.no_plot:
            save_plot(asked.out / f"{name}.png", result.draw)
        print(f"\n{name}: {time.monotonic() - began:.0f} s; written to {asked.out}/{name}.*", flush=True)
        for failure in result.failures:
            print(f"benchmarks: {name}: {failure}", file=sys.stderr)
            failed = True
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    about = [f"  {name:10}{_docstring(name)}" for name in BENCHMARKS]
    parser = argparse.ArgumentParser(
        "python -m benchmarks",
        description="Measure this library, and others at the same job, against a local server.",
        epilog="benchmarks:\n"
        + "\n".join(about)
        + "\n\nThe others are installed by: pip install --group bench (pip 25.1 or later)",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--quick", action="store_true", help="small and few: to see that it works, not to quote")
    parser.add_argument(
        "--full",
        action="store_true",
        help="the longest jobs too (growth: a million conversations; simulate: 100 million; export: 100,000; "
        "cluster: 50,000 at 0 ms)",
    )
    parser.add_argument("--runs", type=int, metavar="N", help="how often each is measured")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=[], metavar="A,B", help="these contestants"
    )
    parser.add_argument("--out", type=Path, default=_RESULTS, metavar="DIR", help="default: benchmarks/results")
    parser.add_argument("--no-plot", action="store_true", help="draw nothing (matplotlib is not needed then)")
    return parser


def _docstring(name: str) -> str:
    """The first line of a benchmark's own description; read, not imported."""
    text = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    return text.partition('"""')[2].partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
