"""The reader: every conversation of a list once, however the server behaves.

A list is read in one of three ways, which the survey chooses:

- in partitions of first chat times, many at once, where the server keeps to windows and order;
- plainly, with one cursor from begin to end, in a small list, in order, or where windows are not kept;
- by last chat, from the latest on and then again from the top (`last_chat`), where nothing else is served.

When all partitions were read, rows can have moved: out of a partition that was not read yet, into one that was.
With offset cursors one request tells: the row at the index of all that was counted must be the last one counted.
If it is not, each partition is asked the same, and read again where it has other rows now. Where cursors are not
offsets, all partitions are read again until nothing new comes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Container, Sequence
from typing import Any, Generic, TypeVar

from .._aio.tasks import TaskGroup
from ..errors import IncompleteError
from .closing import Closing, PartitionResult
from .daily import daily_activity
from .last_chat import LastChatReader
from .page_reader import BadRow, Entry, Page, PageReader
from .pages import Row, units_per_second_in
from .partition_reader import ASC, Give, PartitionReader, boundary_ids
from .planner import Partition, Planner
from .seen import SeenIds
from .survey import FAR_AHEAD, LONG_AGO, Span, Survey, is_empty, moments, survey_list, with_spans
from .walks import StuckError, Walk

RowT = TypeVar("RowT", bound=Row)

# Partitions read at a time. More would leave the chats no room in the rate limiter, and gain nothing on the time
# they take.
READERS = 16
# From about so many rows on it is worth a round trip to ask how they are spread over the days.
_WORTH_ASKING = 20_000
# How often a list, or a partition, is read again because something new was found.
_MOST_PASSES = 20
# Passes that must bring nothing new where the order of rows is not stable.
_QUIET_PASSES = 5
# Rows that moved lately: a page that shows one at its former place was asked for at the same time.
_MOVED = 10_000


class Given:
    """The rows that were given, by all partitions of a list.

    Attributes:
        before: Ids of rows that were given before any partition was read.
        finished: Ids of rows that were given, but for those of partitions that are being read.
        moved: Ids of rows that were claimed lately, and may be on a page of another partition that is looked at
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
            or any(conversation_id in reader.given for reader in self._active)
        )

    def claim(self, conversation_id: str) -> bool:
        """Claim a row that may have moved between partitions; False when it was given already."""
        if conversation_id in self:
            return False
        self.moved[conversation_id] = None
        if len(self.moved) > _MOVED:
            self.moved.popitem(last=False)
        return True

    def begin(self, reader: PartitionReader[Any]) -> None:
        """Count what a partition gives from now on."""
        self._active.append(reader)

    def finish(self, reader: PartitionReader[Any]) -> None:
        """Take over what a partition has given, which is read to its end."""
        self.finished.update(reader.given)
        self._active.remove(reader)


