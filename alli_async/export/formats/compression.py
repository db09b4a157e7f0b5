"""Compressors by their names, of the fastest library that is installed."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import IO, Any, Literal, Protocol, cast

from ...errors import ConfigurationError
from ..storage.store import PartStore

Compression = Literal["gzip", "zstd", "none"]


class Compressor(Protocol):
    """Compresses a stream of bytes."""

    def compress(self, data: bytes, /) -> bytes:
        """Compress bytes. Returns the compressed bytes that are ready, maybe none."""
        ...

    def flush(self) -> bytes:
        """End the stream. Returns the rest of the compressed bytes."""
        ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _gzip() -> Compressor:
    """A gzip compressor, of isal where it is installed, which is many times as fast."""
    module: Any
    try:
        from isal import isal_zlib as module
    except ImportError:
        module = zlib
    compressor: Compressor = module.compressobj(level=1, wbits=31)
    return compressor


def _zstd() -> Compressor:
    """A zstd compressor, of the standard library from Python 3.14 on."""
    made: Compressor = zstd_module().ZstdCompressor(level=3)
    return made


def zstd_module() -> Any:
    """The zstd module of the standard library, or its backport.

    Raises:
        ConfigurationError: Neither is installed.
    """
    for name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ImportError):
            return import_module(name)
    raise ConfigurationError("compression: zstd needs backports.zstd: pip install 'alli-async[zstd]'")


_COMPRESSORS: dict[str, Callable[[], Compressor]] = {"gzip": _gzip, "zstd": _zstd, "none": _Plain}


def compressor_of(compression: str) -> Compressor:
    """A compressor by its name.

    Raises:
        ConfigurationError: What it needs is not installed.
    """
    return _COMPRESSORS[compression]()


@contextlib.contextmanager
def open_decompressed(store: PartStore, name: str) -> Iterator[IO[bytes]]:
    """Open a part to be read, decompressed as the ending of its name says."""
    with contextlib.ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(store.open(name))
        if name.lower().endswith(".gz"):
            file = stack.enter_context(cast("IO[bytes]", gzip.GzipFile(fileobj=file)))
        elif name.lower().endswith(".zst"):
            file = stack.enter_context(zstd_module().open(file))
        yield file
