"""The storage that an export needs: parts that are there whole or not at all, and small records, written once."""

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
    """The record exists already: another process was first."""


class Sink(Protocol):
    """A part that is being written. The file is not visible until `commit` renames it."""

    def write(self, data: bytes, /) -> int:
        """Add bytes."""
        ...

    def commit(self, name: str) -> str:
        """Make the file durable, and rename it to a part, which replaces a part of the same name.

        Args:
            name: The name to begin with.

        Returns:
            The name of the part, which begins with `name`.
        """
        ...

    def discard(self) -> None:
        """Delete the temporary file. After `commit` it does nothing."""
        ...


class PartStore(Protocol):
    """A store whose parts can be read."""

    def open(self, name: str) -> IO[bytes]:
        """A part, to be read."""
        ...


class Store(PartStore, Protocol):
    """The storage of an export. The methods block and are meant for worker threads.

    Names are relative, with `/` between their parts. Every method raises `ExportError` when it is refused.
    """

    def lock(self) -> AbstractContextManager[None]:
        """Hold the store alone. A store that another process holds is an error.

        The lock of a killed process is released.
        """
        ...

    def sink(self, name: str) -> Sink:
        """Open a temporary file. The final name, given to `commit`, begins with this name."""
        ...

    def put_record(self, name: str, data: bytes, *, replace: bool = False) -> None:
        """Write a record as a whole, and make it durable.

        Args:
            name: The name of the record.
            data: The content of the record.
            replace: Whether an existing record is replaced.

        Raises:
            TakenError: The record exists, and `replace` is False.
        """
        ...

    def names(self, folder: str) -> dict[str, int]:
        """The parts or records in a folder, without temporary files, and the size of each in bytes."""
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
    """Turn a refusal of the file system into one clear error."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        kind = MissingError if isinstance(error, FileNotFoundError) else ExportError
        raise kind(f"cannot {verb} {place}: {reason}") from None