class ListReader(Generic[RowT]):
    """Reads one list.

    Args:
        pages: Fetches its pages.
        give: Takes the rows, each once.
        report: Takes rows that cannot be had. It may raise; then the reading ends.
    """

    def __init__(self, pages: PageReader[RowT], give: Give[RowT], report: Callable[[BadRow], None]) -> None:
        self._pages = pages
        self._give = give
        self._report = report
        self._given = Given()
        self._units_per_second = 1000.0
        self._position: float | None = None

    async def read(self, *, ordered: bool) -> None:
        """Give every row once.

        Args:
            ordered: Whether rows are wanted by first chat: then one cursor reads, in that order.

        Raises:
            AlliError: What is wrong is not about single rows.
            IncompleteError: The list changes faster than it can be read.
        """
        survey = await survey_list(self._pages, self._take, ordered=ordered)
        if survey.by_last_chat:
            await LastChatReader(self._pages, self._take).read()
        elif survey.span is not None and (survey.walk is None or not ordered):
            await self._read_partitions(survey, survey.span, 1 if ordered else READERS)
        else:
            await self._read_plainly(survey)

    async def _take(self, entries: Sequence[Entry[RowT]]) -> None:
        """Give the rows that were not given before, and report those that cannot be had."""
        rows: list[RowT] = []
        finished = self._given.finished
        ids = {entry.id for entry in entries if entry.id not in self._given}
        finished.update(ids)
        units_per_second = self._units_per_second = units_per_second_in(_listed(entries)) or self._units_per_second
        times = moments(_listed(entries), units_per_second)
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
            await self._give(rows)

    # --- plainly ------------------------------------------------------------------------------------------

    async def _read_plainly(self, survey: Survey[RowT]) -> None:
        """Read with one cursor, from where the survey stands to the end."""
        walk, units_per_second = survey.walk, survey.profile.units_per_second or 1000.0
        assert walk is not None  # noqa: S101 - the survey has begun it
        one_page = walk.has_ended and walk.first_cursor is None
        newest = moments(_listed([*survey.entries, *survey.tail]), units_per_second)
        await self._take_all(walk, units_per_second, newest)
        if one_page or (walk.is_proved and not walk.is_disturbed and not walk.rows_came):
            return
        # The latest date may be nonsense; the one before it hardly is as well.
        newest_known = sorted(newest)[-2:][0] if newest else 0.0
        await self._read_until_nothing_new(survey, units_per_second, newest_known)

    async def _take_all(self, walk: Walk[RowT], units_per_second: float, newest: list[float]) -> bool:
        """Read a walk to its end; gives whether it brought rows that had been there before it began."""
        known = sorted(newest)[-2:][0] if newest else 0.0
        found = False
        seen = SeenIds()
        seen.update(walk.ids if isinstance(walk.ids, set) else ())
        walk.ids = seen
        while True:
            try:
                entries = await walk.next()
            except StuckError as stuck:
                await self._take([BadRow("rows that no cursor leads past", stuck.error)])
                await walk.from_other_end(self._take)
                return found
            if entries is None:
                return found
            new = [entry for entry in entries if entry.id not in self._given]
            times = moments(_listed(new), units_per_second)
            found = found or any(time <= known for time in times)
            newest[:] = sorted([*newest, *times])[-2:]
            await self._take(new)

    async def _read_until_nothing_new(self, survey: Survey[RowT], units_per_second: float, newest: float) -> None:
        """Read the list again and again, until a pass brings nothing that was there before.

        What is newer than all that was known at first is no reason to read once more: of that there may be no end.
        """
        quiet = 0
        for _ in range(_MOST_PASSES):
            walk: Walk[RowT] = Walk(self._pages, ASC, self._pages.filters, cursors=survey.profile.offsets)
            found = await self._take_all(walk, units_per_second, [newest, newest])
            quiet = 0 if found else quiet + 1
            is_whole = walk.is_proved and not (walk.is_disturbed or walk.rows_came)
            is_counted = walk.is_proved and not walk.rows_left
            counted = is_counted and len(self._given.finished) == walk.rows_before
            if is_whole or counted or quiet >= (_QUIET_PASSES if walk.is_disturbed else 1):
                return
        raise IncompleteError(
            f"the list was read {_MOST_PASSES + 1} times, and each time conversations were found that had been "
            "there before: it changes faster than it can be read with one cursor"
        )

    # --- in partitions ------------------------------------------------------------------------------------

    async def _read_partitions(self, survey: Survey[RowT], span: Span, count: int) -> None:
        profile: list[tuple[float, float]] = []
        if span.density * (span.high - span.low) >= _WORTH_ASKING:
            profile = await daily_activity(self._pages.session, span.low, span.high, span.units_per_second)
        planner = Planner(
            span.low, span.last_cut, count, overlap=span.resolution, density=span.density, profile=profile
        )
        planner.may_cut = survey.profile.cursor_keeps_bounds
        self._given.before.update(entry.id for entry in survey.entries)
        readers = _Readers(self, survey, span, planner)
        async with TaskGroup() as group:
            for _ in range(count):
                group.create_task(readers.run())
        await Closing(
            pages=self._pages,
            span=span,
            profile=survey.profile,
            empty_first=any(is_empty(each) for each in _listed(survey.entries[:1])),
            given=self._given,
            take=self._take,
            give=self._give,
            report=self._report,
            results=readers.results,
        ).run()


def _listed(entries: Sequence[Entry[RowT]]) -> list[RowT]:
    """The rows among some that could be had."""
    return [entry for entry in entries if not isinstance(entry, BadRow)]


