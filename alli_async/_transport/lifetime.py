"""The life of a client: its calls in flight, its streams, and how closing ends them."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Protocol

from .._aio.scopes import Scope
from ..errors import ClientStateError
from .connection import Connection

CLOSED_IN_CALL = "the client was closed while the call was in flight"


class Closable(Protocol):
    """A stream that works in tasks of its own."""

    def end(self) -> None:
        """Begin to end the work. The consumer of the stream gets a `ClientStateError`."""
        ...

    async def wait_ended(self) -> None:
        """Wait until no task of the stream is left."""
        ...


class Lifetime:
    """The calls and streams of one client, and whether that client is closed.

    Clients that `with_options` makes share a connection, but each has a lifetime of its own, so that closing one
    of them ends no work of another.

    Args:
        connection: The connection that carries the client's calls.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.is_closed = False
        self._calls: set[CallScope] = set()
        self._streams: set[Closable] = set()
        connection.lifetimes.add(self)

    def check(self) -> None:
        """Refuse to begin anything new where the client cannot be used.

        Raises:
            ClientStateError: The client is closed, or belongs to another event loop or process.
            ConfigurationError: No asyncio event loop is running.
        """
        if self.is_closed:
            raise ClientStateError("the client is closed; make a new one")
        self.connection.check()

    def begin_call(self) -> CallScope:
        """Begin a scope for one call; closing the client ends the call at once.

        Raises:
            ClientStateError: The client is closed, or belongs to another event loop or process.
            ConfigurationError: No asyncio event loop is running.
        """
        self.check()
        return CallScope(self._calls)

    async def sleep(self, seconds: float) -> None:
        """Sleep between the calls of one operation.

        Raises:
            ClientStateError: The client was closed meanwhile.
        """
        with self.begin_call():
            await asyncio.sleep(seconds)
            return
        raise ClientStateError(CLOSED_IN_CALL)

    def add_stream(self, stream: Closable) -> None:
        """Closing the client ends this stream, until `discard_stream` is told that it has ended by itself."""
        self._streams.add(stream)

    def discard_stream(self, stream: Closable) -> None:
        """The stream has ended."""
        self._streams.discard(stream)

    def forget(self) -> None:
        """Forget calls and streams of an event loop that is closed: they will never go on."""
        self._calls.clear()
        self._streams.clear()

    def end(self) -> list[Closable]:
        """Refuse new calls, and end the calls and streams that are under way.

        Returns:
            The streams whose tasks can be waited for. There are none when a call of this client closes it (a
            middleware, say): its own task may be a part of a stream.
        """
        self.is_closed = True
        streams = list(self._streams)
        for stream in streams:
            stream.end()
        current = asyncio.current_task() if self._calls else None
        is_own = False
        for call in tuple(self._calls):
            if call.task is current:
                is_own = True
            else:
                call.end()
        return [] if is_own else streams


class CallScope(Scope):
    """The scope of one call, which closing the client ends."""

    __slots__ = ("_calls",)

    def __init__(self, calls: set[CallScope]) -> None:
        super().__init__()
        self._calls = calls
        calls.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._calls.discard(self)
        return super().__exit__(kind, error, trace)
