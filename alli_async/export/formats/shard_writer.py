"""The interface of the writers of all formats, and the parts that they share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from ...models import RawTranscript
from ..records import Part, Quarantined
from ..storage.store import Sink
from .compression import compressor_of

ContentT = TypeVar("ContentT", bound="CompressedPart")


class ShardWriter(Protocol):
    """Writes the parts of a shard. The methods block and are meant for a worker thread, one at a time."""

    @property
    def bytes_in(self) -> int:
        """Size of the conversations' JSON in bytes, before compression."""
        ...

    @property
    def is_projected(self) -> bool:
        """Whether fields are left out or hashed, so that no other file may hold a conversation as it came."""
        ...

    def write(self, transcripts: Sequence[RawTranscript]) -> list[Quarantined]:
        """Write conversations. Returns the conversations that could not be written, and why."""
        ...

    def finish(self) -> list[Quarantined]:
        """Write the conversations that are still in memory. Returns what could not be written."""
        ...

    def commit(self, shard: str) -> list[Part]:
        """Rename the temporary files to the final part names of the shard, once they are finished."""
        ...

    def discard(self) -> None:
        """Delete the temporary files. After `commit` it does nothing."""
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
        """Rename the temporary file to the name of a part, which has so many rows."""
        name = self._sink.commit(name)
        return Part(name=name, rows=rows, bytes=self.bytes_out, sha256=self._hash.hexdigest())

    def discard(self) -> None:
        """Delete the temporary file."""
        self._sink.discard()


class CompressedPart:
    """A part whose bytes are compressed on their way into a sink.

    Args:
        sink: The sink that the part is written to.
        compression: The compression of the part.

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
        """Write what the compressor still holds, and rename the temporary file to the name of a part."""
        self._out.write(self._compressor.flush())
        return self._out.commit(name, self.rows)

    def discard(self) -> None:
        """Delete the temporary file."""
        self._out.discard()


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
        return self._content.bytes_in

    def finish(self) -> list[Quarantined]:
        """There is nothing left to write."""
        return []

    def commit(self, shard: str) -> list[Part]:
        """Rename the temporary file to the final part name of the shard."""
        return [self._content.commit(self._name(shard))]

    def discard(self) -> None:
        """Delete the temporary file."""
        self._content.discard()

    def _name(self, shard: str) -> str:
        return f"conversations/{part_name(self._run, shard)}{self._suffix}"


def part_name(run: int, shard: str) -> str:
    """The name of a shard's parts, without folder and ending."""
    return f"run-{run:05}-shard-{shard}"
