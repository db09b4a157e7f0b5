"""Compaction: the parts of all runs, rewritten to few parts that hold the latest version of each conversation."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

from msgspec import structs

from .._aio.threads import in_stoppable_thread
from .._version import __version__
from ..config import checked_flag
from ..errors import ExportError
from ..models import RawTranscript
from .commit_log import Problem, RunLog, next_number
from .destination import Destination, refusal
from .formats.csv import CsvConversation, CsvWriter
from .formats.parquet import ParquetShardWriter, ids_of, kept_tables
from .formats.writers import writer_of
from .holdings import Holdings, Version, pack_versions
from .manifest import summaries_of
from .outstanding import Outstanding, deleted_in, outstanding_in
from .reading import DamagedError, VerifiedParts, conversations_in, rows_in, version_of
from .records import (
    Commit,
    Deleted,
    ExportSpec,
    Incomplete,
    Part,
    Quarantined,
    RunEnd,
    RunPlan,
    Shard,
    ShardRecord,
)
from .report import ExportReport
from .storage.opening import open_store

# Bytes of the parts that are merged into one part: large enough for any reader to be quick, and small enough to
# be read at once.
MERGED_BYTES = 64 << 20
# Conversations that are handed to a writer at a time.
_BATCH = 256


async def compact(dest: str | os.PathLike[str], *, drop_deleted: bool = False) -> ExportReport:
    """Rewrite an export to the latest version of each conversation, and merge small parts to about 64 MB.

    Every part is proved to be what was written before it is read, and what takes its place is proved before it is
    removed. Where nothing is to be merged, the parts in a directory are still proved; those in an object store are
    left to `verify`. The compaction can be killed at any byte: until its last record is written the old parts
    count, and from then on the new ones. Nothing is asked of the server. The manifest keeps the history of the
    runs. One that is cancelled or fails removes what it has written. In Parquet the column `deleted_at` says when
    a conversation was found deleted.

    Args:
        dest: The directory, or the address in an object store.
        drop_deleted: Whether conversations are left out that the server does not have any more.

    Raises:
        ConfigurationError: An argument cannot be right.
        ExportError: There is no complete export, a part is damaged, or the file system or the store refuses.
    """
    return await in_stoppable_thread(_compact, dest, checked_flag("drop_deleted", drop_deleted))


class _StoppedError(Exception):
    """The caller of a compaction was cancelled."""


def _compact(dest: str | os.PathLike[str], drop_deleted: bool, stop: threading.Event) -> ExportReport:
    began = time.monotonic()
    store = open_store(dest)
    destination = Destination(store)
    if not destination.exists():
        raise ExportError(f"{store} holds no complete export")
    with store.lock():
        destination.load()
        destination.drop_compaction()
        if destination.spec is None or not destination.runs or destination.unfinished is not None:
            raise ExportError(f"{store} holds no complete export; finish it first")
        compaction = _Compaction(destination, destination.spec, drop_deleted, stop)
        is_done = not compaction.is_needed
        if is_done:
            destination.check_parts(stop)
            destination.write_manifest()
        else:
            run = _refusing(compaction)
            finished = datetime.now(UTC).isoformat(timespec="seconds")
            end = RunEnd(run=run.plan.run, seconds=round(time.monotonic() - began, 3), finished=finished)
            destination.finish(run, end)
        return _report(destination, time.monotonic() - began, is_done=is_done)


def _report(destination: Destination, seconds: float, *, is_done: bool) -> ExportReport:
    """The report of a compaction.

    Args:
        destination: The destination, whose latest run holds the result.
        seconds: Seconds that the compaction took.
        is_done: Whether there was nothing to compact.
    """
    latest = destination.runs[-1]
    commits = latest.state.commits.values()
    return ExportReport(
        path=str(destination.store),
        conversations=sum(each.conversations for each in commits),
        chats=sum(each.chats for each in commits),
        bytes=sum(part.bytes for part in latest.parts),
        uncompressed_bytes=sum(each.uncompressed_bytes for each in commits),
        seconds=seconds,
        requests=0,
        retries=0,
        run=latest.plan.run,
        kind=latest.plan.kind,
        snapshot=latest.plan.snapshot,
        parts=len(latest.parts),
        finished_before=is_done,
    )


def _refusing(compaction: _Compaction) -> RunLog:
    """Write a compaction; a part that is damaged is reported like any other problem of a destination."""
    try:
        return compaction.write()
    except DamagedError as error:
        problem = Problem("damaged", error.part, error.why)
        raise ExportError(refusal(compaction.destination.store, [problem])) from None


class _Source(NamedTuple):
    """A shard of an earlier run."""

    run: RunLog
    shard: str

    @property
    def commit(self) -> Commit:
        return self.run.state.commits[self.shard]

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.commit.parts)


class _Compaction:
    """One compaction of a destination.

    Args:
        destination: The destination, which is locked.
        spec: The spec of the destination.
        drop_deleted: Whether to leave out the conversations that were found deleted.
        stop: Set when the compaction is to stop.
    """

    def __init__(
        self, destination: Destination, spec: ExportSpec, drop_deleted: bool, stop: threading.Event
    ) -> None:
        self.destination = destination
        self._spec = spec
        self._stop = stop
        self._runs = runs = list(destination.runs)
        # The newest run comes first, so the first version of a conversation that is read is the latest.
        self._sources = [
            _Source(run, shard)
            for run in reversed(runs)
            for shard in sorted(run.state.commits)
            if run.state.commits[shard].parts
        ]
        self._groups = _grouped(self._sources)
        self._deleted = deleted_in(runs)
        self._dropped = set(self._deleted) if drop_deleted else set()
        self._seen = set(self._dropped)
        self._number = next_number(destination.store)

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to merge, to leave out, or to forget."""
        return len(self._runs) > 1 or len(self._groups) < len(self._sources) or bool(self._dropped)

    def write(self) -> RunLog:
        """Write the run that takes the place of all others, and prove it; or leave nothing of it.

        Raises:
            DamagedError: A part is not what was written.
        """
        run = RunLog.begin(self.destination.store, self._plan())
        self.destination.runs.append(run)
        try:
            self._write_shards(run)
        except BaseException:
            # Where this is refused as well, the next run does it.
            with contextlib.suppress(ExportError):
                self.destination.drop_compaction()
            raise
        return run

    def _write_shards(self, run: RunLog) -> None:
        kept = list(outstanding_in(self._runs).values())
        for number, (shard, group) in enumerate(zip(run.plan.shards, self._groups or [[]], strict=True)):
            commit = self._write_group(shard, group)
            if number == 0:
                # The first record also lists the conversations that are in no part.
                commit = structs.replace(commit, **_not_in_parts(kept, self._deleted, self._dropped))
            for part in commit.parts:
                if (rows := rows_in(self.destination.store, part, check=self._check_stop)) != part.rows:
                    raise DamagedError(part.name, f"has {rows:,} rows, not {part.rows:,}")
            self._check_stop()
            run.record(ShardRecord(shard=shard.name, commit=commit))

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise _StoppedError

    def _plan(self) -> RunPlan:
        latest, count = self._runs[-1].plan, max(len(self._groups), 1)
        bounds = [None, *map(float, range(1, count)), None]
        return RunPlan(
            run=self._number,
            kind="compact",
            server=latest.server,
            project=latest.project,
            snapshot=latest.snapshot,
            high_water=latest.high_water,
            shards=[
                Shard(name=f"{number:05}", start=start, end=end)
                for number, (start, end) in enumerate(pairwise(bounds))
            ],
            ids=list(dict.fromkeys(each for run in reversed(self._runs) for each in run.plan.ids)),
            replaces=[run.plan.run for run in self._runs],
            history=[structs.replace(each, is_replaced=True) for each in summaries_of(self._runs)],
            sources=[f"{source.run.plan.run}/{source.shard}" for source in self._sources],
            sdk_version=__version__,
        )

    def _write_group(self, shard: Shard, group: Sequence[_Source]) -> Commit:
        write = self._write_tables if self._spec.format == "parquet" else self._write_lines
        return write(shard.name, group)

    def _write_lines(self, shard: str, group: Sequence[_Source]) -> Commit:
        store, versions = self.destination.store, dict[str, Version]()
        # Conversations that come from this destination are written as they are.
        writer = writer_of(self._spec, store, self._number, shard)
        try:
            for batch in self._batches(group, versions):
                self._check_stop()
                if isinstance(writer, CsvWriter):
                    writer.copy([each for each in batch if isinstance(each, CsvConversation)])
                else:
                    writer.write([each for each in batch if isinstance(each, RawTranscript)])
            self._check_stop()
            parts = writer.commit(shard) if versions else []
        finally:
            writer.discard()
        return _commit(parts, versions, writer.bytes_in)

    def _batches(
        self, group: Sequence[_Source], versions: dict[str, Version]
    ) -> Iterator[list[RawTranscript | CsvConversation]]:
        batch: list[RawTranscript | CsvConversation] = []
        for source in group:
            parts = VerifiedParts(self.destination.store, source.commit.parts)
            known = Holdings([source.commit.written])
            for each in (each for part in source.commit.parts for each in conversations_in(parts, part)):
                if each.id in self._seen:
                    continue
                self._seen.add(each.id)
                versions[each.id] = known.get(each.id) or version_of(each)
                batch.append(each)
                if len(batch) == _BATCH:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def _deleted_at(self) -> dict[str, datetime] | None:
        """When conversations were found deleted; None where the columns were chosen."""
        if self._spec.fields.columns is not None:
            return None
        return {name: datetime.fromisoformat(each.noticed_at) for name, each in self._deleted.items()}

    def _write_tables(self, shard: str, group: Sequence[_Source]) -> Commit:
        store, versions = self.destination.store, dict[str, Version]()
        writer = ParquetShardWriter(store, self._number, shard, self._spec.compression)
        size = 0.0
        try:
            for source in group:
                self._check_stop()
                commit = source.commit
                parts = VerifiedParts(store, commit.parts)
                ids = set(ids_of(parts, commit.parts[0]))
                conversations, chats = kept_tables(
                    parts, commit.parts, ids & self._seen, self._number, self._deleted_at()
                )
                writer.write_tables([conversations, chats])
                counts = dict.fromkeys(ids - self._seen, 0)
                for each in chats["conversation_id"].to_pylist():
                    counts[each] += 1
                known = Holdings([commit.written])
                versions.update((each, known.get(each) or Version(0, count)) for each, count in counts.items())
                size += commit.uncompressed_bytes * len(counts) / max(len(ids), 1)
                self._seen |= ids
            self._check_stop()
            made = writer.commit(shard) if versions else []
        finally:
            writer.discard()
        return _commit(made, versions, round(size))


def _grouped(sources: Sequence[_Source]) -> list[list[_Source]]:
    """Groups of sources, in their order. A group becomes a part of about `MERGED_BYTES`."""
    groups: list[list[_Source]] = []
    size = MERGED_BYTES
    for source in sources:
        if size + source.bytes > MERGED_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(source)
        size += source.bytes
    return groups


def _commit(parts: list[Part], versions: dict[str, Version], bytes_in: int) -> Commit:
    return Commit(
        parts=parts,
        conversations=len(versions),
        chats=sum(each.chats for each in versions.values()),
        uncompressed_bytes=bytes_in,
        written=pack_versions(versions),
    )


def _not_in_parts(
    kept: Sequence[Outstanding], deleted: dict[str, Deleted], dropped: set[str]
) -> dict[str, object]:
    """What a compaction knows of conversations that are in no part, as fields of a commit."""
    return {
        "incomplete": [structs.replace(what, run=run) for what, run in kept if isinstance(what, Incomplete)],
        "quarantined": [structs.replace(what, run=run) for what, run in kept if isinstance(what, Quarantined)],
        "deleted": [each for name, each in deleted.items() if name not in dropped],
    }
