"""CSV for people and spreadsheets: one row a chat, with the fields of its conversation before it.

A conversation without chats is one row with empty cells for the chat, so no conversation is missing. A file begins
with a byte order mark, by which Excel knows that it is UTF-8. Times are ISO 8601 in UTC. Sources, citations and
variables are JSON. Lists of texts are joined by "; ".
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from ..._transport.wire import repair_surrogates
from ...errors import ConfigurationError
from ...models import RawTranscript, to_datetime
from ..records import Part, Quarantined
from ..storage.store import PartStore, Sink, Store, file_errors
from .compression import open_decompressed
from .fields import Field
from .projection import EVERYTHING, Choice, Projection
from .shard_writer import CompressedPart, OnePartWriter

SUFFIXES = {"gzip": ".csv.gz", "zstd": ".csv.zst", "none": ".csv"}
# How a spreadsheet recognizes a formula. The wide forms are formulas in Japanese and Chinese editions of Excel.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# The names of the columns that would not be clear beside those of a chat.
_CONVERSATION_NAMES = {"id": "conversation_id", "llm_app": "app"}
_CHAT_NAMES = {"id": "chat_id"}
_POSITION = "position"
# Characters.
_LONGEST_CELL = 1 << 30
# Fields of a chat that have fields of their own are one column.
_AS_JSON = ("object", "objects", "json")


class _Column(NamedTuple):
    """A column.

    Attributes:
        name: The name in the first row.
        path: The wire names that lead to its value.
        text: Makes the text of a cell of a value that is not null.
    """

    name: str
    path: tuple[str, ...]
    text: Callable[[Any], str]


class CsvTable:
    """The columns of an export, and the rows of a conversation.

    Args:
        projection: The fields.

    Raises:
        ConfigurationError: The unknown fields were asked for, which have no column.
    """

    def __init__(self, projection: Projection = EVERYTHING) -> None:
        self._own: list[_Column] = []
        self._each: list[_Column] = []
        for field in projection.fields:
            if field.name == "chats":
                self._each = [_column(each, (), _CHAT_NAMES) for each in field.fields]
            elif field.kind == "object":
                prefix = _CONVERSATION_NAMES.get(field.name, field.name)
                names = {each.name: f"{prefix}_{each.name}" for each in field.fields} | {"user_id": "user_id"}
                self._own += [_column(each, (field.wire_name,), names) for each in field.fields]
            else:
                self._own.append(_column(field, (), _CONVERSATION_NAMES))

    @property
    def header(self) -> list[str]:
        """The names of the columns."""
        return [each.name for each in self._own] + [_POSITION] + [each.name for each in self._each]

    def rows(self, conversation: bytes) -> list[list[str]]:
        """The rows of a conversation.

        Raises:
            msgspec.DecodeError: The conversation is no JSON object.
        """
        try:
            found = _decode(conversation)
        except UnicodeDecodeError:
            raise msgspec.DecodeError("bytes that are no UTF-8") from None
        own = [_cell(found, column) for column in self._own]
        chats = found.get("chats") or ()
        if not chats:
            return [[*own, "", *("" for _ in self._each)]]
        return [
            [*own, str(number), *(_cell(chat or {}, column) for column in self._each)]
            for number, chat in enumerate(chats)
        ]


def _column(field: Field, before: tuple[str, ...], names: dict[str, str]) -> _Column:
    return _Column(names.get(field.name, field.name), (*before, field.wire_name), _TEXTS[field.kind])


def _cell(value: Any, column: _Column) -> str:
    for name in column.path:
        value = value.get(name) if isinstance(value, dict) else None
    return "" if value is None else column.text(value)


def guarded(text: str) -> str:
    """A cell that a spreadsheet shows as it is, and does not compute."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _plain(value: Any) -> str:
    return guarded(value if isinstance(value, str) else _json(value))


def _number(value: Any) -> str:
    # A negative number is no formula.
    return str(value) if isinstance(value, int | float) else _plain(value)


def _time(value: Any) -> str:
    with contextlib.suppress(ValueError, OverflowError, OSError, TypeError):
        return to_datetime(value).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return _number(value)


def _joined(value: Any) -> str:
    return _plain("; ".join(map(str, value)) if isinstance(value, list) else value)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


_TEXTS: dict[str, Callable[[Any], str]] = {
    "text": _plain,
    "flag": _plain,
    "whole": _number,
    "time": _time,
    "texts": _joined,
    **dict.fromkeys(_AS_JSON, _plain),
}
_decoder = msgspec.json.Decoder(dict[str, Any])


