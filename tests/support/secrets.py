"""Looks for a key, which begins with `canary-`, where a crash report would show it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from types import FrameType
from typing import Any


def frames_of_the_package(error: BaseException) -> list[FrameType]:
    return [
        frame
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_globals["__name__"].startswith("alli_async")
    ]


def holds_key(value: Any, depth: int = 0) -> bool:
    """Whether a crash report that looks into containers and objects, and takes text as it is, shows the key."""
    if isinstance(value, str):
        return "canary-" in value
    if depth > 4:
        return False
    if isinstance(value, Mapping):
        return any(holds_key(each, depth + 1) for pair in value.items() for each in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return any(holds_key(each, depth + 1) for each in value)
    return "canary-" in repr(value) or holds_key(getattr(value, "__dict__", None), depth + 1)


def shows_key(value: Any) -> bool:
    """Whether a crash report shows the key that takes text and containers as they are, and else a repr."""
    if isinstance(value, str):
        return "canary-" in value
    if isinstance(value, Mapping):
        return any(shows_key(each) for pair in value.items() for each in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return any(shows_key(each) for each in value)
    return "canary-" in repr(value)
