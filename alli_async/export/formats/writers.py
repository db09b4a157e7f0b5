"""The writers of the formats, and the libraries that they need."""

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
    """Check that the libraries of a format are installed.

    Raises:
        ConfigurationError: A library is not installed.
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
        projection: Makes of the server's JSON what is written. None where they come from this destination.
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
    """Writes the chosen fields of each conversation, by the writer of a format.

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

    def write(self, transcripts: Sequence[RawTranscript]) -> list[Quarantined]:
        """Write conversations. Those that are no JSON are returned without text, which may hold hidden fields."""
        bad: list[Quarantined] = []
        good: list[RawTranscript] = []
        for transcript in transcripts:
            try:
                text = self._projection.apply(transcript.json)
            except msgspec.MsgspecError as error:
                bad.append(Quarantined(id=transcript.id, why=str(error)))
            else:
                good.append(RawTranscript(transcript.id, text, transcript.chat_count))
        return bad + self._writer.write(good)

    def finish(self) -> list[Quarantined]:
        """Write the conversations that are still in memory. Returns what could not be written."""
        return self._writer.finish()

    def commit(self, shard: str) -> list[Part]:
        """Rename the temporary files to the final part names of the shard."""
        return self._writer.commit(shard)

    def discard(self) -> None:
        """Delete the temporary files."""
        self._writer.discard()
