"""Locks on an open file that the system releases when the process ends, on every platform."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

from ...errors import LockedError
from .store import file_errors

# A network share or a FUSE file system without a lock service. ENOTSUP and EOPNOTSUPP differ on some systems.
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
# Windows locks ranges of bytes and keeps others from reading them. This byte is far behind what the file holds.
_LOCKED_BYTE = 1 << 30


class LocksUnsupportedError(Exception):
    """The file system has no file locks."""


class FileLock:
    """A lock file beside a file, held while that file is written, and removed afterwards.

    Where the file system has no locks, nothing is held.

    Args:
        path: The lock file.
        place: What is locked, for errors.
        mode: The permission bits of the lock file.

    Raises:
        LockedError: Another process holds it.
        ExportError: The file system refuses.
    """

    def __init__(self, path: Path, place: Path, mode: int) -> None:
        self._path = path
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        with file_errors("write", place):
            while True:
                self._descriptor = os.open(path, flags, mode)
                if not self._try():
                    os.close(self._descriptor)
                    raise LockedError(f"{place} is being written by another export")
                if self._is_current():
                    return
                # Its holder removed it between our opening and our locking it.
                os.close(self._descriptor)

    def _try(self) -> bool:
        try:
            return try_lock(self._descriptor)
        except LocksUnsupportedError:
            return True

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Remove the lock file, and let the lock go."""
        # It is removed while it is held; where an open file cannot be removed, it stays and does no harm.
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._descriptor)


def try_lock(descriptor: int) -> bool:
    """Lock an open file unless another process has locked it.

    Args:
        descriptor: A file descriptor that is open for reading and writing.

    Returns:
        Whether the lock is held now.

    Raises:
        LocksUnsupportedError: The file system has no file locks.
        OSError: The file system refuses.
    """
    try:
        return _try_msvcrt(descriptor) if sys.platform == "win32" else _try_flock(descriptor)
    except OSError as error:
        if error.errno in _WITHOUT_LOCKS:
            raise LocksUnsupportedError from None
        raise


def _try_flock(descriptor: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _try_msvcrt(descriptor: int) -> bool:
    from importlib import import_module

    msvcrt = import_module("msvcrt")
    os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except PermissionError:
        return False
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)
    return True
