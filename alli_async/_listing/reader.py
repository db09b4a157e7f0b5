"""The reader: every conversation of a list once, however the server behaves.

A list is read in one of three ways, which the survey chooses:

- in partitions of first chat times, many at once, where the server keeps to windows and order;
- plainly, with one cursor from start to end, in a small list, in order, or where windows are not kept;
- by last chat, from the latest on and then again from the top (`last_chat`), where nothing else is served.

When all partitions were read, rows may have moved out of a partition that was not read yet, into one that was.
With offset cursors one request proves that none has: the row at the index that is the count of all rows must be
the last row of the last partition. If it is not, all partitions are read again, and the end after them. Where
cursors are not offsets, all partitions are read again until no new row comes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Container, Sequence
from typing import Any, Generic, TypeVar

from .._aio.tasks import TaskGroup
from .closing import Closing, PartitionResult
from .daily import daily_activity
from .last_chat import LastChatReader
from .page_reader import BadRow, ListEntry, Page, PageReader, good_rows
from .pages import Row, units_per_second_in
from .partition_reader import ASC, Emit, PartitionReader, boundary_ids
from .planner import Partition, Planner
from .quiet import MAX_PASSES, QuietPasses, changes_too_fast
from .seen import SeenIds
from .survey import FAR_AHEAD, LONG_AGO, Span, Survey, is_empty, moments, survey_list, with_spans
from .walks import Walk

RowT = TypeVar("RowT", bound=Row)

# Partitions read at a time. With more, requests for chats would wait for the rate limiter, and these take most of
# the time.
READERS = 16
# About the number of rows from which on it is worth a round trip to ask how they are spread over the days.
WORTH_ASKING = 20_000
# Ids claimed recently that are remembered: a page requested before the move may still show them.
_MOVED = 10_000


class EmittedRows:
    """The rows of a list that were emitted, those of partitions that are being read included.

    Attributes:
        before: Ids of rows that were emitted before any partition was read.
        finished: Ids of emitted rows, without those of partitions that are being read.
        moved: Ids of rows that were claimed recently, and may be on a page of another partition that arrives
            later.
    """

    def __init__(self) -> None:
        self.before: set[str] = set()
        self.finished = SeenIds()
        self._active: list[PartitionReader[Any]] = []
        self.moved: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, conversation_id: str) -> bool:
        return (
            conversation_id in self.finished
            or conversation_id in self.moved
            or any(conversation_id in reader.accounted_ids for reader in self._active)
        )

    def claim(self, conversation_id: str) -> bool:
        """Claim a row that may have moved between partitions; False when it was emitted already."""
        if conversation_id in self:
            return False
        self.moved[conversation_id] = None
        if len(self.moved) > _MOVED:
            self.moved.popitem(last=False)
        return True

    def track(self, reader: PartitionReader[Any]) -> None:
        """Include the rows that a reader emits from now on."""
        self._active.append(reader)

    def finish(self, reader: PartitionReader[Any]) -> None:
        """Keep the ids of a reader that has read its partition to the end."""
        self.finished.update(reader.accounted_ids)
        self._active.remove(reader)


class ListReader(Generic[RowT]):
    """Reads one list.

    Args:
        pages: Fetches the pages of the list.
        emit: Called with the rows, each once.
        report: Called with rows that cannot be read. It may raise; then the reading ends.
        worth_asking: Number of rows from which on the daily counts are asked for.
    """

    def __init__(
        self,
        pages: PageReader[RowT],
        emit: Emit[RowT],
        report: Callable[[BadRow], None],
        *,
        worth_asking: int = WORTH_ASKING,
    ) -> None:
        self._pages = pages
        self._worth_asking = worth_asking
        self._emit = emit
        self._report = report
        self._emitted = EmittedRows()
        self._units_per_second = 1000.0
        self._position: float | None = None

    async def read(self, *, ordered: bool) -> None:
        """Emit every row once.

        Args:
            ordered: Whether rows are wanted in the order of first chats: then one cursor reads.

        Raises:
            AlliError: A page could not be read, and single rows are not the reason.
            IncompleteError: The list changes faster than it can be read.
        """
        survey = await survey_list(self._pages, self._emit_new, ordered=ordered)
        if survey.by_last_chat:
            await LastChatReader(self._pages, self._emit_new).read()
        elif survey.span is not None and (survey.walk is None or not ordered):
            await self._read_partitions(survey, survey.span, 1 if ordered else READERS)
        else:
            await self._read_plainly(survey)

    async def _emit_new(self, entries: Sequence[ListEntry[RowT]]) -> None:
        """Emit the rows that were not emitted before, and report rows that cannot be read."""
        rows: list[RowT] = []
        finished = self._emitted.finished
        ids = {entry.id for entry in entries if entry.id not in self._emitted}
        finished.update(ids)
        listed = good_rows(entries)
        units_per_second = self._units_per_second = units_per_second_in(listed) or self._units_per_second
        times = moments(listed, units_per_second)
        where = (self._position or LONG_AGO * units_per_second, FAR_AHEAD * units_per_second)
        self._position = times[-1] if times else self._position
        for entry in with_spans(entries, units_per_second, where):
            if entry.id not in ids:
                continue
            if isinstance(entry, BadRow):
                self._report(entry)
            else:
                rows.append(entry)
        if rows:
            await self._emit(rows)

    # --- plainly ------------------------------------------------------------------------------------------

    async def _read_plainly(self, survey: Survey[RowT]) -> None:
        """Read with one cursor, from where the survey stopped to the end."""
        walk, units_per_second = survey.walk, survey.profile.units_per_second or 1000.0
        assert walk is not None  # noqa: S101 - the survey has started it
        newest = moments(good_rows([*survey.entries, *survey.tail]), units_per_second)
        await self._emit_walk(walk, units_per_second, newest)
        if walk.is_contiguous and not walk.rows_came:
            return
        await self._read_until_nothing_new(survey, units_per_second, _plausible_newest(newest))

    async def _emit_walk(self, walk: Walk[RowT], units_per_second: float, newest: list[float]) -> bool:
        """Read a walk to its end.

        Args:
            walk: The walk.
            units_per_second: Units of the server's timestamps in one second.
            newest: The two latest first chat times that are known; updated on the way.

        Returns:
            Whether it brought rows that were in the list before it started.
        """
        known = _plausible_newest(newest)
        found = False

        async def take(entries: Sequence[ListEntry[RowT]]) -> None:
            nonlocal found
            new = [entry for entry in entries if entry.id not in self._emitted]
            times = moments(good_rows(new), units_per_second)
            found = found or any(time <= known for time in times)
            newest[:] = sorted([*newest, *times])[-2:]
            await self._emit_new(new)

        await walk.drain(take)
        return found

    async def _read_until_nothing_new(self, survey: Survey[RowT], units_per_second: float, newest: float) -> None:
        """Read the list again until a pass finds no row that earlier passes missed.

        A row that is newer than all rows of the first pass is no reason to read once more: new ones may never end.
        """
        passes = QuietPasses(is_order_unstable=survey.walk is not None and survey.walk.is_order_unstable)
        for _ in range(MAX_PASSES):
            walk: Walk[RowT] = Walk(
                self._pages, ASC, self._pages.filters, cursors=survey.profile.offsets, ids=SeenIds()
            )
            found = await self._emit_walk(walk, units_per_second, [newest, newest])
            is_quiet = passes.are_enough(walk, found=found)
            if is_quiet or (walk.is_contiguous and not walk.rows_came):
                return
        raise changes_too_fast(MAX_PASSES + 1)

    # --- in partitions ------------------------------------------------------------------------------------

    async def _read_partitions(self, survey: Survey[RowT], span: Span, count: int) -> None:
        activity: list[tuple[float, float]] = []
        if span.density * (span.high - span.low) >= self._worth_asking:
            activity = await daily_activity(self._pages.session, span.low, span.high, span.units_per_second)
        planner = Planner(
            span.low, span.last_cut, count, overlap=span.resolution, density=span.density, activity=activity
        )
        planner.may_cut = survey.profile.cursor_accepts_nearer_end
        self._emitted.before.update(entry.id for entry in survey.entries)
        workers = _PartitionWorkers(self, survey, span, planner)
        async with TaskGroup() as group:
            for _ in range(count):
                group.create_task(workers.work())
        await Closing(
            pages=self._pages,
            span=span,
            profile=survey.profile,
            empty_first=any(is_empty(each) for each in good_rows(survey.entries[:1])),
            emitted=self._emitted,
            take=self._emit_new,
            emit=self._emit,
            report=self._report,
            results=workers.results,
        ).run()


def _plausible_newest(times: Sequence[float]) -> float:
    """Second latest time, or the only one: a single wrong date must not count."""
    return sorted(times)[-2:][0] if times else 0.0


class _PartitionWorkers(Generic[RowT]):
    """Workers that each read one partition after the other, and the state that they share."""

    def __init__(self, reader: ListReader[RowT], survey: Survey[RowT], span: Span, planner: Planner) -> None:
        self.results: list[PartitionResult] = []
        self._list = reader
        self._survey = survey
        self._span = span
        self._planner = planner
        self._readers: dict[int, PartitionReader[RowT]] = {}
        self._by_start: dict[float | None, PartitionReader[RowT]] = {}
        # First pages of the partitions that were cut off and not read yet, by start and end.
        self._first_pages: dict[tuple[float | None, float], Page[RowT]] = {}
        self._changed = asyncio.Event()
        self._splitting = asyncio.Lock()

    async def work(self) -> None:
        """Do the work of one worker: read one partition after the other until none is left."""
        while (partition := await self._next()) is not None:
            await self._read(partition)
            self._wake()

    async def _next(self) -> Partition | None:
        planner = self._planner
        while True:
            was_active = bool(planner.active)
            partition = planner.next_partition()
            if partition is not None or not was_active:
                return partition
            changed = self._changed  # A change during the attempt to split wakes this worker as well.
            if not await self._split():
                await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _split(self) -> bool:
        """Cut the partition with most rows ahead in two, for a worker that has nothing to do."""
        if self._splitting.locked():
            return False
        async with self._splitting:
            best = self._planner.best_split()
            if best is None:
                return False
            return await self._cut(*best)

    async def _cut(self, partition: Partition, cut_time: float) -> bool:
        reader = self._readers.get(id(partition))
        end = partition.end
        first_page = None if reader is None else await reader.try_cut(cut_time)
        if first_page is None:
            return False
        self._first_pages[cut_time, end] = first_page
        self._planner.cut(partition, cut_time)
        self._wake()
        return True

    async def _read(self, partition: Partition) -> None:
        async def on_page(rows: int, position: float) -> None:
            self._planner.progress(partition, rows, position)
            self._wake()
            cut_time = self._planner.dense_cut(partition)
            if cut_time is not None and not self._splitting.locked():
                async with self._splitting:
                    await self._cut(partition, cut_time)

        async def boundary() -> Container[str]:
            return await self._boundary(partition)

        emitted = self._list._emitted
        reader = PartitionReader(
            self._list._pages,
            self._span,
            partition.start,
            partition.end,
            emit=self._list._emit,
            report=self._list._report,
            others=emitted,
            offsets=self._survey.profile.offsets,
            on_page=on_page,
        )
        first_page = self._first_pages.pop((partition.start, partition.end), None)
        if first_page is not None:
            reader.walk.begin_with(first_page)
        self._seed(partition, reader)
        self._readers[id(partition)] = self._by_start[partition.start] = reader
        emitted.track(reader)
        await reader.read(boundary)
        self._planner.finish(partition)
        emitted.finish(reader)
        del self._readers[id(partition)]
        self._forget_finished()
        self.results.append(PartitionResult.of(reader, partition.start, partition.end))

    def _forget_finished(self) -> None:
        """Drop the readers, and so the ids, for which no partition on their left waits."""
        awaited = {each.end for each in self._planner.active}
        active = {id(reader) for reader in self._readers.values()}
        self._by_start = {
            start: reader for start, reader in self._by_start.items() if start in awaited or id(reader) in active
        }

    def _seed(self, partition: Partition, reader: PartitionReader[RowT]) -> None:
        """Let the first partition continue after the survey's pages, where they are proved to be its start."""
        walk, entries = self._survey.walk, self._survey.entries
        if (
            partition.start is not None
            or walk is None
            or walk.cursors is None
            or not walk.is_contiguous
            or any(map(is_empty, good_rows(entries[:1])))
        ):
            return
        times = moments(good_rows(entries), self._span.units_per_second)
        if times and max(times) < partition.end - self._span.resolution:
            reader.seed(walk, [entry.id for entry in entries])

    async def _boundary(self, partition: Partition) -> Container[str]:
        """The ids of the rows that belong to the partition on the right of this one."""
        if partition.end >= self._span.last_cut:
            return frozenset()
        right = self._by_start.get(partition.end)
        if right is None:
            return await boundary_ids(self._list._pages, self._span, partition.end)
        await right.overlap_read.wait()
        return right.ids
