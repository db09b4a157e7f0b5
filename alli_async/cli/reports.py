"""The texts of an export: its plan, its report, and what stays when it is stopped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from .destinations import STDOUT, single_file
from .durations import size_text
from .records import count_text
from .terminal import visible

if TYPE_CHECKING:
    from ..export import ExportPreview, ExportReport, VerifyReport
    from ..models import Skipped
    from .moments import Moment
    from .progress import Progress


def summary(report: ExportReport) -> str:
    """The report of an export, in a few lines."""
    pace = (report.conversations - report.resumed) / report.seconds if report.seconds else 0.0
    done = {"compact": "Compacted to"}.get(report.kind, "Exported")
    counted = f"{count_text(report.conversations, 'conversation')} with {count_text(report.chats, 'chat')}"
    written = f"{done} {counted}"
    first = f"{written} in {report.seconds:.1f} s ({pace:,.0f}/s)."
    if report.finished_before:
        first = f"Complete already: {counted}."
    elif report.resumed:
        first += f" {report.resumed:,} of them were there already."
    place = "file    " if report.run == 0 else "parts   "
    lines = [
        first,
        f"  {place}  {_parts_text(report)}",
        f"  size      {size_text(report.bytes)} ({size_text(report.uncompressed_bytes)} uncompressed)",
        f"  requests  {report.requests:,} ({report.retries:,} retried)",
    ]
    if report.snapshot:
        lines.append(f"  as of     {datetime.fromisoformat(report.snapshot):%Y-%m-%d %H:%M:%S} UTC")
    if report.finished_before or report.resumed:
        lines.append("  what is new since then comes with --incremental")
    if report.deleted:
        lines.append(f"  deleted   {report.deleted:,} gone from the server, in {report.path}/deleted.jsonl")
    if report.quarantined:
        lines.append(f"  not decodable: {report.quarantined:,}, in {report.path}/quarantine.jsonl")
    lines += [f"  skipped   {skipped_text(each)}" for each in report.skipped]
    return "\n".join(visible(line) for line in lines)


def stop_text(dest: str, progress: Progress, moments: Sequence[Moment]) -> str:
    """What stays of an export that was stopped, and how to go on; empty where nothing was begun.

    Args:
        dest: The destination of the export.
        progress: The progress of the export.
        moments: The times that the command was given. A relative time means another one when the command is run
            again, so the time that it meant is named.
    """
    fixed = _fixed(moments)
    if progress.stats is None:
        # A directory holds the time from the moment on at which the export has begun.
        return f"the same command{fixed} goes on" if fixed and dest != STDOUT and single_file(dest) is None else ""
    if dest == STDOUT:
        return "what was written is whole lines, but not everything"
    if single_file(dest) is not None:
        return f"{visible(dest)} is as it was before; the same command begins again"
    return f"what is written stays in {visible(dest)}{progress.done_text}; the same command{fixed} goes on"


def _fixed(moments: Sequence[Moment]) -> str:
    """The options that fix the relative times of a command: ` with --since 2026-01-31T09:30:00+00:00`."""
    options = [f"{each.option} {each.value.isoformat()}" for each in moments if each.is_relative]
    return f" with {' '.join(options)}" if options else ""


def skipped_text(skipped: Skipped) -> str:
    """Which conversation was skipped, and why: by its id, or else by when its first chat was."""
    name = skipped.id
    if name is None:
        name = "a conversation that could not be listed"
        if skipped.span is not None:
            start, end = map(_iso_time, skipped.span)
            name += f", with a first chat between {start} and {end}"
    return f"{name}: {skipped.error}"


def _parts_text(report: ExportReport) -> str:
    if report.run == 0:
        return report.path
    return f"{report.parts:,} in {report.path}/conversations, run {report.run} ({report.kind})"


def plan_json(preview: ExportPreview) -> bytes:
    """The plan as JSON, with the shards that are still to be written."""
    import msgspec

    fields = {"state": preview.state, "written": preview.written, "shards": preview.shards}
    return msgspec.json.encode(msgspec.to_builtins(preview.plan) | fields)


def plan_text(preview: ExportPreview) -> str:
    """The plan in a few lines."""
    plan, shards = preview.plan, preview.shards
    asked = "?" if preview.requests is None else f"{preview.requests:,}"
    there = f"{preview.written:,} conversations are there"
    if preview.state == "complete":
        return f"Complete already: {there}; nothing to do.\n  what is new since then comes with --incremental"
    if preview.state == "refresh":
        there += ", which are read once more"
    if preview.state == "incremental":
        since = "?" if plan.since is None else _time(plan.since)
        lines = [f"{there}. Run {plan.run} asks for those with a chat since {since}."]
        if plan.again:
            lines.append(f"  and again for {len(plan.again):,} that could not be made whole")
        return "\n".join(lines)
    cut = count_text(len(shards), "shard")
    first = f"An unknown number of conversations in {cut}."
    if plan.expected is not None:
        first = f"About {plan.expected:,} conversations in {cut}; about {asked} requests."
    if preview.state == "refresh":
        first = f"{there[0].upper()}{there[1:]}. {first}"
    if preview.state == "unfinished":
        left = f"{cut} {'is' if len(shards) == 1 else 'are'} left; about {asked} requests"
        first = f"Run {plan.run} ({plan.kind}) goes on: {there}. {left}."
    lines = [first]
    for shard in shards:
        rows = "" if shard.expected is None else f"  about {shard.expected:,}"
        lines.append(f"  {shard.name}  {_time(shard.start)} … {_time(shard.end)}{rows}")
    return "\n".join(lines)


def _time(value: float | None) -> str:
    if value is None:
        return "open".ljust(24)
    from ..models import to_datetime

    return to_datetime(value).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"


def _iso_time(value: float) -> str:
    from ..models import to_datetime

    return to_datetime(value).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def verify_text(report: VerifyReport, dest: str) -> str:
    """Whether an export is whole, and each file that is not what it was, in a line of its own."""
    counted = f"{count_text(report.conversations, 'conversation')} with {count_text(report.chats, 'chat')}"
    first = f"{dest}: {count_text(report.parts, 'part')}, {counted}"
    lines = [f"{first}: all as written."] if report.ok else [f"{first}: not as written."]
    for kind, files in (
        ("damaged", report.damaged),
        ("missing", report.missing),
        ("unexplained", report.unexplained),
    ):
        lines += [f"  {kind:<11} {file} {report.reasons[file]}" for file in files]
    return "\n".join(visible(line) for line in lines)


def verify_json(report: VerifyReport) -> bytes:
    """The report as a line of JSON."""
    import msgspec

    return msgspec.json.encode(report)


def report_json(report: ExportReport) -> bytes:
    """The report as a line of JSON."""
    import msgspec

    return msgspec.json.encode(report, enc_hook=str)
