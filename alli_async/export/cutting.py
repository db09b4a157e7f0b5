"""Splitting a shard that turns out to be dense, while it is read."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .._listing.partition_reader import PartitionReader
from .._listing.planner import even_cuts
from .._listing.survey import Span
from .records import Shard
from .tuning import Tuning

# Records a split of a shard, and returns the first piece.
Split = Callable[[Shard, Sequence[float]], Awaitable[Shard]]


@dataclass(slots=True)
class CurrentShard:
    """The shard that is being written now.

    Attributes:
        shard: The shard. `ShardCutter` replaces it with its first piece at each split.
    """

    shard: Shard


class ShardCutter:
    """Cuts a shard a little ahead of its reader, where many conversations lie ahead.

    Args:
        current: The shard that is being written now.
        span: The span of the list; None where the list is one shard.
        split: Records the split.
        tuning: The number of conversations from which a shard is dense.
    """

    def __init__(self, current: CurrentShard, span: Span | None, split: Split, tuning: Tuning) -> None:
        self._current = current
        self._span = span
        self._split = split
        self._tuning = tuning
        self._next_look = tuning.dense_rows

    async def after_page(self, reader: PartitionReader[Any], position: float) -> None:
        """Cut the shard if it is dense. It is called after each of the shard's pages.

        Args:
            reader: The reader of the shard.
            position: About when the last conversation on the page began.
        """
        if reader.own_count < self._next_look:
            return
        self._next_look += self._tuning.piece_rows
        shard, span = self._current.shard, self._span
        if span is None or shard.end is None:
            return
        way = max(position - (span.low if shard.start is None else shard.start), 0.0)
        ahead = reader.own_count * (shard.end - position) / way if way > 0 else math.inf
        if ahead >= self._tuning.rows_ahead:
            await self._cut(reader, position, max(way / 50, 4 * span.resolution), shard.end, ahead)

    async def _cut(
        self, reader: PartitionReader[Any], position: float, step: float, end: float, ahead: float
    ) -> None:
        """Cut at the first place ahead of the reader, in growing steps, where the reader can be stopped."""
        shard, span = self._current.shard, self._span
        assert span is not None  # noqa: S101
        at = position + step
        while at + 4 * span.resolution < end:
            at = round(at, 6)
            if await reader.try_cut(at):
                cuts = [at, *even_cuts(at, end, self._pieces(ahead), span.resolution)]
                self._current.shard = await self._split(shard, cuts)
                return
            step *= 2
            at += step

    def _pieces(self, ahead: float) -> int:
        """The number of shards that so many conversations become."""
        most, rows = self._tuning.most_pieces, self._tuning.piece_rows
        return max(1, min(most, round(min(ahead, most * rows) / rows)))
