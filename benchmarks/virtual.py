"""Walkers over made-up rows on a virtual clock: the plan is the product's own, the server is arithmetic."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field

from alli_async._bulk.windows import Plan, Window

from .crowds import Rows

PAGE = 50
WALKERS = 16
SLOTS = 64
# Chat requests that may wait before a walker does.
_BACKLOG = 200


@dataclass(eq=False)
class _Walk:
    """A window's cursor: the next row, the end it is asked with, and the row that this one stands for."""

    window: Window
    row: int
    asked: float | None
    high: int


@dataclass
class Simulation:
    """A plan and the rows it is for; every request takes 1.

    Attributes:
        chats: Requests for chats that each page leads to; they share the slots with those for pages.
        chat_requests: How many of these were made.
        pages: List requests made.
        empty: Those that gave no row.
        windows: Windows walked.
        cuts: How often a window met an end that had been moved.
        most_ids: The most ids that were remembered at a time.
        clock: When the last answer came.
    """

    rows: Rows
    plan: Plan
    chats: int = 0
    chat_requests: int = 0
    pages: int = 0
    empty: int = 0
    windows: int = 0
    cuts: int = 0
    most_ids: int = 0
    clock: float = 0.0
    _given: int = 0
    _sum: int = 0
    _idle: int = WALKERS
    _sent: int = 0
    _answers: list[tuple[float, int, _Walk | None]] = field(default_factory=list)
    _queue: deque[_Walk | None] = field(default_factory=deque)
    _blocked: deque[_Walk] = field(default_factory=deque)

    @property
    def whole(self) -> bool:
        """Whether each row was given once, by their number and the sum of their places."""
        return (self._given, self._sum) == (self.rows.total, self.rows.total * (self.rows.total - 1) // 2)

    def run(self) -> Simulation:
        """Walk to the end."""
        self._take()
        while self._answers:
            self.clock, _, walk = heapq.heappop(self._answers)
            if self._queue:
                self._send(self._queue.popleft())
            if walk is not None:
                self._answered(walk)
                self._take()
            while self._blocked and len(self._queue) < _BACKLOG:
                self._go_on(self._blocked.popleft())
        return self

    def _request(self, walk: _Walk | None) -> None:
        if len(self._answers) < SLOTS:
            self._send(walk)
        else:
            self._queue.append(walk)

    def _send(self, walk: _Walk | None) -> None:
        self._sent += 1
        heapq.heappush(self._answers, (self.clock + 1, self._sent, walk))

    def _take(self) -> None:
        while self._idle:
            window = self.plan.take()
            if window is None:
                return
            self._idle -= 1
            self.windows += 1
            self.pages += 1
            low = 0 if window.start is None else self.rows.before(window.start)
            self._request(_Walk(window, low, window.end, max(low, self._high(window.end))))

    def _high(self, end: float | None) -> int:
        return self.rows.total if end is None else self.rows.up_to(end)

    def _answered(self, walk: _Walk) -> None:
        window = walk.window
        low, walk.row = walk.row, min(walk.row + PAGE, walk.high)
        fresh = window.family.fresh(range(low, walk.row))
        self._given += len(fresh)
        self._sum += sum(fresh)
        self.empty += low == walk.row
        position = self.rows.time(walk.row - 1) if walk.row > low else window.position
        self.plan.walked(window, walk.row - low, position, narrowed=walk.asked == window.end)
        if not self.plan.may_cut and window.pages > 1:
            # It was seen that a cursor serves with a nearer end, by asking for this page once more.
            self.plan.may_cut = True
            self.pages += 1
        self.most_ids = max(self.most_ids, self.plan.remembered)
        for _ in range(self.chats if fresh else 0):
            self.chat_requests += 1
            self._request(None)
        if len(self._queue) >= _BACKLOG:
            self._blocked.append(walk)
        else:
            self._go_on(walk)

    def _go_on(self, walk: _Walk) -> None:
        if walk.row >= walk.high:
            self.plan.finish(walk.window)
            self._idle += 1
            self._take()
            return
        if walk.asked != walk.window.end:
            self.cuts += 1
            walk.asked, walk.high = walk.window.end, max(walk.row, self._high(walk.window.end))
        self.pages += 1
        self._request(walk)
