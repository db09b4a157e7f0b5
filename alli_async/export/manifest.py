"""The manifest: what a complete export holds, made of the commit log alone, for people and for other programs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from .._version import __version__
from ..models import to_datetime
from .commit_log import RunLog
from .holdings import Holdings
from .outstanding import deleted_in, outstanding_in
from .records import ExportSpec, Incomplete, Part, Quarantined, RunSummary


class SkippedEntry(Struct, kw_only=True, omit_defaults=True):
    """A conversation that is not whole in the export, or a row that could not be listed, and why.

    Attributes:
        id: The conversation's id; None where it could not be read.
        why: What went wrong.
        run: The run that tried last.
        span: The first chat times between which such a row lies, in the server's unit.
        first_chat: The same as ISO 8601.
    """

    id: str | None
    why: str
    run: int
    span: tuple[float, float] | None = None
    first_chat: tuple[str | None, str | None] | None = None


class Manifest(Struct, kw_only=True):
    """The content of a complete export. It is written last.

    Attributes:
        complete: The shards of every run were written and cover its whole span.
        server: The base URL of the server.
        project: A hash of the ids by which the project was known first; never of a key.
        snapshot: When the latest run began: what was there then is here.
        span: The first chat times that were covered, as ISO 8601; the ends are open.
        conversations: Distinct conversations; of two versions of one, that of the higher run holds.
        chats: Chats in the latest versions.
        deleted: Of these conversations, how many the server does not have any more (see `deleted.jsonl`).
        superseded: Earlier versions of conversations, which are in the parts until the next compaction.
        quarantined: Conversations and rows that could not be decoded, and are still not here (see
            `quarantine.jsonl`). They are asked for again by the next incremental run, like `incomplete`.
        incomplete: Conversations that could not be made whole, and are still not here.
        runs: The runs, oldest first, those that a compaction has replaced included.
        parts: The files of the export.
    """

    format_version: int
    sdk_version: str
    complete: bool
    server: str
    project: str
    format: str
    compression: str
    filters: list[tuple[str, str]]
    snapshot: str
    span: tuple[str | None, str | None] | None
    conversations: int
    chats: int
    deleted: int
    superseded: int
    bytes: int
    uncompressed_bytes: int
    requests: int
    retries: int
    seconds: float
    quarantined: int
    incomplete: list[SkippedEntry]
    runs: list[RunSummary]
    parts: list[Part]


def make_manifest(spec: ExportSpec, runs: Sequence[RunLog], holdings: Holdings) -> Manifest:
    """The manifest of complete runs.

    Args:
        spec: The spec of the destination.
        runs: The runs whose parts count, oldest first, all of them complete.
        holdings: The conversations in them.
    """
    parts = [part for run in runs for part in run.parts]
    commits = [commit for run in runs for commit in run.state.commits.values()]
    rows = sum(each.conversations for each in commits)
    outstanding = outstanding_in(runs).values()
    deleted = deleted_in(runs)
    summaries = summaries_of(runs)
    latest = runs[-1].plan
    span = runs[0].plan.span
    return Manifest(
        format_version=spec.format_version,
        sdk_version=__version__,
        complete=True,
        server=latest.server,
        project=latest.project,
        format=spec.format,
        compression=spec.compression,
        filters=spec.filters,
        snapshot=latest.snapshot,
        span=None if span is None else (iso_time(span.low), iso_time(span.high)),
        conversations=holdings.conversations,
        chats=holdings.chats,
        deleted=sum(each in holdings for each in deleted),
        superseded=rows - holdings.conversations,
        bytes=sum(part.bytes for part in parts),
        uncompressed_bytes=sum(each.uncompressed_bytes for each in commits),
        requests=sum(each.requests for each in summaries),
        retries=sum(each.retries for each in summaries),
        seconds=round(sum(each.seconds for each in summaries), 3),
        quarantined=sum(isinstance(each.what, Quarantined) for each in outstanding),
        incomplete=[_skipped(each.what, each.run) for each in outstanding if isinstance(each.what, Incomplete)],
        runs=summaries,
        parts=parts,
    )


def manifest_files(spec: ExportSpec, runs: Sequence[RunLog], holdings: Holdings) -> dict[str, bytes]:
    """The manifest and the lists that belong to it, made of the log alone; an empty file is not written.

    Args:
        spec: The spec of the destination.
        runs: The runs whose parts count, oldest first, all of them complete.
        holdings: The conversations in them.
    """
    manifest = msgspec.json.encode(make_manifest(spec, runs, holdings))
    return {
        "quarantine.jsonl": quarantine_lines(runs),
        "deleted.jsonl": deleted_lines(runs),
        "manifest.json": msgspec.json.format(manifest, indent=1) + b"\n",
    }


def _skipped(what: Incomplete, run: int) -> SkippedEntry:
    moments = None if what.span is None else (iso_time(what.span[0]), iso_time(what.span[1]))
    return SkippedEntry(id=what.id, why=what.why, run=run, span=what.span, first_chat=moments)


def summaries_of(runs: Sequence[RunLog]) -> list[RunSummary]:
    """The summaries of runs, and of the runs that they have replaced."""
    found: dict[int, RunSummary] = {}
    for run in runs:
        found.update((each.run, each) for each in run.plan.history)
        found[run.plan.run] = _summary(run)
    return [found[number] for number in sorted(found)]


def _summary(run: RunLog) -> RunSummary:
    plan, end, commits = run.plan, run.complete, run.state.commits.values()
    return RunSummary(
        run=plan.run,
        kind=plan.kind,
        snapshot=plan.snapshot,
        since=None if plan.since is None else iso_time(plan.since),
        finished=end.finished if end else "",
        seconds=end.seconds if end else 0.0,
        conversations=sum(each.conversations for each in commits),
        chats=sum(each.chats for each in commits),
        requests=plan.requests + sum(each.requests for each in commits),
        retries=plan.retries + sum(each.retries for each in commits),
        skipped=sum(len(each.incomplete) + len(each.quarantined) for each in commits),
        deleted=sum(len(each.deleted) for each in commits),
    )


def iso_time(value: float) -> str | None:
    """A time of the wire as ISO 8601; None where it is no moment."""
    with contextlib.suppress(ValueError):
        return to_datetime(value).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return None


def quarantine_lines(runs: Sequence[RunLog]) -> bytes:
    """The lines of `quarantine.jsonl`: what could not be decoded, and is still not here."""
    found = (each.what for each in outstanding_in(runs).values())
    return _lines([each for each in found if isinstance(each, Quarantined)])


def deleted_lines(runs: Sequence[RunLog]) -> bytes:
    """The lines of `deleted.jsonl`: the conversations that the server does not have any more."""
    return _lines(list(deleted_in(runs).values()))


def _lines(items: Sequence[Struct]) -> bytes:
    return b"".join(msgspec.json.encode(each) + b"\n" for each in items)
