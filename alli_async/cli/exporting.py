"""alli-async export."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click
import cloup

from .connecting import open_client
from .destinations import STDOUT, check_directory_options, check_replaceable, format_of
from .durations import DurationType
from .failures import INCOMPLETE
from .fields import FIELDS, fields_of
from .groups import EXIT_CODES
from .moments import moments_of
from .numbers import WholeNumber
from .options import (
    check_span,
    connection_options,
    filter_options,
    permission_bits,
    span_options,
    split,
)
from .output import has_reports, write_json, write_text
from .runtime import asynchronous, at_stop

if TYPE_CHECKING:  # The help needs none of it.
    from ..client import AlliClient
    from ..export import ExportReport

_EPILOG = f"""
Examples:

\b
  alli-async export backup
  alli-async export backup --incremental
  alli-async export monday.csv --since 2026-01-05 --until 2026-01-05
  alli-async export backup --refresh
  alli-async export shared.csv --redact user --redact variables
  alli-async export - --llm-app-id APP --since 7d | jq -r .title
{EXIT_CODES}
"""


def _options(command: Any) -> Any:
    for group in reversed((_SPAN, filter_options, _FILES, FIELDS, _RUN, _OUTPUT)):
        command = group(command)
    return command


_SPAN = span_options(
    cloup.option(
        "--incremental",
        is_flag=True,
        help="After a complete run: only conversations with a chat since, and what was incomplete. It does not "
        "see new titles, states and ratings, nor deletions: --refresh does.",
    ),
    cloup.option(
        "--refresh",
        is_flag=True,
        help="After a complete run: everything once more, into the same DEST. What the server no longer has is "
        "listed in deleted.jsonl, and stays until compact.",
    ),
)
_FILES = cloup.option_group(
    "Files",
    cloup.option(
        "--format",
        "form",
        type=click.Choice(["jsonl", "parquet", "csv"]),
        help="Format of the files. [default: as the name of DEST says, else jsonl]",
    ),
    cloup.option(
        "--compression",
        type=click.Choice(["gzip", "zstd", "none"]),
        help="Compression of the files. [default: gzip; in Parquet zstd; in CSV none]",
    ),
    cloup.option(
        "--mode",
        type=permission_bits,
        default="600",
        show_default=True,
        metavar="OCTAL",
        help="Permission bits of the files, like 640: by default only you can read them.",
    ),
    cloup.option("--force", is_flag=True, help="Replace a file that exists, without asking."),
)
_RUN = cloup.option_group(
    "Run",
    cloup.option(
        "--on-error",
        type=click.Choice(["raise", "skip"]),
        help="At a conversation that cannot be read whole: stop, or list it and go on. [default: skip in a "
        "directory, else raise]",
    ),
    cloup.option(
        "--retry-for",
        type=DurationType(),
        metavar="DURATION",
        help="Go on this long (90s, 15m, 2h) while the server serves nothing, from the start too. [default: 10m, "
        "once it served something]",
    ),
    cloup.option(
        "--page-size",
        type=WholeNumber(1, 50),
        default=50,
        show_default=True,
        metavar="N",
        help="Conversations to ask for at a time; fewer where the server times out on large pages.",
    ),
    cloup.option(
        "--same-project",
        is_flag=True,
        help="Go on, once, where the server knows nothing that DEST holds: it is the same project, and all of it "
        "was deleted.",
    ),
    cloup.option("--fail-if-empty", is_flag=True, help="Exit with code 1 if there is no conversation."),
    cloup.option(
        "--dask",
        "cluster",
        metavar="ADDRESS",
        help="Let the workers of a Dask cluster write (tcp://scheduler:8786).",
    ),
    cloup.option("--dry-run", is_flag=True, help="Print what would be done, and write nothing."),
    cloup.option(
        "--sandbox", type=WholeNumber(min=0), metavar="N", help="Export an embedded sandbox of N conversations."
    ),
)
_OUTPUT = cloup.option_group(
    "Output",
    cloup.option("--json", "as_json", is_flag=True, help="Print one report as JSON; errors are JSON too."),
    cloup.option("-q", "--quiet", is_flag=True, help="No progress, and no summary."),
)


@cloup.command("export", epilog=_EPILOG)
@click.argument("dest", type=click.Path(allow_dash=True))
@_options
@connection_options
@asynchronous
async def export_command(
    *,
    dest: str,
    form: str | None,
    sandbox: int | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    force: bool,
    retry_for: float | None,
    fail_if_empty: bool,
    **options: Any,
) -> int:
    """Export all conversations with their chats.

    DEST is a directory, an address in an object store (s3://bucket/prefix,
    gs://..., az://...), a file whose name ends in .jsonl or .csv (also with
    .gz or .zst behind it), or - for standard output (JSON Lines, one conversation a line).

    An export into a directory or an object store can be stopped at any time:
    the same command goes on where it stopped.
    """
    form, options["compression"] = format_of(dest, form, options["compression"])
    dest = os.fspath(dest)
    connection, export_options, filters = _split_options(form, options)
    check_directory_options(dest, export_options)
    if retry_for is not None:
        from ..config import RetryPolicy

        connection["retry"] = RetryPolicy(patience=retry_for, patience_from_start=True)
    # In a process of its own all of pyarrow may take memory from the C library; `export.formats.arrow.pool` says
    # why.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    async with open_client(connection, sandbox=sandbox) as client:
        if dry_run:
            await _dry_run(client, dest, export_options, filters, as_json=as_json)
            return 0
        check_replaceable(dest, force=force)
        report = await _export(client, dest, export_options, filters, quiet=quiet)
    return await _print_report(report, dest, as_json=as_json, quiet=quiet, fail_if_empty=fail_if_empty)


# The options of the export itself, apart from its format.
_EXPORT_OPTIONS = (
    "compression",
    "incremental",
    "refresh",
    "mode",
    "on_error",
    "cluster",
    "since",
    "until",
    "page_size",
    "same_project",
)


def _split_options(
    form: str | None, options: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The options of the connection, of the export and of the filters."""
    export_options: dict[str, Any] = {} if form is None else {"format": form}
    export_options |= {name: options.pop(name) for name in _EXPORT_OPTIONS}
    check_span(export_options | {name: value for name, value in options.items() if name.startswith("first_chat_")})
    if export_options["incremental"] and export_options["refresh"]:
        raise click.UsageError("--refresh reads everything, and does not go with --incremental")
    _check_moments(export_options)
    export_options |= fields_of(options)
    connection, filters = split(options)
    return connection, export_options, filters


