"""The journal of an export: what was planned and what became of it, a small JSON file each, written once.

A run is a plan and, for each of its shards, one record of its fate: it was written, or it was split into others,
whose fates are told in turn. What has no record never happened. So the shards that were written and those still
to be done cover the span of the plan, whatever happened in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct, field

from .._bulk.shards import Shard, Span
from ..errors import ExportError
from .stores import JOURNAL, MissingError, Store

Kind = Literal["full", "incremental", "compact"]
RecordT = TypeVar("RecordT", bound=Struct)

# What stays of a run that was dropped.
_DROPPED = "dropped.json"


class Binding(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a destination holds, and will always hold."""

    format_version: int = 1
    format: str
    compression: str
    filters: list[tuple[str, str]]


class Plan(Struct, kw_only=True, omit_defaults=True):
    """How a run is to be done.

    Attributes:
        run: Its number, from 1.
        kind: Everything, what is new, or what was there without what is superseded.
        snapshot: When it began, by the server's clock, as ISO 8601.
        high_water: The latest chat's time when it began, in the server's unit.
        since: Of an incremental run: the last chat's time from which conversations were asked for.
        again: Of an incremental run: conversations that earlier runs could not make whole.
        expected: About how many conversations there are, where that is known.
        span: None where the list is one shard.
        shards: They cover the whole span.
        ids: Of a few conversations, to know the project by.
        replaces: Of a compact run: the runs it takes the place of.
        sources: Of a compact run: what its shards are made of, in their order, like `2/00013`.
        sdk_version: Which planned it.
        requests: That planning took.
        retries: Of these.
    """

    run: int
    kind: Kind
    snapshot: str
    high_water: float | None = None
    since: float | None = None
    again: list[str] = field(default_factory=list)
    expected: int | None = None
    span: Span | None = None
    shards: list[Shard]
    ids: list[str] = field(default_factory=list)
    replaces: list[int] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    sdk_version: str = ""
    requests: int = 0
    retries: int = 0


class Part(Struct, kw_only=True):
    """A file, as it was written."""

    name: str
    rows: int
    bytes: int
    sha256: str


class Missing(Struct, kw_only=True):
    """A conversation that could not be made whole, and why."""

    id: str
    why: str


class Bad(Struct, kw_only=True, omit_defaults=True):
    """A record that could not be decoded, and why.

    Attributes:
        why: What is wrong with it, and where.
        id: The conversation's, where it could be read.
        record: As it came: a conversation, or a page of its chats.
    """

    why: str
    id: str | None = None
    record: str | None = None


class Commit(Struct, kw_only=True, omit_defaults=True):
    """A shard that was written."""

    parts: list[Part]
    conversations: int
    chats: int
    uncompressed_bytes: int
    incomplete: list[Missing] = field(default_factory=list)
    quarantined: list[Bad] = field(default_factory=list)
    requests: int = 0
    retries: int = 0
    seconds: float = 0.0


class Fate(Struct, kw_only=True, omit_defaults=True):
    """What became of a shard: exactly one of the two."""

    shard: str
    commit: Commit | None = None
    split: list[Shard] | None = None


class Complete(Struct, kw_only=True):
    """The end of a run."""

    run: int
    seconds: float
    finished: str


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


class Run:
    """A run in a store."""

    def __init__(self, store: Store, ledger: Ledger, complete: Complete | None = None) -> None:
        self._store = store
        self.ledger = ledger
        self.complete = complete

    @property
    def plan(self) -> Plan:
        """How it is to be done."""
        return self.ledger.plan

    @classmethod
    def begin(cls, store: Store, plan: Plan) -> Run:
        """Write the plan down."""
        store.put_record(f"{_prefix(plan.run)}plan.json", _encode(plan))
        return cls(store, Ledger(plan))

    def tell(self, fate: Fate) -> None:
        """Write down what became of a shard, and take it in."""
        self.write(fate)
        self.ledger.tell(fate)

    def write(self, fate: Fate) -> None:
        """Write down what became of a shard; the ledger is to be told by whoever reads it."""
        self._store.put_record(f"{_prefix(self.plan.run)}shard-{fate.shard}.json", _encode(fate))

    def fate_of(self, shard: str) -> Fate | None:
        """What is written down of a shard, by whomever; None when that is nothing."""
        name = f"{_prefix(self.plan.run)}shard-{shard}.json"
        try:
            return _decode(name, self._store.read(name), Fate)
        except MissingError:
            return None

    def finish(self, complete: Complete) -> None:
        """Write down that all is done."""
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
        commits = self.ledger.commits
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


def load_runs(store: Store) -> list[Run]:
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


def _load(store: Store, run: str, records: dict[str, bytes]) -> Run:
    place = f"{JOURNAL}/run-{run}"
    plan = _decode(place, records.pop("plan.json"), Plan)
    ended = records.pop("complete.json", None)
    records.pop(_DROPPED, None)
    complete = None if ended is None else _decode(place, ended, Complete)
    fates = [_decode(place, data, Fate) for data in records.values()]
    try:
        return Run(store, Ledger(plan, fates), complete)
    except ValueError as error:
        raise ExportError(f"{store}: {place}: {error}") from None


def load_binding(store: Store) -> Binding | None:
    """What a destination holds; None when it is new."""
    name = f"{JOURNAL}/export.json"
    return _decode(name, store.read(name), Binding) if name in store.names(JOURNAL) else None


def bind(store: Store, binding: Binding) -> None:
    """Write down what a destination is to hold."""
    store.put_record(f"{JOURNAL}/export.json", _encode(binding))


def _prefix(run: int) -> str:
    return f"{JOURNAL}/run-{run:05}-"


def _encode(record: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def _decode(place: str, data: bytes, kind: type[RecordT]) -> RecordT:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise ExportError(f"{place}: not a record of this version: {error}") from None
