"""alli-async compact and verify."""

from __future__ import annotations

from typing import Any

import click
import cloup

from .groups import EXIT_CODES
from .output import has_reports, write_json, write_text
from .runtime import asynchronous


class _Place(click.Path):
    """A directory, or an address in an object store, of which only the store knows whether it is there."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if "://" in value else super().convert(value, param, ctx)


_DEST = _Place(exists=True, file_okay=False)


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
@cloup.option("--json", "as_json", is_flag=True, help="Print one report as JSON; errors are JSON too.")
@asynchronous
async def compact_command(dest: str, as_json: bool) -> None:
    """Rewrite an export to the latest version of each conversation.

    DEST is the directory, or the address in an object store, of an export.
    """
    from ..export import compact
    from .reports import report_json, summary

    report = await compact(dest)
    if not has_reports():
        return
    if as_json:
        await write_json(report_json(report))
    else:
        await write_text(summary(report))
