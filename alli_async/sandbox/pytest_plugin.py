"""The pytest fixture `alli_sandbox`: a sandbox for one test, over a real socket.

Options come from a marker: `@pytest.mark.alli_sandbox(conversations=1000, cursor="keyset")`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from . import Sandbox


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, for `--strict-markers`."""
    config.addinivalue_line("markers", "alli_sandbox(**options): options of the alli_sandbox fixture")


@pytest.fixture
def alli_sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A sandbox that serves from a thread of its own, for sync tests and for async tests of any kind."""
    # Imported late, so that test runs without this fixture do not load aiohttp.
    from alli_async.sandbox import Sandbox

    marker = request.node.get_closest_marker("alli_sandbox")
    with Sandbox(**(marker.kwargs if marker else {})) as sandbox:
        yield sandbox
