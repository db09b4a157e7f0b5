"""pytest fixtures for tests of programs that use this package.

- `alli_sandbox`: a sandbox for one test, over a real socket. Its options come from a marker:
  `@pytest.mark.alli_sandbox(conversations=1000, cursor="keyset")`.
- `alli_responses`: the mock of `aioresponses` for one test, made to work with the aiohttp that this package needs.
  It needs the package aioresponses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from aioresponses import aioresponses

    from . import Sandbox


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, for `--strict-markers`."""
    config.addinivalue_line("markers", "alli_sandbox(**options): options of the alli_sandbox fixture")


# Each fixture imports what it needs by itself: pytest loads this module in every project of the environment.


@pytest.fixture
def alli_sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A sandbox that serves from a thread of its own, for sync tests and for async tests of any kind."""
    from alli_async.sandbox import Sandbox

    marker = request.node.get_closest_marker("alli_sandbox")
    options: dict[str, Any] = dict(marker.kwargs) if marker else {}
    with Sandbox(**options) as sandbox:
        yield sandbox


@pytest.fixture
def alli_responses() -> Iterator[aioresponses]:
    """The mock of aioresponses: it answers the requests of all aiohttp sessions, without sockets.

    `alli_responses.get("https://backend.alli.ai/webapi/v2/conversations", payload={…})` gives an answer, and
    `alli_responses.requests` holds what was asked.
    """
    try:
        from alli_async.sandbox.responses import mocked_responses
    except ImportError as error:
        pytest.fail(f"the fixture alli_responses needs {error.name}: pip install aioresponses", pytrace=False)
    with mocked_responses() as mocked:
        yield mocked
