"""Checks of arguments, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..config import is_number
from ..errors import ConfigurationError
from . import wire


def checked_text(name: str, value: Any) -> list[str]:
    """Check a text that must not be empty."""
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{name}: expected a text that is not empty, got {value!a}")
    wire.query([(name, value)])
    return [value]


def checked_texts(name: str, value: Any, *, may_be_empty: bool = False) -> list[str]:
    """Check a list of texts. As a filter an empty list would select everything, which nobody means by it."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ConfigurationError(f"{name}: expected a list of texts, got {value!a}")
    found = [item for each in value for item in checked_text(name, each)]
    if not found and not may_be_empty:
        raise ConfigurationError(f"{name}: an empty list; leave it out to select everything")
    return found


def checked_names(name: str, value: Any) -> list[str]:
    """Check one or more names and join them into one comma-separated value."""
    found = checked_texts(name, value)
    if bad := next((each for each in found if "," in each), None):
        raise ConfigurationError(f"{name}: a name cannot hold a comma, got {bad!a}")
    return [",".join(found)]


def checked_seconds(name: str, value: Any) -> float:
    """Check a number of seconds."""
    if not is_number(value) or value < 0:
        raise ConfigurationError(f"{name}: expected a number of seconds of at least 0, got {value!r}")
    return float(value)
