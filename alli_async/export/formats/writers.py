"""What each format is written by, and what it needs."""

from __future__ import annotations

import secrets
from typing import Literal

from ..records import ExportSpec
from ..storage.store import Store
from .arrow import load
from .compression import compressor_of
from .jsonl import JsonLinesWriter
from .parquet import ParquetShardWriter
from .shard_writer import ShardWriter

Format = Literal["jsonl", "parquet"]


def check_installed(format: str, compression: str) -> None:  # noqa: A002 - what it is
    """See that what a format needs is there.

    Raises:
        ConfigurationError: It is not installed.
    """
    _ = load() if format == "parquet" else compressor_of(compression)


def writer_of(spec: ExportSpec, store: Store, run: int, shard: str, *, unique: bool = False) -> ShardWriter:
    """The writer of a shard's parts.

    Args:
        spec: What the destination holds.
        store: The destination.
        run: The run's number.
        shard: Whose parts they are.
        unique: Whether their names are of this try alone: where two may try at a time, one must not write what
            the other has committed.
    """
    kind = ParquetShardWriter if spec.format == "parquet" else JsonLinesWriter
    mark = f"-{secrets.token_hex(4)}" if unique else ""
    return kind(store, run, shard, spec.compression, mark)
