"""Destinations as the user gives them: a path of this machine, or an address in an object store."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from ...errors import ConfigurationError

ADDRESSES = "s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
# Some addresses of Azure have a container before an @. In all others a secret stands there.
_WITH_CONTAINER = {"az", "azure", "adl", "abfs", "abfss"}
_LOST_SLASH = re.compile(r"(?:s3a?|gs|az|azure|adl|abfss?|https?|file):/[^/]")


# The format and the compression of a single file, by the ending of its name in lower case.
FILE_KINDS = {
    ".jsonl": ("jsonl", "none"),
    ".jsonl.gz": ("jsonl", "gzip"),
    ".jsonl.zst": ("jsonl", "zstd"),
    ".csv": ("csv", "none"),
    ".csv.gz": ("csv", "gzip"),
    ".csv.zst": ("csv", "zstd"),
}
# Endings of the names of other files. `backup.2026-01` and `alli.example` are names of directories.
_OTHER_FILES = re.compile(
    r"\.(arrow|avro|br|bz2|db|duckdb|feather|gz|gzip|html?|ipc|json|lz4|ndjson|orc|parquet|pq|rar|sqlite3?"
    r"|tar|tgz|tsv|txt|xlsx?|xml|xz|zip|zst|zstd|7z)$",
    re.IGNORECASE,
)


def file_ending(dest: str) -> str | None:
    """The ending in `FILE_KINDS` of a name that is that of a single file, in any case; None for any other name.

    A name with a slash at its end is that of a directory.
    """
    name = dest.lower()
    return next((ending for ending in FILE_KINDS if name.endswith(ending)), None)


def is_other_file(dest: str) -> bool:
    """Whether a name is that of a file of a kind that no export writes, such as `all.parquet` or `all.zip`."""
    return _OTHER_FILES.search(dest) is not None and file_ending(dest) is None


def checked_dest(dest: str | os.PathLike[str]) -> str:
    """The text of a path or an address.

    Raises:
        ConfigurationError: It is none, or it is empty.
    """
    text = os.fspath(dest) if isinstance(dest, os.PathLike) else dest
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigurationError(f"dest: expected a path, or an address like s3://bucket/prefix, got {dest!a}")
    return text


def local_path(dest: str | os.PathLike[str]) -> Path | None:
    """The path of a destination on this machine, or None of an address in an object store.

    Raises:
        ConfigurationError: It is neither.
    """
    text = checked_dest(dest)
    if "://" not in text:
        if _LOST_SLASH.match(text):
            raise ConfigurationError(f"dest: {text} has lost a slash; give an address as a string, not as a Path")
        return Path(text)
    url = _split(text)
    if url.scheme != "file":
        return None
    if url.netloc not in ("", "localhost") or not url.path.startswith("/"):
        raise ConfigurationError(f"dest: {text} is no path of this machine; expected file:///path")
    return Path(unquote(url.path))


def _split(text: str) -> SplitResult:
    """An address in its pieces; one that holds a secret is refused, and not shown."""
    try:
        url = urlsplit(text)
        secret = url.password or url.query or url.fragment
    except ValueError:
        raise ConfigurationError(f"dest: no address; expected {ADDRESSES}") from None
    if secret or (url.username and url.scheme not in _WITH_CONTAINER):
        raise ConfigurationError(
            f"dest: an address is {ADDRESSES} and nothing more; credentials belong in the environment"
        )
    return url
