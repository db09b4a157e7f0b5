"""What an export shows while it runs: a bar on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

from .._client_session import session_of
from ..models import StreamStats
from .durations import clock_text
from .records import count_text
from .terminal import console, holds_blocks, is_smart, visible

if TYPE_CHECKING:
    from ..client import AlliClient

# Seconds between two lines in a log: enough lines to show that the job lives, too few to fill the log.
_SECONDS_PER_LINE = 60.0
# Seconds between two checks of the numbers, and between two drawings on a terminal.
_TICK = 0.2
# Conversations and seconds after which the pace shows how long the rest takes.
_MIN_SAMPLE, _MIN_SAMPLE_SECONDS = 100, 1.0
# Seconds: shorter waits are not shown.
_LONG_WAIT = 1.0
# Characters of the cause of a wait that are shown.
_CAUSE = 120


class Progress:
    """The numbers of an export so far.

    Args:
        wait: Says what is waited for now, and why; None while nothing is.

    Attributes:
        stats: The latest numbers; None before the first.
    """

    def __init__(self, wait: Callable[[], str | None]) -> None:
        self.stats: StreamStats | None = None
        self.began = time.monotonic()
        self._wait = wait

    def update(self, stats: StreamStats) -> None:
        """Take the numbers so far."""
        self.stats = stats

    @property
    def seconds(self) -> float:
        """Seconds since the export began."""
        return max(time.monotonic() - self.began, 1e-3)

    @property
    def done(self) -> int:
        """Conversations that are written, those that were found written included."""
        stats = self.stats
        return 0 if stats is None else stats.conversations + int(getattr(stats, "resumed", 0))

    @property
    def total(self) -> int | None:
        """How many conversations there will be, about; never fewer than there are."""
        expected: int | None = getattr(self.stats, "expected", None)
        return None if expected is None else max(expected, self.done)

    @property
    def seconds_left(self) -> float | None:
        """By the pace of this process so far; None while there is none to tell."""
        own = 0 if self.stats is None else self.stats.conversations
        if self.total is None or own < _MIN_SAMPLE or self.seconds < _MIN_SAMPLE_SECONDS:
            return None
        return (self.total - self.done) * self.seconds / own

    @property
    def done_text(self) -> str:
        """The conversations so far, for the end of a sentence; empty before the first numbers."""
        return "" if self.stats is None else f" ({self.counts()})"

    @property
    def waiting(self) -> str | None:
        """What is waited for now, and why."""
        return self._wait()

    def counts(self) -> str:
        """The conversations and chats so far."""
        total = f" of about {self.total:,}" if self.total else ""
        noun = "conversation" if (self.total or self.done) == 1 else "conversations"
        return f"{self.done:,}{total} {noun}, {count_text(self.stats.chats if self.stats else 0, 'chat')}"

    def pace(self) -> str:
        """How fast it goes, and how long the rest takes."""
        stats = self.stats or StreamStats()
        parts = [f"{stats.conversations / self.seconds:,.0f}/s", count_text(stats.requests, "request")]
        if stats.retries:
            parts.append(f"{stats.retries:,} retried")
        if self.seconds_left is not None:
            parts.append(f"about {clock_text(self.seconds_left)} left")
        return ", ".join(parts)

    def line(self) -> str:
        """All of it in one line."""
        wait = f"; {self.waiting}" if self.waiting else ""
        return f"{clock_text(self.seconds)}  {self.counts()}, {self.pace()}{wait}"


@asynccontextmanager
async def showing(client: AlliClient, *, quiet: bool = False) -> AsyncIterator[Progress]:
    """Show progress on standard error: standard output is for results.

    Args:
        client: The client that works.
        quiet: Whether nothing is shown.
    """
    progress = Progress(lambda: wait_of(client))
    if quiet or sys.stderr is None:
        yield progress
        return
    draw = _draw_bar if is_smart(sys.stderr) and holds_blocks(sys.stderr) else _write_lines
    task = asyncio.create_task(draw(progress))
    try:
        yield progress
    finally:
        task.cancel()
        await asyncio.wait([task])


def wait_of(client: AlliClient) -> str | None:
    """What requests of a client wait for now, and why; None while they do not, or only briefly."""
    outage = session_of(client).tenant.outage
    if outage.cause is not None:
        now = asyncio.get_running_loop().time()
        if outage.asked_until > now:
            return f"waiting {clock_text(outage.asked_until - now)}, as the server asked ({_cause(outage.cause)})"
        if now - outage.since >= _LONG_WAIT:
            return f"waiting: nothing was served for {clock_text(now - outage.since)} ({_cause(outage.cause)})"
    paused = client.limits.paused_for
    return f"waiting {clock_text(paused)} for the rate limit" if paused >= _LONG_WAIT else None


def _cause(error: Any) -> str:
    text = visible(str(error.message), keep_newlines=False)
    return text if len(text) <= _CAUSE else f"{text[:_CAUSE]}…"


async def _draw_bar(progress: Progress) -> None:
    from rich.live import Live
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    screen = console(stderr=True)
    bar = Bar(
        TextColumn("exporting"),
        BarColumn(),
        TextColumn("{task.fields[share]}"),
        TimeElapsedColumn(),
        console=screen,
    )
    task = bar.add_task("", total=None, share="")
    # The bar is gone when the export ends: the summary stands in its place.
    with Live(bar, console=screen, transient=True, auto_refresh=False) as live:
        while True:
            total, done = progress.total, progress.done
            bar.update(task, total=total, completed=done, share=f"{done / total:.0%}" if total else "")
            live.update(_drawing(bar, progress), refresh=True)
            await asyncio.sleep(_TICK)


def _drawing(bar: Any, progress: Progress) -> Any:
    from rich.console import Group
    from rich.text import Text

    # The numbers have lines of their own: beside the bar they would not fit into eighty columns.
    lines = [Text(progress.counts()), Text(progress.pace())]
    if wait := progress.waiting:
        lines.append(Text(wait, style="yellow"))
    return Group(bar, *lines)


async def _write_lines(progress: Progress) -> None:
    """Write a line now and then, and at once when a wait begins."""
    written_at, was_waiting = time.monotonic(), False
    while True:
        await asyncio.sleep(_TICK)
        is_waiting = progress.waiting is not None
        if time.monotonic() - written_at >= _SECONDS_PER_LINE or (is_waiting and not was_waiting):
            written_at = time.monotonic()
            click.echo(progress.line(), err=True)
        was_waiting = is_waiting
