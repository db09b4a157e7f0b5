"""Where an export is kept: parts, whole or not there at all, and small records, which are written once."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Protocol

from ..errors import ExportError

JOURNAL = "_journal"
_LOCK = f"{JOURNAL}/lock"
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


class Store(Protocol):
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
            name: Of the record.
            data: What it says.
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

    def open(self, name: str) -> IO[bytes]:
        """A part, to be read."""
        ...

    def remove(self, name: str) -> None:
        """Remove a part or a record; one that is not there is no error."""
        ...

    def sweep(self) -> None:
        """Remove what a killed process has left half written."""
        ...


@contextlib.contextmanager
def refusals(verb: str, place: str | Path) -> Iterator[None]:
    """Make what the file system refuses one clear error."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        kind = MissingError if isinstance(error, FileNotFoundError) else ExportError
        raise kind(f"cannot {verb} {place}: {reason}") from None


class FileSink:
    """A part in a directory: a temporary name beside the part's, then fsync, rename, fsync of the directory.

    Args:
        path: What it is to be, or about.
        root: What the name given to `commit` is relative to.

    Raises:
        ExportError: From every method, when the file system refuses.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self._path = path
        self._root = root
        self._temporary = temporary = path.with_name(f".{path.name}{PARTIAL}")
        with refusals("write", path):
            make_directory(path.parent)
            # A leftover of a run that was killed is nobody's; anything planted in its place is not followed.
            temporary.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
            self._file = os.fdopen(os.open(temporary, flags, 0o600), "wb", buffering=0)

    def write(self, data: bytes, /) -> int:
        """Add bytes."""
        with refusals("write", self._path):
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
        return len(data)

    def commit(self, name: str) -> str:
        """Make it the part, by this very name."""
        path = self._root / name
        with refusals("write", path):
            os.fsync(self._file.fileno())
            self._file.close()
            self._temporary.replace(path)
            sync_directory(path.parent)
        return name

    def discard(self) -> None:
        """Leave nothing behind. After `commit` it does nothing."""
        # Closing may say again what writing said: that the disk is full.
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)


class DirectoryStore:
    """A directory of this machine, or of one that is mounted on it. Files are 0600, directories 0700."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __str__(self) -> str:
        return str(self._root)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory alone, by `flock`: the system takes it back when the process ends, however."""
        path = self._root / _LOCK
        with refusals("write", path):
            make_directory(path.parent)
            # A link planted here is not followed: what it leads to would be overwritten.
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(path, flags, 0o600)
        try:
            if not _flock(descriptor):
                holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
                raise ExportError(f"{self._root} is being written by another export (process {holder or '?'})")
            with refusals("write", path):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
            yield
        finally:
            os.close(descriptor)

    def sink(self, name: str) -> FileSink:
        """Begin a part, under a temporary name in the same directory."""
        return FileSink(self._root / name, self._root)

    def put_record(self, name: str, data: bytes, *, replace: bool = False) -> None:
        """Write a record the way a part is written."""
        if not replace and (self._root / name).exists():
            raise TakenError(f"cannot write {self._root / name}: it is there already")
        sink = self.sink(name)
        try:
            sink.write(data)
            sink.commit(name)
        finally:
            sink.discard()

    def names(self, folder: str) -> dict[str, int]:
        """Files of a folder and their sizes, without what begins with a dot."""
        with refusals("read", self._root / folder), contextlib.suppress(FileNotFoundError):
            return {
                f"{folder}/{entry.name}" if folder else entry.name: entry.stat().st_size
                for entry in os.scandir(self._root / folder)
                if entry.is_file() and not entry.name.startswith(".")
            }
        return {}

    def read(self, name: str) -> bytes:
        """A record."""
        with refusals("read", self._root / name):
            return (self._root / name).read_bytes()

    def read_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Records by their names."""
        return {name: self.read(name) for name in names}

    def open(self, name: str) -> IO[bytes]:
        """A part, to be read."""
        with refusals("read", self._root / name):
            return (self._root / name).open("rb")

    def remove(self, name: str) -> None:
        """Remove a part or a record; one that is not there is no error."""
        with refusals("remove", self._root / name):
            (self._root / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a killed process has left half written."""
        for folder in ("", "conversations", "chats", JOURNAL):
            with refusals("clean", self._root / folder):
                for left in (self._root / folder).glob(f".*{PARTIAL}"):
                    left.unlink()


def make_directory(path: Path) -> None:
    """Make a directory and those above it, 0700, so that it is still there after the power went."""
    for directory in reversed((path, *path.parents)):
        if not directory.exists():
            directory.mkdir(mode=0o700, exist_ok=True)
            sync_directory(directory.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory last."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flock(descriptor: int) -> bool:
    """Whether the lock was free, and is held now."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
