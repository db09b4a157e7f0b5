"""A directory as a store: temporary names, fsync and rename.

Its lock is a file lock, which the system releases when the process ends.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import IO

from ...errors import LockedError
from .files import (
    PRIVATE,
    directory_mode,
    make_directory,
    open_new,
    set_mode,
    sync_directory,
    sync_file,
    warn_once,
)
from .lease import DEFAULT_LEASE_TIMES, Lease, LeaseTimes
from .lease_files import LOCK, DirectoryLeaseFile
from .locking import LocksUnsupportedError, try_lock
from .store import JOURNAL, PARTIAL, TakenError, file_errors

# Temporary names of parts and records: they begin with the run's number or with the name of a record.
_TEMPORARY = re.compile(
    r"\.{1,2}(?:run-\d{5,}-|export\.json|cluster|c?lock|manifest\.json|quarantine\.jsonl|deleted\.jsonl)"
)


class FileSink:
    """A part in a directory: a temporary name beside the part's, then fsync, rename, fsync of the directory.

    Args:
        path: The expected final path.
        root: The directory that the name given to `commit` is relative to.
        mode: The permission bits of the file.
        check: Called before the part becomes visible; raises when the destination is not held any more.

    Raises:
        ExportError: From every method, when the file system refuses.
    """

    def __init__(
        self, path: Path, root: Path, mode: int = PRIVATE, check: Callable[[], None] = lambda: None
    ) -> None:
        self._path = path
        self._root = root
        self._check = check
        self._temporary = temporary = path.with_name(f".{path.name}{PARTIAL}")
        with file_errors("write", path):
            make_directory(path.parent, directory_mode(mode))
            # Remove the leftover of a killed run; never follow a link in its place.
            temporary.unlink(missing_ok=True)
            self._file = open_new(temporary, mode)

    def write(self, data: bytes, /) -> int:
        """Add bytes."""
        with file_errors("write", self._path):
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
        return len(data)

    def commit(self, name: str) -> str:
        """Make the file durable, and rename it to exactly this name."""
        path = self._root / name
        self._check()
        with file_errors("write", path):
            sync_file(self._file.fileno(), path)
            self._file.close()
            self._temporary.replace(path)
            sync_directory(path.parent)
        return name

    def discard(self) -> None:
        """Delete the temporary file. After `commit` it does nothing."""
        # Closing a file of a full disk may raise the error of the write again.
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)


class DirectoryStore:
    """A directory of this machine, or of a file system that is mounted on it.

    Args:
        root: The path of the directory.
        mode: The permission bits of the files that are written. Whoever may read these files may also enter the
            directories that are made. None keeps what the latest export into this directory had, at first 0600.
        lease_times: How long a lease holds, where the file system has no file locks.
    """

    def __init__(
        self, root: Path, mode: int | None = None, *, lease_times: LeaseTimes = DEFAULT_LEASE_TIMES
    ) -> None:
        self._root = root
        self._lease_times = lease_times
        self._asked_mode = mode
        self._lease: Lease | None = None

    def __str__(self) -> str:
        return str(self._root)

    @cached_property
    def _mode(self) -> int:
        if self._asked_mode is not None:
            return self._asked_mode
        try:
            return PRIVATE | (self._root / LOCK).stat().st_mode & 0o777
        except OSError:
            return PRIVATE

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory alone, by a file lock, which the system releases however the process ends.

        Where the file system has no file locks, the directory is held by a lease.
        """
        descriptor = self._open_lock()
        try:
            try:
                self._take_lock(descriptor)
            except LocksUnsupportedError:
                self._take_lease()
            yield
        finally:
            os.close(descriptor)
            if self._lease is not None:
                self._lease.release()

    def _open_lock(self) -> int:
        path = self._root / LOCK
        # Never follow a link in the place of the lock: its target would be overwritten.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        with file_errors("write", path):
            make_directory(path.parent, directory_mode(self._mode))
            return os.open(path, flags, self._mode)

    def _take_lock(self, descriptor: int) -> None:
        with file_errors("lock", self._root / LOCK):
            if not try_lock(descriptor):
                holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
                raise LockedError(f"{self._root} is being written by another export (process {holder or '?'})")
            set_mode(descriptor, self._mode)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, b"%d\n" % os.getpid())

    def _take_lease(self) -> None:
        warn_once(
            str(self._root),
            "the file system has no file locks; the export holds the directory by a file that it renews, so after "
            "a kill on another machine the next run may have to wait for two minutes",
        )
        lease = Lease(DirectoryLeaseFile(self._root, self._mode), str(self._root), self._lease_times)
        lease.acquire()
        self._lease = lease

    def _check_lease(self) -> None:
        """Check, before anything is changed, that no other export has taken over the lease."""
        if self._lease is not None:
            self._lease.check()

    def sink(self, name: str) -> FileSink:
        """Open a temporary file in the directory of the part."""
        return FileSink(self._root / name, self._root, self._mode, self._check_lease)

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
        self._check_lease()
        with file_errors("remove", self._root / name):
            (self._root / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a killed process has left half written; temporary names of others stay."""
        for folder in ("", "conversations", "chats", JOURNAL):
            with file_errors("clean", self._root / folder):
                for left in (self._root / folder).glob(f".*{PARTIAL}"):
                    if _TEMPORARY.match(left.name):
                        left.unlink()
