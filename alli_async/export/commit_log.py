"""The commit log of an export: the plan of each run and the result of each shard, one small JSON file each.

A run is a plan and one record for each of its shards: the shard was written, or it was split into others, which
have records in turn. A shard without a record never happened. So the shards that were written and the shards that
are pending cover the span of the plan, whatever happened in between.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from itertools import pairwise
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct, field

from ..errors import ExportError
from .records import Commit, ExportSpec, Part, RunEnd, RunPlan, Shard, ShardRecord
from .storage.store import JOURNAL, MissingError, Store

RecordT = TypeVar("RecordT", bound=Struct)

SPEC = f"{JOURNAL}/export.json"
# The end of the name of the file that stays of a dropped run. It holds nothing, so it has no checksum.
_DROPPED = "dropped.json"
_RECORD = re.compile(rf"{JOURNAL}/run-(\d{{5,}})-(plan\.json|complete\.json|dropped\.json|shard-[\d.]+\.json)$")
# Behind the shard's name an attempt may have a mark of its own.
_PART = re.compile(
    r"(?:conversations|chats)/run-(\d{5,})-shard-(\d{5}(?:\.\d+)*)(?:-[0-9a-f]+)*(?:\.[a-z][a-z0-9]*)+$"
)
# Files that a reader of the export takes for parts.
DATA_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet", ".csv", ".csv.gz", ".csv.zst")
_CHECK = b"checksum"


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
        """Apply the record of a shard.

        Raises:
            ValueError: The shard is not pending, or a split does not cover it.
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

    def is_pending(self, shard: str) -> bool:
        """Whether a shard is still to be written."""
        return shard in self._pending

    @property
    def parts(self) -> list[Part]:
        """All parts that are committed."""
        return [part for name in sorted(self.commits) for part in self.commits[name].parts]

    @property
    def pending(self) -> list[Shard]:
        """The shards that are still to be written, in order of time; the open end is last."""
        return sorted(self._pending.values(), key=_place)

    @property
    def done(self) -> list[Shard]:
        """The shards that are committed, in order of time."""
        return sorted(self._done, key=_place)

    def check(self) -> None:
        """Check that the committed and the pending shards cover the span, without gap or overlap.

        Raises:
            ValueError: There is a gap or an overlap.
        """
        check_cover([*self._done, *self._pending.values()], None, None)


