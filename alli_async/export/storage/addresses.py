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


# The names of single files; the ending decides the format and the compression.
FILE_ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".csv", ".csv.gz", ".csv.zst")


def is_file(dest: Path) -> bool:
    """Whether a destination is named like a file, and no directory."""
    return dest.name.endswith(FILE_ENDINGS) and not dest.is_dir()


def local_path(dest: str | os.PathLike[str]) -> Path | None:
    """The path of a destination on this machine, or None of an address in an object store.

    Raises:
        ConfigurationError: It is neither.
    """
    text = os.fspath(dest)
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
