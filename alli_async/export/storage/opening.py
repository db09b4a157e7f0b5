"""The store of a destination."""

from __future__ import annotations

import os

from .addresses import local_path
from .directory import DirectoryStore
from .object_store import ObjectStore
from .store import Store


def open_store(dest: str | os.PathLike[str], *, mode: int | None = None) -> Store:
    """The store at a directory's path, or at an address like `s3://bucket/prefix`. Nothing is sent yet.

    Args:
        dest: The path or the address.
        mode: The permission bits of files in a directory; None keeps those of the latest export into it.

    Raises:
        ConfigurationError: It is neither, or what it needs is not installed.
    """
    path = local_path(dest)
    return DirectoryStore(path, mode) if path is not None else ObjectStore(os.fspath(dest))