def _check_moments(export_options: dict[str, Any]) -> None:
    """Refuse a relative time where an export of the night before is to go on: that has another span."""
    goes_on = next((f"--{name}" for name in ("incremental", "refresh") if export_options[name]), None)
    relative = [each for each in moments_of(click.get_current_context()) if each.is_relative]
    if goes_on is not None and relative:
        option, text = relative[0].option, relative[0].text
        raise click.UsageError(
            f"{option} {text} means another time at each run, and {goes_on} goes on with one export: "
            f"give a date, or leave {option} out"
        )


async def _dry_run(
    client: AlliClient, dest: str, export_options: dict[str, Any], filters: dict[str, Any], *, as_json: bool
) -> None:
    from ..export import plan_export
    from .reports import plan_json, plan_text

    what = {name: value for name, value in export_options.items() if name not in ("mode", "on_error", "cluster")}
    preview = await plan_export(client, None if dest == STDOUT else dest, **what, **filters)
    if as_json:
        await write_json(plan_json(preview))
        return
    moments = [f"  {moment}" for moment in moments_of(click.get_current_context())]
    await write_text("\n".join([plan_text(preview), *moments]))


async def _export(
    client: AlliClient, dest: str, export_options: dict[str, Any], filters: dict[str, Any], *, quiet: bool
) -> ExportReport:
    from ..export import export
    from .progress import showing
    from .reports import stop_text

    async with showing(client, quiet=quiet) as progress:
        moments = moments_of(click.get_current_context())
        at_stop(lambda: stop_text(dest, progress, moments))
        if dest == STDOUT:
            from .streaming import export_to_stdout

            return await export_to_stdout(client, export_options, filters, progress.update)
        return await export(client, dest, on_progress=progress.update, **export_options, **filters)


async def _print_report(
    report: ExportReport, dest: str, *, as_json: bool, quiet: bool, fail_if_empty: bool
) -> int:
    """Print the report of an export.

    Returns:
        The exit code.
    """
    from .reports import report_json, summary

    if dest == STDOUT:
        # Standard output is for the conversations.
        if not quiet or report.skipped:
            click.echo(summary(report), err=True)
    elif as_json and has_reports():
        await write_json(report_json(report))
    elif has_reports() and (not quiet or report.skipped or report.quarantined):
        await write_text(summary(report))
    if fail_if_empty and not report.conversations:
        raise click.ClickException("there is no conversation for these options (--fail-if-empty)")
    return INCOMPLETE if report.skipped or report.quarantined else 0
