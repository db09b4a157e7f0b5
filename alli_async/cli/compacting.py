"""alli-async compact and verify."""

from __future__ import annotations

from typing import Any

import click
import cloup

from .groups import EXIT_CODES
from .output import write_report
from .runtime import asynchronous


class _Place(click.Path):
    """A directory, or an address in an object store, of which only the store knows whether it is there."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if "://" in value else super().convert(value, param, ctx)


_DEST = _Place(exists=True, file_okay=False)


_JSON = cloup.option("--json", "as_json", is_flag=True, help="Print one report as JSON; errors are JSON too.")


@cloup.command(
    "compact",
    epilog=f"""
Example:

\b
  alli-async compact backup
{EXIT_CODES}
""",
)
@click.argument("dest", type=_DEST)
@cloup.option("--drop-deleted", is_flag=True, help="Leave out the conversations that the server no longer has.")
@_JSON
@asynchronous
async def compact_command(dest: str, drop_deleted: bool, as_json: bool) -> None:
    """Rewrite an export to the latest version of each conversation.

    Small parts are merged to about 64 MB. Every part is checked before it is
    read, and its replacement before it is removed. DEST is the directory, or
    the address in an object store, of an export.
    """
    from ..export import compact
    from .reports import report_json, summary

    report = await compact(dest, drop_deleted=drop_deleted)
    await write_report(report_json(report) if as_json else summary(report))


@cloup.command(
    "verify",
    epilog=f"""
Example:

\b
  alli-async verify backup
{EXIT_CODES}
""",
)
@click.argument("dest", type=_DEST)
@_JSON
@asynchronous
async def verify_command(dest: str, as_json: bool) -> int:
    """Check every file of an export.

    Every part is compared with its checksum and its number of rows, and the
    records with each other. Nothing is written. The exit code is 1 when a file
    is damaged, missing or explained by no record.
    """
    from ..export import verify
    from .reports import verify_json, verify_text

    report = await verify(dest)
    await write_report(verify_json(report) if as_json else verify_text(report, dest))
    return 0 if report.ok else 1