def _decode(conversation: bytes) -> dict[str, Any]:
    try:
        return _decoder.decode(conversation)
    except msgspec.DecodeError:
        return _decoder.decode(repair_surrogates(conversation))


class CsvRows(CompressedPart):
    """A part of rows.

    Args:
        sink: The sink that the part is written to.
        compression: The compression of the part.
        table: The columns.
    """

    def __init__(self, sink: Sink, compression: str, table: CsvTable) -> None:
        super().__init__(sink, compression)
        self._table = table
        self._is_empty = True

    def write(self, conversations: Sequence[bytes]) -> None:
        """Add conversations.

        Raises:
            msgspec.DecodeError: One of them is no JSON object; none is added.
        """
        self.copy([row for each in conversations for row in self._table.rows(each)])

    def copy(self, rows: Sequence[Sequence[str]]) -> None:
        """Add rows as they are."""
        text = io.StringIO()
        writer = csv.writer(text)
        if self._is_empty:
            self._is_empty = False
            text.write("\ufeff")
            writer.writerow(self._table.header)
        writer.writerows(rows)
        # A lone surrogate would have no place in UTF-8; it was repaired before.
        self.add(text.getvalue().encode("utf-8", "replace"), len(rows))

    def commit(self, name: str) -> Part:
        """Rename the temporary file to the name of a part. A part without rows has the names of the columns."""
        if self._is_empty:
            self.copy([])
        return super().commit(name)


class CsvConversation(NamedTuple):
    """A conversation in a part.

    Attributes:
        id: The conversation's id.
        chats: The number of its chats.
        rows: The rows of the conversation.
    """

    id: str
    chats: int
    rows: list[list[str]]


def read_conversations(store: PartStore, part: Part) -> Iterator[CsvConversation]:
    """The conversations in a part, in their order."""
    with file_errors("read", part.name), open_decompressed(store, part.name) as file:
        # A cell may be as long as a message; the limit is one of the process.
        csv.field_size_limit(_LONGEST_CELL)
        reader = csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""))
        header = next(reader, [])
        if not header:
            return
        place, position = header.index("conversation_id"), header.index(_POSITION)
        found: list[list[str]] = []
        for row in reader:
            if found and (row[position] in ("", "0") or row[place] != found[0][place]):
                yield _conversation(found, place, position)
                found = []
            found.append(row)
        if found:
            yield _conversation(found, place, position)


def _conversation(rows: list[list[str]], place: int, position: int) -> CsvConversation:
    name = rows[0][place]
    if name.startswith("'") and name[1:].startswith(_FORMULA):
        name = name[1:]
    return CsvConversation(name, sum(row[position] != "" for row in rows), rows)


class CsvWriter(OnePartWriter[CsvRows]):
    """The part of a shard, as CSV.

    Args:
        store: The destination.
        run: The run's number.
        shard: The name of the shard.
        compression: The compression of the file.
        mark: The end of the part's name.
        projection: The fields.
    """

    def __init__(
        self,
        store: Store,
        run: int,
        shard: str,
        compression: str,
        mark: str = "",
        projection: Projection = EVERYTHING,
    ) -> None:
        super().__init__(run, mark + SUFFIXES[compression])
        self._content = CsvRows(store.sink(self._name(shard)), compression, CsvTable(projection))

    def write(self, transcripts: Sequence[RawTranscript]) -> list[Quarantined]:
        """Write conversations. Returns the conversations that are not JSON."""
        bad: list[Quarantined] = []
        try:
            self._content.write([transcript.json for transcript in transcripts])
        except msgspec.DecodeError:
            for transcript in transcripts:
                try:
                    self._content.write([transcript.json])
                except msgspec.DecodeError as error:
                    text = transcript.json.decode("utf-8", "replace")
                    bad.append(Quarantined(id=transcript.id, why=str(error), text=text))
        return bad

    def copy(self, conversations: Sequence[CsvConversation]) -> None:
        """Add conversations of other parts, as they are."""
        self._content.copy([row for each in conversations for row in each.rows])


def check_columns(choice: Choice) -> None:
    """Check that every field that was asked for has a column.

    Raises:
        ConfigurationError: One has none.
    """
    for name in choice.columns or ():
        if name.endswith("extra"):
            raise ConfigurationError(
                f"columns: {name} stands for fields that this version does not know; CSV has no column for them"
            )
