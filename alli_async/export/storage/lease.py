"""A lease: the lock of an export where the system has no locks, renewed by its holder."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from ...errors import ExportError, LockedError
from .lease_files import LOCK, LeaseFile
from .store import TakenError


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTimes:
    """How long a lease holds.

    Attributes:
        renew: Seconds between two renewals.
        fresh: Seconds after a renewal in which the holder writes without a look at the lease.
        abandoned: Seconds without a renewal, by the clock of the storage, after which another process may take the
            lease. A write that begins just before `fresh` has passed, and is tried for as long as a request is,
            must end sooner.
    """

    renew: float = 15.0
    fresh: float = 25.0
    abandoned: float = 120.0


DEFAULT_LEASE_TIMES = LeaseTimes()


class Holder(Struct, kw_only=True):
    """The content of a lock: the export that holds it.

    Attributes:
        token: A random name of the export.
        host: The host on which the export runs.
        process: The number of the process on that host.
        life: A mark of the process on Linux, which no other process with this number has; None elsewhere.
        renewed: How often the lock was written, so that no two versions are the same.
        held: Whether the export still holds the lock.
    """

    token: str
    host: str
    process: int
    life: str | None
    renewed: int = 0
    held: bool = True


class Lease:
    """A lock that its holder renews, for storage that has no locks of its own.

    It is created where none is, or takes the place of a lease that was released or abandoned: the process of its
    holder is known to be dead, or did not renew it for two minutes by the clock of the storage. A thread renews
    it. A holder that was suspended for longer finds another holder's lease, and writes nothing more.

    Args:
        file: The file that holds the lease.
        place: The destination, for errors.
        times: How long the lease holds.
    """

    def __init__(self, file: LeaseFile, place: str, times: LeaseTimes = DEFAULT_LEASE_TIMES) -> None:
        self._file = file
        self._place = place
        self._times = times
        self._holder = Holder(
            token=secrets.token_hex(8), host=socket.gethostname(), process=os.getpid(), life=life(os.getpid())
        )
        self._version: Any = None
        self._renewed = (0.0, 0.0)
        self._lost: Holder | None = None
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="alli-async lock", daemon=True)

    def acquire(self) -> None:
        """Take the lease.

        Raises:
            LockedError: Another export holds it.
            ExportError: The storage refuses, or replaces what it was told not to.
        """
        try:
            self._put(self._file.create)
            self._check_that_nothing_is_replaced()
        except TakenError:
            found, self._version = self._read()
            self._check_that_it_is_free(found)
            self._renew()
        if self._lost is not None:
            raise self._busy(self._lost)
        self._thread.start()

    def check(self) -> None:
        """Check that the lease is still held.

        Raises:
            LockedError: Another export has taken over.
            ExportError: The lease was released, or the storage refuses.
        """
        with self._guard:
            # The clock that stands still while the machine sleeps, and the clock that may be set.
            passed = max(now - then for now, then in zip(_now(), self._renewed, strict=True))
            if self._lost is None and passed > self._times.fresh:
                self._renew()
        if self._lost is not None:
            raise self._busy(self._lost)
        if self._ended.is_set():
            raise ExportError(f"{self._place} is not held any more")

    def release(self) -> None:
        """Release the lease. Where that cannot be written, the lease expires."""
        self._ended.set()
        self._thread.join()
        self._holder.held = False
        if self._lost is None:
            with contextlib.suppress(ExportError):
                self._put(self._replace)

    def _keep(self) -> None:
        while not self._ended.wait(self._times.renew):
            with self._guard, contextlib.suppress(ExportError):
                self._renew()

    def _renew(self) -> None:
        try:
            self._put(self._replace)
        except TakenError:
            found, version = self._read()
            if found.token != self._holder.token:
                self._lost = found
                return
            self._version = version

    def _replace(self, data: bytes) -> Any:
        return self._file.replace(data, self._version)

    def _put(self, write: Callable[[bytes], Any]) -> None:
        began = _now()
        self._holder.renewed += 1
        self._version = write(msgspec.json.format(msgspec.json.encode(self._holder), indent=1) + b"\n")
        self._renewed = began

    def _read(self) -> tuple[Holder, Any]:
        data, version = self._file.read()
        if not data:
            # Its holder has only just created it, or was killed then.
            return Holder(token="", host="an unknown host", process=0, life=None), version
        try:
            return msgspec.json.decode(data, type=Holder), version
        except msgspec.DecodeError:
            raise ExportError(f"{self._place}/{LOCK} is not a lock of this version; remove it") from None

    def _check_that_nothing_is_replaced(self) -> None:
        """A store that does not know conditional writes takes them for plain writes, and does not say so."""
        with contextlib.suppress(TakenError):
            self._put(self._file.create)
            raise ExportError(
                f"{self._place}: the store writes over what is there, though asked not to (If-None-Match); "
                "an export is not safe in it"
            )

    def _check_that_it_is_free(self, found: Holder) -> None:
        # Our own is there when an answer was lost, and the request sent again.
        if not found.held or found.token == self._holder.token or is_dead(found):
            return
        left = self._times.abandoned - self._file.age(self._version)
        if left > 0:
            raise self._busy(found, f"; without a sign of life it counts as dead in {left:.0f} s")

    def _busy(self, found: Holder, more: str = "") -> LockedError:
        who = f"process {found.process} on {found.host}"
        return LockedError(f"{self._place} is being written by another export ({who}){more}")


def _now() -> tuple[float, float]:
    return time.monotonic(), time.time()


def life(process: int) -> str | None:
    """A name for the life of a process on this machine; None where the system has none, or does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        numbers = Path("/proc/self/ns/pid").readlink()
        # Behind its name, in parentheses, which may hold anything: the state is the 3rd field, the start the 22nd.
        fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return f"{boot} {numbers} {0 if fields[0] in (b'Z', b'X') else int(fields[19])}"


def is_dead(holder: Holder) -> bool:
    """Whether the process is known to be dead: it was one of this machine, and is not there any more."""
    here = life(os.getpid())
    if holder.life is None or here is None or holder.life.rsplit(" ", 1)[0] != here.rsplit(" ", 1)[0]:
        return False
    with contextlib.suppress(PermissionError):
        try:
            os.kill(holder.process, 0)
        except ProcessLookupError:
            return True
    return life(holder.process) not in (None, holder.life)