def check_cover(shards: Sequence[Shard], start: float | None, end: float | None) -> None:
    """Check that shards lie end to end from `start` to `end`.

    Raises:
        ValueError: There is a gap or an overlap.
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
        store.put_record(f"{_prefix(plan.run)}plan.json", encode_record(plan))
        return cls(store, ShardState(plan))

    def record(self, record: ShardRecord) -> None:
        """Write the record of a shard, and apply it to the state."""
        self.write(record)
        self.state.apply(record)

    def write(self, record: ShardRecord) -> None:
        """Write the record of a shard. The caller applies it to the state."""
        self._store.put_record(f"{_prefix(self.plan.run)}shard-{record.shard}.json", encode_record(record))

    def read_record(self, shard: str) -> ShardRecord | None:
        """The record of a shard, by any process; None when there is none."""
        name = f"{_prefix(self.plan.run)}shard-{shard}.json"
        try:
            return decode_record(name, self._store.read(name), ShardRecord)
        except MissingError:
            return None

    def finish(self, complete: RunEnd) -> None:
        """Write that the run is complete."""
        self._store.put_record(f"{_prefix(self.plan.run)}complete.json", encode_record(complete))
        self.complete = complete

    def forget(self) -> None:
        """Remove the records of a run that another run has replaced, the plan last."""
        names = self._store.names(JOURNAL)
        prefix = _prefix(self.plan.run)
        kept = (f"{prefix}plan.json", f"{prefix}{_DROPPED}")
        for name in sorted(name for name in names if name.startswith(prefix) and name not in kept):
            self._store.remove(name)
        self._store.remove(f"{prefix}plan.json")

    def drop(self) -> None:
        """Remove the records of a run, and leave a `dropped.json` so that its number is never used again."""
        dropped = [name for name in self._store.names(JOURNAL) if name.endswith(f"-{_DROPPED}")]
        self._store.put_record(f"{_prefix(self.plan.run)}{_DROPPED}", b"{}\n", replace=True)
        for name in dropped:
            if name < _prefix(self.plan.run):
                # The next number is above the highest one, so one such file is enough.
                self._store.remove(name)
        self.forget()

    @property
    def parts(self) -> list[Part]:
        """All parts that are committed."""
        return self.state.parts


def next_number(store: Store) -> int:
    """The number of the next run, which no run has had before.

    A reader that has seen parts of a run must not find other parts under its number, even if it was dropped.
    """
    numbers = [match for name in store.names(JOURNAL) if (match := _RECORD.match(name))]
    return 1 + max((int(match[1]) for match in numbers), default=0)


# --- recovery: from what is on disk to a state, or to what is wrong with it ---------------------------------


class Problem(Struct, frozen=True):
    """A file that keeps a destination from being what its log says.

    Attributes:
        kind: `"damaged"`: its content is not what was written. `"missing"`: it was written and is not there.
            `"unexplained"`: no record tells what it is.
        file: The file's name in the destination.
        why: What is wrong with it, in one clause that begins with a verb.
    """

    kind: Literal["damaged", "missing", "unexplained"]
    file: str
    why: str


class Recovered(Struct, kw_only=True):
    """The state of a destination, recovered from its content.

    Attributes:
        spec: The spec of the destination; None when it is new.
        runs: The runs whose parts count, oldest first; the last one may be unfinished.
        leftovers: Parts and records that a record explains, and that are of no use any more, in the order in
            which they may be removed.
        problems: What is wrong. Where there is anything, nothing may be written or removed.
    """

    spec: ExportSpec | None = None
    runs: list[tuple[ShardState, RunEnd | None]] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def recover(records: Mapping[str, bytes], files: Mapping[str, int]) -> Recovered:
    """Recover the state of a destination. It is a function of the content alone, and changes nothing.

    Args:
        records: The content of the files of the log, by their names.
        files: The sizes of the files where parts are, by their names.
    """
    return _Recovery(records, files).run()


class _Recovery:
    """A recovery: it reads the log, then compares the parts with it."""

    def __init__(self, records: Mapping[str, bytes], files: Mapping[str, int]) -> None:
        self.result = Recovered()
        self._records = records
        self._files = files
        self._by_run: dict[int, dict[str, str]] = {}
        self._replaced: set[int] = set()
        for name in sorted(records):
            if match := _RECORD.match(name):
                self._by_run.setdefault(int(match[1]), {})[match[2]] = name

    def run(self) -> Recovered:
        """Read the log, and compare the parts with it."""
        self._read_spec()
        loaded = {number: self._load(number) for number in sorted(self._by_run)}
        known = [run for run in loaded.values() if run is not None]
        self._replaced = {number for state, end in known if end is not None for number in state.plan.replaces}
        self.result.problems = [each for each in self.result.problems if not self._is_replaced(each.file)]
        self.result.runs = [run for run in known if run[0].plan.run not in self._replaced]
        self._check_order()
        if self.result.spec is not None or self._by_run:
            self._check_parts()
        self._add_replaced_records()
        return self.result

    def _add_replaced_records(self) -> None:
        """Add the records of the runs that a compaction replaces to the leftovers."""
        for number in sorted(self._replaced & self._by_run.keys()):
            # The plan is removed last: as long as it is there, it explains the other records.
            names = self._by_run[number]
            kept = {"plan.json", _DROPPED}
            self.result.leftovers += [names[each] for each in sorted(names.keys() - kept)]
            self.result.leftovers += [names["plan.json"]] if "plan.json" in names else []

    def _problem(self, kind: Literal["damaged", "missing", "unexplained"], file: str, why: str) -> None:
        self.result.problems.append(Problem(kind, file, why))

    def _is_replaced(self, file: str) -> bool:
        match = _RECORD.match(file)
        return match is not None and int(match[1]) in self._replaced

    def _decode(self, name: str, kind: type[RecordT]) -> RecordT | None:
        try:
            return decode_record(name, self._records[name], kind)
        except ExportError as error:
            self._problem("damaged", name, f"is damaged: {error.message}")
            return None

    def _read_spec(self) -> None:
        if SPEC in self._records:
            self.result.spec = self._decode(SPEC, ExportSpec)
        elif self._by_run:
            self._problem("missing", SPEC, "is missing")

    def _load(self, number: int) -> tuple[ShardState, RunEnd | None] | None:
        names = self._by_run[number]
        if "plan.json" not in names:
            if names.keys() - {_DROPPED}:
                self._problem(
                    "missing", f"{_prefix(number)}plan.json", "is missing, and other records of its run are not"
                )
            return None
        plan = self._decode(names["plan.json"], RunPlan)
        end = self._decode(names["complete.json"], RunEnd) if "complete.json" in names else None
        shards = [name for what, name in names.items() if what.startswith("shard-")]
        found = [record for name in shards if (record := self._shard_record(name)) is not None]
        if plan is None or len(found) < len(shards):
            return None
        try:
            datetime.fromisoformat(plan.snapshot)
            state = ShardState(plan)
        except ValueError as error:
            self._problem("damaged", names["plan.json"], f"is damaged: {error}")
            return None
        is_whole = self._apply(state, found)
        if end is not None:
            for shard in state.pending:
                self._problem(
                    "missing", f"{_prefix(number)}shard-{shard.name}.json", "is missing from a complete run"
                )
            is_whole = is_whole and not state.pending
        return (state, end) if is_whole else None

    def _shard_record(self, name: str) -> ShardRecord | None:
        record = self._decode(name, ShardRecord)
        if record is not None and name != f"{name.partition('shard-')[0]}shard-{record.shard}.json":
            self._problem("damaged", name, f"is damaged: it is the record of shard {record.shard}")
            return None
        return record

    def _apply(self, state: ShardState, records: Iterable[ShardRecord]) -> bool:
        """Apply the records of a run; a split comes before the records of the shards it made."""
        for record in sorted(records, key=lambda each: each.shard.count(".")):
            name = f"{_prefix(state.plan.run)}shard-{record.shard}.json"
            parent = record.shard.rpartition(".")[0]
            try:
                state.apply(record)
            except ValueError as error:
                if parent and not state.has_record(parent):
                    self._problem("missing", f"{_prefix(state.plan.run)}shard-{parent}.json", "is missing")
                else:
                    self._problem("damaged", name, f"is damaged: {error}")
                return False
        return True

    def _check_order(self) -> None:
        """A run begins only when the one before it is complete, and everything begins with a whole run."""
        runs = self.result.runs
        for state, end in runs[:-1]:
            if end is None:
                self._problem(
                    "missing", f"{_prefix(state.plan.run)}complete.json", "is missing, and a later run is there"
                )
        numbers = {number for number in self._by_run if number not in self._replaced}
        for state, _ in runs:
            before = state.plan.previous
            if before is not None and before not in numbers | self._replaced:
                self._problem(
                    "missing", f"{_prefix(before)}plan.json", f"is missing: run {state.plan.run} came after it"
                )
        if runs and runs[0][0].plan.kind == "incremental" and not self.result.problems:
            before = runs[0][0].plan.run - 1
            self._problem(
                "missing", f"{_prefix(before)}plan.json", "is missing: the first run cannot be incremental"
            )

    def _check_parts(self) -> None:
        recorded: set[str] = set()
        for state, end in self.result.runs:
            if state.plan.kind == "compact" and end is None:
                continue  # it is dropped, whatever is there of it
            for part in state.parts:
                recorded.add(part.name)
                size = self._files.get(part.name)
                if size is None:
                    self._problem("missing", part.name, "is gone")
                elif size != part.bytes:
                    self._problem("damaged", part.name, f"has {size:,} bytes, not {part.bytes:,}")
        states = {state.plan.run: state for state, _ in self.result.runs}
        for name in sorted(self._files.keys() - recorded):
            self._classify(name, states)

    def _classify(self, name: str, states: Mapping[int, ShardState]) -> None:
        """Find out what a part without a record is: a leftover, a part being written, or a problem."""
        match = _PART.match(name)
        if match is None:
            if name.endswith(DATA_SUFFIXES):
                self._problem("unexplained", name, "is explained by no record")
            return
        number, shard = int(match[1]), match[2]
        state = states.get(number)
        if number in self._replaced:
            self.result.leftovers.append(name)
        elif state is None:
            if number not in self._by_run or not self.result.problems:
                self._problem("unexplained", name, f"is explained by no record: there is none of run {number}")
        elif state.has_record(shard):
            # An attempt at a shard that another attempt has written, or split.
            self.result.leftovers.append(name)
        elif not state.is_pending(shard):
            self._problem("unexplained", name, f"is explained by no record: run {number} has no shard {shard}")
        # Else the process was killed, or is at work, between the part and its record: the shard is written again.


# --- reading and writing records ----------------------------------------------------------------------------


def read_destination(store: Store, folders: Iterable[str]) -> Recovered:
    """Recover the state of the destination in a store."""
    found = [name for name in store.names(JOURNAL) if name == SPEC or _RECORD.match(name)]
    records = store.read_all(found)
    return recover(records, {name: size for folder in folders for name, size in store.names(folder).items()})


def load_spec(store: Store) -> ExportSpec | None:
    """The spec of a destination; None when it is new."""
    return decode_record(SPEC, store.read(SPEC), ExportSpec) if SPEC in store.names(JOURNAL) else None


def write_spec(store: Store, spec: ExportSpec) -> None:
    """Write the spec of a destination."""
    store.put_record(SPEC, encode_record(spec))


def _prefix(run: int) -> str:
    return f"{JOURNAL}/run-{run:05}-"


def encode_record(record: Struct) -> bytes:
    """A record as it is stored: JSON that people can read, whose first field is a checksum of the rest."""
    body = msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"
    rest = body[body.index(b"\n") + 1 :]
    return b'{\n "%b": "%b",\n%b' % (_CHECK, _checksum(rest), rest)


def decode_record(place: str, data: bytes, kind: type[RecordT]) -> RecordT:
    """Decode a record, and compare it with its checksum; records of earlier formats have none.

    Raises:
        ExportError: It is not what was written, or of a format that this version does not know.
    """
    head, _, rest = data.partition(b",\n")
    if head.startswith(b'{\n "%b": "' % _CHECK):
        if head != b'{\n "%b": "%b"' % (_CHECK, _checksum(rest)):
            raise ExportError(f"{place}: not a record as it was written: its checksum is another")
        data = b"{" + rest
    try:
        return msgspec.json.decode(data, type=kind)
    except ValueError as error:  # msgspec's own, and that of bytes that are no UTF-8
        raise ExportError(f"{place}: not a record of this version: {error}") from None


def _checksum(data: bytes) -> bytes:
    return blake2b(data, digest_size=8).hexdigest().encode()
