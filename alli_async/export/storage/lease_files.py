"""What a lease is kept in: an object of a bucket, or files of a directory that cannot be locked."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from .files import directory_mode, make_directory, open_new, sync_file
from .object_errors import load_obstore, store_refusals
from .store import JOURNAL, PARTIAL, MissingError, TakenError, file_errors

LOCK = f"{JOURNAL}/lock"
_CLOCK = f"{JOURNAL}/clock"


class LeaseFile(Protocol):
    """A file that one of several processes creates or replaces.

    A version is whatever tells one content of the file from another; only the file itself looks into it.
    """

    def create(self, data: bytes) -> Any:
        """Write the file where none is.

        Returns:
            Its version.

        Raises:
            TakenError: There is one.
        """
        ...

    def replace(self, data: bytes, version: Any) -> Any:
        """Write the file in place of a version.

        Returns:
            Its new version.

        Raises:
            TakenError: Another process has replaced that version.
        """
        ...

    def read(self) -> tuple[bytes, Any]:
        """The content and its version."""
        ...

    def age(self, version: Any) -> float:
        """Seconds since a version was written, by the clock of the storage."""
        ...


class ObjectLeaseFile:
    """An object, replaced by conditional writes.

    Args:
        store: The store, as obstore knows it.
        place: The address of the destination, for errors.
    """

    def __init__(self, store: Any, place: str) -> None:
        self._api, self._errors = load_obstore()
        self._store = store
        self._name = f"{place}/{LOCK}"

    def create(self, data: bytes) -> Any:
        """Write the object where none is."""
        with self._refusals(self._errors.AlreadyExistsError):
            return self._api.put(self._store, LOCK, data, mode="create")

    def replace(self, data: bytes, version: Any) -> Any:
        """Write the object in place of a version."""
        tags: Any = {name: version[name] for name in ("e_tag", "version") if version[name] is not None}
        with self._refusals(self._errors.PreconditionError):
            return self._api.put(self._store, LOCK, data, mode=tags)

    def read(self) -> tuple[bytes, Any]:
        """The content of the object and its version."""
        with store_refusals("read", self._name):
            found = self._api.get(self._store, LOCK)
            return bytes(found.bytes()), found.meta

    def age(self, version: Any) -> float:
        """Seconds since a version was written: an object that is written now is as old as now."""
        with store_refusals("write", self._name):
            self._api.put(self._store, _CLOCK, b".")
            now = self._api.head(self._store, _CLOCK)["last_modified"]
        return float((now - version["last_modified"]).total_seconds())

    @contextlib.contextmanager
    def _refusals(self, taken: type[Exception]) -> Iterator[None]:
        with store_refusals("write", self._name):
            try:
                yield
            except taken:
                raise TakenError(f"{self._name} is another export's") from None


class DirectoryLeaseFile:
    """Numbered files, of which the highest is the lease, on a file system without file locks.

    A version is the number. To take over version n is to create file n + 1, which one process alone can do; the
    holder rewrites its own file in place. The highest file is never removed, so no number is used twice.

    Args:
        root: The destination.
        mode: The permission bits of the files.
    """

    def __init__(self, root: Path, mode: int) -> None:
        self._folder = root / JOURNAL
        self._mode = mode
        self._own: int | None = None

    def create(self, data: bytes) -> int:
        """Write the first file."""
        if (highest := self._highest()) is not None:
            raise TakenError(f"{self._path(highest)} is another export's")
        return self._create(1, data)

    def replace(self, data: bytes, version: int) -> int:
        """Write the holder's own file again, or the next one in place of another holder's."""
        if version != self._own:
            number = self._create(version + 1, data)
            self._remove_below(number)
            return number
        path = self._path(version)
        if self._highest() != version:
            raise TakenError(f"{path} is another export's")
        temporary = path.with_name(f".{path.name}{PARTIAL}")
        with file_errors("write", path):
            # A reader never sees half of it.
            temporary.unlink(missing_ok=True)
            self._write(temporary, data)
            temporary.replace(path)
        return version

    def read(self) -> tuple[bytes, int]:
        """The content of the highest file and its number."""
        highest = self._highest()
        if highest is None:
            raise MissingError(f"cannot read {self._path(1)}: it is not there")
        with file_errors("read", self._path(highest)):
            return self._path(highest).read_bytes(), highest

    def age(self, version: int) -> float:
        """Seconds since a file was written: a file that is written now is as old as now."""
        path, clock = self._path(version), self._folder / "clock"
        with file_errors("write", clock):
            clock.write_bytes(b".")
            return clock.stat().st_mtime - path.stat().st_mtime

    def _create(self, number: int, data: bytes) -> int:
        path = self._path(number)
        with file_errors("write", path):
            make_directory(path.parent, directory_mode(self._mode))
            try:
                self._write(path, data)
            except FileExistsError:
                raise TakenError(f"{path} is another export's") from None
        self._own = number
        return number

    def _write(self, path: Path, data: bytes) -> None:
        with open_new(path, self._mode) as file:
            file.write(data)
            sync_file(file.fileno(), path)

    def _highest(self) -> int | None:
        return max(self._numbers(), default=None)

    def _numbers(self) -> list[int]:
        with file_errors("read", self._folder), contextlib.suppress(FileNotFoundError):
            found = (re.fullmatch(r"lease-(\d+)", name) for name in os.listdir(self._folder))
            return [int(each[1]) for each in found if each]
        return []

    def _remove_below(self, number: int) -> None:
        for each in self._numbers():
            if each < number:
                with contextlib.suppress(OSError):
                    self._path(each).unlink()

    def _path(self, number: int) -> Path:
        return self._folder / f"lease-{number:05}"
