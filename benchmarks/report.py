"""What a benchmark gives: tables to print, values to write as JSON, and a plot to draw."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line.

    Attributes:
        quick: Less of everything: to see that it works, not to quote.
        full: The longest jobs too.
        runs: How often each is measured; None for the benchmark's choice.
        only: These contestants; empty for all.
    """

    quick: bool = False
    full: bool = False
    runs: int | None = None
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows under a head; numbers are printed as they are told by `shown`."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def __str__(self) -> str:
        cells = [list(self.head)] + [[shown(value) for value in row] for row in self.rows]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.head))]
        left = [all(isinstance(row[column], str) for row in self.rows) for column in range(len(widths))]
        lines = [
            "  ".join(
                cell.ljust(width) if to_left else cell.rjust(width)
                for cell, width, to_left in zip(row, widths, left, strict=True)
            ).rstrip()
            for row in cells
        ]
        lines.insert(1, "  ".join("─" * width for width in widths))
        return "\n".join([self.title, *lines])


@dataclass(frozen=True)
class Result:
    """What a benchmark found.

    Attributes:
        tables: To be printed.
        values: To be written as JSON: everything that was measured.
        draw: Draws the plot onto a matplotlib figure.
        failures: What must never be, such as a contestant that lost conversations.
    """

    tables: Sequence[Table]
    values: Any
    draw: Callable[[Any], None]
    failures: Sequence[str] = field(default=())


def median(values: Iterable[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def shown(value: Any) -> str:
    """A value as a cell: three digits that mean something, and no more."""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if abs(value) >= 100:
            return f"{value:,.0f}"
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"
    return str(value)


def bars(title: str, rows: Iterable[tuple[str, float | None, float, bool]]) -> Table:
    """Ratios beside what they must reach.

    Args:
        title: What they are about.
        rows: What, its ratio (None if it was not measured), its bar, and whether more is better.
    """
    table = []
    for what, ratio, bar, more_is_better in rows:
        if ratio is not None:
            reached = ratio >= bar if more_is_better else ratio <= bar
            table.append((what, ratio, f"{'≥' if more_is_better else '≤'} {bar:g}", "yes" if reached else "NO"))
    return Table(title, ("", "measured", "bar", "reached"), table)


def draw_seconds(axes: Any, seconds: Mapping[float, Sequence[float]], labels: Sequence[str], title: str) -> None:
    """Draw what each took, a bar for each latency (in seconds)."""
    height = 0.8 / len(seconds)
    for place, (latency, values) in enumerate(seconds.items()):
        places = [row + place * height for row in range(len(labels))]
        drawn = axes.barh(places, values, height, label=f"{latency * 1000:g} ms a round trip")
        axes.bar_label(drawn, [f"{value:.2g} s" for value in values], padding=3, fontsize=8)
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(labels))])
    axes.set_yticklabels(labels)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title(title, fontsize=10)


def save_plot(path: Path, draw: Callable[[Any], None]) -> None:
    """Draw onto a new figure, and write it as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    draw(figure)
    figure.savefig(path, dpi=150)


def save_values(path: Path, values: Any) -> None:
    """Write everything that was measured."""
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
