"""The connection: the aiohttp session of a client and of all clients that `with_options` makes from it."""

from __future__ import annotations

import asyncio
import os
import socket
import warnings
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from ssl import SSLContext
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

import aiohttp

from .._aio.loops import check_loop
from .._aio.scopes import Timeouts
from ..errors import ClientStateError
from .dns import Resolver
from .routes import Route

if TYPE_CHECKING:
    from .lifetime import Lifetime

# Seconds for which a name keeps its addresses. An address that cannot be connected to is looked up again at once.
_DNS_SECONDS = 300
# Lengths of timeouts that are remembered, since clients with a random one each must not fill the memory.
_TIMEOUTS = 100


class InFlight(Protocol):
    """State that holds requests in flight, which an event loop takes with it when it is closed."""

    def forget_in_flight(self) -> None:
        """Forget the requests and waiters of an event loop that is closed."""
        ...


class Connection:
    """The sockets that a family of clients shares.

    The aiohttp session is made on first use and belongs to the event loop and process of that use. When that loop
    is closed, the next use, in another loop, makes a new one; what the clients have learnt stays.

    Args:
        route: The proxy and the certificates.
        http: An aiohttp session of the caller, which is used as it is and never closed.

    Attributes:
        route: The proxy and the certificates.
        lifetimes: The lifetimes of all clients on this connection.
        shared: The limiters and tenants whose requests go over this connection.
        loop_generation: Number of event loops that this connection has belonged to.
    """

    def __init__(self, route: Route, http: aiohttp.ClientSession | None) -> None:
        self.route = route
        self.lifetimes: WeakSet[Lifetime] = WeakSet()
        self.shared: WeakSet[InFlight] = WeakSet()
        self.loop_generation = 0
        # A request's own middlewares replace those of the session, so the session's are put before ours.
        self.middlewares = tuple(getattr(http, "_middlewares", ()))
        self._given = http
        self._http: aiohttp.ClientSession | None = None
        self._resolver: Resolver | None = None
        # The open sockets of our own session: a loop that is closed cannot be asked to close them.
        self._sockets: WeakSet[socket.socket] = WeakSet()
        # By their seconds.
        self._timeouts: dict[float, Timeouts] = {}
        self._closer: AsyncGenerator[None, None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._is_closed = False

    @property
    def is_given(self) -> bool:
        """Whether the aiohttp session is the caller's."""
        return self._given is not None

    def check(self) -> None:
        """Make sure that the connection can be used here; called before anything else of a call.

        Raises:
            ClientStateError: The connection is closed, or belongs to another event loop or process.
            ConfigurationError: No asyncio event loop is running.
        """
        loop = check_loop()
        if loop is not self._loop or self._is_closed or self._pid != os.getpid():
            self._bind(loop)

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to belong to an event loop."""
        if self._is_closed:
            raise ClientStateError("the client is closed; make a new one")
        if self._loop is not None:
            self._check_process()
            if not self._loop.is_closed():
                raise ClientStateError("the client belongs to another event loop; make one for each")
            if self._given is not None:
                raise ClientStateError(
                    "the client belongs to another event loop, which is closed, and so does the aiohttp session "
                    "that was given; make a client for each"
                )
            self._drop_sockets()
            self._timeouts.clear()
            for lifetime in self.lifetimes:
                lifetime.forget()
            for each in self.shared:
                each.forget_in_flight()
        self._loop, self._pid = loop, os.getpid()
        self.loop_generation += 1

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise ClientStateError(
                "the client belongs to another process (it was made before a fork); make one for each"
            )

    def http(self) -> aiohttp.ClientSession:
        """The aiohttp session.

        Raises:
            ClientStateError: The client is closed, or the aiohttp session that was given is.
        """
        http = self._http
        return self._open() if http is None or http.closed else http

    def _open(self) -> aiohttp.ClientSession:
        if self._is_closed:
            raise ClientStateError("the client is closed; make a new one")
        if self._given is not None:
            if self._given.closed:
                raise ClientStateError("the client's aiohttp session is closed; make a new one")
            self._http = self._given
            return self._given
        self._resolver = Resolver()
        # The connector has no limit of its own: the rate limiter is the one queue, and it knows about deadlines.
        self._http = http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ttl_dns_cache=_DNS_SECONDS, resolver=self._resolver, socket_factory=self._new_socket
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._closer = _close_with_loop(http, self._resolver)
        # The first step of an asynchronous generator makes the running loop finish it before the loop is closed.
        with suppress(StopIteration):
            self._closer.__anext__().send(None)
        return http

    def _new_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, *_ = address
        made = socket.socket(family, kind, protocol)
        self._sockets.add(made)
        return made

    def timeouts(self, seconds: float) -> Timeouts:
        """The timeouts of attempts that may take so many seconds."""
        found = self._timeouts.get(seconds)
        if found is None:
            if len(self._timeouts) >= _TIMEOUTS:
                self._timeouts = {key: each for key, each in self._timeouts.items() if not each.stop_if_idle()}
            found = self._timeouts[seconds] = Timeouts(seconds)
        return found

    def trusted(self) -> SSLContext | bool:
        """The certificates that an https server is checked by; a session that was given has its own."""
        return True if self._given is not None else self.route.trusted()

    def forget_address(self, host: str, port: int | None, since: float) -> bool:
        """Look a name up again on its next use, because its addresses cannot be connected to.

        Args:
            host: The name.
            port: The port of the connection that failed.
            since: `time.monotonic()` of the beginning of the attempt that failed.

        Returns:
            Whether the addresses were looked up before the attempt began, so that other ones may be found now.
        """
        http, resolver = self._http, self._resolver
        if http is None or resolver is None or port is None or http is self._given:
            return False
        if isinstance(http.connector, aiohttp.TCPConnector):
            with suppress(KeyError):  # the name is an address, or another call has made it forgotten
                http.connector.clear_dns_cache(host, port)
        return resolver.looked_up_before(host, port, since)

    async def aclose(self) -> None:
        """End the calls and streams of all clients, then close the sockets, unless the session was given.

        Raises:
            ClientStateError: The client belongs to another event loop, which is not closed.
        """
        if self._is_closed:
            return
        if self._loop is None or self._pid != os.getpid():
            # Nothing is open, or the sockets belong to the parent process, which goes on with them.
            self._is_closed = True
            return
        if self._loop.is_closed():
            self._drop_sockets()
            self._is_closed = True
            return
        self.check()
        self._is_closed = True
        try:
            await end_all(self.lifetimes)
        finally:
            for each in self._timeouts.values():
                each.stop_if_idle()
            if self._closer is not None:
                await self._closer.aclose()

    def _drop_sockets(self) -> None:
        """Let go of the sockets of an event loop that is closed, without asking anything of that loop."""
        http, self._http, self._closer, self._resolver = self._http, None, None, None
        if http is None or http.closed or http is self._given:
            return
        connector = http.connector
        http.detach()
        if connector is not None:
            # For a loop that is closed, this only forgets the sockets, and has nothing to wait for. A lookup of
            # the old loop that never ended may object.
            with suppress(StopIteration, RuntimeError):
                connector.close().__await__().send(None)
        for each in self._sockets:
            each.close()

    def __del__(self) -> None:
        # In another process, the copy of an open connection is no loss.
        if self._closer is not None and not self._is_closed and self._pid == os.getpid():
            warnings.warn(
                "Unclosed client session: use `async with AlliClient()`, or `await client.aclose()`",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )


async def end_all(lifetimes: Iterable[Lifetime]) -> None:
    """End the calls and streams of clients; no task of a stream is left."""
    for stream in [stream for lifetime in tuple(lifetimes) for stream in lifetime.end()]:
        await stream.wait_ended()


async def _close_with_loop(http: aiohttp.ClientSession, resolver: Resolver) -> AsyncGenerator[None, None]:
    """Close an aiohttp session when this generator is closed.

    `asyncio.run` closes all generators that have begun and not ended before it closes its loop, so that a client
    that lives on (a global of a web app, say) leaves no socket to a loop that can no longer close it.
    """
    try:
        yield
    finally:
        await http.close()
        await resolver.close()
