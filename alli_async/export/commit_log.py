"""The commit log of an export: what was planned and what became of each shard, one small JSON file each.

A run is a plan and one record for each of its shards: the shard was written, or it was split into others, which
have records in turn. What has no record never happened. So the shards that were written and the shards that are
pending cover the span of the plan, whatever happened in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from ..errors import ExportError
from .records import Commit, ExportSpec, Part, RunEnd, RunPlan, Shard, ShardRecord
from .storage.store import JOURNAL, MissingError, Store

RecordT = TypeVar("RecordT", bound=Struct)

# What stays of a run that was dropped.
_DROPPED = "dropped.json"


class ShardState:
    """The shards of a run and what became of each; plain values, no files."""

    def __init__(self, plan: RunPlan, records: Iterable[ShardRecord] = ()) -> None:
        self.plan = plan
        self.commits: dict[str, Commit] = {}
        self._pending = {shard.name: shard for shard in plan.shards}
        self._done: list[Shard] = []
        self._recorded: set[str] = set()
        check_cover(plan.shards, None, None)
        # A split comes before the records of the shards it made: their names are longer.
        for record in sorted(records, key=lambda each: each.shard.count(".")):
            self.apply(record)

    def apply(self, record: ShardRecord) -> None:
        """Note what became of a shard.

        Raises:
            ValueError: There is no such shard, it has a record already, or a split does not cover it.
        """
        shard = self._pending.get(record.shard)
        if shard is None or (record.commit is None) == (record.split is None):
            raise ValueError(f"shard {record.shard} is not pending")
        if record.split is not None:
            check_cover(record.split, shard.start, shard.end)
            self._pending.update((each.name, each) for each in record.split)
        elif record.commit is not None:
            self.commits[shard.name] = record.commit
            self._done.append(shard)
        del self._pending[shard.name]
        self._recorded.add(shard.name)

    def has_record(self, shard: str) -> bool:
        """Whether a shard was committed or split."""
        return shard in self._recorded

    @property
    def pending(self) -> list[Shard]:
        """The shards that are still to be written, in order of time; the open end is last."""
        return sorted(self._pending.values(), key=_place)

    @property
    def done(self) -> list[Shard]:
        """The shards that are committed, in order of time."""
        return sorted(self._done, key=_place)

    def check(self) -> None:
        """Make sure that the committed and the pending shards cover the span, without gap or overlap.

        Raises:
            ValueError: They do not.
        """
        check_cover([*self._done, *self._pending.values()], None, None)


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


class RunLog:
    """The records of a run in a store."""

    def __init__(self, store: Store, state: ShardState, complete: RunEnd | None = None) -> None:
        self._store = store
        self.state = state
        self.complete = complete

    @property
    def plan(self) -> RunPlan:
        """The plan of the run."""
        return self.state.plan

    @classmethod
    def begin(cls, store: Store, plan: RunPlan) -> RunLog:
        """Write the plan."""
        store.put_record(f"{_prefix(plan.run)}plan.json", _encode(plan))
        return cls(store, ShardState(plan))

    def record(self, record: ShardRecord) -> None:
        """Write what became of a shard, and apply it to the state."""
        self.write(record)
        self.state.apply(record)

    def write(self, record: ShardRecord) -> None:
        """Write what became of a shard; whoever reads the record applies it to the state."""
        self._store.put_record(f"{_prefix(self.plan.run)}shard-{record.shard}.json", _encode(record))

    def read_record(self, shard: str) -> ShardRecord | None:
        """The record of a shard, whoever wrote it; None when there is none."""
        name = f"{_prefix(self.plan.run)}shard-{shard}.json"
        try:
            return _decode(name, self._store.read(name), ShardRecord)
        except MissingError:
            return None

    def finish(self, complete: RunEnd) -> None:
        """Write that the run is complete."""
        self._store.put_record(f"{_prefix(self.plan.run)}complete.json", _encode(complete))
        self.complete = complete

    def forget(self) -> None:
        """Remove the records of a run that another has replaced; the plan is the last to go."""
        names = self._store.names(JOURNAL)
        prefix = _prefix(self.plan.run)
        kept = (f"{prefix}plan.json", f"{prefix}{_DROPPED}")
        for name in sorted(name for name in names if name.startswith(prefix) and name not in kept):
            self._store.remove(name)
        self._store.remove(f"{prefix}plan.json")

    def drop(self) -> None:
        """Remove the records of a run that ends here, and keep that there was one of its number."""
        dropped = [name for name in self._store.names(JOURNAL) if name.endswith(f"-{_DROPPED}")]
        self._store.put_record(f"{_prefix(self.plan.run)}{_DROPPED}", b"{}\n", replace=True)
        for name in dropped:
            if name < _prefix(self.plan.run):
                # The higher number says it all.
                self._store.remove(name)
        self.forget()

    @property
    def parts(self) -> list[Part]:
        """All parts that are committed."""
        commits = self.state.commits
        return [part for name in sorted(commits) for part in commits[name].parts]


def next_number(store: Store) -> int:
    """The number of the next run: higher than that of any there ever was.

    Whoever has seen parts of a run must not find others under its number, not even when it was dropped.
    """
    prefix = f"{JOURNAL}/run-"
    numbers = [
        name.removeprefix(prefix).partition("-")[0] for name in store.names(JOURNAL) if name.startswith(prefix)
    ]
    return 1 + max((int(number) for number in numbers if number.isdecimal()), default=0)


def load_runs(store: Store) -> list[RunLog]:
    """The runs in a store, oldest first.

    Raises:
        ExportError: A record that cannot be read.
    """
    records: dict[str, dict[str, bytes]] = {}
    prefix = f"{JOURNAL}/run-"
    names = [name for name in store.names(JOURNAL) if name.startswith(prefix) and name.endswith(".json")]
    for name, data in store.read_all(names).items():
        run, _, what = name.removeprefix(prefix).partition("-")
        records.setdefault(run, {})[what] = data
    return [_load(store, run, what) for run, what in sorted(records.items()) if "plan.json" in what]


def _load(store: Store, run: str, records: dict[str, bytes]) -> RunLog:
    place = f"{JOURNAL}/run-{run}"
    plan = _decode(place, records.pop("plan.json"), RunPlan)
    ended = records.pop("complete.json", None)
    records.pop(_DROPPED, None)
    complete = None if ended is None else _decode(place, ended, RunEnd)
    shards = [_decode(place, data, ShardRecord) for data in records.values()]
    try:
        return RunLog(store, ShardState(plan, shards), complete)
    except ValueError as error:
        raise ExportError(f"{store}: {place}: {error}") from None


def load_spec(store: Store) -> ExportSpec | None:
    """What a destination holds; None when it is new."""
    name = f"{JOURNAL}/export.json"
    return _decode(name, store.read(name), ExportSpec) if name in store.names(JOURNAL) else None


def write_spec(store: Store, spec: ExportSpec) -> None:
    """Write what a destination is to hold."""
    store.put_record(f"{JOURNAL}/export.json", _encode(spec))


def _prefix(run: int) -> str:
    return f"{JOURNAL}/run-{run:05}-"


def _encode(record: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def _decode(place: str, data: bytes, kind: type[RecordT]) -> RecordT:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise ExportError(f"{place}: not a record of this version: {error}") from None
