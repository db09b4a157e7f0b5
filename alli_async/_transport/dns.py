"""Names looked up, with the time of each lookup."""

from __future__ import annotations

import socket
import time

from aiohttp import DefaultResolver
from aiohttp.abc import AbstractResolver, ResolveResult


class Resolver(AbstractResolver):
    """aiohttp's own resolver, which also remembers when it was asked.

    aiohttp caches addresses and does not say how old they are. An address that refuses a connection is worth
    another lookup at once only when it may have changed since the last one.
    """

    def __init__(self) -> None:
        self._resolver: AbstractResolver = DefaultResolver()
        self._looked_up: dict[tuple[str, int], float] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Look a name up, and remember when."""
        found = await self._resolver.resolve(host, port, family)
        self._looked_up[host, port] = time.monotonic()
        return found

    async def close(self) -> None:
        """Close aiohttp's resolver."""
        await self._resolver.close()

    def looked_up_before(self, host: str, port: int, since: float) -> bool:
        """Whether the latest lookup of a name was before a time of `time.monotonic()`; False without a lookup."""
        return self._looked_up.get((host, port), since) < since
