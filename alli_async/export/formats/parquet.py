"""Parts of Parquet: flat datasets of conversations and of chats, written by pyarrow."""

# pyright: reportAttributeAccessIssue=false
# pyarrow has no types; pyright guesses them, and does not see functions that are made at run time.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ...models import RawTranscript
from ..records import Part, Quarantined
from ..storage.store import PartStore, Store
from .arrow import load, pool, schemas
from .conversion import tables_of
from .fields import DELETED_AT, EXTRA
from .projection import EVERYTHING, Projection
from .shard_writer import HashingSink, part_name

FOLDERS = ("conversations", "chats")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetSizes:
    """How much JSON a writer holds, in bytes.

    Attributes:
        group: JSON that becomes one row group, about; a shard of common size is one.
        table: JSON that becomes columns at a time. Each time costs 2 ms, and the JSON is held until then.
    """

    group: int = 8 << 20
    table: int = 2 << 20


DEFAULT_SIZES = ParquetSizes()


class ParquetShardWriter:
    """The two parts of a shard. Columns are those of the contract; a conversation that does not keep to it is bad.

    Args:
        store: The destination.
        run: The run's number, which is a column too.
        shard: The name of the shard.
        compression: The compression of the columns.
        mark: The end of the parts' names.
        projection: The columns. None for the columns of the first tables that are added.
        sizes: How much JSON is held.
    """

    is_projected = False

    def __init__(
        self,
        store: Store,
        run: int,
        shard: str,
        compression: str,
        mark: str = "",
        projection: Projection | None = None,
        *,
        sizes: ParquetSizes = DEFAULT_SIZES,
    ) -> None:
        self.bytes_in = 0
        self._sizes = sizes
        self._run = run
        self._suffix = f"{mark}.parquet"
        self._rows = [0, 0]
        self._transcripts: list[RawTranscript] = []
        self._size = 0
        self._tables: list[tuple[Any, Any]] = []
        self._group = 0
        self._projection = projection or EVERYTHING
        self._is_open = projection is not None
        self._schemas = list(schemas(self._projection))
        self._compression = compression
        self._files = [_File(HashingSink(store.sink(self._name(folder, shard)))) for folder in FOLDERS]
        self._writers: list[Any] = []

    def _open(self, tables: Sequence[Any] = ()) -> list[Any]:
        """The writers of both files, which are opened when their columns are known."""
        if not self._writers:
            _, parquet = load()
            if not self._is_open:
                self._schemas[: len(tables)] = map(_columns_of, tables, self._schemas)
            self._writers = [
                parquet.ParquetWriter(file, schema, compression=self._compression, memory_pool=pool())
                for file, schema in zip(self._files, self._schemas, strict=True)
            ]
        return self._writers

    def write(self, transcripts: Sequence[RawTranscript]) -> list[Quarantined]:
        """Write conversations and their chats. Returns the conversations that break the contract."""
        self._transcripts.extend(transcripts)
        self._size += sum(len(transcript.json) for transcript in transcripts)
        bad = self._convert() if self._size >= self._sizes.table else []
        if self._group >= self._sizes.group:
            self._write_group()
        return bad

    def finish(self) -> list[Quarantined]:
        """Write the conversations that are still in memory. Returns the conversations that break the contract."""
        bad = self._convert()
        self._write_group()
        return bad

    def _convert(self) -> list[Quarantined]:
        """Convert the JSON in memory to columns. Returns the conversations that no column takes."""
        transcripts, self._transcripts, self._size = self._transcripts, [], 0
        made, bad = tables_of(transcripts, self._run, self._projection)
        put_aside = {each.id for each in bad}
        size = sum(len(each.json) for each in transcripts if each.id not in put_aside)
        self.bytes_in += size
        self._group += size
        self._tables += made
        return bad

    def _write_group(self) -> None:
        tables, self._tables, self._group = self._tables, [], 0
        if tables:
            pa, _ = load()
            self.write_tables([pa.concat_tables(some) for some in zip(*tables, strict=True)])

    def write_tables(self, tables: Sequence[Any]) -> None:
        """Add rows that are Arrow tables already: conversations, and chats."""
        writers = self._open(tables)
        for place, table in enumerate(tables):
            self._rows[place] += table.num_rows
            writers[place].write_table(_fitted(table, self._schemas[place]))

    def commit(self, shard: str) -> list[Part]:
        """Rename the temporary files to the final part names of the shard."""
        parts = []
        for folder, writer, file, rows in zip(FOLDERS, self._open(), self._files, self._rows, strict=True):
            writer.close()
            parts.append(file.out.commit(self._name(folder, shard), rows))
        return parts

    def discard(self) -> None:
        """Delete the temporary files. After `commit` it does nothing."""
        for file in self._files:
            # pyarrow writes a footer when it closes, which is not needed here.
            file.deaf = True
        for writer in self._writers:
            writer.close()
        for file in self._files:
            file.out.discard()

    def _name(self, folder: str, shard: str) -> str:
        return f"{folder}/{part_name(self._run, shard)}{self._suffix}"


def _columns_of(table: Any, schema: Any) -> Any:
    """The schema of a table; that of all columns where only what earlier versions did not write is missing."""
    missing = set(schema.names) - set(table.column_names)
    return schema if missing <= {EXTRA, DELETED_AT} else table.schema


def _fitted(table: Any, schema: Any) -> Any:
    """A table with the columns of a schema; those that an earlier version did not write are null."""
    if table.schema.equals(schema):
        return table
    pa, _ = load()
    missing = [field for field in schema if field.name not in table.column_names]
    for field in missing:
        table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(schema.names).cast(schema)


class _File:
    """A sink with the methods of a file that pyarrow calls."""

    closed = False

    def __init__(self, out: HashingSink) -> None:
        self.out = out
        self.deaf = False

    def write(self, data: Any) -> int:
        return len(data) if self.deaf else self.out.write(bytes(data))

    def tell(self) -> int:
        return self.out.bytes_out

    def flush(self) -> None:
        """Do nothing: the sink has no buffer."""

    def close(self) -> None:
        """Do nothing: `commit` or `discard` closes the sink."""


# --- reading ----------------------------------------------------------------------------------------------


def kept_tables(
    store: PartStore,
    parts: Sequence[Part],
    superseded: set[str],
    run: int,
    deleted: Mapping[str, datetime] | None = None,
) -> list[Any]:
    """A shard's tables, without the conversations that are superseded, as rows of another run.

    Args:
        store: The destination of the parts.
        parts: The parts of conversations and of chats.
        superseded: The ids of conversations that are left out.
        run: The number of the other run.
        deleted: When conversations were found deleted, by their ids; None where there is no column for it.
    """
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
    return tables if deleted is None else [_with_deleted(tables[0], deleted), tables[1]]


def _with_deleted(table: Any, deleted: Mapping[str, datetime]) -> Any:
    """Conversations with the times at which they were found deleted; earlier versions lack that column."""
    pa, _ = load()
    times = [deleted.get(each) for each in table["id"].to_pylist()]
    column = pa.array(times, schemas()[0].field(DELETED_AT).type)
    place = table.schema.get_field_index(DELETED_AT)
    return table.append_column(DELETED_AT, column) if place < 0 else table.set_column(place, DELETED_AT, column)


def ids_of(store: PartStore, part: Part) -> list[str]:
    """The ids of the conversations in a part."""
    _, parquet = load()
    with store.open(part.name) as file:
        ids: list[str] = parquet.read_table(file, columns=["id"])["id"].to_pylist()
    return ids
