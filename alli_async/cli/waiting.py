"""alli-async conversations watch and wait: for answers that are being made."""

from __future__ import annotations

from typing import Any

import click
import cloup

from .connecting import open_client
from .numbers import Number
from .options import connection_options
from .output import show, write_done
from .records import CHAT
from .rows import RowWriter, mode_of
from .runtime import asynchronous
from .terminal import visible

_SECONDS = Number(min=0, min_open=True)


def _poll_options(command: Any) -> Any:
    return cloup.option_group(
        "Waiting",
        cloup.option(
            "--poll-interval",
            type=_SECONDS,
            default=1.0,
            show_default=True,
            metavar="SECONDS",
            help="Time between two looks.",
        ),
        cloup.option(
            "--wait-for",
            "wait_timeout",
            type=_SECONDS,
            metavar="SECONDS",
            help="Give up after this time, with exit code 1. [default: never]",
        ),
    )(command)


@cloup.command(
    "wait",
    epilog="""
Example:

\b
  alli-async conversations wait ID --wait-for 60 && echo done
""",
)
@click.argument("conversation_id", metavar="ID")
@cloup.option("--json", "as_json", is_flag=True, help="Print a line of JSON.")
@_poll_options
@connection_options
@asynchronous
async def wait_command(
    *, conversation_id: str, as_json: bool, poll_interval: float, wait_timeout: float | None, **connection: Any
) -> None:
    """Wait until no answer is being made in a conversation."""
    async with open_client(connection) as client:
        await client.conversations.wait_until_idle(
            conversation_id, timeout=wait_timeout, poll_interval=poll_interval
        )
    await write_done(
        {"id": conversation_id, "isRunning": False},
        f"No answer is being made in {visible(conversation_id)}.",
        as_json,
    )


@cloup.command(
    "watch",
    epilog="""
Examples:

\b
  alli-async conversations watch ID
  alli-async conversations watch ID --history --json | jq -r .message
""",
)
@click.argument("conversation_id", metavar="ID")
@cloup.option("--history", is_flag=True, help="Begin with the chats that are already there.")
@cloup.option("--json", "as_json", is_flag=True, help="JSON Lines. [default: where the output is no terminal]")
@_poll_options
@connection_options
@asynchronous
async def watch_command(
    *,
    conversation_id: str,
    history: bool,
    as_json: bool,
    poll_interval: float,
    wait_timeout: float | None,
    **connection: Any,
) -> None:
    """Show new chats as they come, each when it is finished, until no answer is being made."""
    import msgspec

    from .transcript import chat_block

    mode = mode_of(as_json=as_json, as_csv=False)
    writer, count = RowWriter(CHAT, mode, None), 0
    async with open_client(connection) as client:
        chats = client.conversations.watch(
            conversation_id, poll_interval=poll_interval, timeout=wait_timeout, history=history
        )
        async for chat in chats:
            row, count = msgspec.json.encode(chat), count + 1
            if mode == "table":
                await show(chat_block(msgspec.json.decode(row)))
            else:
                await writer.write([row])
    if not count:
        click.echo("no new chats: no answer is being made", err=True)
