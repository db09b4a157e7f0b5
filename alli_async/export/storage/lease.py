"""The lock of an export in an object store: an object that its holder renews."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from ...errors import ExportError
from .object_errors import load_obstore, store_refusals
from .store import JOURNAL

_LOCK = f"{JOURNAL}/lock"
_CLOCK = f"{JOURNAL}/clock"
# A lock that was not renewed for so many seconds, by the store's clock, is nobody's. It is longer than the time
# since it was renewed at which a request is still begun and the time such a request is tried for, together.
ABANDONED = 120.0
_RENEW, _FRESH = 15.0, 25.0


class Holder(Struct, kw_only=True):
    """What a lock says.

    Attributes:
        token: Another for each export.
        host: Where it runs.
        process: Its number there.
        life: Of the process: the same again is the same process, on Linux; elsewhere None.
        renewed: How often it was written; so no two versions are the same.
        held: Whether it still is.
    """

    token: str
    host: str
    process: int
    life: str | None
    renewed: int = 0
    held: bool = True


class Lease:
    """A lock in an object store.

    It is put where none is, or in place of one that was let go or abandoned: its process is known to be dead, or
    it was not renewed for two minutes by the store's clock. A thread renews it. A holder who comes to himself
    after a long pause finds that it is another's, and writes no more.

    Args:
        store: Of obstore.
        place: What is locked, for errors.
    """

    def __init__(self, store: Any, place: str) -> None:
        self._api, self._errors = load_obstore()
        self._store = store
        self._place = place
        self._holder = Holder(
            token=secrets.token_hex(8), host=socket.gethostname(), process=os.getpid(), life=life(os.getpid())
        )
        self._version: dict[str, str] | None = None
        self._renewed = (0.0, 0.0)
        self._lost: Holder | None = None
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="alli-async lock", daemon=True)

    def acquire(self) -> None:
        """Take it.

        Raises:
            ExportError: Another export holds it, or the store refuses, or writes over what it was told not to.
        """
        with store_refusals("write", f"{self._place}/{_LOCK}"):
            try:
                self._put("create")
                self._see_that_nothing_is_written_over()
            except self._errors.AlreadyExistsError:
                found, meta = self._read()
                self._see_that_it_is_free(found, meta)
                self._version = _version(meta)
                self._renew()
        if self._lost is not None:
            raise self._busy(self._lost)
        self._thread.start()

    def check(self) -> None:
        """See that it is still held.

        Raises:
            ExportError: Another export has taken over, or that cannot be told.
        """
        with self._guard:
            # The clock that stands still while the machine sleeps, and the one that may be set.
            passed = max(now - then for now, then in zip(_now(), self._renewed, strict=True))
            if self._lost is None and passed > _FRESH:
                with store_refusals("renew", f"{self._place}/{_LOCK}"):
                    self._renew()
        if self._lost is not None:
            raise self._busy(self._lost)
        if self._ended.is_set():
            raise ExportError(f"{self._place} is not held any more")

    def release(self) -> None:
        """Let it go. What cannot be written now is abandoned."""
        self._ended.set()
        self._thread.join()
        self._holder.held = False
        if self._lost is None:
            with contextlib.suppress(self._errors.BaseError, OSError):
                self._put(self._version)

    def _keep(self) -> None:
        while not self._ended.wait(_RENEW):
            with self._guard, contextlib.suppress(self._errors.BaseError, OSError, ExportError):
                self._renew()

    def _renew(self) -> None:
        try:
            self._put(self._version)
        except self._errors.PreconditionError:
            found, meta = self._read()
            if found.token != self._holder.token:
                self._lost = found
                return
            self._version = _version(meta)

    def _put(self, mode: Any) -> None:
        began = _now()
        self._holder.renewed += 1
        data = msgspec.json.format(msgspec.json.encode(self._holder), indent=1) + b"\n"
        self._version = _version(self._api.put(self._store, _LOCK, data, mode=mode))
        self._renewed = began

    def _read(self) -> tuple[Holder, Any]:
        found = self._api.get(self._store, _LOCK)
        try:
            return msgspec.json.decode(bytes(found.bytes()), type=Holder), found.meta
        except msgspec.DecodeError:
            raise ExportError(f"{self._place}/{_LOCK} is not a lock of this version; remove it") from None

    def _see_that_nothing_is_written_over(self) -> None:
        """A store that does not know conditional writes takes them for plain ones, and does not say so."""
        with contextlib.suppress(self._errors.AlreadyExistsError):
            self._put("create")
            raise ExportError(
                f"{self._place}: the store writes over what is there, though asked not to (If-None-Match); "
                "an export is not safe in it"
            )

    def _see_that_it_is_free(self, found: Holder, meta: Any) -> None:
        # Our own is there when an answer was lost, and the request sent again.
        if not found.held or found.token == self._holder.token or is_dead(found):
            return
        # The store's clock, not ours: an object that is written now is as old as now.
        self._api.put(self._store, _CLOCK, b"")
        age = (self._api.head(self._store, _CLOCK)["last_modified"] - meta["last_modified"]).total_seconds()
        if age < ABANDONED:
            raise self._busy(found, f"; without a sign of life it counts as dead in {ABANDONED - age:.0f} s")

    def _busy(self, found: Holder, more: str = "") -> ExportError:
        who = f"process {found.process} on {found.host}"
        return ExportError(f"{self._place} is being written by another export ({who}){more}")


def _now() -> tuple[float, float]:
    return time.monotonic(), time.time()


def _version(meta: Any) -> dict[str, str]:
    """What tells this version of an object from another, for a put in its place."""
    return {name: meta[name] for name in ("e_tag", "version") if meta[name] is not None}


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
