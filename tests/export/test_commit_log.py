"""The journal: whatever happens in whatever order, what is written and what is pending are the whole span."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import Struct, structs

from alli_async import ExportError
from alli_async.export.commit_log import (
    RunLog,
    ShardState,
    check_cover,
    decode_record,
    encode_record,
    read_destination,
    recover,
    split_of,
    write_spec,
)
from alli_async.export.records import Commit, ExportSpec, Part, Quarantined, RunPlan, Shard, ShardRecord
from alli_async.export.storage.directory import DirectoryStore, FileSink


class Killed(Exception):  # noqa: N818 - no error: somebody pulled the plug
    pass


class CrashingSink(FileSink):
    """A part whose process is killed before or after it becomes visible."""

    def __init__(self, path: Path, root: Path, step: int | None) -> None:
        super().__init__(path, root)
        self._step = step

    def commit(self, name: str) -> str:
        if self._step == 1:
            raise Killed
        super().commit(name)
        if self._step == 2:
            raise Killed
        return name

    def discard(self) -> None:
        """A killed process tidies nothing."""
        self._file.close()


class Crashing(DirectoryStore):
    """A directory whose process is killed at a chosen step of the next write."""

    step: int | None = None

    def sink(self, name: str) -> FileSink:
        sink = CrashingSink(self._root / name, self._root, self.step)
        if self.step == 0:
            sink.discard()
            raise Killed
        return sink


def plan(cuts: list[float]) -> RunPlan:
    bounds = [None, *cuts, None]
    shards = [
        Shard(name=f"{number:05}", start=start, end=end) for number, (start, end) in enumerate(pairwise(bounds))
    ]
    return RunPlan(run=1, kind="full", snapshot="2026-01-01T00:00:00+00:00", shards=shards)


def commit() -> Commit:
    return Commit(parts=[], conversations=1, chats=1, uncompressed_bytes=1)


def read_runs(store: DirectoryStore) -> list[RunLog]:
    """The runs in a store in which nothing is wrong."""
    found = read_destination(store, ())
    assert found.problems == []
    return [RunLog(store, state, end) for state, end in found.runs]


SPEC = ExportSpec(format="jsonl", compression="gzip", filters=[])


class Journal(RuleBasedStateMachine):
    """Commits, splits and crashes, in any interleaving, over files; and a process that reads them anew."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = Crashing(Path(self.folder.name))
        write_spec(self.store, SPEC)
        self.run = RunLog.begin(self.store, plan([100.0, 200.0, 300.0]))
        self.committed: set[str] = set()

    def teardown(self) -> None:
        self.folder.cleanup()

    @precondition(lambda self: self.run.state.pending)
    @rule(data=st.data(), step=st.sampled_from([None, None, 0, 1, 2]))
    def commit(self, data: st.DataObject, step: int | None) -> None:
        shard = data.draw(st.sampled_from(self.run.state.pending))
        if self.tell(ShardRecord(shard=shard.name, commit=commit()), step):
            self.committed.add(shard.name)

    @precondition(lambda self: any(each.end is not None for each in self.run.state.pending))
    @rule(data=st.data(), step=st.sampled_from([None, None, 0, 1, 2]))
    def split(self, data: st.DataObject, step: int | None) -> None:
        shard = data.draw(st.sampled_from([each for each in self.run.state.pending if each.end is not None]))
        assert shard.end is not None
        low = 0.0 if shard.start is None else shard.start
        shares = sorted(data.draw(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4, unique=True)))
        cuts = [low + (shard.end - low) * share for share in shares]
        if len({low, shard.end, *cuts}) == len(cuts) + 2:
            self.tell(ShardRecord(shard=shard.name, split=split_of(shard, cuts)), step)

    @rule()
    def resume(self) -> None:
        self.store = Crashing(Path(self.folder.name))
        self.store.sweep()
        (self.run,) = read_runs(self.store)

    def tell(self, record: ShardRecord, step: int | None) -> bool:
        """Whether it was noted."""
        self.store.step = step
        try:
            self.run.record(record)
        except Killed:
            self.resume()
            return step == 2
        finally:
            self.store.step = None
        return True

    @invariant()
    def the_span_is_covered(self) -> None:
        self.run.state.check()
        assert set(self.run.state.commits) == self.committed

    @invariant()
    def what_is_on_disk_says_the_same(self) -> None:
        (there,) = read_runs(DirectoryStore(Path(self.folder.name)))
        assert there.state.pending == self.run.state.pending
        assert there.state.commits.keys() == self.committed


TestJournal = Journal.TestCase
TestJournal.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


@pytest.mark.parametrize(
    "shards",
    [
        [],
        [Shard(name="a", end=1.0)],
        [Shard(name="a", end=1.0), Shard(name="b", start=2.0)],
        [Shard(name="a", end=2.0), Shard(name="b", start=1.0)],
        [Shard(name="a"), Shard(name="b", start=1.0)],
        [Shard(name="a", end=1.0), Shard(name="a", start=1.0)],
    ],
)
def test_gaps_overlaps_and_names_given_twice_are_seen(shards: list[Shard]) -> None:
    with pytest.raises(ValueError, match="shard"):
        check_cover(shards, None, None)


