"""What an export shows while it runs: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from ..models import StreamStats

# A log should tell that the job lives, not be filled by it.
_SECONDS_PER_LINE = 5.0

Show = Callable[[StreamStats], None]


@contextmanager
def showing() -> Iterator[Show]:
    """Show progress on standard error: standard output is for results."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    bar = Progress(SpinnerColumn(), TextColumn("exporting"), BarColumn(), TimeElapsedColumn(), console=console)
    task = bar.add_task("", total=None)
    started = time.monotonic()
    # The numbers have a line of their own: beside the bar they would not fit into eighty columns.
    with Live(bar, console=console, transient=True) as live:

        def show(stats: StreamStats) -> None:
            seconds = max(time.monotonic() - started, 1e-3)
            text = _text(stats, seconds, f" ({stats.requests / seconds:,.0f}/s, {stats.in_flight} in flight)")
            bar.update(task, total=_total(stats), completed=_done(stats))
            live.update(Group(bar, Text(text)))

        yield show


def _lines(console: Console) -> Show:
    started = told = time.monotonic()

    def show(stats: StreamStats) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= _SECONDS_PER_LINE:
            told = now
            text = _text(stats, now - started, f" ({stats.retries:,} retried)")
            console.print(f"{text}, {now - started:.0f} s", highlight=False, soft_wrap=True)

    return show


def _text(stats: StreamStats, seconds: float, requests: str) -> str:
    total = _total(stats)
    of_all = f" of about {total:,}" if total else ""
    text = f"{_done(stats):,}{of_all} conversations, {stats.chats:,} chats, {stats.requests:,} requests{requests}"
    if stats.requests and stats.seconds_waited >= 1:
        # Of the sum over all tasks nobody could tell whether it is much.
        text += f", {stats.seconds_waited / stats.requests:.2f} s of waits each"
    left = _seconds_left(stats, seconds)
    return text if left is None else f"{text}, about {_clock(left)} left"


def _done(stats: StreamStats) -> int:
    return stats.conversations + int(getattr(stats, "resumed", 0))


def _total(stats: StreamStats) -> int | None:
    """How many there will be, about; never fewer than there are."""
    expected: int | None = getattr(stats, "expected", None)
    return None if expected is None else max(expected, _done(stats))


def _seconds_left(stats: StreamStats, seconds: float) -> float | None:
    """By the pace of this process so far; None while there is none to tell."""
    total = _total(stats)
    if total is None or stats.conversations < 100 or seconds < 1:
        return None
    return (total - _done(stats)) * seconds / stats.conversations


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
