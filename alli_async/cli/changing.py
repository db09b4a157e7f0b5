"""alli-async conversations update, bulk-update, set-title and stop."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import cloup

from .confirming import confirm
from .connecting import open_client
from .options import connection_options
from .output import write_done
from .records import count_text
from .runtime import asynchronous
from .terminal import visible

if TYPE_CHECKING:  # The help needs none of it.
    from ..client import AlliClient

# The codes of `models.ConversationState`, which the help does not import.
STATES = ("no", "eb", "ea", "eu", "wa", "wu", "wu2", "in", "pnd", "eo", "lck")
_FIELDS = ("state", "assignee", "category", "title")
# Conversations that are shown before many are changed.
_SAMPLE = 5


def _change_options(command: Any) -> Any:
    return cloup.option_group(
        "What to change",
        cloup.option("--title", metavar="TEXT", help="New title."),
        cloup.option("--state", type=click.Choice(STATES), help="New state, by the code of the API."),
        cloup.option("--assignee", metavar="ID", help="Who takes over."),
        cloup.option(
            "--category",
            "category_ids",
            metavar="ID",
            multiple=True,
            help="New category, in place of all present ones; may be repeated.",
        ),
        cloup.option(
            "--clear", type=click.Choice(_FIELDS), multiple=True, help="Set this field to null; may be repeated."
        ),
    )(command)


def _changes(
    title: str | None, state: str | None, assignee: str | None, category_ids: Sequence[str], clear: Sequence[str]
) -> dict[str, Any]:
    """What to change, as arguments of the library."""
    given = {"title": title, "state": state, "assignee": assignee, "category": list(category_ids) or None}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for name in clear:
        if name in changes:
            raise click.UsageError(f"--{name} and --clear {name}: give one of them")
        changes[name] = None
    if not changes:
        raise click.UsageError("nothing to change: give --title, --state, --assignee, --category or --clear FIELD")
    if "category" in changes:
        changes["category_ids"] = changes.pop("category")
    return changes


def _changes_text(changes: dict[str, Any]) -> str:
    """Changes as people read them."""
    texts = []
    for name, value in changes.items():
        name = "categories" if name == "category_ids" else name
        shown = ", ".join(value) if isinstance(value, list) else value
        texts.append(
            f"{name} cleared" if value is None else f'{name} set to "{visible(shown, keep_newlines=False)}"'
        )
    return "; ".join(texts)


@cloup.command(
    "update",
    epilog="""
Examples:

\b
  alli-async conversations update ID --title "Refund" --state eo
  alli-async conversations update ID --category C1 --category C2
  alli-async conversations update ID --clear assignee
""",
)
@click.argument("conversation_id", metavar="ID")
@_change_options
@cloup.option("--json", "as_json", is_flag=True, help="Print the changed conversation, as the server sent it.")
@connection_options
@asynchronous
async def update_command(
    *,
    conversation_id: str,
    title: str | None,
    state: str | None,
    assignee: str | None,
    category_ids: tuple[str, ...],
    clear: tuple[str, ...],
    as_json: bool,
    **connection: Any,
) -> None:
    """Change state, assignee, categories or title of a conversation."""
    changes = _changes(title, state, assignee, category_ids, clear)
    async with open_client(connection) as client:
        before = await client.conversations.get(conversation_id)
        changed = await client.conversations.update(conversation_id, **changes)
    was = {"title": before.title, "category_ids": before.categories}
    text = f"Updated {visible(conversation_id)}: {_changes_text(changes)}{_earlier(changes, was)}."
    await write_done(changed.raw, text, as_json)


def _earlier(changes: dict[str, Any], was: dict[str, Any]) -> str:
    """The earlier values of what was changed, as far as the server tells them."""
    texts = []
    for name, value in was.items():
        if name in changes and value and value != changes[name]:
            shown = ", ".join(value) if isinstance(value, list) else value
            texts.append(
                f'{"categories" if name == "category_ids" else name} "{visible(shown, keep_newlines=False)}"'
            )
    return f" (before: {'; '.join(texts)})" if texts else ""


@cloup.command(
    "set-title",
    epilog="""
Example:

\b
  alli-async conversations set-title ID "Refund of an order"
""",
)
@click.argument("conversation_id", metavar="ID")
@click.argument("title")
@cloup.option("--json", "as_json", is_flag=True, help="Print the changed conversation, as the server sent it.")
@connection_options
@asynchronous
async def set_title_command(*, conversation_id: str, title: str, as_json: bool, **connection: Any) -> None:
    """Give a conversation a title."""
    async with open_client(connection) as client:
        before = await client.conversations.get(conversation_id)
        changed = await client.conversations.set_title(conversation_id, title)
    text = _changes_text({"title": title}) + _earlier({"title": title}, {"title": before.title})
    await write_done(changed.raw, f"Updated {visible(conversation_id)}: {text}.", as_json)


@cloup.command(
    "stop",
    epilog="""
Example:

\b
  alli-async conversations stop ID
""",
)
@click.argument("conversation_id", metavar="ID")
@cloup.option("--json", "as_json", is_flag=True, help="Print a line of JSON.")
@connection_options
@asynchronous
async def stop_command(*, conversation_id: str, as_json: bool, **connection: Any) -> None:
    """Stop the answer that is being made in a conversation."""
    async with open_client(connection) as client:
        await client.conversations.stop(conversation_id)
    await write_done({"id": conversation_id, "stopped": True}, f"Stopped {visible(conversation_id)}.", as_json)


@cloup.command(
    "bulk-update",
    epilog="""
