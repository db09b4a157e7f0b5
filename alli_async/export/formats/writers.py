"""What each format is written by, and what it needs."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Literal

import msgspec

from ...models import RawTranscript
from ..records import ExportSpec, Part, Quarantined
from ..storage.store import Store
from .arrow import load
from .compression import compressor_of
from .csv import CsvWriter
from .jsonl import JsonLinesWriter
from .parquet import ParquetShardWriter
from .projection import Projection
from .shard_writer import ShardWriter

Format = Literal["jsonl", "parquet", "csv"]
DEFAULT_COMPRESSION = {"jsonl": "gzip", "parquet": "zstd", "csv": "none"}


def check_installed(format: str, compression: str) -> None:  # noqa: A002 - a public name
    """See that what a format needs is there.

    Raises:
        ConfigurationError: It is not installed.
    """
    _ = load() if format == "parquet" else compressor_of(compression)


def writer_of(
    spec: ExportSpec,
    store: Store,
    run: int,
    shard: str,
    *,
    unique: bool = False,
    projection: Projection | None = None,
) -> ShardWriter:
    """The writer of a shard's parts.

    Args:
        spec: The spec of the destination.
        store: The destination.
        run: The run's number.
        shard: The name of the shard.
        unique: Whether their names are of this try alone: where two may try at a time, one must not write what
            the other has committed.
        projection: Makes of the server's JSON what is written. None where the records come from this destination.
    """
    mark = f"-{secrets.token_hex(4)}" if unique else ""
    columns = projection or Projection(spec.fields)
    writer: ShardWriter
    if spec.format == "parquet":
        writer = ParquetShardWriter(store, run, shard, spec.compression, mark, columns)
    elif spec.format == "csv":
        writer = CsvWriter(store, run, shard, spec.compression, mark, columns)
    else:
        writer = JsonLinesWriter(store, run, shard, spec.compression, mark)
    is_needed = projection is not None and not spec.fields.is_everything
    return ProjectingWriter(writer, columns) if is_needed else writer


class ProjectingWriter:
    """Writes the chosen fields of each record, by the writer of a format.

    Args:
        writer: The writer of the format.
        projection: The fields.
    """

    def __init__(self, writer: ShardWriter, projection: Projection) -> None:
        self._writer = writer
        self._projection = projection

    is_projected = True

    @property
    def bytes_in(self) -> int:
        """Size of what is written in bytes, before it is compressed."""
        return self._writer.bytes_in

    def write(self, records: Sequence[RawTranscript]) -> list[Quarantined]:
        """Add records. Those that are no JSON are given back without their text, which nobody has looked into."""
        bad: list[Quarantined] = []
        good: list[RawTranscript] = []
        for record in records:
            try:
                text = self._projection.apply(record.json)
            except msgspec.MsgspecError as error:
                bad.append(Quarantined(id=record.id, why=str(error)))
            else:
                good.append(RawTranscript(record.id, text, record.chat_count))
        return bad + self._writer.write(good)

    def finish(self) -> list[Quarantined]:
        """Write what was only taken so far; gives what could not be."""
        return self._writer.finish()

    def commit(self, shard: str) -> list[Part]:
        """Make the parts those of a shard."""
        return self._writer.commit(shard)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._writer.discard()