def test_a_shard_is_committed_or_split_once() -> None:
    state = ShardState(plan([1.0]))
    state.apply(ShardRecord(shard="00000", commit=commit()))
    for record in (
        ShardRecord(shard="00000", commit=commit()),
        ShardRecord(shard="00007", commit=commit()),
        ShardRecord(shard="00001"),
        ShardRecord(shard="00001", commit=commit(), split=[]),
        ShardRecord(shard="00001", split=[Shard(name="x", start=2.0)]),
    ):
        with pytest.raises(ValueError, match="shard"):
            state.apply(record)
    assert [shard.name for shard in state.pending] == ["00001"]


def test_a_record_is_written_once_and_readable_by_people(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    run = RunLog.begin(store, plan([1.0]))
    part = Part(name="conversations/x", rows=1, bytes=2, sha256="f")
    run.record(
        ShardRecord(shard="00000", commit=Commit(parts=[part], conversations=1, chats=0, uncompressed_bytes=9))
    )
    text = (tmp_path / "_journal" / "run-00001-shard-00000.json").read_text()
    assert '"name": "conversations/x"' in text
    with pytest.raises(ExportError, match="is there already"):
        RunLog.begin(store, plan([1.0]))


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"run": "x"}', b"\xff\xfe", b'{"shard": "9"}', b'{"shard": "00000", "of": 1}']
)
def test_a_file_that_is_no_record_is_named(tmp_path: Path, data: bytes) -> None:
    store = DirectoryStore(tmp_path)
    write_spec(store, SPEC)
    RunLog.begin(store, plan([1.0]))
    name = "_journal/run-00001-shard-00000.json"
    (tmp_path / name).write_bytes(data)
    (problem,) = read_destination(store, ()).problems
    assert (problem.kind, problem.file) == ("damaged", name)


def problems_of(run: int, records: dict[str, Struct]) -> list[tuple[str, str, str]]:
    """What recovery finds wrong in a log of one run."""
    content = {
        "_journal/export.json": SPEC,
        **{f"_journal/run-{run:05}-{name}": each for name, each in records.items()},
    }
    found = recover({name: encode_record(each) for name, each in content.items()}, {})
    return [(each.kind, each.file, each.why) for each in found.problems]


@pytest.mark.parametrize("other", ["00000", "00002"])
def test_a_record_under_the_name_of_another_shard_is_damaged(other: str) -> None:
    records = {"plan.json": plan([1.0, 2.0]), "shard-00001.json": ShardRecord(shard=other, commit=commit())}
    assert problems_of(1, records) == [
        ("damaged", "_journal/run-00001-shard-00001.json", f"is damaged: it is the record of shard {other}")
    ]


def test_a_piece_of_a_shard_that_was_never_split_names_the_record_that_is_missing() -> None:
    records = {"plan.json": plan([1.0]), "shard-00000.1.json": ShardRecord(shard="00000.1", commit=commit())}
    assert problems_of(1, records) == [("missing", "_journal/run-00001-shard-00000.json", "is missing")]


def test_a_record_of_a_shard_that_no_plan_knows_is_damaged_and_its_run_is_left_out() -> None:
    records = {"plan.json": plan([1.0]), "shard-00007.json": ShardRecord(shard="00007", commit=commit())}
    [(kind, file, why)] = problems_of(1, records)
    assert (kind, file) == ("damaged", "_journal/run-00001-shard-00007.json")
    assert why.startswith("is damaged: ")


@pytest.mark.parametrize("number", [2, 3, 7])
def test_a_first_run_that_is_incremental_names_the_plan_before_it(number: int) -> None:
    incremental = structs.replace(plan([]), run=number, kind="incremental")
    assert problems_of(number, {"plan.json": incremental}) == [
        (
            "missing",
            f"_journal/run-{number - 1:05}-plan.json",
            "is missing: the first run cannot be incremental",
        )
    ]


def test_files_that_are_no_records_are_left_alone(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    write_spec(store, SPEC)
    RunLog.begin(store, plan([1.0]))
    for name in ("notes.txt", "run-1-plan.json", "run-00001-plan.json.orig"):
        (tmp_path / "_journal" / name).write_text("mine", "utf-8")
    [run] = read_runs(store)
    assert [shard.name for shard in run.state.pending] == ["00000", "00001"]


def test_the_names_of_fields_on_disk_stay_where_the_attributes_have_others() -> None:
    written = Commit(
        parts=[],
        conversations=0,
        chats=0,
        uncompressed_bytes=0,
        own_count=3,
        quarantined=[Quarantined(why="bad", text="{}")],
    )
    stored = msgspec.json.decode(encode_record(written))
    assert (stored["own"], stored["quarantined"]) == (3, [{"why": "bad", "record": "{}"}])
    assert decode_record("x", encode_record(written), Commit) == written
