"""A directory as a store: temporary names, fsync and rename; a lock that the system takes back from the dead."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from ...errors import ExportError
from .store import JOURNAL, PARTIAL, TakenError, file_errors

_LOCK = f"{JOURNAL}/lock"


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
        with file_errors("write", path):
            make_directory(path.parent)
            # A leftover of a run that was killed is nobody's; anything planted in its place is not followed.
            temporary.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
            self._file = os.fdopen(os.open(temporary, flags, 0o600), "wb", buffering=0)

    def write(self, data: bytes, /) -> int:
        """Add bytes."""
        with file_errors("write", self._path):
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
        return len(data)

    def commit(self, name: str) -> str:
        """Make it the part, by this very name."""
        path = self._root / name
        with file_errors("write", path):
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
        with file_errors("write", path):
            make_directory(path.parent)
            # A link planted here is not followed: what it leads to would be overwritten.
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(path, flags, 0o600)
        try:
            if not _flock(descriptor):
                holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
                raise ExportError(f"{self._root} is being written by another export (process {holder or '?'})")
            with file_errors("write", path):
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
        with file_errors("read", self._root / folder), contextlib.suppress(FileNotFoundError):
            return {
                f"{folder}/{entry.name}" if folder else entry.name: entry.stat().st_size
                for entry in os.scandir(self._root / folder)
                if entry.is_file() and not entry.name.startswith(".")
            }
        return {}

    def read(self, name: str) -> bytes:
        """A record."""
        with file_errors("read", self._root / name):
            return (self._root / name).read_bytes()

    def read_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Records by their names."""
        return {name: self.read(name) for name in names}

    def open(self, name: str) -> IO[bytes]:
        """A part, to be read."""
        with file_errors("read", self._root / name):
            return (self._root / name).open("rb")

    def remove(self, name: str) -> None:
        """Remove a part or a record; one that is not there is no error."""
        with file_errors("remove", self._root / name):
            (self._root / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a killed process has left half written."""
        for folder in ("", "conversations", "chats", JOURNAL):
            with file_errors("clean", self._root / folder):
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
