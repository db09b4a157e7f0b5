"""alli-async conversations show: a transcript to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import cloup

from .connecting import open_client
from .destinations import check_writable
from .options import connection_options
from .output import show, write_json
from .records import decode
from .runtime import asynchronous
from .terminal import visible


@cloup.command(
    "show",
    epilog="""
Examples:

\b
  alli-async conversations show ID
  alli-async conversations show ID --html transcript.html
  alli-async conversations show ID --from backup
""",
)
@click.argument("conversation_id", metavar="ID")
@cloup.option_group(
    "Output",
    cloup.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a web page to this file."),
    cloup.option("--json", "as_json", is_flag=True, help="One line of JSON: the conversation with all its chats."),
    cloup.option("--force", is_flag=True, help="Replace the file of --html if it exists, without asking."),
)
@cloup.option("--from", "source", metavar="DEST", help="Read it from this export (directory or file) instead.")
@connection_options
@asynchronous
async def show_command(
    *, conversation_id: str, html: Path | None, as_json: bool, force: bool, source: str | None, **connection: Any
) -> None:
    """Show a conversation with all its chats, to read.

    Messages are rendered from Markdown; citations are footnotes. The web page
    of --html needs no other file and no network, and runs nothing.
    """
    from .transcript import transcript_blocks

    if html is not None:
        check_writable(html, force=force)
    if source is not None:
        from .exported import find

        line = await find(source, conversation_id)
    else:
        line = await _fetched(connection, conversation_id)
    if as_json:
        await write_json(line)
    elif html is not None:
        from .._aio.threads import in_thread
        from .webpage import webpage

        await in_thread(_write_private, html, webpage(decode(line)))
        click.echo(f"{visible(str(html))} is written.", err=True)
    else:
        await show(*transcript_blocks(decode(line)))


async def _fetched(connection: dict[str, Any], conversation_id: str) -> bytes:
    import msgspec

    async with open_client(connection) as client:
        found = await client.conversations.transcript(conversation_id)
    record = msgspec.to_builtins(found.conversation) | {"chats": msgspec.to_builtins(found.chats)}
    return msgspec.json.encode(record)


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
