"""Readers over made-up rows on a virtual clock: the planner is the product's own, the server is arithmetic.

A reader is a generator that yields once for each request. It makes the requests that the product's reader makes
where cursors are keysets: the pages of its partition, the rows in the overlap with the partition on the right if
no other reader is there yet, and two requests before each cut.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field

from alli_async._listing.planner import Partition, Planner

from .crowds import Rows

PAGE = 50
READERS = 16
SLOTS = 64
# Chat requests that may wait before a reader does.
_BACKLOG = 200

_Steps = Generator[bool, None, None]
_REQUEST, _WAIT = True, False


@dataclass(eq=False)
class _Reading:
    """A partition that is being read.

    Attributes:
        partition: The partition.
        first: The first row of its window.
        row: The next row to read.
        high: The row behind the last one of its window.
        own: The row from which on rows belong to the partition on the right.
        overlap_end: The row behind the last one that the partition on the left shows as well.
    """

    partition: Partition
    first: int
    row: int
    high: int
    own: int
    overlap_end: int


@dataclass
class Simulation:
    """A planner and the rows it is for; every request takes 1.

    Attributes:
        rows: The rows.
        planner: The planner.
        overlap: By how much readers reach over a cut on either side.
        chats: Requests for chats that each page leads to; they share the slots with those for pages.
        chat_requests: How many of these were made.
        pages: List requests made.
        empty: Those that gave no row.
        partitions: Partitions that were read.
        cuts: How many of them were cut off from another one while that was read.
        most_ids: The most ids of rows that all readers together kept at a time.
        clock: When the last answer came.
    """

    rows: Rows
    planner: Planner
    overlap: float
    chats: int = 0
    chat_requests: int = 0
    pages: int = 0
    empty: int = 0
    partitions: int = 0
    cuts: int = 0
    most_ids: int = 0
    clock: float = 0.0
    _given: int = 0
    _sum: int = 0
    _ids: int = 0
    _sent: int = 0
    _end: float = 0.0
    _is_cutting: bool = False
    _readings: dict[float | None, _Reading] = field(default_factory=dict)
    _answers: list[tuple[float, int, _Steps | None]] = field(default_factory=list)
    _queue: deque[_Steps | None] = field(default_factory=deque)
    _waiting: list[_Steps] = field(default_factory=list)
    _blocked: deque[_Steps] = field(default_factory=deque)

    @property
    def whole(self) -> bool:
        """Whether each row was given once, by their number and the sum of their places."""
        return (self._given, self._sum) == (self.rows.total, self.rows.total * (self.rows.total - 1) // 2)

    def run(self) -> Simulation:
        """Read all partitions, then what lies behind the last one."""
        for _ in range(READERS):
            self._resume(self._reader())
        while self._answers:
            self.clock, _, reader = heapq.heappop(self._answers)
            if self._queue:
                self._send(self._queue.popleft())
            if reader is not None:
                self._resume(reader)
            while self._blocked and len(self._queue) < _BACKLOG:
                self._resume(self._blocked.popleft())
        behind = self._up_to(self._end)
        self._give(behind, self.rows.total)
        self.pages += -(-(self.rows.total - behind) // PAGE)
        self.clock += -(-(self.rows.total - behind) // PAGE)
        return self

    # --- requests and the clock ---------------------------------------------------------------------------

    def _resume(self, reader: _Steps) -> None:
        """Let a reader go on up to its next request."""
        step = next(reader, None)
        if step is _WAIT:
            self._waiting.append(reader)
        elif step is _REQUEST and len(self._queue) >= _BACKLOG:
            self._blocked.append(reader)
        elif step is _REQUEST:
            self._request(reader)

    def _request(self, reader: _Steps | None) -> None:
        if len(self._answers) < SLOTS:
            self._send(reader)
        else:
            self._queue.append(reader)

    def _send(self, reader: _Steps | None) -> None:
        self._sent += 1
        heapq.heappush(self._answers, (self.clock + 1, self._sent, reader))

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for reader in waiting:
            self._resume(reader)

    # --- a reader -----------------------------------------------------------------------------------------

    def _reader(self) -> _Steps:
        while True:
            was_active = bool(self.planner.active)
            partition = self.planner.next_partition()
            if partition is not None:
                yield from self._read(partition)
                self._wake()
            elif not was_active:
                return
            elif not (yield from self._split()):
                yield _WAIT

    def _read(self, partition: Partition) -> _Steps:
        self.partitions += 1
        first = 0 if partition.start is None else self.rows.before(partition.start - self.overlap)
        over = first if partition.start is None else self.rows.up_to(partition.start + self.overlap)
        high = max(first, self._up_to(partition.end))
        reading = _Reading(partition, first, first, high, high, over)
        self._readings[partition.start] = reading
        is_first = True
        while True:
            self.pages += 1
            yield _REQUEST
            low, reading.row = reading.row, min(reading.row + PAGE, reading.high)
            self.empty += low == reading.row
            self._keep(reading.row - low)
            if is_first:
                is_first = False
                yield from self._find_boundary(reading)
            self._give(low, min(reading.row, reading.own))
            for _ in range(self.chats if reading.row > low else 0):
                self.chat_requests += 1
                self._request(None)
            if reading.row >= reading.high:
                break
            self.planner.progress(partition, reading.row - low, self.rows.time(reading.row - 1))
            self._wake()
            at = self.planner.dense_cut(partition)
            if at is not None and not self._is_cutting:
                yield from self._cut(partition, at)
        self.planner.finish(partition)
        self._end = max(self._end, partition.end)
        self._keep(-(reading.row - reading.first))

    def _find_boundary(self, reading: _Reading) -> _Steps:
        """Find the rows that belong to the partition on the right."""
        end = reading.partition.end
        right = self._readings.get(end)
        if right is None and end >= self._last_cut:
            return
        if right is None:
            yield from self._read_overlap(end)
        while right is not None and right.row < min(right.overlap_end, right.high):
            yield _WAIT
        reading.own = min(reading.own, self.rows.before(end - self.overlap))

    @property
    def _last_cut(self) -> float:
        return self.rows.time(self.rows.total - 1) - 2 * self.overlap

    def _read_overlap(self, at: float) -> _Steps:
        for _ in range(max(1, -(-(self._up_to(at) - self.rows.before(at - self.overlap)) // PAGE))):
            self.pages += 1
            yield _REQUEST

    def _split(self) -> Generator[bool, None, bool]:
        best = None if self._is_cutting else self.planner.best_split()
        return best is not None and (yield from self._cut(*best))

    def _cut(self, partition: Partition, at: float) -> Generator[bool, None, bool]:
        """Cut a partition where its reader has not been yet, once the rows at the cut are known."""
        self._is_cutting = True
        reading, end = self._readings[partition.start], partition.end
        self.pages += 1
        yield _REQUEST
        yield from self._read_overlap(at)
        self._is_cutting = False
        own = self.rows.before(at - self.overlap)
        if partition not in self.planner.active or partition.end != end or reading.row > own:
            return False
        reading.own, reading.high = own, max(reading.row, self._up_to(at))
        self.planner.cut(partition, at)
        self.cuts += 1
        self._wake()
        return True

    def _up_to(self, end: float) -> int:
        return self.rows.up_to(end + self.overlap)

    def _give(self, low: int, high: int) -> None:
        if high > low:
            self._given += high - low
            self._sum += (low + high - 1) * (high - low) // 2

    def _keep(self, ids: int) -> None:
        self._ids += ids
        self.most_ids = max(self.most_ids, self._ids)
