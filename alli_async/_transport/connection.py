"""The connection: owns the aiohttp session, and what else a client and those derived from it share."""

from __future__ import annotations

import asyncio
import os

import aiohttp

from ..config import ClientConfig
from ..errors import ConfigurationError
from .call import Call
from .outage import Outage
from .retry import RetryQuota
from .throttle import Throttle


class Connection:
    """What a client and its `with_options` clients share: sockets, throttle, retry quota, the server's time unit.

    The aiohttp session is made on first use, in the loop that uses it, and belongs to that loop and process.
    """

    def __init__(self, config: ClientConfig, http: aiohttp.ClientSession | None) -> None:
        self.throttle = Throttle(config.max_concurrency, config.rate_limit)
        self.quota = RetryQuota(config.retry.quota)
        self.outage = Outage()
        # Calls with a deadline that wait for the throttle: a pause that begins may be too long for them.
        self.queued: set[Call] = set()
        # The server's second, 1 or 1000, by base URL: clients that share the connections may use several servers.
        self.seconds: dict[str, float] = {}
        # Those of a caller's session, which would be replaced by ours, were they not put before it.
        self.middlewares = tuple(getattr(http, "_middlewares", ()))
        self._given = http
        self._http: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._closed = False

    @property
    def is_given(self) -> bool:
        """Whether the aiohttp session is the caller's."""
        return self._given is not None

    def http(self) -> aiohttp.ClientSession:
        """The aiohttp session.

        Raises:
            ConfigurationError: Closed, or used from another loop or process than before.
        """
        loop = asyncio.get_running_loop()
        http = self._http
        if http is None or http.closed or loop is not self._loop or self._closed or self._pid != os.getpid():
            return self._bind(loop)
        return http

    def _bind(self, loop: asyncio.AbstractEventLoop) -> aiohttp.ClientSession:
        http = self._http or self._given
        if self._closed or (http is not None and http.closed):
            raise ConfigurationError("the client is closed; make a new one")
        if self._http is not None:
            where = "process (it was made before a fork)" if self._pid != os.getpid() else "event loop"
            raise ConfigurationError(f"the client belongs to another {where}; make one for each")
        self._loop, self._pid = loop, os.getpid()
        # Without a limit of its own: the throttle is the one queue, and it knows about deadlines.
        self._http = self._given or aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self._http

    async def aclose(self) -> None:
        """Close the sockets, unless the session was given by the caller. Twice is fine."""
        self._closed = True
        # Another process' sockets are not ours to shut down, and another loop's cannot be from here.
        if self._http is not None and self._http is not self._given and self._pid == os.getpid():
            await self._http.close()
