"""Turns of the event loop, shared between work that holds the loop and everything else that runs in it."""

from __future__ import annotations

import asyncio
from collections import deque
from weakref import WeakKeyDictionary

# Bytes of answers that are decoded in one turn of the loop: 1 to 3 ms of work, with what follows from it.
_BYTES_A_TURN = 128 << 10


class Turns:
    """Spread work that holds an event loop over its turns, so that other tasks need not wait long for theirs.

    Each turn of the loop takes on work of a bounded size. The rest waits in order for later turns. A turn takes on
    at least one piece of work, however large.

    Args:
        size: The most work that one turn takes on, in bytes that are to be decoded.
    """

    def __init__(self, size: int = _BYTES_A_TURN) -> None:
        self._size = self._left = size
        self._is_counting = False
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> None:
        """Wait for a turn that has room for work of this size, and take the room."""
        if not self._is_counting:  # the first work of a turn
            self._is_counting, self._left = True, self._size
            asyncio.get_running_loop().call_soon(self._next)
        elif self._waiters or self._left < size:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append((size, turn))
            await turn
            return
        self._left -= size

    def _next(self) -> None:
        """Begin the next turn: wake as many of the first that wait as it has room for."""
        self._left = self._size
        is_idle = True
        while self._waiters and (is_idle or self._waiters[0][0] <= self._left):
            size, turn = self._waiters.popleft()
            if not turn.done():  # else the task was cancelled while it waited
                turn.set_result(None)
                self._left -= size
                is_idle = False
        if is_idle:
            self._is_counting = False
        else:
            asyncio.get_running_loop().call_soon(self._next)


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def loop_turns() -> Turns:
    """The turns of the running event loop, which all clients in it share."""
    loop = asyncio.get_running_loop()
    turns = _of_loops.get(loop)
    if turns is None:
        turns = _of_loops[loop] = Turns()
    return turns
