"""What an export has done so far, reported about ten times a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ..models import StreamStats
from .commit_log import ShardState


class ExportProgress(StreamStats, kw_only=True):
    """What an export has done so far. It counts the work of this call, not what earlier calls had written.

    Attributes:
        expected: Number of conversations in all, about; None where that is not known.
        resumed: Number of conversations that were written before this call began.
        shards: Number of shards in all, as far as known.
        shards_done: Number of shards that are written.
    """

    expected: int | None = None
    resumed: int = 0
    shards: int = 0
    shards_done: int = 0


class ProgressSource(Protocol):
    """Part of an export that sends requests and writes shards."""

    def progress(self) -> ExportProgress:
        """The conversations and chats of the shards being written, and the requests of all shards."""
        ...


class ProgressMeter:
    """Adds up the progress of a run, and reports it.

    Args:
        state: The shards of the run.
        sources: The parts of the export that do the run's work.
        on_progress: Called with the numbers so far; None for no calls.
        seconds: Seconds between two calls of `on_progress`.
    """

    def __init__(
        self,
        state: ShardState,
        sources: Sequence[ProgressSource],
        on_progress: Callable[[ExportProgress], None] | None,
        seconds: float,
    ) -> None:
        self._state = state
        self._sources = sources
        self._on_progress = on_progress
        self._seconds = seconds
        self._reported_at = 0.0
        self._resumed = _written(state)

    def total(self) -> ExportProgress:
        """The numbers so far."""
        state, (conversations, chats) = self._state, _written(self._state)
        total = ExportProgress(
            expected=state.plan.expected,
            resumed=self._resumed[0],
            shards=len(state.commits) + len(state.pending),
            shards_done=len(state.commits),
            conversations=conversations - self._resumed[0],
            chats=chats - self._resumed[1],
        )
        for source in self._sources:
            add_progress(total, source.progress())
        return total

    def report(self, *, always: bool = False) -> None:
        """Report the numbers so far, unless they were reported a moment ago.

        Args:
            always: Whether to report in any case.
        """
        if self._on_progress is not None and (always or time.monotonic() - self._reported_at >= self._seconds):
            self._reported_at = time.monotonic()
            self._on_progress(self.total())


def add_progress(total: StreamStats, part: StreamStats) -> None:
    """Add the conversations, chats and requests of one part of an export to a total."""
    total.conversations += part.conversations
    total.chats += part.chats
    add_traffic(total, part)


def add_traffic(total: StreamStats, part: StreamStats) -> None:
    """Add what was sent and received to a total; conversations are counted where they are written."""
    for name in ("requests", "retries", "refused", "bytes", "seconds_waited", "in_flight"):
        setattr(total, name, getattr(total, name) + getattr(part, name))


def _written(state: ShardState) -> tuple[int, int]:
    """The conversations and the chats in all shards that are committed."""
    commits = state.commits.values()
    return sum(each.conversations for each in commits), sum(each.chats for each in commits)
