"""alli-async chats: list, delete and rate the chats of a conversation."""

from __future__ import annotations

from typing import Any

import click
import cloup

from .confirming import confirm
from .connecting import open_client
from .groups import SETTINGS, LazyCommand, LazyGroup
from .options import connection_options
from .output import write_done
from .records import CHAT, rows_of, time_text
from .rows import RowWriter, mode_of, output_options
from .runtime import asynchronous
from .terminal import visible

# The reasons of `models.FeedbackReason`, which the help does not import.
REASONS = ("not_relevant", "inaccurate", "not_best_answer")
_RATINGS = {"good": True, "bad": False, "none": None}

_COMMANDS = {
    "Commands": [
        LazyCommand("list", "chats:list_command", "List the chats of a conversation, oldest first."),
        LazyCommand("delete", "chats:delete_command", "Delete a chat."),
        LazyCommand("feedback", "chats:feedback_command", "Say how good an answer was."),
    ],
}


@cloup.group(
    "chats",
    cls=LazyGroup,
    commands_by_title=_COMMANDS,
    default="list",
    default_takes_argument=True,
    context_settings=SETTINGS,
    epilog="""
Without a command, list is meant: alli-async chats ID.

Examples:

\b
  alli-async chats list ID
  alli-async chats feedback ID CHAT --rating good
  alli-async chats delete ID CHAT
""",
)
def chats_group() -> None:
    """List, delete and rate the chats of a conversation."""


@cloup.command(
    "list",
    epilog="""
Examples:

\b
  alli-async chats list ID
  alli-async chats list ID --fields timestamp,sender,message --csv
  alli-async chats list ID --json | jq -r .message
""",
)
@click.argument("conversation_id", metavar="ID")
@output_options(CHAT)
@connection_options
@asynchronous
async def list_command(
    *, conversation_id: str, as_json: bool, as_csv: bool, fields: str | None, **connection: Any
) -> None:
    """List the chats of a conversation, oldest first."""
    writer = RowWriter(CHAT, mode_of(as_json=as_json, as_csv=as_csv), fields)
    async with open_client(connection) as client:
        async for page in client.conversations.list_chats(conversation_id).pages():
            await writer.write(rows_of(CHAT, page))
    if not writer.rows:
        await writer.write([])
        click.echo("the conversation has no chats", err=True)


@cloup.command(
    "delete",
    epilog="""
Example:

\b
  alli-async chats delete ID CHAT
""",
)
@click.argument("conversation_id", metavar="ID")
@click.argument("chat_id", metavar="CHAT")
@cloup.option("-y", "--yes", is_flag=True, help="Do not ask; without a terminal this is required.")
@cloup.option("--json", "as_json", is_flag=True, help="Print a line of JSON.")
@connection_options
@asynchronous
async def delete_command(
    *, conversation_id: str, chat_id: str, yes: bool, as_json: bool, **connection: Any
) -> None:
    """Delete a chat. It shows the chat, and asks."""
    async with open_client(connection) as client:
        if not yes:
            chats = [chat async for chat in client.conversations.list_chats(conversation_id)]
            found = next((chat for chat in chats if chat.id == chat_id), None)
            if found is None:
                raise click.UsageError(f"the conversation has no chat {chat_id!r}")
            message = visible(found.message, keep_newlines=False)[:200]
            confirm(f"This deletes the chat of {time_text(found.timestamp)}, {visible(found.sender)}: {message}")
        await client.conversations.delete_chat(conversation_id, chat_id)
    await write_done(
        {"conversationId": conversation_id, "deleted": chat_id},
        f"Deleted chat {visible(chat_id)} of {visible(conversation_id)}.",
        as_json,
    )


@cloup.command(
    "feedback",
    epilog="""
Examples:

\b
  alli-async chats feedback ID CHAT --rating good
  alli-async chats feedback ID CHAT --rating bad --reason inaccurate
  alli-async chats feedback ID CHAT --rating none
""",
)
@click.argument("conversation_id", metavar="ID")
@click.argument("chat_id", metavar="CHAT")
@cloup.option("--rating", type=click.Choice(list(_RATINGS)), help="How good the answer was; none takes it back.")
@cloup.option(
    "--reason", "reasons", type=click.Choice(REASONS), multiple=True, help="What was wrong; may be repeated."
)
@cloup.option("--suggest", metavar="TEXT", help="What the answer should have been.")
@cloup.option("--json", "as_json", is_flag=True, help="Print the answer of the server.")
@connection_options
@asynchronous
async def feedback_command(
    *,
    conversation_id: str,
    chat_id: str,
    rating: str | None,
    reasons: tuple[str, ...],
    suggest: str | None,
    as_json: bool,
    **connection: Any,
) -> None:
    """Say how good an answer was.

    CHAT is the id of a chat, as alli-async chats list ID shows it.
    """
    given: dict[str, Any] = {}
    if rating is not None:
        given["rating"] = _RATINGS[rating]
    if reasons:
        given["selection"] = list(reasons)
    if suggest is not None:
        given["suggested_answer"] = suggest
    if not given:
        raise click.UsageError("nothing to say: give --rating, --reason or --suggest")
    async with open_client(connection) as client:
        answer = await client.conversations.send_feedback(conversation_id, chat_id, **given)
    texts = [] if rating is None else [f"rating {rating}"]
    texts += [f"reason {', '.join(reasons)}"] if reasons else []
    texts += [f'suggested answer "{visible(suggest, keep_newlines=False)}"'] if suggest is not None else []
    await write_done(answer.raw, f"Noted for chat {visible(chat_id)}: {'; '.join(texts)}.", as_json)
