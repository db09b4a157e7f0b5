"""alli-async conversations, chats and daily."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from .options import connection_options, filter_options, split
from .runtime import asynchronous, open_client

if TYPE_CHECKING:
    import msgspec


@click.command("conversations")
@click.option("--limit", type=click.IntRange(min=1), help="So many at most.")
@filter_options
@connection_options
@asynchronous
async def conversations_command(limit: int | None, **options: Any) -> None:
    """List conversations, the latest chat first, one JSON object a line."""
    connection, filters = split(options)
    async with open_client(None, connection) as client:
        left = limit
        async for conversation in client.conversations.list(page_size=min(limit or 50, 50), **filters):
            _print_json(conversation)
            if left is not None:
                left -= 1
                if not left:
                    break


@click.command("chats")
@click.argument("conversation_id")
@connection_options
@asynchronous
async def chats_command(conversation_id: str, **options: Any) -> None:
    """Print a conversation's chats, oldest first, one JSON object a line."""
    async with open_client(None, options) as client:
        async for chat in client.conversations.list_chats(conversation_id):
            _print_json(chat)


@click.command("daily")
@click.argument("start_date", metavar="START")
@click.argument("end_date", metavar="END")
@connection_options
@asynchronous
async def daily_command(start_date: str, end_date: str, **options: Any) -> None:
    """Print how many conversations were active on each day from START to END (YYYY-MM-DD)."""
    async with open_client(None, options) as client:
        for day in (await client.conversations.daily_counts(start_date, end_date)).days:
            click.echo(f"{day.date}\t{day.active_count}")


def _print_json(value: msgspec.Struct) -> None:
    import msgspec

    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
