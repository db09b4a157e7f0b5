"""Let several machines write one export: records that one machine alone can create, and shares of a budget."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path

from ..._transport.limiter import RateLimiter
from ...errors import ExportError
from ..storage.addresses import local_path
from ..storage.directory import DirectoryStore
from ..storage.files import sync_directory
from ..storage.object_store import ObjectStore
from ..storage.store import JOURNAL, PARTIAL, MissingError, Store, TakenError, file_errors

# Holds the id of the export under way. A worker that finds another id here, or none, commits nothing more.
CLUSTER_SESSION_FILE = f"{JOURNAL}/cluster.json"
# Seconds between two looks at the requests in flight, while a smaller share waits for them to end.
_DRAIN = 0.005


def open_shared(dest: str | os.PathLike[str], *, mode: int | None = None, patient: bool = True) -> Store:
    """Open a store that several machines write to: a record can be created once. Nothing is sent yet.

    Args:
        dest: A directory's path, or an address like `s3://bucket/prefix`.
        mode: The permission bits of files in a directory; None keeps those of the export that is under way.
        patient: Whether an object store that does not answer is tried for a minute instead of ten seconds.

    Raises:
        ConfigurationError: The destination is neither, or needs a library that is not installed.
    """
    path = local_path(dest)
    return SharedDirectory(path, mode) if path is not None else ObjectStore(os.fspath(dest), patient=patient)


def is_current(store: Store, session: str) -> bool:
    """Whether the export under way in a store has this id."""
    try:
        return store.read(CLUSTER_SESSION_FILE).strip() == session.encode()
    except MissingError:
        return False


def check_same_place(store: Store, session: str) -> None:
    """Check that a store is the one that the export writes to, and that this machine can write to it.

    Raises:
        ExportError: It is another store, or this machine cannot write to it.
    """
    if not is_current(store, session):
        raise ExportError(
            f"{store} is not the place that the export writes to; the destination must be storage that the "
            "exporting process and all workers share: a directory under the same path, or one object store"
        )
    trial = f"{JOURNAL}/cluster-{secrets.token_hex(8)}.json"
    store.put_record(trial, b"")
    store.remove(trial)


class SharedDirectory(DirectoryStore):
    """A directory that several machines write to: a record can be created once."""

    def __init__(self, root: Path, mode: int | None = None) -> None:
        # Another process may have another working directory.
        super().__init__(root.absolute(), mode)

    def put_record(self, name: str, data: bytes, *, replace: bool = False) -> None:
        """Write a record. A hard link, unlike a rename, never replaces a file.

        Raises:
            TakenError: The record exists and `replace` is False.
        """
        if replace:
            super().put_record(name, data, replace=True)
            return
        folder, _, file = name.rpartition("/")
        # The next run removes the temporary file if this process is killed here.
        temporary = f"{folder}/.{file}.{secrets.token_hex(4)}{PARTIAL}"
        sink = self.sink(temporary)
        try:
            sink.write(data)
            sink.commit(temporary)
            with file_errors("write", self._root / name):
                self._link(self._root / temporary, self._root / name)
        finally:
            sink.discard()
            self.remove(temporary)

    @staticmethod
    def _link(temporary: Path, path: Path) -> None:
        try:
            os.link(temporary, path)
        except FileExistsError:
            # A network file system may have made the link and lost the answer: then it is our own link.
            if not path.samefile(temporary):
                raise TakenError(f"cannot write {path}: it is there already") from None
        sync_directory(path.parent)


class LimiterShare(RateLimiter):
    """A worker's share of what an export may have in flight, and of its requests per second.

    Args:
        parent: The worker's own limiter, which adapts to what the server accepts.
    """

    def __init__(self, parent: RateLimiter) -> None:
        super().__init__(1, parent=parent)

    async def change(self, ceiling: int, rate_limit: float | None) -> None:
        """Change the share, and wait until no more requests are in flight than it allows."""
        self.resize(ceiling, rate_limit)
        while self.in_flight > ceiling:  # noqa: ASYNC110 - the limiter has no event for it
            await asyncio.sleep(_DRAIN)


def split_evenly(budget: int, count: int) -> list[int]:
    """Split a budget into shares as equal as whole numbers can be; where it is too small, some are 0."""
    each, more = divmod(budget, max(count, 1))
    return [each + (number < more) for number in range(count)]
