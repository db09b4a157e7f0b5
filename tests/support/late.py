"""Libraries that take long to import, for the few tests that need one."""

from __future__ import annotations

import importlib
from typing import Any

import pytest


class _Late:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):  # pytest asks everything in a test module for names of its own
            raise AttributeError(attribute)
        pytest.importorskip(self._name.partition(".")[0], reason=f"{self._name} is not installed")
        return getattr(importlib.import_module(self._name), attribute)


def late(name: str) -> Any:
    """Stand for a module that the first test to use it imports; where it is not installed, that test is skipped.

    Every worker of pytest-xdist collects every test module, so each pays for an import at the head of a module.
    """
    return _Late(name)
