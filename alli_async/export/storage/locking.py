"""Locks on an open file that the system releases when the process ends, on every platform."""

from __future__ import annotations

import errno
import os
import sys

# A network share or a FUSE file system without a lock service. ENOTSUP and EOPNOTSUPP differ on some systems.
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
# Windows locks ranges of bytes and keeps others from reading them. This byte is far behind what the file holds.
_LOCKED_BYTE = 1 << 30


class LocksUnsupportedError(Exception):
    """The file system has no file locks."""


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
