"""What an export needs of a place: parts that are there whole or not at all, and small records, written once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Protocol

from ...errors import ExportError

JOURNAL = "_journal"
PARTIAL = ".partial"


class MissingError(ExportError):
    """There is no such file."""


class TakenError(ExportError):
    """A record is there already: somebody else was first."""


class Sink(Protocol):
    """A part that is being written; it is nobody's until `commit` gives it a name."""

    def write(self, data: bytes, /) -> int:
        """Add bytes."""
        ...

    def commit(self, name: str) -> str:
        """Make it a part, whole and lasting; gives the name it has got, which begins like this one.

        One that is there under that name already is replaced.
        """
        ...

    def discard(self) -> None:
        """Leave nothing behind. After `commit` it does nothing."""
        ...


class PartStore(Protocol):
    """Where parts can be read."""

    def open(self, name: str) -> IO[bytes]:
        """A part, to be read."""
        ...


class Store(PartStore, Protocol):
    """A place for an export. The methods block and are meant for worker threads.

    Names are relative, with `/` between their parts. Every method raises `ExportError` when it is refused.
    """

    def lock(self) -> AbstractContextManager[None]:
        """Hold the place alone; one that is held is an error. The lock of a killed process is no more."""
        ...

    def sink(self, name: str) -> Sink:
        """Begin a part that is to have about this name."""
        ...

    def put_record(self, name: str, data: bytes, *, replace: bool = False) -> None:
        """Write a record, whole and lasting.

        Args:
            name: The name of the record.
            data: The content of the record.
            replace: Whether one that is there is replaced.

        Raises:
            TakenError: It is there, and is not to be replaced.
        """
        ...

    def names(self, folder: str) -> dict[str, int]:
        """The parts or records in a folder, without what is being written, and how many bytes each has."""
        ...

    def read(self, name: str) -> bytes:
        """A record.

        Raises:
            MissingError: It is not there.
        """
        ...

    def read_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Records by their names."""
        ...

    def remove(self, name: str) -> None:
        """Remove a part or a record; one that is not there is no error."""
        ...

    def sweep(self) -> None:
        """Remove what a killed process has left half written."""
        ...


@contextlib.contextmanager
def file_errors(verb: str, place: str | Path) -> Iterator[None]:
    """Make what the file system refuses one clear error."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        kind = MissingError if isinstance(error, FileNotFoundError) else ExportError
        raise kind(f"cannot {verb} {place}: {reason}") from None
