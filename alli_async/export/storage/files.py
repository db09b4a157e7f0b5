"""Files and directories with their permission bits and fsync, on every platform and file system."""

from __future__ import annotations

import errno
import logging
import os
import sys
from functools import cache
from pathlib import Path
from typing import IO

from ...errors import ConfigurationError

# Permission bits of files with personal data: nobody else reads them unless that is asked for.
PRIVATE = 0o600

logger = logging.getLogger("alli_async.export")

# CIFS, vboxsf and some FUSE file systems answer one of these to fsync. Everything else is a failure of the disk.
_WITHOUT_SYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
# Some also cannot open a directory, or not for fsync.
_WITHOUT_DIRECTORY_SYNC = _WITHOUT_SYNC | {errno.EBADF, errno.EISDIR, errno.EACCES, errno.EPERM}


@cache
def warn_once(place: str, message: str) -> None:
    """Log a warning about a place; the same warning is logged once in a process."""
    logger.warning("%s: %s", place, message)


def sync_file(descriptor: int, path: Path) -> None:
    """Make the content of an open file survive a power failure, as far as its file system can."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _WITHOUT_SYNC:
            raise
        _warn(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power failure, as far as its file system can."""
    if sys.platform == "win32":
        # Windows has no fsync of a directory; NTFS keeps a journal of its names.
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _WITHOUT_DIRECTORY_SYNC:
            raise
        _warn(path)


def make_directory(path: Path, mode: int) -> None:
    """Make a directory and the missing ones above it, and make their names survive a power failure.

    Args:
        path: The directory.
        mode: The permission bits of the directories that are made.
    """
    for directory in reversed((path, *path.parents)):
        if not directory.exists():
            directory.mkdir(mode=mode, exist_ok=True)
            set_mode(directory, mode)
            sync_directory(directory.parent)


def check_mode(mode: int) -> None:
    """Check permission bits as a caller gave them.

    Raises:
        ConfigurationError: They are none, or the export itself could not read what it writes.
    """
    if not isinstance(mode, int) or isinstance(mode, bool) or not 0 <= mode <= 0o777 or mode & PRIVATE != PRIVATE:
        shown = f"0o{mode:o}" if type(mode) is int and mode >= 0 else repr(mode)
        raise ConfigurationError(
            f"mode: expected permission bits that let the owner read and write, like 0o640, got {shown}"
        )


def directory_mode(mode: int) -> int:
    """The permission bits of a directory for files with these: who may read the files may enter it."""
    return mode | (mode & 0o444) >> 2


def open_new(path: Path, mode: int) -> IO[bytes]:
    """Open a file for writing that is not there yet. A symbolic link in its place is not followed.

    Args:
        path: The file.
        mode: The permission bits of the files.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags, mode), "wb", buffering=0)
    set_mode(file.fileno(), mode)
    return file


def set_mode(path: Path | int, mode: int) -> None:
    """Set the permission bits that the umask took away. A file system without permission bits keeps its own."""
    if sys.platform == "win32":
        return
    try:
        if os.stat(path).st_mode & 0o777 != mode:
            os.chmod(path, mode)
    except OSError as error:
        if error.errno not in _WITHOUT_SYNC | {errno.EPERM, errno.EACCES}:
            raise


def _warn(folder: Path) -> None:
    warn_once(
        str(folder.absolute().anchor),
        "a file system of the export cannot flush directories to disk (fsync); after a power failure the newest "
        "files may be missing, and the next run writes them again",
    )