Examples:

\b
  alli-async conversations bulk-update ID1 ID2 --state eo
  alli-async conversations bulk-update --user-id ada --clear assignee
  alli-async conversations list --end-at 90d --fields id --json |
    jq -r .id | alli-async conversations bulk-update - --state eo --yes
""",
)
@click.argument("ids", metavar="[ID]...", nargs=-1)
@cloup.option_group(
    "Which conversations",
    cloup.option(
        "--user-id", "user_ids", metavar="ID", multiple=True, help="Those of this user; may be repeated."
    ),
    cloup.option(
        "--llm-app-id", "llm_app_ids", metavar="ID", multiple=True, help="Those with this app; may be repeated."
    ),
    cloup.option(
        "--category-id",
        "in_categories",
        metavar="ID",
        multiple=True,
        help="Those in this category; may be repeated.",
    ),
    cloup.option("--all", "all_conversations", is_flag=True, help="Every conversation of the project."),
    help="By ID (- reads ids from standard input, one a line), or by these options.",
)
@_change_options
@cloup.option("-y", "--yes", is_flag=True, help="Do not ask; without a terminal this is required.")
@cloup.option("--json", "as_json", is_flag=True, help="Print a line of JSON.")
@connection_options
@asynchronous
async def bulk_update_command(
    *,
    ids: tuple[str, ...],
    user_ids: tuple[str, ...],
    llm_app_ids: tuple[str, ...],
    in_categories: tuple[str, ...],
    all_conversations: bool,
    title: str | None,
    state: str | None,
    assignee: str | None,
    category_ids: tuple[str, ...],
    clear: tuple[str, ...],
    yes: bool,
    as_json: bool,
    **connection: Any,
) -> None:
    """Change many conversations at once.

    It shows what it would change, and asks. If several options select
    conversations, the server decides how they go together.
    """
    from ..models import ConversationUpdate

    changes = _changes(title, state, assignee, category_ids, clear)
    update = ConversationUpdate(**changes)
    chosen = {
        "conversation_ids": _ids(ids),
        "user_ids": list(user_ids),
        "llm_app_ids": list(llm_app_ids),
        "category_ids": list(in_categories),
    }
    chosen = {name: values for name, values in chosen.items() if values}
    _check_choice(chosen, all_conversations=all_conversations)
    async with open_client(connection) as client:
        if not yes:
            confirm(await _preview(client, chosen, _changes_text(changes)))
        await client.conversations.bulk_update(update, **chosen, all_conversations=all_conversations)
    what = _selection(chosen)
    await write_done(
        {"changed": chosen or "all", "update": changes}, f"Updated {what}: {_changes_text(changes)}.", as_json
    )


def _ids(given: Sequence[str]) -> list[str]:
    """The ids that were given, and those of standard input where - stands."""
    found: list[str] = []
    for each in given:
        if each != "-":
            found.append(each)
            continue
        lines = [line.strip().strip('"') for line in sys.stdin] if sys.stdin is not None else []
        read = [line for line in lines if line]
        if not read:
            raise click.UsageError("standard input holds no ids: one a line is expected")
        found += read
    return list(dict.fromkeys(found))


def _check_choice(chosen: dict[str, list[str]], *, all_conversations: bool) -> None:
    if all_conversations and chosen:
        raise click.UsageError("--all does not go with ids or other options that select conversations")
    if not all_conversations and not chosen:
        raise click.UsageError(
            "which conversations? Give ids, - for ids from standard input, --user-id, --llm-app-id, "
            "--category-id, or --all for every conversation of the project"
        )


def _selection(chosen: dict[str, list[str]]) -> str:
    """What is selected, as people read it."""
    names = {
        "conversation_ids": "conversation",
        "user_ids": "user",
        "llm_app_ids": "app",
        "category_ids": "category",
    }
    if not chosen:
        return "every conversation of the project"
    if list(chosen) == ["conversation_ids"]:
        return count_text(len(chosen["conversation_ids"]), "conversation")
    texts = [f"{names[name]} {', '.join(visible(each) for each in values)}" for name, values in chosen.items()]
    return f"the conversations of {' and '.join(texts)}"


async def _preview(client: AlliClient, chosen: dict[str, list[str]], changes: str) -> str:
    """What a bulk update would touch: the selection, and a few of the conversations in it."""
    lines = [f"This changes {_selection(chosen)}: {changes}."]
    shown = [f"  {visible(each)}" for each in chosen.get("conversation_ids", [])[:_SAMPLE]]
    more = len(chosen.get("conversation_ids", [])) > _SAMPLE
    if set(chosen) != {"conversation_ids"}:
        filters: dict[str, Any] = {}
        if "user_ids" in chosen:
            filters["user_ids"] = chosen["user_ids"]
        if "llm_app_ids" in chosen:
            filters["llm_app_id"] = chosen["llm_app_ids"][0]
        if "category_ids" in chosen:
            filters["category_id"] = chosen["category_ids"][0]
        page = await client.conversations.list(page_size=_SAMPLE, **filters)
        shown += [
            f"  {visible(each.id)}  {visible(each.title, keep_newlines=False)}" for each in page.conversations
        ]
        more = more or page.cursor is not None
        if not shown:
            shown = ["  (no conversation is listed for these options now)"]
    return "\n".join([*lines, "For example:" if more else "Namely:", *shown, *(["  …"] if more else [])])
