"""A destination: its spec, its runs, and the check that its files are what the commit log says."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import Any, TypeVar

from msgspec import structs

from .._listing.seen import digest
from ..errors import ConfigurationError, ExportError
from .commit_log import (
    DATA_SUFFIXES,
    SPEC,
    Problem,
    Recovered,
    RunLog,
    load_spec,
    read_destination,
    write_spec,
)
from .holdings import Holdings
from .manifest import manifest_files
from .outstanding import deleted_in
from .reading import DamagedError, check_part, ids_in, versions_of
from .records import READABLE_VERSIONS, Commit, ExportSpec, RunEnd
from .storage.directory import DirectoryStore
from .storage.store import JOURNAL, Store

ItemT = TypeVar("ItemT")

FOLDERS = ("conversations", "chats")
# The filters that bound a time, by their names on the wire, and their arguments.
_TIMES = {
    "firstChatStartedAt": "first_chat_started_at",
    "firstChatEndAt": "first_chat_end_at",
    "startedAt": "started_at",
    "endAt": "end_at",
}
# Number of parts that are read for a sample of ids: each is read as a whole.
_SAMPLED_PARTS = 8


class Destination:
    """The content of a store that this process has locked. The methods block and are meant for a worker thread.

    Attributes:
        store: The destination of the files.
        spec: The spec of the destination; None when it is new.
        runs: The runs whose parts count, oldest first.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.spec: ExportSpec | None = None
        self.runs: list[RunLog] = []
        self._read_versions: dict[str, bytes] = {}

    def exists(self) -> bool:
        """Whether an export has begun here. Nothing is read but names."""
        return SPEC in self.store.names(JOURNAL)

    def open(self, asked: ExportSpec) -> None:
        """Check that the destination holds the export that was asked for, and remove what a killed process left.

        Raises:
            ConfigurationError: It holds another export; the message shows both.
            ExportError: Parts or records are not what they were.
        """
        self._check_spec(asked)
        self.load()

    def open_read_only(self, asked: ExportSpec) -> None:
        """Check that the destination holds the export that was asked for, and change nothing.

        Raises:
            ConfigurationError: As from `open`.
            ExportError: As from `open`.
        """
        self._check_spec(asked)
        self._use(self._read())

    def load(self) -> None:
        """Read the log, and remove what a killed process left, as far as records explain it.

        Raises:
            ExportError: Parts or records are not what they were; nothing was removed then.
        """
        found = self._read()
        self._use(found)
        self.store.sweep()
        for name in found.leftovers:
            self.store.remove(name)

    def _read(self) -> Recovered:
        found = read_destination(self.store, FOLDERS)
        if found.problems:
            raise ExportError(refusal(self.store, found.problems))
        return found

    def _use(self, found: Recovered) -> None:
        self.spec = found.spec
        self.runs = [RunLog(self.store, state, end) for state, end in found.runs]

    def begin(self, asked: ExportSpec) -> None:
        """Write the spec of a new destination.

        Raises:
            ExportError: It holds files that would be taken for parts.
        """
        if self.spec is None:
            for name in (name for folder in FOLDERS for name in self.store.names(folder)):
                if name.endswith(DATA_SUFFIXES):
                    raise ExportError(f"{self.store} holds {name}, which is not this export's; choose another")
            write_spec(self.store, asked)
            self.spec = asked

    def _check_spec(self, asked: ExportSpec) -> None:
        held = load_spec(self.store)
        if held is None:
            return
        if held.format_version not in READABLE_VERSIONS:
            raise ExportError(
                f"{self.store} is of format {held.format_version}, which is not known here; update alli-async"
            )
        if structs.replace(held, format_version=asked.format_version) != asked:
            raise ConfigurationError(
                f"{self.store} holds another export: {_shown(held)}; asked for was: {_shown(asked)}"
                f"{_how_to_go_on(held, asked)}"
            )

    @property
    def unfinished(self) -> RunLog | None:
        """The run that is to be resumed."""
        return self.runs[-1] if self.runs and self.runs[-1].complete is None else None

    @property
    def complete_runs(self) -> list[RunLog]:
        """The runs that are complete."""
        return [run for run in self.runs if run.complete is not None]

    def drop_compaction(self) -> None:
        """Remove an unfinished compaction. The parts that it was made of are all still there."""
        run = self.unfinished
        if run is None or run.plan.kind != "compact":
            return
        prefixes = tuple(f"{folder}/run-{run.plan.run:05}-shard-" for folder in FOLDERS)
        for name in (name for folder in FOLDERS for name in self.store.names(folder)):
            if name.startswith(prefixes):
                self.store.remove(name)
        run.drop()
        self.runs.remove(run)

    def finish(self, run: RunLog, end: RunEnd) -> None:
        """Record the end of a run whose shards cover the plan, and write the manifest.

        Raises:
            ExportError: A shard is not written, or the shards do not cover the plan.
        """
        try:
            run.state.check()
            if run.state.pending:
                raise ValueError(f"shard {run.state.pending[0].name} is not written")
        except ValueError as error:
            raise ExportError(f"{self.store}: run {run.plan.run} is not complete: {error}") from None
        found = self._read()
        run.finish(end)
        if run.plan.replaces:
            # Nothing points to what is replaced any more. The manifest comes first: it names what stays.
            self.runs = [run]
            self.write_manifest()
            self.load()
            return
        # A worker that was killed may have left something half written.
        self.store.sweep()
        for name in found.leftovers:
            self.store.remove(name)
        self.write_manifest()

    def check_parts(self, stop: threading.Event) -> None:
        """Check that every part is what was written, for a call that has nothing else to do.

        Parts in an object store are left to `verify`: they would all have to be fetched.

        Args:
            stop: Set when the reading is to stop.

        Raises:
            ExportError: A part is damaged.
        """
        parts = [part for run in self.runs for part in run.parts] if isinstance(self.store, DirectoryStore) else []
        for part in parts:
            if stop.is_set():
                return
            try:
                check_part(self.store, part)
            except DamagedError as error:
                raise ExportError(refusal(self.store, [Problem("damaged", error.part, error.why)])) from None

    def holdings(self) -> Holdings:
        """The conversations in the parts of complete runs."""
        return Holdings([self._versions(each) for each in _commits_of(self.complete_runs)])

    def all_holdings(self) -> Holdings:
        """The conversations in all parts, those of an unfinished run too."""
        return Holdings([self._versions(each) for each in _commits_of(self.runs)])

    def sample_ids(self, count: int) -> list[str]:
        """Ids of about so many conversations, spread over the parts of all runs, the newest parts first.

        Args:
            count: Number of ids to give; fewer where there are not so many.
        """
        commits = _spread([each for each in reversed(_commits_of(self.runs)) if each.parts], _SAMPLED_PARTS)
        found: dict[str, None] = {}
        for commit in commits:
            # A damaged part gives no ids here; the code that needs its content reports the damage.
            with contextlib.suppress(DamagedError):
                found.update(dict.fromkeys(_spread(ids_in(self.store, commit), -(-count // len(commits)))))
        return list(found)

    def _versions(self, commit: Commit) -> bytes:
        """The entries of a commit; those of earlier formats have to be read from its parts, once."""
        if commit.written or not commit.parts:
            return commit.written
        name = commit.parts[0].name
        if name not in self._read_versions:
            self._read_versions[name] = versions_of(self.store, commit)
        return self._read_versions[name]

    def write_manifest(self) -> None:
        """Write the manifest and what belongs to it, where they are not what the log says already."""
        runs, spec = self.complete_runs, self.spec
        if spec is None or not runs:
            raise ExportError(f"{self.store} holds no complete export")
        for name, data in manifest_files(spec, runs, self.holdings()).items():
            self._put(name, data)

    def _put(self, name: str, data: bytes) -> None:
        is_there = name in self.store.names("")
        if is_there and self.store.read(name) == data:
            return
        if data:
            self.store.put_record(name, data, replace=True)
        elif is_there:
            self.store.remove(name)


class EarlierVersions:
    """The conversations that the complete runs of a destination have written, for the next run.

    Args:
        destination: The destination.

    Attributes:
        holdings: The conversations that are there.
    """

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._runs = destination.complete_runs
        self.holdings = destination.holdings()

    def absent_from(self, met: Holdings) -> list[str]:
        """The ids of the conversations that are not among these, and are not known to be deleted."""
        absent = self.holdings.keys_not_in(met) - {digest(each) for each in deleted_in(self._runs)}
        found: dict[str, None] = {}
        for run in self._runs if absent else ():
            for commit in run.state.commits.values():
                if not absent.isdisjoint(Holdings([self._destination._versions(commit)]).keys()):
                    ids = ids_in(self._destination.store, commit)
                    found.update(dict.fromkeys(each for each in ids if digest(each) in absent))
        return list(found)


def refusal(place: object, problems: list[Problem]) -> str:
    """The error line for a destination with problems: it names the first file, and what to do."""
    first = problems[0]
    more = f" (and {len(problems) - 1:,} more: alli-async verify)" if len(problems) > 1 else ""
    advice = {
        "missing": "put it back from a copy, or export to another directory",
        "damaged": "put it back from a copy, or export to another directory",
        "unexplained": "move it away if it is not of this export, or put its records back from a copy",
    }[first.kind]
    return f"{place}: {first.file} {first.why}{more}; nothing was changed; {advice}"


def _commits_of(runs: Sequence[RunLog]) -> list[Commit]:
    """The commits of runs, oldest first."""
    return [run.state.commits[name] for run in runs for name in sorted(run.state.commits)]


def _spread(items: Sequence[ItemT], count: int) -> Sequence[ItemT]:
    """So many items, evenly spread, the first one among them."""
    return items[:: max(1, -(-len(items) // count))]


def _how_to_go_on(held: ExportSpec, asked: ExportSpec) -> str:
    """The times to give in place of those that were asked for; empty where other things differ too.

    A relative time is another one at each run, so a command that is repeated asks for another export.
    """
    others = [
        structs.replace(each, format_version=0, filters=[pair for pair in each.filters if pair[0] not in _TIMES])
        for each in (held, asked)
    ]
    if others[0] != others[1]:
        return ""
    there, given = dict(held.filters), dict(asked.filters)
    times = [
        f"{name} {there[wire_name]}" if wire_name in there else f"no {name}"
        for wire_name, name in _TIMES.items()
        if there.get(wire_name) != given.get(wire_name)
    ]
    return f"; to go on with the export that is there, give {' and '.join(times)}"


def _shown(spec: ExportSpec) -> str:
    filters = " ".join(f"{name}={value}" for name, value in spec.filters) or "no filters"
    return f"{spec.format}, {spec.compression}, {filters}, {spec.fields}"


def as_text(value: Any) -> str:
    """Return a filter's value as text for the spec."""
    return str(value if isinstance(value, str) else value.isoformat())
