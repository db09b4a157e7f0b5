"""An export in an object store: S3 and what obstore speaks besides.

Nothing is renamed: an object becomes visible only as a whole. A part is spooled to disk and uploaded under a
unique name. A record is put only where there is none, so the first of two writers wins. A part counts when a
record names it, even if another process wrote at the same time. Parts that no record names are removed once
their run has ended.
"""

from __future__ import annotations

import contextlib
import io
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import IO, Any, NamedTuple

from ...errors import ConfigurationError
from .addresses import ADDRESSES, file_ending
from .files import warn_once
from .lease import DEFAULT_LEASE_TIMES, Lease, LeaseTimes
from .lease_files import ObjectLeaseFile
from .object_errors import load_obstore, store_refusals
from .store import TakenError, file_errors

# What remains of a part's name after its shard's, which ends in a number.
_SUFFIX = re.compile(r"(?:\.[a-z][a-z0-9]*)*$")
# An upload in pieces holds so many of them in memory at a time.
_PIECES_AT_ONCE = 2
# Bytes that are taken from an answer at a time.
_READ = 1 << 20
# Records that are read at a time.
_READ_AT_ONCE = 16


class Patience(NamedTuple):
    """How long a request to a store is tried for.

    Attributes:
        seconds: Seconds after the first try in which it is sent again.
        retries: How often it is sent again at most.
    """

    seconds: float
    retries: int


