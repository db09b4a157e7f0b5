"""alli-async daily: how many conversations were active on each day."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import cloup

from .connecting import open_client
from .destinations import check_writable
from .moments import parse
from .options import connection_options
from .output import show, write_json, write_text
from .rows import mode_of
from .runtime import asynchronous
from .terminal import console, holds_blocks, visible

if TYPE_CHECKING:  # The help needs none of it.
    from ..models import DailyCount


class _Day(click.ParamType[date]):
    """A day: a date, today, yesterday, or so many days ago."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        try:
            return parse(value, now=datetime.now(UTC))[0].astimezone().date()
        except (ValueError, OverflowError, OSError):
            self.fail(f"{value!r} is not a day. Examples: 2026-01-31, 20260131, today, yesterday, 7d", param, ctx)


@cloup.command(
    "daily",
    epilog="""
Examples:

\b
  alli-async daily 2026-01-01 2026-01-31
  alli-async daily 30d today --png january.png
  alli-async daily 7d yesterday --csv
""",
)
@click.argument("start_date", metavar="START", type=_Day())
@click.argument("end_date", metavar="END", type=_Day())
@cloup.option_group(
    "Output",
    cloup.option("--json", "as_json", is_flag=True, help="JSON Lines, one day a line."),
    cloup.option("--csv", "as_csv", is_flag=True, help="CSV, with a heading."),
    cloup.option(
        "--png",
        type=click.Path(dir_okay=False, writable=True, path_type=Path),
        help="Draw a chart into this file, whose name ends in .png.",
    ),
    cloup.option("--force", is_flag=True, help="Replace the file of --png if it exists, without asking."),
    help="On a terminal a bar chart is shown; into a pipe or file, lines of day and number are written.",
)
@connection_options
@asynchronous
async def daily_command(
    *,
    start_date: date,
    end_date: date,
    as_json: bool,
    as_csv: bool,
    png: Path | None,
    force: bool,
    **connection: Any,
) -> None:
    """Show how many conversations were active on each day from START to END.

    START and END are days: 2026-01-31, 20260131, today, yesterday, or 7d for
    seven days ago. Both are included.
    """
    if start_date > end_date:
        raise click.UsageError(f"START lies after END ({start_date} > {end_date})")
    mode = mode_of(as_json=as_json, as_csv=as_csv)
    if png is not None:
        _check_png(png, force=force)
    async with open_client(connection) as client:
        days = (await client.conversations.daily_counts(start_date, end_date)).days
    if png is not None:
        draw(days, png)
        click.echo(f"{visible(str(png))} is drawn.", err=True)
    if mode == "table" and png is None:
        await show(chart(days))
    elif as_json or as_csv or png is None:
        await _write(days, "json" if as_json else "csv" if as_csv else "text")
    if not days:
        click.echo("the server lists no days in this span", err=True)


def _check_png(path: Path, *, force: bool) -> None:
    if path.suffix.lower() != ".png":
        raise click.UsageError(f"--png: {visible(str(path))} is not named like a PNG file, which ends in .png")
    check_writable(path, force=force)


async def _write(days: Sequence[DailyCount], mode: str) -> None:
    import msgspec

    from ..export.formats.csv import guarded

    if mode == "csv":
        await write_text("date,active")
    for day in days:
        if mode == "json":
            await write_json(msgspec.json.encode(day))
        else:
            await write_text(f"{guarded(day.date)}{',' if mode == 'csv' else chr(9)}{day.active_count}")


def chart(days: Sequence[DailyCount]) -> Any:
    """A bar for each day, as long as the terminal is wide."""
    from rich.bar import Bar
    from rich.table import Table
    from rich.text import Text

    most = max((day.active_count for day in days), default=0)
    table = Table(box=None, expand=True, pad_edge=False, header_style="bold")
    table.add_column("day", no_wrap=True)
    table.add_column("active", justify="right", no_wrap=True)
    table.add_column("", ratio=1)
    has_blocks = holds_blocks(sys.stdout)
    room = max(console().width - 24, 10)
    for day in days:
        if has_blocks:
            bar: Any = Bar(size=max(most, 1), begin=0, end=day.active_count, color="cyan")
        else:
            bar = Text("#" * round(room * day.active_count / max(most, 1)))
        table.add_row(_with_weekday(visible(day.date)), f"{day.active_count:,}", bar)
    return table


def _with_weekday(day: str) -> str:
    try:
        return f"{day} {date.fromisoformat(day):%a}"
    except ValueError:
        return day


def draw(days: Sequence[DailyCount], path: Path) -> None:
    """Draw a bar chart into a PNG file."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise click.ClickException("--png needs matplotlib: pip install 'alli-async[plot]'") from None
    figure = Figure(figsize=(max(6.4, min(len(days) * 0.3, 40)), 4), layout="constrained")
    axes = figure.subplots()
    axes.bar(range(len(days)), [day.active_count for day in days], color="#2a7ab9")
    step = max(-(-len(days) // 16), 1)
    slanted: Any = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if len(days) > 6 else {}
    axes.set_xticks(range(0, len(days), step), [days[at].date for at in range(0, len(days), step)], **slanted)
    axes.set_ylabel("active conversations")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, format="png", dpi=150)
