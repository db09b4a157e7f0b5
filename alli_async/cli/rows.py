"""Rows on standard output, page by page: a table for people, JSON Lines or CSV for programs."""

from __future__ import annotations

import csv
import io
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click
import cloup

from .output import show, write_json, write_text
from .records import CONVERSATION, RecordKind, cell, decode, pick, time_text
from .terminal import is_terminal, visible

if TYPE_CHECKING:  # Only tables need it.
    from rich.table import Table

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
Mode = Literal["table", "json", "csv"]

# Columns of a terminal from which on a conversation fits into one line: an id has about 52 characters, and the
# rest must leave room for a title that can be read.
_WIDE = 140
# Columns that the number of chats and the time of the last one take beside a conversation.
_BESIDE = 25
# Characters of a message that a table shows.
_MESSAGE = 400


def output_options(kind: RecordKind) -> Callable[[CommandT], CommandT]:
    """Add the options that say how rows are written."""

    def add(command: CommandT) -> CommandT:
        return cloup.option_group(
            "Output",
            cloup.option("--json", "as_json", is_flag=True, help="JSON Lines, as the server sent them."),
            cloup.option("--csv", "as_csv", is_flag=True, help="CSV, with a heading."),
            cloup.option(
                "--fields", metavar="NAMES", help=f"Only these fields, such as {','.join(kind.csv[:3])}."
            ),
            help="On a terminal a table is shown; into a pipe or file, JSON Lines are written.",
        )(command)

    return add


def mode_of(*, as_json: bool, as_csv: bool) -> Mode:
    """How rows are written: as the options say, else by what standard output is."""
    if as_json and as_csv:
        raise click.UsageError("--json and --csv: give one of them")
    if as_json or as_csv:
        return "json" if as_json else "csv"
    return "table" if is_terminal(sys.stdout) else "json"


class RowWriter:
    """Writes rows of one kind.

    Args:
        kind: The kind of the rows.
        mode: How they are written.
        fields: The fields to write, as the option gives them; None for the usual ones.
        without: Fields that JSON leaves out.

    Attributes:
        rows: The number of rows that were written.
    """

    def __init__(self, kind: RecordKind, mode: Mode, fields: str | None, without: Sequence[str] = ()) -> None:
        self.rows = 0
        self._kind = kind
        self._mode = mode
        self._fields = None if fields is None else kind.parse(fields)
        self._without = without
        self._id_width = 0

    async def write(self, rows: Sequence[bytes]) -> None:
        """Write the rows of a page."""
        first = not self.rows
        self.rows += len(rows)
        if self._mode == "json":
            for row in rows:
                await write_json(pick(row, self._fields, self._without))
        elif self._mode == "csv":
            await self._write_csv(rows, first=first)
        elif rows:
            await self._write_table([decode(row) for row in rows], first=first)

    async def _write_csv(self, rows: Sequence[bytes], *, first: bool) -> None:
        from ..export.formats.csv import guarded

        fields = self._fields or self._kind.csv
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if first:
            writer.writerow(fields)
        for row in rows:
            record = decode(row)
            writer.writerow([guarded(_rows_apart(cell(record, field, iso=True))) for field in fields])
        if written := text.getvalue():
            await write_text(written.removesuffix("\n"))

    async def _write_table(self, records: Sequence[dict[str, Any]], *, first: bool) -> None:
        from rich.table import Table

        # All pages have columns of the same widths, without one page being waited for by another.
        self._id_width = self._id_width or max(len(str(each.get("id", ""))) for each in records)
        width = shutil.get_terminal_size().columns
        table = Table(
            box=None, expand=True, pad_edge=False, show_header=first, header_style="bold", padding=(0, 2, 0, 0)
        )
        if self._fields is not None:
            _with_fields(table, records, self._fields, self._id_width)
        elif self._kind is not CONVERSATION:
            _with_chats(table, records, self._id_width, width)
        elif width >= _WIDE:
            _in_one_line(table, records, self._id_width)
        else:
            _in_two_lines(table, records, width)
        await show(table, width=width)


def _with_fields(table: Table, records: Sequence[dict[str, Any]], fields: Sequence[str], id_width: int) -> None:
    for field in fields:
        fixed = {"id": id_width, "createdAt": 16, "lastChatTime": 16, "timestamp": 16}.get(field)
        if fixed:
            table.add_column(field, width=fixed, overflow="fold")
        else:
            table.add_column(field, ratio=1, no_wrap=True, overflow="ellipsis")
    for record in records:
        table.add_row(*(_line(cell(record, field)) for field in fields))


def _in_one_line(table: Table, records: Sequence[dict[str, Any]], id_width: int) -> None:
    table.add_column("id", width=id_width, overflow="fold")
    table.add_column("title", ratio=3, no_wrap=True, overflow="ellipsis")
    table.add_column("user", ratio=2, no_wrap=True, overflow="ellipsis", style="cyan")
    table.add_column("chats", width=5, justify="right")
    table.add_column("last chat", width=16, no_wrap=True)
    table.add_column("app", ratio=2, no_wrap=True, overflow="ellipsis", style="dim")
    fields = ("id", "title", "user", "chatCount", "lastChatTime", "llmApp")
    for record in records:
        table.add_row(*(_line(cell(record, field)) for field in fields))


def _in_two_lines(table: Table, records: Sequence[dict[str, Any]], width: int) -> None:
    from rich.text import Text

    table.add_column("conversation", ratio=1, overflow="fold")
    table.add_column("chats", width=5, justify="right")
    table.add_column("last chat", width=16, no_wrap=True)
    for record in records:
        parts = [_line(cell(record, field)) for field in ("title", "user", "llmApp")]
        about = Text(" · ".join(part for part in parts if part), style="dim")
        about.truncate(max(width - _BESIDE, 10), overflow="ellipsis")
        shown = Text(_line(cell(record, "id"))).append("\n").append_text(about)
        table.add_row(shown, _line(cell(record, "chatCount")), _line(cell(record, "lastChatTime")))


def _with_chats(table: Table, records: Sequence[dict[str, Any]], id_width: int, width: int) -> None:
    from rich.text import Text

    table.add_column("chat", width=min(max(id_width, 16), width // 2), overflow="fold")
    table.add_column("message", ratio=1, overflow="fold")
    for record in records:
        head = Text(_line(cell(record, "id")), style="dim")
        head.append(f"\n{time_text(record.get('timestamp'), seconds=True)}", style="not dim")
        head.append(f"\n{_line(cell(record, 'sender'))}", style="bold not dim")
        if rating := rating_text(record):
            head.append(f"\n{rating}", style="not dim")
        message = cell(record, "message").strip()
        message = message if len(message) <= _MESSAGE else f"{message[:_MESSAGE]}…"
        table.add_row(head, Text(visible(message)))


def _rows_apart(text: str) -> str:
    """A text without carriage returns, which readers of CSV take for the end of a row."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def rating_text(chat: Mapping[str, Any]) -> str:
    """The ratings of a chat."""
    texts = []
    for name, who in (("rating", ""), ("agentRating", " by an agent")):
        value = chat.get(name)
        if value is not None:
            texts.append(f"rated {'good' if value else 'bad'}{who}")
    return ", ".join(texts)


def _line(text: str) -> str:
    return visible(text, keep_newlines=False)
