"""Headers that a caller adds to requests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .errors import ConfigurationError

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# A class with ranges up to U+10FFFF would take 2.5 ms to compile at each import.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# A body of another length than was promised leaves the connection to whoever comes next in a wrong state.
_FRAMING = frozenset({"content-length", "transfer-encoding"})
_AUTH = frozenset({"api-key", "authorization"})


def check_header(owner: str, name: Any, value: Any) -> None:
    """Check a header that aiohttp would refuse late, or not at all. Its value is not shown: it may be a secret.

    Raises:
        ConfigurationError: The name or the value cannot be sent; `owner` says whose header it is.
    """
    if not (isinstance(name, str) and _NAME.fullmatch(name)) or name.lower() in _FRAMING:
        raise ConfigurationError(f"{owner}: expected a name that frames no body, got {name!a}")
    if not (isinstance(value, str) and _is_sendable(value)):
        raise ConfigurationError(f"{owner} {name}: expected text without control characters")


def _is_sendable(value: str) -> bool:
    """Whether a value has neither control characters nor halves of surrogate pairs."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return _CONTROL.search(value) is None


def merge_headers(*sources: Any) -> dict[str, str]:
    """Check and merge a client's `headers`; of two names that differ in case only, the later one holds.

    Args:
        *sources: Mappings of names to values; None for no headers.

    Raises:
        ConfigurationError: No mapping, a header that cannot be sent, or one that would carry another key.
    """
    merged: dict[str, tuple[str, str]] = {}
    for source in sources:
        if source is None:
            continue
        if not isinstance(source, Mapping):
            raise ConfigurationError(f"headers: expected names and values, got {type(source).__name__}")
        for name, value in source.items():
            check_header("headers", name, value)
            if name.lower() in _AUTH:
                raise ConfigurationError(f"headers: may not name {name}; give api_key or token instead")
            merged[name.lower()] = name, value
    return dict(merged.values())
