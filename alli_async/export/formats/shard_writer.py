"""What the writers of all formats have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from ...models import RawTranscript
from ..records import Part, Quarantined
from ..storage.store import Sink
from .compression import compressor_of

ContentT = TypeVar("ContentT", bound="PartContent")


class ShardWriter(Protocol):
    """Writes the parts of a shard. The methods block and are meant for a worker thread, one at a time."""

    @property
    def bytes_in(self) -> int:
        """Size of the records in bytes, before they are compressed."""
        ...

    @property
    def is_projected(self) -> bool:
        """Whether fields are left out or hashed, so that no other file may hold a record as it came."""
        ...

    def write(self, records: Sequence[RawTranscript]) -> list[Quarantined]:
        """Add records; gives those that could not be, and why."""
        ...

    def finish(self) -> list[Quarantined]:
        """Write what was only taken so far; gives what could not be."""
        ...

    def commit(self, shard: str) -> list[Part]:
        """Make the parts those of a shard, once they are finished."""
        ...

    def discard(self) -> None:
        """Leave nothing behind. After `commit` it does nothing."""
        ...


class HashingSink:
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


class CompressedPart:
    """Bytes that are compressed on their way into a sink.

    Attributes:
        bytes_in: Number of bytes before compression.
        rows: Number of lines or rows.
    """

    def __init__(self, sink: Sink, compression: str) -> None:
        self.bytes_in = 0
        self.rows = 0
        self._out = HashingSink(sink)
        self._compressor = compressor_of(compression)

    def add(self, data: bytes, rows: int) -> None:
        """Add bytes that hold so many rows."""
        self.bytes_in += len(data)
        self.rows += rows
        if packed := self._compressor.compress(data):
            self._out.write(packed)

    def commit(self, name: str) -> Part:
        """Make it a part."""
        self._out.write(self._compressor.flush())
        return self._out.commit(name, self.rows)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._out.discard()


class PartContent(Protocol):
    """Lines or rows that become a part."""

    out: CompressedPart

    def commit(self, name: str) -> Part:
        """Make them a part."""
        ...

    def discard(self) -> None:
        """Leave nothing behind."""
        ...


class OnePartWriter(Generic[ContentT]):
    """A shard writer whose shard is one part, and which writes all that it is given at once.

    Args:
        run: The run's number.
        suffix: The end of the part's name.
    """

    is_projected = False
    _content: ContentT

    def __init__(self, run: int, suffix: str) -> None:
        self._run = run
        self._suffix = suffix

    @property
    def bytes_in(self) -> int:
        """Number of bytes before compression."""
        return self._content.out.bytes_in

    def finish(self) -> list[Quarantined]:
        """There is nothing left to write."""
        return []

    def commit(self, shard: str) -> list[Part]:
        """Make it the part of a shard."""
        return [self._content.commit(self._name(shard))]

    def discard(self) -> None:
        """Leave nothing behind."""
        self._content.discard()

    def _name(self, shard: str) -> str:
        return f"conversations/{part_name(self._run, shard)}{self._suffix}"


def part_name(run: int, shard: str) -> str:
    """What the parts of a shard are called, whatever their kind."""
    return f"run-{run:05}-shard-{shard}"
