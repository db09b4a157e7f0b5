"""A run's shards and their fates: what was written and what is still to be done cover the span of the plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from .records import Commit, Fate, Plan, Shard


class Ledger:
    """The shards of a run and their fates; plain values, no files."""

    def __init__(self, plan: Plan, fates: Iterable[Fate] = ()) -> None:
        self.plan = plan
        self.commits: dict[str, Commit] = {}
        self._open = {shard.name: shard for shard in plan.shards}
        self._done: list[Shard] = []
        self._told: set[str] = set()
        check_cover(plan.shards, None, None)
        # A split comes before the fates of what it made: their names are longer.
        for fate in sorted(fates, key=lambda each: each.shard.count(".")):
            self.tell(fate)

    def tell(self, fate: Fate) -> None:
        """Take in what became of a shard.

        Raises:
            ValueError: There is no such shard, it has a fate already, or a split does not cover it.
        """
        shard = self._open.get(fate.shard)
        if shard is None or (fate.commit is None) == (fate.split is None):
            raise ValueError(f"shard {fate.shard} is not one to be done")
        if fate.split is not None:
            check_cover(fate.split, shard.start, shard.end)
            self._open.update((each.name, each) for each in fate.split)
        elif fate.commit is not None:
            self.commits[shard.name] = fate.commit
            self._done.append(shard)
        del self._open[shard.name]
        self._told.add(shard.name)

    def knows(self, shard: str) -> bool:
        """Whether a shard's fate was told."""
        return shard in self._told

    @property
    def pending(self) -> list[Shard]:
        """What is still to be done, in order of time; the open end is last."""
        return sorted(self._open.values(), key=_place)

    @property
    def done(self) -> list[Shard]:
        """The shards that are written, in order of time."""
        return sorted(self._done, key=_place)

    def check(self) -> None:
        """Make sure that what was written and what is pending cover the span, without gap or overlap.

        Raises:
            ValueError: They do not.
        """
        check_cover([*self._done, *self._open.values()], None, None)


def check_cover(shards: Sequence[Shard], start: float | None, end: float | None) -> None:
    """Make sure that shards lie end to end from `start` to `end`.

    Raises:
        ValueError: They do not.
    """
    at = start
    ordered = sorted(shards, key=_place)
    for number, shard in enumerate(ordered):
        if shard.start != at or (shard.end is None and number < len(ordered) - 1):
            raise ValueError(f"shard {shard.name} begins at {shard.start}, not at {at}")
        at = shard.end
    if not ordered or at != end or len({shard.name for shard in ordered}) < len(ordered):
        raise ValueError(f"the shards end at {at}, not at {end}")


def split_of(shard: Shard, cuts: Sequence[float], expected: int | None = None) -> list[Shard]:
    """The shards that a shard becomes when it is cut, by names that follow from its own."""
    bounds = [shard.start, *cuts, shard.end]
    return [
        Shard(name=f"{shard.name}.{number}", start=start, end=end, expected=expected)
        for number, (start, end) in enumerate(pairwise(bounds), 1)
    ]


def _place(shard: Shard) -> tuple[float, float]:
    low, high = float("-inf"), float("inf")
    return low if shard.start is None else shard.start, high if shard.end is None else shard.end
