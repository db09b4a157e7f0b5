"""A transcript to read in a terminal: who and when, Markdown, citations as footnotes, ratings."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .records import cell, count_text, time_text
from .rows import rating_text
from .terminal import visible

if TYPE_CHECKING:  # The help does not need it.
    from rich.console import RenderableType

# The senders that are people who ask.
_ASKING = frozenset({"user", "customer", "human"})


def transcript_blocks(record: Mapping[str, Any]) -> list[RenderableType]:
    """A conversation with its chats.

    Args:
        record: The conversation as the wire has it, with all chats.
    """
    chats = record.get("chats") or []
    return [heading(record, len(chats)), *(chat_block(chat) for chat in chats)]


def about(record: Mapping[str, Any], chats: int) -> list[tuple[str, str]]:
    """What is known of a conversation, beside its chats, as pairs of name and text."""
    pairs = [
        ("id", cell(record, "id")),
        ("user", cell(record, "user")),
        ("app", cell(record, "llmApp")),
        ("begun", cell(record, "createdAt")),
        ("last chat", cell(record, "lastChatTime")),
        ("state", "ended" if record.get("isEnd") else "open"),
        ("categories", cell(record, "categories")),
        ("memo", cell(record, "memo")),
        ("chats", count_text(chats, "chat").partition(" ")[0]),
    ]
    return [(name, text) for name, text in pairs if text]


def heading(record: Mapping[str, Any], chats: int) -> RenderableType:
    """The title of a conversation, and what is known of it."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in about(record, chats):
        table.add_row(name, visible(text))
    title = visible(cell(record, "title"), keep_newlines=False) or "(no title)"
    return Group(Text(title, style="bold"), table, Text(""))


def chat_block(chat: Mapping[str, Any]) -> RenderableType:
    """A chat: who and when, the message, its footnotes."""
    from rich.console import Group
    from rich.markdown import Markdown
    from rich.padding import Padding
    from rich.text import Text

    sender = visible(cell(chat, "sender"), keep_newlines=False) or "?"
    head = Text().append(sender, style="bold green" if sender.lower() in _ASKING else "bold cyan")
    head.append(f"  {time_text(chat.get('timestamp'), seconds=True)}", style="dim")
    if rating := rating_text(chat):
        head.append(f"  {rating}", style="yellow")
    identity = f"  {visible(cell(chat, 'id'), keep_newlines=False)}"
    # On a narrow terminal the id has a line of its own, which can be copied whole.
    is_narrow = head.cell_len + len(identity) > shutil.get_terminal_size().columns
    head.append("\n" + identity if is_narrow else identity, style="dim")
    # A link that hides its address behind a text of the server's choice is shown with the address.
    text = visible(cell(chat, "message")).strip()
    # Who writes a chat means the end of a line, where Markdown would go on in the same line.
    message = Markdown(text.replace("\n", "  \n"), hyperlinks=False, code_theme="ansi_dark")
    notes = [Text(visible(note, keep_newlines=False), style="dim") for note in footnotes(chat)]
    return Group(head, Padding(Group(message, *notes), (0, 0, 1, 2)))


def footnotes(chat: Mapping[str, Any]) -> list[str]:
    """The passages that an answer was drawn from, numbered."""
    citations: Sequence[Any] = chat.get("citations") or []
    return [f"[{number}] {_citation(each)}" for number, each in enumerate(citations, 1)]


def _citation(citation: object) -> str:
    if not isinstance(citation, Mapping):
        return str(citation)
    page = citation.get("pageNo")
    title = str(citation.get("title") or citation.get("source") or citation.get("clueId") or "")
    parts = [f"{title}, page {page}" if page is not None else title, str(citation.get("url") or "")]
    text = str(citation.get("text") or "").strip()
    source = " — ".join(part for part in parts if part)
    return f'{source}: "{text}"' if text else source
