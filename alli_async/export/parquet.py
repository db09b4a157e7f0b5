"""Parts of Parquet: flat datasets of conversations and of chats, written by pyarrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from .._transport.wire import decoder
from ..errors import ConfigurationError, DecodeError
from ..models import Chat, Conversation, RawTranscript, in_milliseconds
from .journal import Bad, Part
from .parts import Hashed, part_name
from .stores import Store

FOLDERS = ("conversations", "chats")
# Bytes of JSON in a row group, about: a shard of common size is one.
_GROUP_BYTES = 16 << 20
# In microseconds: the end of the year 9999.
_LATEST = 253_402_300_800_000_000

_decode = decoder(Conversation)


def load() -> tuple[Any, Any]:
    """Pyarrow and its Parquet module.

    Raises:
        ConfigurationError: They are not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ConfigurationError("format: parquet needs pyarrow: pip install 'alli-async[parquet]'") from None
    return pyarrow, parquet


def schemas() -> tuple[Any, Any]:
    """Of conversations, and of chats."""
    pa, _ = load()
    text, flag, time = pa.string(), pa.bool_(), pa.timestamp("us", tz="UTC")
    texts = pa.list_(text)
    named = pa.list_(pa.struct([("id", text), ("name", text)]))
    user = pa.struct([("user_id", text), ("first_name", text), ("last_name", text)])
    app = pa.struct([("id", text), ("name", text), ("description", text)])
    citation = [(name, text) for name in ("clue_id", "source", "title", "knowledge_base_id")]
    citation += [("page_no", pa.int64()), ("url", text), ("text", text)]
    source = [("knowledge_base_ids", texts), ("folder_ids", texts), ("web_sites", texts)]
    source += [("search_all_shared_document", flag), ("search_all_personal_document", flag)]
    source += [("including_hashtags", texts), ("excluding_hashtags", texts)]
    source += [("including_hashtags_operator", text), ("excluding_hashtags_operator", text)]
    source += [(name, named) for name in ("shared_knowledge_bases", "shared_folders")]
    source += [(name, named) for name in ("personal_knowledge_bases", "personal_folders")]
    conversations = [("id", text), ("title", text), ("created_at", time), ("last_chat_time", time)]
    conversations += [("is_end", flag), ("chat_count", pa.int64()), ("user", user), ("categories", texts)]
    conversations += [("memo", text), ("llm_app", app), ("variables", text), ("run", pa.int32())]
    chats = [("conversation_id", text), ("position", pa.int32()), ("id", text), ("sender", text)]
    chats += [("message", text), ("timestamp", time), ("rating", flag), ("agent_rating", flag)]
    chats += [("source", pa.struct(source)), ("citations", pa.list_(pa.struct(citation))), ("run", pa.int32())]
    return pa.schema(conversations), pa.schema(chats)


class ParquetParts:
    """The two parts of a shard. Columns are those of the contract; a record that does not keep to it is bad.

    Args:
        store: Where they are written.
        run: Its number, which is a column too.
        shard: Whose parts they are.
        compression: Of the columns.
    """

    def __init__(self, store: Store, run: int, shard: str, compression: str) -> None:
        self.bytes_in = 0
        self._run = run
        self._sizes = [0, 0]
        self._rows: tuple[list[Any], list[Any]] = ([], [])
        self._group = 0
        _, parquet = load()
        self._schemas = schemas()
        self._files = [_File(Hashed(store.sink(self._name(folder, shard)))) for folder in FOLDERS]
        self._writers = [
            parquet.ParquetWriter(file, schema, compression=compression)
            for file, schema in zip(self._files, self._schemas, strict=True)
        ]

    def write(self, records: Sequence[RawTranscript]) -> list[Bad]:
        """Add conversations and their chats; gives those that are not what the contract says."""
        bad = []
        for record in records:
            try:
                conversation = _decode(record.json)
                rows = _conversation(conversation, self._run), _chats(conversation, self._run)
            except (DecodeError, OverflowError) as error:
                why = error.message if isinstance(error, DecodeError) else str(error)
                bad.append(Bad(id=record.id, why=why, record=record.json.decode("utf-8", "replace")))
                continue
            self._rows[0].append(rows[0])
            self._rows[1].extend(rows[1])
            self.bytes_in += len(record.json)
            self._group += len(record.json)
        if self._group >= _GROUP_BYTES:
            self._write_group()
        return bad

    def write_tables(self, tables: Sequence[Any]) -> None:
        """Add rows that are Arrow tables already: conversations, and chats."""
        for place, table in enumerate(tables):
            self._sizes[place] += table.num_rows
            self._writers[place].write_table(table)

    def commit(self, shard: str) -> list[Part]:
        """Make them the parts of a shard."""
        self._write_group()
        parts = []
        for folder, writer, file, rows in zip(FOLDERS, self._writers, self._files, self._sizes, strict=True):
            writer.close()
            parts.append(file.out.commit(self._name(folder, shard), rows))
        return parts

    def discard(self) -> None:
        """Leave nothing behind. After `commit` it does nothing."""
        for writer, file in zip(self._writers, self._files, strict=True):
            # What pyarrow still wants to say is for nobody.
            file.deaf = True
            writer.close()
            file.out.discard()

    def _write_group(self) -> None:
        pa, _ = load()
        if any(self._rows):
            self.write_tables(
                [
                    pa.Table.from_arrays(
                        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)],
                        schema=schema,
                    )
                    for schema, columns in zip(
                        self._schemas, map(_columns, self._rows, self._schemas), strict=True
                    )
                ]
            )
        self._rows[0].clear()
        self._rows[1].clear()
        self._group = 0

    def _name(self, folder: str, shard: str) -> str:
        return f"{folder}/{part_name(self._run, shard)}.parquet"


