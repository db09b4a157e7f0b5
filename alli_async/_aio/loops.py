"""The event loop that this code needs."""

from __future__ import annotations

import asyncio

from ..errors import ConfigurationError


def check_loop() -> asyncio.AbstractEventLoop:
    """The running event loop of asyncio.

    Raises:
        ConfigurationError: There is none: the caller runs under trio, say.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        pass
    raise ConfigurationError(
        "no asyncio event loop is running here; alli_async works under asyncio only (not under trio)"
    )
