"""Compaction: the parts of all runs, rewritten to the latest version of each conversation only."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

import msgspec
from msgspec import Struct

from .._aio.threads import in_thread
from .._version import __version__
from ..errors import ExportError
from ..models import RawTranscript
from .commit_log import RunLog, load_spec, next_number
from .destination import Destination
from .formats.jsonl import JsonLinesWriter, read_lines
from .formats.parquet import ParquetShardWriter, ids_of, kept_tables
from .incomplete import key_of, missing_in
from .records import Commit, ExportSpec, Incomplete, RunEnd, RunPlan, Shard, ShardRecord
from .report import ExportReport
from .storage.opening import open_store
from .storage.store import Store

_BATCH = 256


async def compact(dest: str | os.PathLike[str]) -> ExportReport:
    """Rewrite an export that has had incremental runs to the latest version of each conversation.

    It can be killed at any byte: until its last record is written the old parts are what counts, and from then
    on the new ones. Nothing is asked of the server.

    Args:
        dest: The directory, or the address in an object store.

    Raises:
        ExportError: There is no complete export, or the file system or the store refuses.
    """
    return await in_thread(_compact, dest)


class _Source(NamedTuple):
    """A shard of an earlier run, and what is not whole after all of them."""

    run: RunLog
    shard: str
    missing: dict[object, Incomplete]

    @property
    def commit(self) -> Commit:
        return self.run.state.commits[self.shard]


def _compact(dest: str | os.PathLike[str]) -> ExportReport:
    began = time.monotonic()
    store = open_store(dest)
    if load_spec(store) is None:
        raise ExportError(f"{store} holds no complete export")
    with store.lock():
        destination = Destination(store)
        destination.load()
        held = load_spec(store)
        if (run := destination.unfinished) is not None and run.plan.kind == "compact":
            destination.drop(run)
        if held is None or not destination.runs or destination.unfinished is not None:
            raise ExportError(f"{store} holds no complete export; finish it first")
        runs = destination.runs
        if len(runs) > 1:
            run = _rewrite(store, held, runs)
            destination.runs.append(run)
            seconds = round(time.monotonic() - began, 3)
            finished = datetime.now(UTC).isoformat(timespec="seconds")
            destination.finish(run, RunEnd(run=run.plan.run, seconds=seconds, finished=finished))
        else:
            destination.write_manifest()
        latest = destination.runs[-1]
        commits = latest.state.commits.values()
        return ExportReport(
            path=str(store),
            conversations=sum(each.conversations for each in commits),
            chats=sum(each.chats for each in commits),
            bytes=sum(part.bytes for part in latest.parts),
            uncompressed_bytes=sum(each.uncompressed_bytes for each in commits),
            seconds=time.monotonic() - began,
            requests=0,
            retries=0,
            run=latest.plan.run,
            kind=latest.plan.kind,
            snapshot=latest.plan.snapshot,
            parts=len(latest.parts),
            finished_before=len(runs) == 1,
        )


def _rewrite(store: Store, held: ExportSpec, runs: list[RunLog]) -> RunLog:
    """A new run of what is the latest in the others; the newest of them is looked at first."""
    missing = missing_in(runs)
    sources = [_Source(run, shard, missing) for run in reversed(runs) for shard in sorted(run.state.commits)]
    latest = runs[-1].plan
    bounds = [None, *map(float, range(1, len(sources))), None]
    plan = RunPlan(
        run=next_number(store),
        kind="compact",
        snapshot=latest.snapshot,
        high_water=latest.high_water,
        shards=[Shard(name=f"{n:05}", start=start, end=end) for n, (start, end) in enumerate(pairwise(bounds))],
        ids=latest.ids,
        replaces=[run.plan.run for run in runs],
        sources=[f"{source.run.plan.run}/{source.shard}" for source in sources],
        sdk_version=__version__,
    )
    run = RunLog.begin(store, plan)
    seen: set[str] = set()
    write = _write_tables if held.format == "parquet" else _write_lines
    for shard, source in zip(plan.shards, sources, strict=True):
        run.record(ShardRecord(shard=shard.name, commit=write(store, held, plan.run, shard.name, source, seen)))
    return run


class _Known(Struct):
    id: str
    chats: list[msgspec.Raw]


_decode = msgspec.json.Decoder(_Known).decode


def _write_lines(store: Store, held: ExportSpec, run: int, shard: str, source: _Source, seen: set[str]) -> Commit:
    writer = JsonLinesWriter(store, run, shard, held.compression)
    rows = chats = 0
    fresh: set[str] = set()
    try:
        for batch in _batches(store, source, seen, fresh):
            writer.write(batch)
            rows += len(batch)
            chats += sum(each.chat_count for each in batch)
        parts = writer.commit(shard)
    finally:
        writer.discard()
    commit = Commit(parts=parts, conversations=rows, chats=chats, uncompressed_bytes=writer.bytes_in)
    return _finished(commit, source, seen, fresh)


def _batches(store: Store, source: _Source, seen: set[str], fresh: set[str]) -> Iterator[list[RawTranscript]]:
    batch: list[RawTranscript] = []
    for line in (line for part in source.commit.parts for line in read_lines(store, part)):
        known = _decode(line)
        if known.id in seen:
            continue
        fresh.add(known.id)
        batch.append(RawTranscript(known.id, line, len(known.chats)))
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _write_tables(store: Store, held: ExportSpec, run: int, shard: str, source: _Source, seen: set[str]) -> Commit:
    commit = source.commit
    ids = set(ids_of(store, commit.parts[0]))
    conversations, chats = kept_tables(store, commit.parts, ids & seen, run)
    writer = ParquetShardWriter(store, run, shard, held.compression)
    try:
        writer.write_tables([conversations, chats])
        parts = writer.commit(shard)
    finally:
        writer.discard()
    share = conversations.num_rows / len(ids) if ids else 0.0
    made = Commit(
        parts=parts,
        conversations=conversations.num_rows,
        chats=chats.num_rows,
        uncompressed_bytes=round(commit.uncompressed_bytes * share),
    )
    return _finished(made, source, seen, ids)


def _finished(commit: Commit, source: _Source, seen: set[str], ids: set[str]) -> Commit:
    """The commit with what was wrong, and still is; its conversations are known from now on."""
    told = source.commit.incomplete
    commit.incomplete = [each for each in told if source.missing.get(key_of(each)) is each and each.id not in seen]
    commit.quarantined = [each for each in source.commit.quarantined if each.id not in seen]
    seen |= ids
    return commit
