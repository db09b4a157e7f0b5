"""A part: a file of JSON Lines that is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from ..errors import ExportError

Compression = Literal["gzip", "none"]


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _gzip() -> _Compressor:
    """A gzip compressor, of isal where it is installed."""
    module: Any
    try:
        from isal import isal_zlib as module
    except ImportError:
        module = zlib
    compressor: _Compressor = module.compressobj(level=1, wbits=31)
    return compressor


class PartWriter:
    """Writes under a temporary name beside the part; `commit` makes it the part, or nothing does.

    The methods block and are meant for a worker thread, one at a time.

    Args:
        path: The part. Its directory is made when it is not there.
        compression: Of the whole file.

    Raises:
        ExportError: From every method, when the file system refuses.
    """

    def __init__(self, path: Path, compression: Compression) -> None:
        self.path = path
        self.bytes_in = 0
        self.bytes_out = 0
        self._temporary = path.with_name(f".{path.name}.partial")
        self._compressor = _gzip() if compression == "gzip" else _Plain()
        with self._errors():
            for directory in reversed((path.parent, *path.parent.parents)):
                if not directory.exists():
                    directory.mkdir(mode=0o700, exist_ok=True)
            # A leftover of a run that was killed is nobody's; anything planted in its place is not followed.
            self._temporary.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
            self._file = os.fdopen(os.open(self._temporary, flags, 0o600), "wb", buffering=0)

    def write(self, lines: Sequence[bytes]) -> None:
        """Add lines, which hold no newline themselves."""
        data = b"\n".join(lines) + b"\n"
        self.bytes_in += len(data)
        self._put(self._compressor.compress(data))

    def commit(self) -> None:
        """Make it the part: flush, fsync, rename, fsync of the directory."""
        self._put(self._compressor.flush())
        with self._errors():
            os.fsync(self._file.fileno())
            self._file.close()
            self._temporary.replace(self.path)
            directory = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def discard(self) -> None:
        """Leave nothing behind. After `commit` it does nothing."""
        self._file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def _put(self, data: bytes) -> None:
        with self._errors():
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
        self.bytes_out += len(data)

    @contextlib.contextmanager
    def _errors(self) -> Any:
        try:
            yield
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ExportError(f"cannot write {self.path}: {reason}") from None