class _Readers(Generic[RowT]):
    """Several readers of partitions at once, and what they share."""

    def __init__(self, reader: ListReader[RowT], survey: Survey[RowT], span: Span, planner: Planner) -> None:
        self.results: list[PartitionResult] = []
        self._list = reader
        self._survey = survey
        self._span = span
        self._planner = planner
        self._readers: dict[int, PartitionReader[RowT]] = {}
        self._by_start: dict[float | None, PartitionReader[RowT]] = {}
        # The first pages of what lies behind the cuts, by start and end.
        self._first_pages: dict[tuple[float | None, float], Page[RowT]] = {}
        self._changed = asyncio.Event()
        self._splitting = asyncio.Lock()

    async def run(self) -> None:
        """Read one partition after the other, as long as there are any."""
        while (partition := await self._next()) is not None:
            await self._read(partition)
            self._wake()

    async def _next(self) -> Partition | None:
        planner = self._planner
        while True:
            was_active = bool(planner.active)
            partition = planner.take()
            if partition is not None or not was_active:
                return partition
            changed = self._changed  # what changes while a split is tried counts too
            if not await self._split():
                await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _split(self) -> bool:
        """Cut the partition with most rows ahead in two, for a reader that has nothing to do."""
        if self._splitting.locked():
            return False
        async with self._splitting:
            best = self._planner.best_split()
            if best is None:
                return False
            return await self._cut(*best)

    async def _cut(self, partition: Partition, at: float) -> bool:
        reader = self._readers.get(id(partition))
        end = partition.end
        first_page = None if reader is None else await reader.try_cut(at)
        if first_page is None:
            return False
        self._first_pages[at, end] = first_page
        self._planner.cut(partition, at)
        self._wake()
        return True

    async def _read(self, partition: Partition) -> None:
        given = self._list._given
        reader = PartitionReader(
            self._list._pages,
            self._span,
            partition.start,
            partition.end,
            give=self._list._give,
            report=self._list._report,
            given=given,
            offsets=self._survey.profile.offsets,
        )
        first_page = self._first_pages.pop((partition.start, partition.end), None)
        if first_page is not None:
            reader.walk.begin_with(first_page)
        self._seed(partition, reader)
        self._readers[id(partition)] = self._by_start[partition.start] = reader
        given.begin(reader)

        async def on_page(rows: int, position: float) -> None:
            self._planner.progress(partition, rows, position)
            self._wake()
            at = self._planner.dense_cut(partition)
            if at is not None and not self._splitting.locked():
                async with self._splitting:
                    await self._cut(partition, at)

        async def boundary() -> Container[str]:
            return await self._boundary(partition)

        reader.on_page = on_page
        await reader.read(boundary)
        self._planner.finish(partition)
        given.finish(reader)
        del self._readers[id(partition)]
        self._forget_finished()
        self.results.append(PartitionResult.of(reader, partition.start, partition.end))

    def _forget_finished(self) -> None:
        """Let go of the readers, and so of the ids, that no partition on their left waits for."""
        awaited = {each.end for each in self._planner.active}
        active = {id(reader) for reader in self._readers.values()}
        self._by_start = {
            start: reader for start, reader in self._by_start.items() if start in awaited or id(reader) in active
        }

    def _seed(self, partition: Partition, reader: PartitionReader[RowT]) -> None:
        """Let the first partition go on behind the survey's pages, where these are the begin of its window."""
        walk, entries = self._survey.walk, self._survey.entries
        if (
            partition.start is not None
            or walk is None
            or walk.cursors is None
            or any(map(is_empty, _listed(entries[:1])))
        ):
            return
        times = moments(_listed(entries), self._span.units_per_second)
        if times and max(times) < partition.end - self._span.resolution:
            reader.seed(walk, [entry.id for entry in entries])

    async def _boundary(self, partition: Partition) -> Container[str]:
        """The ids of the rows that belong to the partition on the right of one."""
        if partition.end >= self._span.last_cut:
            return frozenset()
        right = self._by_start.get(partition.end)
        if right is None:
            return await boundary_ids(self._list._pages, self._span, partition.end)
        await right.overlap_read.wait()
        return right.ids
