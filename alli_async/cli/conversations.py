"""alli-async conversations: the group, and the commands that read a list or wait for an answer."""

from __future__ import annotations

import sys
from typing import Any

import click
import cloup

from .connecting import open_client
from .groups import SETTINGS, LazyCommand, LazyGroup
from .numbers import WholeNumber
from .options import connection_options, filter_options, span_as_filters, span_options, split
from .output import show
from .records import CONVERSATION, cell, count_text, decode, rows_of
from .rows import Mode, RowWriter, mode_of, output_options
from .runtime import asynchronous
from .terminal import visible

# Rows of a table on a terminal, if no other number is asked for: one page of the list.
_TABLE_ROWS = 50
_ORDERS = ("last-chat-desc", "last-chat-asc", "first-chat-desc", "first-chat-asc")

_COMMANDS = {
    "Read": [
        LazyCommand("list", "conversations:list_command", "List conversations, the latest chat first."),
        LazyCommand("get", "conversations:get_command", "Show the fields of a conversation."),
        LazyCommand("show", "showing:show_command", "Show a conversation with all its chats, to read."),
        LazyCommand("watch", "waiting:watch_command", "Show new chats as they come."),
        LazyCommand("wait", "waiting:wait_command", "Wait until no answer is being made."),
    ],
    "Change": [
        LazyCommand("update", "changing:update_command", "Change state, assignee, categories or title."),
        LazyCommand("bulk-update", "changing:bulk_update_command", "Change many conversations at once."),
        LazyCommand("set-title", "changing:set_title_command", "Give a conversation a title."),
        LazyCommand("stop", "changing:stop_command", "Stop the answer that is being made."),
    ],
}


@cloup.group(
    "conversations",
    cls=LazyGroup,
    commands_by_title=_COMMANDS,
    default="list",
    context_settings=SETTINGS,
    align_sections=True,
    epilog="""
Without a command, list is meant: alli-async conversations --limit 5.

Examples:

\b
  alli-async conversations list --user-id ada --started-at 7d
  alli-async conversations show ID
  alli-async conversations update ID --title "Refund" --clear assignee
""",
)
def conversations_group() -> None:
    """List, read and change conversations."""


@cloup.command(
    "list",
    epilog="""
Examples:

\b
  alli-async conversations list --since yesterday --limit 20
  alli-async conversations list --fields id,title,user.userId --csv > ids.csv
  alli-async conversations list --fields llmApp.id,llmApp.name --all | sort -u
  alli-async conversations list --llm-app-id APP --json --no-chats | jq .title
""",
)
@cloup.option_group(
    "Rows",
    cloup.option(
        "--limit", type=WholeNumber(min=1), metavar="N", help="Most rows. [default: 50 in a table, else all]"
    ),
    cloup.option("--all", "show_all", is_flag=True, help="All rows, in a table too."),
    cloup.option(
        "--order",
        type=click.Choice(_ORDERS),
        metavar="ORDER",
        help=f"One of {', '.join(_ORDERS)}. [default: {_ORDERS[0]}]",
    ),
    cloup.option("--no-chats", is_flag=True, help="Leave out of JSON the chats that come with a conversation."),
)
@output_options(CONVERSATION)
@span_options()
@filter_options
@connection_options
@asynchronous
async def list_command(
    *,
    limit: int | None,
    show_all: bool,
    order: str | None,
    no_chats: bool,
    as_json: bool,
    as_csv: bool,
    fields: str | None,
    **options: Any,
) -> None:
    """List conversations, the latest chat first.

    A list moves while it is read, so that a conversation may come twice or not
    at all. The export command gives every conversation exactly once.
    """
    if show_all and limit is not None:
        raise click.UsageError("--all and --limit: give one of them")
    mode = mode_of(as_json=as_json, as_csv=as_csv)
    if limit is None and mode == "table" and not show_all:
        limit = _TABLE_ROWS
    writer = RowWriter(CONVERSATION, mode, fields, ["chats"] if no_chats else ())
    span_as_filters(options)
    connection, filters = split(options)
    wire_order = None if order is None else order.upper().replace("CHAT-", "CHAT_TIME_").replace("-", "_")
    async with open_client(connection) as client:
        pages = client.conversations.list(page_size=min(limit or 50, 50), order=wire_order, **filters)
        has_more = await _write_pages(pages, writer, limit)
    _say_count(writer.rows, mode, has_more=has_more, filtered=bool(filters))


async def _write_pages(pages: Any, writer: RowWriter, limit: int | None) -> bool:
    """Write the pages of a list, up to a number of rows.

    Returns:
        Whether there are more rows.
    """
    async for page in pages.pages():
        rows = rows_of(CONVERSATION, page)
        left = len(rows) if limit is None else limit - writer.rows
        await writer.write(rows[:left])
        if limit is not None and writer.rows >= limit:
            return len(rows) > left or page.cursor is not None
    if not writer.rows:
        await writer.write([])  # a table of no rows has a heading in CSV
    return False


def _say_count(rows: int, mode: Mode, *, has_more: bool, filtered: bool) -> None:
    """Say on standard error what a list of rows does not say itself."""
    if not rows:
        click.echo("no conversation matches these options" if filtered else "there are no conversations", err=True)
    elif mode == "table" and sys.stderr.isatty():
        more = "; there are more: --limit N or --all" if has_more else ""
        click.echo(count_text(rows, "conversation") + more, err=True)


@cloup.command(
    "get",
    epilog="""
Examples:

\b
  alli-async conversations get ID
  alli-async conversations get ID --json | jq .title
  alli-async conversations get ID --variable city --fields variables
""",
)
@click.argument("conversation_id", metavar="ID")
@cloup.option(
    "--variable", "variables", metavar="NAME", multiple=True, help="Variable to return; may be repeated."
)
@cloup.option("--no-chats", is_flag=True, help="Leave out the chats that come with the conversation.")
@output_options(CONVERSATION)
@connection_options
@asynchronous
async def get_command(
    *,
    conversation_id: str,
    variables: tuple[str, ...],
    no_chats: bool,
    as_json: bool,
    as_csv: bool,
    fields: str | None,
    **connection: Any,
) -> None:
    """Show the fields of a conversation."""
    mode = mode_of(as_json=as_json, as_csv=as_csv)
    writer = RowWriter(CONVERSATION, mode, fields, ["chats"] if no_chats else ())
    async with open_client(connection) as client:
        found = await client.conversations.get(conversation_id, variables=list(variables) or None)
    if mode != "table":
        await writer.write([found.raw])
        return
    await show_fields(decode(found.raw), CONVERSATION.parse(fields) if fields else None)


async def show_fields(record: dict[str, Any], fields: list[str] | None) -> None:
    """Show the fields of a conversation, one a line."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for field in fields or [each for each in CONVERSATION.fields if "." not in each and each != "chats"]:
        table.add_row(field, visible(cell(record, field)))
    await show(table)
