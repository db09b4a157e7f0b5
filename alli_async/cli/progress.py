"""What an export shows while it runs: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ..models import StreamStats

# A log should tell that the job lives, not be filled by it.
_SECONDS_PER_LINE = 5.0

Show = Callable[[StreamStats], None]


@contextmanager
def showing(total: int | None) -> Iterator[Show]:
    """Show progress on standard error: standard output is for results.

    Args:
        total: How many conversations there will be, where that is known.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("exporting"),
        BarColumn(),
        MofNCompleteColumn() if total else TextColumn("{task.completed:,} conversations"),
        TextColumn("{task.fields[chats]:,} chats · {task.fields[pace]:,.0f}/s"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total, chats=0, pace=0.0)
        started = time.monotonic()

        def show(stats: StreamStats) -> None:
            pace = stats.conversations / max(time.monotonic() - started, 1e-3)
            progress.update(task, completed=stats.conversations, chats=stats.chats, pace=pace)

        yield show


def _lines(console: Console) -> Show:
    started = told = time.monotonic()

    def show(stats: StreamStats) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= _SECONDS_PER_LINE:
            told = now
            console.print(
                f"{stats.conversations:,} conversations, {stats.chats:,} chats, {stats.requests:,} requests "
                f"({stats.retries:,} retried), {now - started:.0f} s",
                highlight=False,
                soft_wrap=True,
            )

    return show