class _File:
    """What pyarrow takes for a file, over a sink."""

    closed = False

    def __init__(self, out: Hashed) -> None:
        self.out = out
        self.deaf = False

    def write(self, data: Any) -> int:
        return len(data) if self.deaf else self.out.write(bytes(data))

    def tell(self) -> int:
        return self.out.bytes_out

    def flush(self) -> None:
        """There is nothing to flush."""

    def close(self) -> None:
        """The sink is closed by whoever commits or discards it."""


def _columns(rows: list[Any], schema: Any) -> list[Any]:
    return list(zip(*rows, strict=True)) if rows else [[] for _ in schema]


def _conversation(found: Conversation, run: int) -> tuple[Any, ...]:
    variables = None if found.variables is None else msgspec.json.encode(found.variables).decode()
    last = None if found.last_chat_time is None else _micros(found.last_chat_time)
    return (
        found.id,
        found.title,
        _micros(found.created_at),
        last,
        found.is_end,
        found.chat_count,
        _plain(found.user),
        found.categories,
        found.memo,
        _plain(found.llm_app),
        variables,
        run,
    )


def _chats(conversation: Conversation, run: int) -> list[tuple[Any, ...]]:
    return [_chat(conversation.id, position, chat, run) for position, chat in enumerate(conversation.chats)]


def _chat(conversation_id: str, position: int, chat: Chat, run: int) -> tuple[Any, ...]:
    return (
        conversation_id,
        position,
        chat.id,
        chat.sender,
        chat.message,
        _micros(chat.timestamp),
        chat.rating,
        chat.agent_rating,
        _plain(chat.source),
        _plain(chat.citations),
        run,
    )


def _micros(value: float) -> int:
    micros = round(value * (1000 if in_milliseconds(value) else 1_000_000))
    if not -_LATEST < micros < _LATEST:
        raise OverflowError(f"not a moment before the year 10000: {value!r}")
    return micros


def _plain(value: Any) -> Any:
    """Structs as what Arrow makes structs of."""
    if isinstance(value, Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    return [_plain(each) for each in value] if isinstance(value, list) else value


# --- reading ----------------------------------------------------------------------------------------------


def kept_tables(store: Store, parts: Sequence[Part], superseded: set[str], run: int) -> list[Any]:
    """A shard's tables, without the conversations that are superseded, as rows of another run."""
    pa, parquet = load()
    import pyarrow.compute as pc

    tables = []
    for part, column in zip(parts, ("id", "conversation_id"), strict=True):
        with store.open(part.name) as file:
            table = parquet.read_table(file)
        gone = pc.is_in(table[column], value_set=pa.array(sorted(superseded), pa.string()))
        table = table.filter(pc.invert(gone))
        place = table.schema.get_field_index("run")
        field = table.schema.field(place)
        tables.append(table.set_column(place, field, pa.array([run] * table.num_rows, field.type)))
    return tables


def ids_of(store: Store, part: Part) -> list[str]:
    """The ids of the conversations in a part."""
    _, parquet = load()
    with store.open(part.name) as file:
        ids: list[str] = parquet.read_table(file, columns=["id"])["id"].to_pylist()
    return ids
