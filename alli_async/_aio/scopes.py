"""Parts of a task that can be ended from outside of it: by a timeout, or by whoever holds the scope.

`asyncio.timeout` and `anyio.CancelScope` do the same. They set a timer for each scope, or follow each scope of a
task; here a scope is entered and left for every attempt of every call, at a tenth of the cost.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

# Seconds by which a timeout may end early, since timers of some event loops count milliseconds.
_EARLY = 0.001


class Scope:
    """A part of a task. When it is ended from outside, the task is cancelled, and then leaves the scope quietly.

    The statement after the `with` block raises the error, outside of any `except`: no exception of aiohttp, whose
    frames hold the headers, hangs on it.

    Attributes:
        task: The task that the scope is a part of.
    """

    __slots__ = ("_cancelling", "_is_ended", "task")

    def __init__(self) -> None:
        self._is_ended = False
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs in a loop runs in a task
        self.task = task
        self._cancelling = task.cancelling()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not self._is_ended:
            return False
        # As in asyncio.timeout: another cancellation, which came from outside, is never swallowed.
        return self.task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError)

    def end(self) -> None:
        """End the scope from outside of its task."""
        if not self._is_ended:
            self._is_ended = True
            self.task.cancel()


class TimedScope(Scope):
    """A scope that ends at a time.

    Args:
        ends_at: Event loop time of its end.
    """

    __slots__ = ("_timer",)

    def __init__(self, ends_at: float) -> None:
        super().__init__()
        self._timer = asyncio.get_running_loop().call_at(ends_at, self.end)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._timer.cancel()
        return super().__exit__(kind, error, trace)


class Timeouts:
    """Timeouts of one length: they run out in the order in which they began, so that one timer serves all of them.

    Args:
        seconds: Seconds of each timeout.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # The running timeouts, oldest first, and the event loop time at which each runs out.
        self._running: dict[Scope, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> Scope:
        """Begin a timeout: a scope that ends when it has run out."""
        scope = _Timeout(self._running)
        loop = asyncio.get_running_loop()
        self._running[scope] = ends_at = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(ends_at, self._on_time)
        return scope

    def stop_if_idle(self) -> bool:
        """Stop the timer if no timeout is running. Returns whether that is so."""
        if self._running:
            return False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return True

    def _on_time(self) -> None:
        """End the timeouts that have run out, and set a timer for the oldest of the others."""
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time() + _EARLY
        for scope, ends_at in tuple(self._running.items()):
            if ends_at > now:
                self._timer = loop.call_at(ends_at, self._on_time)
                return
            del self._running[scope]
            scope.end()


class _Timeout(Scope):
    """A scope of `Timeouts`."""

    __slots__ = ("_running",)

    def __init__(self, running: dict[Scope, float]) -> None:
        super().__init__()
        self._running = running

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._running.pop(self, None)
        return super().__exit__(kind, error, trace)
