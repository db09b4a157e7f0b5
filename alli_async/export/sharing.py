"""What lets several machines write one export: records that one alone can create, and shares of a budget."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path

from .._transport.limiter import RateLimiter
from ..errors import ExportError
from .storage.addresses import local_path
from .storage.directory import DirectoryStore, sync_directory
from .storage.object_store import ObjectStore
from .storage.store import JOURNAL, PARTIAL, MissingError, Store, TakenError, file_errors

# Names the export that is under way. A worker whose own is another, or that finds none, commits nothing more.
SESSION = f"{JOURNAL}/cluster.json"
_DRAIN = 0.005


def open_shared(dest: str | os.PathLike[str], *, patient: bool = True) -> Store:
    """A store that others write to at the same time: of those who create a record, one does. Nothing is sent yet.

    Args:
        dest: A directory's path, or an address like `s3://bucket/prefix`.
        patient: Whether an object store that does not answer is asked for a minute, not for ten seconds.

    Raises:
        ConfigurationError: It is neither, or what it needs is not installed.
    """
    path = local_path(dest)
    return SharedDirectory(path) if path is not None else ObjectStore(os.fspath(dest), patient=patient)


def serves(store: Store, session: str) -> bool:
    """Whether an export is under way in a store, and this is it."""
    try:
        return store.read(SESSION).strip() == session.encode()
    except MissingError:
        return False


def prove(store: Store, session: str) -> None:
    """See that the place is the one that the export writes to, and that it can be written to from here.

    Raises:
        ExportError: It is not, or cannot.
    """
    if not serves(store, session):
        raise ExportError(
            f"{store} is not the place that the export writes to; the destination must be storage that the "
            "exporting process and all workers share: a directory under the same path, or one object store"
        )
    proof = f"{JOURNAL}/cluster-{secrets.token_hex(8)}.json"
    store.put_record(proof, b"")
    store.remove(proof)


class SharedDirectory(DirectoryStore):
    """A directory that others write to at the same time: of those who create a record, one does."""

    def __init__(self, root: Path) -> None:
        # As all others see it, wherever they stand.
        super().__init__(root.absolute())

    def put_record(self, name: str, data: bytes, *, replace: bool = False) -> None:
        """Write a record; a link, unlike a rename, never takes the place of what is there.

        Raises:
            TakenError: It is there, and is not to be replaced.
        """
        if replace:
            super().put_record(name, data, replace=True)
            return
        folder, _, file = name.rpartition("/")
        # Swept up as what it is, should this process be killed here.
        own = f"{folder}/.{file}.{secrets.token_hex(4)}{PARTIAL}"
        sink = self.sink(own)
        try:
            sink.write(data)
            sink.commit(own)
            with file_errors("write", self._root / name):
                self._link(self._root / own, self._root / name)
        finally:
            sink.discard()
            self.remove(own)

    @staticmethod
    def _link(own: Path, path: Path) -> None:
        try:
            os.link(own, path)
        except FileExistsError:
            # A link whose answer the network lost is asked for again, and is there: our own.
            if not path.samefile(own):
                raise TakenError(f"cannot write {path}: it is there already") from None
        sync_directory(path.parent)


class Share(RateLimiter):
    """A worker's share of what an export may have in flight, and of its requests per second.

    Args:
        parent: The worker's own limiter, which adapts to what the server takes.
    """

    def __init__(self, parent: RateLimiter) -> None:
        super().__init__(1, parent=parent)

    async def change(self, ceiling: int, rate_limit: float | None) -> None:
        """Take another share, and wait until no more is in flight than that allows."""
        self.resize(ceiling, rate_limit)
        while self.in_flight > ceiling:  # noqa: ASYNC110 - the limiter tells nobody
            await asyncio.sleep(_DRAIN)


def shares(budget: int, count: int) -> list[int]:
    """A budget cut into so many shares, as equal as whole numbers are; where it is too small, some are 0."""
    each, more = divmod(budget, max(count, 1))
    return [each + (number < more) for number in range(count)]
