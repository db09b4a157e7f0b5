"""alli-async export."""

from __future__ import annotations

from typing import Any, Literal

import click
import msgspec

from ..export import ExportReport, export
from .options import connection_options, filter_options, split
from .progress import showing
from .runtime import asynchronous, open_client


@click.command("export")
@click.argument("dest", type=click.Path())
@click.option(
    "--sandbox", type=click.IntRange(min=0), metavar="N", help="From an embedded sandbox of N conversations."
)
@click.option(
    "--compression", type=click.Choice(["gzip", "none"]), default="gzip", show_default=True, help="Of the file."
)
@click.option(
    "--on-error",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
    help="When a conversation's chats cannot be had: stop, or report it and go on.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one machine-readable report.")
@filter_options
@connection_options
@asynchronous
async def export_command(
    dest: str,
    sandbox: int | None,
    compression: Literal["gzip", "none"],
    on_error: Literal["raise", "skip"],
    as_json: bool,
    **options: Any,
) -> int:
    """Write every conversation with all its chats to DEST, one a line (JSON Lines).

    DEST is a directory, or a file when its name ends in .jsonl or .jsonl.gz.
    """
    connection, filters = split(options)
    async with open_client(sandbox, connection) as client:
        with showing(None if filters else sandbox) as show:
            report = await export(
                client, dest, compression=compression, on_error=on_error, on_progress=show, **filters
            )
    click.echo(_report_json(report) if as_json else _summary(report))
    return 1 if report.skipped else 0


def _summary(report: ExportReport) -> str:
    pace = report.conversations / report.seconds if report.seconds else 0.0
    written = f"Exported {report.conversations:,} conversations with {report.chats:,} chats"
    lines = [
        f"{written} in {report.seconds:.1f} s ({pace:,.0f}/s).",
        f"  file      {report.path}",
        f"  size      {size_text(report.bytes)} ({size_text(report.uncompressed_bytes)} uncompressed)",
        f"  requests  {report.requests:,} ({report.retries:,} retried)",
    ]
    lines += [f"  skipped   {each.id}: {each.error}" for each in report.skipped]
    return "\n".join(lines)


def size_text(count: float) -> str:
    """A number of bytes as people read it."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _report_json(report: ExportReport) -> str:
    return msgspec.json.encode(report, enc_hook=str).decode()
