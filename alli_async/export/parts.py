"""Parts of JSON Lines: a conversation with all its chats a line, as the server sent it, compressed as it comes."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, Literal, Protocol

from ..errors import ConfigurationError
from ..models import RawTranscript
from .records import Bad, Part
from .stores import Sink, Store, refusals
from .text import NO_TEXT, is_utf8

Format = Literal["jsonl", "parquet"]
Compression = Literal["gzip", "zstd", "none"]

SUFFIXES = {"gzip": ".jsonl.gz", "zstd": ".jsonl.zst", "none": ".jsonl"}


class Compressor(Protocol):
    """What takes bytes and gives fewer."""

    def compress(self, data: bytes, /) -> bytes:
        """Take some; gives what is ready."""
        ...

    def flush(self) -> bytes:
        """The rest."""
        ...


class ShardWriter(Protocol):
    """Writes the parts of a shard. The methods block and are meant for a worker thread, one at a time."""

    @property
    def bytes_in(self) -> int:
        """Of the records, before they are compressed."""
        ...

    def write(self, records: Sequence[RawTranscript]) -> list[Bad]:
        """Add records; gives those that could not be, and why."""
        ...

    def finish(self) -> list[Bad]:
        """Write what was only taken so far; gives what could not be."""
        ...

    def commit(self, shard: str) -> list[Part]:
        """Make the parts those of a shard, once they are finished."""
        ...

    def discard(self) -> None:
        """Leave nothing behind. After `commit` it does nothing."""
        ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _gzip() -> Compressor:
    """A gzip compressor, of isal where it is installed, which is many times as fast."""
    module: Any
    try:
        from isal import isal_zlib as module
    except ImportError:
        module = zlib
    compressor: Compressor = module.compressobj(level=1, wbits=31)
    return compressor


def _zstd() -> Compressor:
    """A zstd compressor, of the standard library from Python 3.14 on."""
    made: Compressor = _zstd_module().ZstdCompressor(level=3)
    return made


def _zstd_module() -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ImportError):
            return import_module(name)
    raise ConfigurationError("compression: zstd needs backports.zstd: pip install 'alli-async[zstd]'")


_COMPRESSORS: dict[str, Callable[[], Compressor]] = {"gzip": _gzip, "zstd": _zstd, "none": _Plain}


def compressor_of(compression: str) -> Compressor:
    """A compressor by its name.

    Raises:
        ConfigurationError: What it needs is not installed.
    """
    return _COMPRESSORS[compression]()


class Hashed:
    """A sink that knows what went through it.

    Attributes:
        bytes_out: How many bytes.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._hash = hashlib.sha256()
        self.bytes_out = 0

    def write(self, data: bytes, /) -> int:
        """Add bytes."""
        self._hash.update(data)
        self.bytes_out += len(data)
        return self._sink.write(data)

    def commit(self, name: str, rows: int) -> Part:
        """Make it a part of so many rows."""
        name = self._sink.commit(name)
        return Part(name=name, rows=rows, bytes=self.bytes_out, sha256=self._hash.hexdigest())

    def discard(self) -> None:
        """Leave nothing behind."""
        self._sink.discard()


class Lines:
    """Compressed lines into a sink.

    Attributes:
        bytes_in: Of the lines.
        rows: How many lines.
    """

    def __init__(self, sink: Sink, compression: str) -> None:
        self.bytes_in = 0
        self.rows = 0
        self._out = Hashed(sink)
        self._compressor = compressor_of(compression)

    def write(self, lines: Sequence[bytes]) -> None:
        """Add lines, which hold no newline themselves."""
        data = b"\n".join(lines) + b"\n"
        self.bytes_in += len(data)
        self.rows += len(lines)
        if packed := self._compressor.compress(data):
            self._out.write(packed)

    def commit(self, name: str) -> Part:
        """Make it a part."""
        self._out.write(self._compressor.flush())
        return self._out.commit(name, self.rows)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._out.discard()


def read_lines(store: Store, part: Part) -> Iterator[bytes]:
    """The lines of a part, without their newlines."""
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(store.open(part.name))
        if part.name.endswith(".gz"):
            file = stack.enter_context(gzip.open(file))
        elif part.name.endswith(".zst"):
            file = stack.enter_context(_zstd_module().open(file))
        with refusals("read", part.name):
            for line in file:
                yield line.rstrip(b"\n")


class JsonLines:
    """The part of a shard, as JSON Lines."""

    def __init__(self, store: Store, run: int, shard: str, compression: str, mark: str = "") -> None:
        self._run = run
        self._suffix = mark + SUFFIXES[compression]
        self._lines = Lines(store.sink(self._name(shard)), compression)

    @property
    def bytes_in(self) -> int:
        """Of the lines."""
        return self._lines.bytes_in

    def write(self, records: Sequence[RawTranscript]) -> list[Bad]:
        """Add records; gives those that are no text, which no reader of the lines could pass."""
        good: list[bytes] = []
        bad: list[RawTranscript] = []
        for record in records:
            if is_utf8(record.json):
                good.append(record.json)
            else:
                bad.append(record)
        if good:
            self._lines.write(good)
        return [Bad(id=each.id, why=NO_TEXT, record=each.json.decode("utf-8", "replace")) for each in bad]

    def finish(self) -> list[Bad]:
        """There is nothing left to write."""
        return []

    def commit(self, shard: str) -> list[Part]:
        """Make it the part of a shard."""
        return [self._lines.commit(self._name(shard))]

    def discard(self) -> None:
        """Leave nothing behind."""
        self._lines.discard()

    def _name(self, shard: str) -> str:
        return f"conversations/{part_name(self._run, shard)}{self._suffix}"


def part_name(run: int, shard: str) -> str:
    """What the parts of a shard are called, whatever their kind."""
    return f"run-{run:05}-shard-{shard}"
