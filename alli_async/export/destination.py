"""A destination: what it is bound to, the runs in it, and that its parts are what the journal says."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct

from .._version import __version__
from ..errors import ConfigurationError, ExportError
from .commit_log import RunLog, load_runs, load_spec, write_spec
from .incomplete import missing_in
from .records import ExportSpec, Incomplete, Part, RunEnd
from .storage.store import Store

FOLDERS = ("conversations", "chats")
_OURS = re.compile(r"(?:conversations|chats)/run-(\d{5,})-shard-")
_DATA = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")


class RunSummary(Struct, kw_only=True):
    """A run, in the manifest."""

    run: int
    kind: str
    snapshot: str
    since: float | None
    finished: str
    seconds: float
    conversations: int
    chats: int
    requests: int
    retries: int


class Manifest(Struct, kw_only=True):
    """What a complete export holds. It is written last, and made of the journal alone.

    Attributes:
        complete: The shards of every run were written and cover its whole span.
        snapshot: When the latest run began, by the server's clock: what was there then is here.
        span: The first chat times that were covered, in the server's unit; the ends are open.
        conversations: Rows in all parts; of two of one conversation the one of the higher run holds.
    """

    format_version: int
    sdk_version: str
    complete: bool
    format: str
    compression: str
    filters: list[tuple[str, str]]
    snapshot: str
    span: list[float] | None
    conversations: int
    chats: int
    bytes: int
    uncompressed_bytes: int
    requests: int
    retries: int
    seconds: float
    quarantined: int
    incomplete: list[Incomplete]
    runs: list[RunSummary]
    parts: list[Part]


class Destination:
    """A store that is held, and what stands in it. The methods block and are meant for a worker thread."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.runs: list[RunLog] = []

    def open(self, asked: ExportSpec) -> None:
        """Remove what a killed process left, and see that what is there is what was asked for.

        Raises:
            ConfigurationError: It holds another export; the message shows both.
            ExportError: Parts or records are not what they were.
        """
        self._check_binding(asked)
        self.load()

    def look(self, asked: ExportSpec) -> None:
        """The same, without a change to anything.

        Raises:
            ConfigurationError: As from `open`.
            ExportError: As from `open`.
        """
        self._check_binding(asked)
        self._read()
        self._check_known(self._found())

    def load(self) -> None:
        """Remove what a killed process left, and read the journal."""
        self.store.sweep()
        replaced = self._read()
        self.check_parts()
        for run in replaced:
            run.forget()

    def _read(self) -> list[RunLog]:
        """Read the journal; gives the runs whose records are left although another has replaced them."""
        runs = load_runs(self.store)
        replaced = {number for run in runs if run.complete for number in run.plan.replaces}
        self.runs = [run for run in runs if run.plan.run not in replaced]
        return [run for run in runs if run.plan.run in replaced]

    def check_parts(self) -> None:
        """Remove parts that were not committed; see that the others are there, as long as they were.

        In a run with shards to be done a part may have been written this moment, to be committed the next, by a
        process that was given up for dead. Once every shard has its record nothing can be committed any more.
        """
        going_on = {run.plan.run for run in self.runs if run.state.pending}
        found = self._found()
        for name in found.keys() - self._known().keys():
            if (ours := _OURS.match(name)) and int(ours[1]) not in going_on:
                self.store.remove(name)
        self._check_known(found)

    def _known(self) -> dict[str, int]:
        return {part.name: part.bytes for run in self.runs for part in run.parts}

    def _found(self) -> dict[str, int]:
        return {name: size for folder in FOLDERS for name, size in self.store.names(folder).items()}

    def _check_known(self, found: dict[str, int]) -> None:
        for name, size in self._known().items():
            if found.get(name) != size:
                state = "is gone" if name not in found else f"has {found[name]:,} bytes, not {size:,}"
                raise ExportError(f"{self.store}: {name} {state}; export to another directory, or put it back")

    def begin(self, asked: ExportSpec) -> None:
        """Bind a new destination.

        Raises:
            ExportError: It holds files that would be taken for parts.
        """
        if load_spec(self.store) is None:
            for name in (name for folder in FOLDERS for name in self.store.names(folder)):
                if name.endswith(_DATA):
                    raise ExportError(f"{self.store} holds {name}, which is not this export's; choose another")
            write_spec(self.store, asked)

    def _check_binding(self, asked: ExportSpec) -> None:
        held = load_spec(self.store)
        if held is not None and held != asked:
            raise ConfigurationError(
                f"{self.store} holds another export: {_shown(held)}; asked for was: {_shown(asked)}"
            )

    @property
    def unfinished(self) -> RunLog | None:
        """The run that is to be gone on with."""
        return self.runs[-1] if self.runs and self.runs[-1].complete is None else None

    def drop(self, run: RunLog) -> None:
        """Remove an unfinished run, as if it had never been."""
        for part in run.parts:
            self.store.remove(part.name)
        run.drop()
        self.runs.remove(run)
        self.check_parts()

    def finish(self, run: RunLog, complete: RunEnd) -> None:
        """End a run: everything is there, and covers what was planned; then the manifest says so.

        Raises:
            ExportError: It is not.
        """
        try:
            run.state.check()
            if run.state.pending:
                raise ValueError(f"shard {run.state.pending[0].name} is not done")
        except ValueError as error:
            raise ExportError(f"{self.store}: run {run.plan.run} is not complete: {error}") from None
        self.check_parts()
        run.finish(complete)
        if run.plan.replaces:
            self.runs = [run]
        self.write_manifest()
        # Nothing points to what is replaced any more.
        self.load()

    def write_manifest(self) -> None:
        """Write the quarantine and the manifest, where they are not what the journal says already."""
        self._put("quarantine.jsonl", self._quarantine(), needed=False)
        manifest = msgspec.json.format(msgspec.json.encode(self.manifest()), indent=1) + b"\n"
        self._put("manifest.json", manifest, needed=True)

    def _put(self, name: str, data: bytes, *, needed: bool) -> None:
        there = name in self.store.names("")
        if there and self.store.read(name) == data:
            return
        if data or needed:
            self.store.put_record(name, data, replace=True)
        elif there:
            self.store.remove(name)

    def _quarantine(self) -> bytes:
        """What could not be decoded, a line each."""
        found: dict[bytes, None] = {}
        for run in self.runs:
            for commit in run.state.commits.values():
                found.update((msgspec.json.encode(bad) + b"\n", None) for bad in commit.quarantined)
        return b"".join(found)

    def manifest(self) -> Manifest:
        """What the journal says, in one."""
        held = load_spec(self.store)
        ended = [run for run in self.runs if run.complete is not None]
        if held is None or not ended:
            raise ExportError(f"{self.store} holds no complete export")
        runs = [_summary(run) for run in ended]
        commits = [commit for run in ended for commit in run.state.commits.values()]
        parts = [part for run in ended for part in run.parts]
        span = ended[0].plan.span
        return Manifest(
            format_version=held.format_version,
            sdk_version=__version__,
            complete=True,
            format=held.format,
            compression=held.compression,
            filters=held.filters,
            snapshot=ended[-1].plan.snapshot,
            span=None if span is None else [span.low, span.high],
            conversations=sum(each.conversations for each in commits),
            chats=sum(each.chats for each in commits),
            bytes=sum(part.bytes for part in parts),
            uncompressed_bytes=sum(each.uncompressed_bytes for each in commits),
            requests=sum(each.requests for each in runs),
            retries=sum(each.retries for each in runs),
            seconds=round(sum(each.seconds for each in runs), 3),
            quarantined=self._quarantine().count(b"\n"),
            incomplete=list(missing_in(ended).values()),
            runs=runs,
            parts=parts,
        )


def _summary(run: RunLog) -> RunSummary:
    plan, commits = run.plan, run.state.commits.values()
    return RunSummary(
        run=plan.run,
        kind=plan.kind,
        snapshot=plan.snapshot,
        since=plan.since,
        finished=run.complete.finished if run.complete else "",
        seconds=run.complete.seconds if run.complete else 0.0,
        conversations=sum(each.conversations for each in commits),
        chats=sum(each.chats for each in commits),
        requests=plan.requests + sum(each.requests for each in commits),
        retries=plan.retries + sum(each.retries for each in commits),
    )


def _shown(spec: ExportSpec) -> str:
    filters = " ".join(f"{name}={value}" for name, value in spec.filters) or "no filters"
    return f"{spec.format}, {spec.compression}, {filters}, {spec.fields}"


def as_text(value: Any) -> str:
    """A filter's value as it is bound and shown."""
    return str(value if isinstance(value, str) else value.isoformat())