_PATIENT, _HASTY = Patience(seconds=60, retries=12), Patience(seconds=10, retries=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectTuning:
    """Bounds of the requests to an object store.

    Attributes:
        piece: Bytes of a piece of a large upload. A store takes 10,000 pieces at most.
        patient: For the requests of an export. A lease that is not renewed holds longer than they are tried for.
        hasty: For a lease, and for who only looks whether a store can be reached.
        lease: How long a lease holds.
    """

    piece: int = 8 << 20
    patient: Patience = _PATIENT
    hasty: Patience = _HASTY
    lease: LeaseTimes = DEFAULT_LEASE_TIMES


DEFAULT_TUNING = ObjectTuning()


def _spooling(place: str) -> AbstractContextManager[None]:
    return file_errors("write", f"the temporary file of {place} in {_temporary_directory() or 'memory'}")


def _temporary_directory() -> str | None:
    with contextlib.suppress(FileNotFoundError):
        return tempfile.gettempdir()
    return None


def _open_spool(place: str) -> IO[bytes]:
    """A file without a name on this machine, or a buffer in memory where no directory takes temporary files."""
    if (folder := _temporary_directory()) is None:
        warn_once(
            place, "no temporary directory is writable (TMPDIR); parts are kept in memory until they are sent"
        )
        return io.BytesIO()
    with _spooling(place):
        return tempfile.TemporaryFile(buffering=0, dir=folder)


class ObjectSink:
    """A part on its way: in a file without a name on this machine until it is uploaded, whole.

    Args:
        store: Where it goes.
        place: The expected final address, for errors.

    Raises:
        ExportError: From every method, when the disk or the store refuses.
    """

    def __init__(self, store: ObjectStore, place: str) -> None:
        self._store = store
        self._place = place
        self._file = _open_spool(store.url)

    def write(self, data: bytes, /) -> int:
        """Add bytes."""
        with _spooling(self._place):
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
        return len(data)

    def commit(self, name: str) -> str:
        """Upload the file under a name that no other writer uses. Returns that name."""
        suffix = _SUFFIX.search(name)
        assert suffix is not None  # noqa: S101 - it matches nothing as well
        unique = f"{name[: suffix.start()]}-{secrets.token_hex(4)}{suffix[0]}"
        self._file.seek(0)
        self._store.upload(unique, self._file)
        self.discard()
        return unique

    def discard(self) -> None:
        """Delete the local file. After `commit` it does nothing."""
        with contextlib.suppress(OSError):
            self._file.close()


class ObjectStore:
    """A prefix of a bucket. Credentials are found by obstore: in the environment.

    Args:
        url: Like `s3://bucket/prefix`.
        patient: Whether a request is tried for a minute, not for ten seconds.
        tuning: The bounds of its requests.

    Attributes:
        url: The address, without a slash at its end.

    Raises:
        ConfigurationError: It is not one that can be used, or obstore is not installed.
    """

    def __init__(self, url: str, *, patient: bool = True, tuning: ObjectTuning = DEFAULT_TUNING) -> None:
        self.url = url.rstrip("/")
        self._tuning = tuning
        self._api, _ = load_obstore()
        if file_ending(url) is not None:
            raise ConfigurationError(
                f"dest: {url} is named like a file; in an object store it is a prefix, which may have a slash at "
                "its end"
            )
        self._objects = self._connect(tuning.patient if patient else tuning.hasty)
        self._lease: Lease | None = None

    def __str__(self) -> str:
        return self.url

    def _connect(self, patience: Patience) -> Any:
        from obstore.store import AzureStore, GCSStore, S3Store, from_url

        _, errors = load_obstore()
        backoff = {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=10), "base": 2}
        retry: Any = {
            "max_retries": patience.retries,
            "retry_timeout": timedelta(seconds=patience.seconds),
            "backoff": backoff,
        }
        try:
            made = from_url(self.url, retry_config=retry)
        except (errors.BaseError, ValueError) as error:
            if "Account must be specified" in str(error):
                raise ConfigurationError(f"dest: {self.url} needs AZURE_STORAGE_ACCOUNT_NAME") from None
            raise ConfigurationError(
                f"dest: {self.url} cannot be used: expected an address like {ADDRESSES}, and variables of the "
                "environment that obstore understands"
            ) from None
        if not isinstance(made, (AzureStore, GCSStore, S3Store)):
            raise ConfigurationError(f"dest: {self.url} is no object store that can be held; expected {ADDRESSES}")
        return made

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the prefix alone, by an object that is renewed; see `Lease`."""
        tuning = self._tuning
        lease = Lease(ObjectLeaseFile(self._connect(tuning.hasty), self.url), self.url, tuning.lease)
        lease.acquire()
        self._lease = lease
        try:
            yield
        finally:
            lease.release()

    def _check_lease(self) -> None:
        """Check, before anything is changed, that no other export has taken over the lease."""
        if self._lease is not None:
            self._lease.check()

    def sink(self, name: str) -> ObjectSink:
        """Open a temporary file on this machine."""
        return ObjectSink(self, self._at(name))

    def upload(self, name: str, file: IO[bytes]) -> None:
        """Make a file a part: in one request, or when it is large in pieces of which nothing is seen before."""
        self._check_lease()
        with store_refusals("write", self._at(name)):
            self._api.put(
                self._objects, name, file, chunk_size=self._tuning.piece, max_concurrency=_PIECES_AT_ONCE
            )

    def put_record(self, name: str, data: bytes, *, replace: bool = False) -> None:
        """Write a record; the store itself sees to it that one that is there stays."""
        self._check_lease()
        _, errors = load_obstore()
        with store_refusals("write", self._at(name)):
            try:
                self._api.put(self._objects, name, data, mode="overwrite" if replace else "create")
            except errors.AlreadyExistsError:
                # An answer may have been lost, and the request sent again: then it is ours that is there.
                if self.read(name) != data:
                    raise TakenError(f"cannot write {self._at(name)}: it is there already") from None

    def names(self, folder: str) -> dict[str, int]:
        """The objects of a folder and their sizes."""
        with store_refusals("read", self._at(folder)):
            listed = self._api.list_with_delimiter(self._objects, folder or None)
        return {each["path"]: each["size"] for each in listed["objects"]}

    def read(self, name: str) -> bytes:
        """A record."""
        with store_refusals("read", self._at(name)):
            return bytes(self._api.get(self._objects, name).bytes())

    def read_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Records by their names, many at a time: each takes as long as a way there and back."""
        asked = list(names)
        with ThreadPoolExecutor(_READ_AT_ONCE) as threads:
            return dict(zip(asked, threads.map(self.read, asked), strict=True))

    def open(self, name: str) -> IO[bytes]:
        """A part, to be read: fetched into a file without a name on this machine."""
        place = self._at(name)
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(_open_spool(self.url))
            with store_refusals("read", place):
                for piece in self._api.get(self._objects, name).stream(min_chunk_size=_READ):
                    with _spooling(place):
                        file.write(piece)
            with _spooling(place):
                file.seek(0)
            stack.pop_all()
            return file

    def remove(self, name: str) -> None:
        """Remove a part or a record; one that is not there is no error."""
        self._check_lease()
        with store_refusals("remove", self._at(name)), contextlib.suppress(FileNotFoundError):
            self._api.delete(self._objects, name)

    def sweep(self) -> None:
        """Do nothing: an incomplete upload is never visible."""

    def _at(self, name: str) -> str:
        return f"{self.url}/{name}".rstrip("/")
