"""The journal of an export: what was planned and what became of it, a small JSON file each, written once.

A run is a plan and, for each of its shards, one record of its fate: it was written, or it was split into others,
whose fates are told in turn. What has no record never happened. So the shards that were written and those still
to be done cover the span of the plan, whatever happened in between.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from ..errors import ExportError
from .ledger import Ledger
from .records import Binding, Complete, Fate, Part, Plan
from .storage.store import JOURNAL, MissingError, Store

RecordT = TypeVar("RecordT", bound=Struct)

# What stays of a run that was dropped.
_DROPPED = "dropped.json"


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
