"""Tokens that rotate: asked of the caller, kept while they are accepted."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable

from .errors import ConfigurationError

# Tokens that an answer may still echo: the one in use, and those before it whose requests are in flight.
_KNOWN = 4


class Secret(str):
    """A string that does not show in a repr: not in a traceback's locals, not in a dict of headers."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def is_credential(value: object) -> bool:
    """Whether a value can be sent as a key or token: visible ASCII characters, and at least one."""
    return isinstance(value, str) and bool(value) and all("!" <= char <= "~" for char in value)


class RotatingToken:
    """The token that an async function gives. It is asked once for all calls, and again after a 401.

    Args:
        ask: Gives the token that is valid now.

    Attributes:
        known: The latest tokens, which no message may show.
    """

    __slots__ = ("_ask", "_lock", "_loop", "_value", "known")

    def __init__(self, ask: Callable[[], Awaitable[str]]) -> None:
        self._ask = ask
        self._value: Secret | None = None
        self._lock = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.known: deque[Secret] = deque(maxlen=_KNOWN)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RotatingToken) and self._ask == other._ask

    def __hash__(self) -> int:
        return hash(RotatingToken)  # a function may have no hash of its own; few are compared

    async def current(self) -> Secret:
        """The token to send now.

        Raises:
            ConfigurationError: The function gave no token.
        """
        if self._value is not None:
            return self._value
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._lock = loop, asyncio.Lock()  # of a closed loop nobody would open it again
        async with self._lock:
            if self._value is None:
                self._value = await self._asked()
                self.known.append(self._value)
            return self._value

    def refuse(self, token: str) -> None:
        """The server does not accept a token (any more): ask for another, unless there is one already."""
        if self._value == token:
            self._value = None

    async def _asked(self) -> Secret:
        answer: object = self._ask()
        if not inspect.isawaitable(answer):
            del answer
            raise ConfigurationError("token: expected a text, or an async function that gives one")
        token = await answer
        token = token.strip() if isinstance(token, str) else ""
        if not is_credential(token):
            del answer, token
            raise ConfigurationError(
                "token: the function must give visible ASCII characters, and at least one (not shown here)"
            )
        return Secret(token)
