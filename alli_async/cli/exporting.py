"""alli-async export and compact."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from .options import connection_options, filter_options, moment, permission_bits, split
from .runtime import asynchronous, open_client

if TYPE_CHECKING:  # The help needs none of it.
    from ..export import ExportPreview, ExportReport
    from ..models import Skipped


class _Place(click.Path):
    """A path, or an address in an object store, of which only the store knows whether it is there."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if "://" in value else super().convert(value, param, ctx)


# All was written but for what the report lists.
_LACKING = 3


@click.command("export")
@click.argument("dest", type=click.Path())
@click.option(
    "--sandbox", type=click.IntRange(min=0), metavar="N", help="From an embedded sandbox of N conversations."
)
@click.option(
    "--format", type=click.Choice(["jsonl", "parquet"]), default="jsonl", show_default=True, help="Of the files."
)
@click.option(
    "--compression",
    type=click.Choice(["gzip", "zstd", "none"]),
    help="Of the files; gzip, or in Parquet zstd, if left out.",
)
@click.option("--since", type=moment, metavar="TIME", help="With a first chat from this time on.")
@click.option("--until", type=moment, metavar="TIME", help="With a first chat up to this time.")
@click.option("--incremental", is_flag=True, help="After a complete run: only what has had a chat since.")
@click.option(
    "--on-error",
    type=click.Choice(["raise", "skip"]),
    help="At what cannot be made whole: stop, or report it and go on. If left out: stop if DEST is a file.",
)
@click.option(
    "--retry-for",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Go on for so long while the server serves nothing, from the start too. [default: 600, once it served]",
)
@click.option(
    "--mode",
    type=permission_bits,
    default="600",
    show_default=True,
    metavar="OCTAL",
    help="Permission bits of the files, like 640: by default only you can read them.",
)
@click.option(
    "--dask", "cluster", metavar="ADDRESS", help="Let a cluster's workers write, like tcp://scheduler:8786."
)
@click.option("--dry-run", is_flag=True, help="Print what would be done, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one machine-readable report.")
@filter_options
@connection_options
@asynchronous
async def export_command(
    dest: str, sandbox: int | None, dry_run: bool, as_json: bool, retry_for: float | None, **options: Any
) -> int:
    """Write every conversation with all its chats to DEST, one a line (JSON Lines).

    DEST is a directory, or a file when its name ends in .jsonl, .jsonl.gz or .jsonl.zst. An export into a
    directory that was stopped, however, goes on when it is called again. Or it is an address in an object store,
    like s3://bucket/prefix, for what would be in the directory; credentials come from the environment.

    With --dask, DEST is a directory that this machine and all workers share, or is in an object store; each worker
    has ALLI_API_KEY (or ALLI_TOKEN), and the object store's credentials, in its own environment.

    The exit code is 3 when all was written but for what the report lists.
    """
    from ..config import RetryPolicy
    from ..export import export, plan_export
    from .progress import showing

    how = {
        name: options.pop(name) for name in ("format", "compression", "incremental", "mode", "on_error", "cluster")
    }
    span = {name: options.pop(name) for name in ("since", "until")}
    connection, filters = split(options)
    if retry_for is not None:
        connection["retry"] = RetryPolicy(patience=retry_for, patience_from_start=True)
    # In a process of its own all of pyarrow may take memory from the C library; `export.formats.arrow.pool` says
    # why.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    async with open_client(sandbox, connection) as client:
        if dry_run:
            what = {name: how[name] for name in ("format", "compression", "incremental")}
            preview = await plan_export(client, dest, **what, **span, **filters)
            click.echo(_plan_json(preview) if as_json else _plan_text(preview))
            return 0
        with showing() as show:
            report = await export(client, dest, on_progress=show, **how, **span, **filters)
    click.echo(_report_json(report) if as_json else _summary(report))
    return _LACKING if report.skipped or report.quarantined else 0


@click.command("compact")
@click.argument("dest", type=_Place(exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one machine-readable report.")
@asynchronous
async def compact_command(dest: str, as_json: bool) -> None:
    """Rewrite the parts in DEST to the latest version of each conversation only."""
    from ..export import compact

    report = await compact(dest)
    click.echo(_report_json(report) if as_json else _summary(report))


def _summary(report: ExportReport) -> str:
    pace = (report.conversations - report.resumed) / report.seconds if report.seconds else 0.0
    done = {"compact": "Compacted to"}.get(report.kind, "Exported")
    written = f"{done} {report.conversations:,} conversations with {report.chats:,} chats"
    first = f"{written} in {report.seconds:.1f} s ({pace:,.0f}/s)."
    if report.finished_before:
        first = f"Complete already: {report.conversations:,} conversations with {report.chats:,} chats."
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
    if report.quarantined:
        lines.append(f"  not decodable: {report.quarantined:,}, in {report.path}/quarantine.jsonl")
    lines += [f"  skipped   {skipped_text(each)}" for each in report.skipped]
    return "\n".join(lines)


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


def _plan_json(preview: ExportPreview) -> str:
    """The plan, of which those shards are left that are still to be written."""
    import msgspec

    told = {"state": preview.state, "written": preview.written, "shards": preview.shards}
    return msgspec.json.encode(msgspec.to_builtins(preview.plan) | told).decode()


def _plan_text(preview: ExportPreview) -> str:
    plan, shards = preview.plan, preview.shards
    asked = "?" if preview.requests is None else f"{preview.requests:,}"
    there = f"{preview.written:,} conversations are there"
    if preview.state == "complete":
        return f"Complete already: {there}; nothing to do.\n  what is new since then comes with --incremental"
    if preview.state == "incremental":
        since = "?" if plan.since is None else _time(plan.since)
        lines = [f"{there}. Run {plan.run} asks for those with a chat since {since}."]
        if plan.again:
            lines.append(f"  and again for {len(plan.again):,} that could not be made whole")
        return "\n".join(lines)
    expected = "?" if plan.expected is None else f"{plan.expected:,}"
    first = f"About {expected} conversations in {len(shards):,} shards; about {asked} requests."
    if preview.state == "unfinished":
        left = f"{len(shards):,} shards are left; about {asked} requests"
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


def size_text(count: float) -> str:
    """A number of bytes as people read it."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _report_json(report: ExportReport) -> str:
    import msgspec

    return msgspec.json.encode(report, enc_hook=str).decode()
