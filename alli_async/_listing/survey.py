"""The survey: how this server behaves, found out with a few requests before a list is read.

The result is a `ServerProfile`. Every field of it that a request can check is checked.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from msgspec import Struct

from .._aio.tasks import both, concurrently
from .._transport import wire
from ..errors import AlliError, BadRequestError
from ..models import Order
from .bounds import MARGIN, UNBOUNDED
from .cursors import OffsetCursors
from .page_reader import BadRow, ListEntry, PageFaultError, PageReader, good_rows
from .pages import MAX_PAGE_SIZE, Row, units_per_second_in
from .seen import SeenIds
from .single_rows import StuckError
from .walks import Walk, first_rows

RowT = TypeVar("RowT", bound=Row)

# Seconds since 1970 before and after which no conversation starts (1970-01-02, 2500-01-01).
LONG_AGO, FAR_AHEAD = 86_400.0, 16_725_225_600.0
_DAY = 86_400.0
# Pages of the longest list that is simply walked: partitions would cost more requests than they save time.
_FEW_PAGES = 3
# Rows that a page must have to try its cursor with other bounds: with fewer, an offset can look like a keyset.
_MIN_SAMPLE_ROWS = 10

CursorKind = Literal["offset", "keyset", "opaque"]


# The names of fields in the plans of exports, which outlive a release.
_NAMES_IN_PLANS = {"units_per_second": "second", "cursor_accepts_nearer_end": "cursor_keeps_bounds"}


class ServerProfile(Struct, frozen=True, kw_only=True, rename=_NAMES_IN_PLANS):
    """How a server answers requests for a list.

    Attributes:
        units_per_second: Units of the server's timestamps in one second: 1 (seconds) or 1000 (milliseconds); None
            when no row showed a date.
        cursor: `"offset"`: the server's own cursors count rows. `"keyset"`: a row that left the list before a
            cursor was seen not to shift the page after the cursor. `"opaque"`: neither is known.
        offsets: How its offset cursors are made; None where its cursors are not known to be offsets.
        order_kept: Whether the order by first chat is honoured.
        windows_kept: Whether filters on first chat times are honoured.
        cursor_accepts_nearer_end: Whether a cursor still works in a request whose upper time bound is earlier than
            the bound that the cursor was made with.
    """

    units_per_second: float | None = None
    cursor: CursorKind = "opaque"
    offsets: OffsetCursors | None = None
    order_kept: bool = False
    windows_kept: bool = False
    cursor_accepts_nearer_end: bool = False


class Span(Struct, frozen=True, kw_only=True, rename=_NAMES_IN_PLANS):
    """The first chat times that a list covers, as far as a few requests show.

    Attributes:
        low: About the earliest time, in the server's unit.
        high: About the latest time.
        units_per_second: Units of the server's timestamps in one second: 1 (seconds) or 1000 (milliseconds).
        resolution: By how much the partitions beside a cut reach over it: a second, since a server may cut its
            bounds to whole seconds, and may leave out times that equal a bound.
        density: About the number of conversations per unit of time.
        bounded: Whether the filters restrict first chat times; then conversations without chats are not selected.
    """

    low: float
    high: float
    units_per_second: float
    resolution: float
    density: float
    bounded: bool

    @property
    def last_cut(self) -> float:
        """End of the last partition. Conversations that start during the run are later."""
        return self.high - 2 * self.resolution


@dataclass(slots=True)
class Survey(Generic[RowT]):
    """The result of the survey of a list.

    Attributes:
        profile: How the server behaves.
        by_last_chat: Whether the list must be read in the order of last chats.
        span: The span to cut into partitions; None when the list is simply walked.
        walk: A walk over the list that has read its first pages; None when the list cannot be walked.
        entries: The rows of these pages, in order.
        tail: The rows of the other end of the list, the last row first.
    """

    profile: ServerProfile
    by_last_chat: bool = False
    span: Span | None = None
    walk: Walk[RowT] | None = None
    entries: Sequence[ListEntry[RowT]] = ()
    tail: Sequence[ListEntry[RowT]] = ()


async def survey_list(
    pages: PageReader[RowT],
    take: Callable[[Sequence[ListEntry[RowT]]], Awaitable[object]] | None = None,
    *,
    ordered: bool = False,
) -> Survey[RowT]:
    """Find out how a list can be read, with about ten requests in four round trips.

    Args:
        pages: Fetches the pages of the list.
        take: Called with the rows of each of the first pages.
        ordered: Whether the list is to be read by first chat, even where a filter restricts the last chat.

    Raises:
        AlliError: The first page could not be fetched.
    """
    if pages.filters.on_last_chat and not ordered:
        return Survey(ServerProfile(), by_last_chat=True)
    walk = Walk(pages, Order.FIRST_CHAT_TIME_ASC, pages.filters, ids=SeenIds())
    try:
        entries = list(await walk.next() or ())
    except BadRequestError as error:
        # Some servers refuse an order without Alli's code.
        if error.code not in (wire.INVALID_PARAMETER, None):
            raise
        return Survey(ServerProfile(), by_last_chat=True)
    except StuckError as stuck:
        cursors = await _cursors_of_other_order(pages)
        if cursors is None:
            return await _survey_without_rows(pages, stuck.error)
        walk = Walk(pages, Order.FIRST_CHAT_TIME_ASC, pages.filters, cursors=cursors, ids=SeenIds())
        entries = list(await walk.next() or ())
    if take is not None:
        await take(entries)
    return await _Surveyor(pages, walk, entries, take).run()


async def _cursors_of_other_order(pages: PageReader[RowT]) -> OffsetCursors | None:
    """The form of offset cursors, found in another order of the list; None where no order shows it."""
    for order in (Order.FIRST_CHAT_TIME_DESC, Order.LAST_CHAT_TIME_DESC, Order.LAST_CHAT_TIME_ASC):
        walk = Walk(pages, order, pages.filters)
        try:
            await walk.next()
            await walk.next()
        except (StuckError, BadRequestError):
            continue
        if walk.cursors is not None:
            return walk.cursors
    return None


async def _survey_without_rows(pages: PageReader[RowT], error: AlliError) -> Survey[RowT]:
    """The survey of a list whose first row cannot be listed, while no cursor leads past it.

    Its windows can be read, if the server keeps to windows. Windows without rows prove that the server is well.
    """
    # In seconds, this number is in the year 5138: a server that counts seconds has no rows after it.
    recent = pages.filters.within(1e11, None)
    try:
        page = await pages.page(Order.FIRST_CHAT_TIME_ASC, None, recent, size=1)
        units_per_second = 1000.0 if page.entries else 1.0
    except PageFaultError:
        units_per_second = 1000.0
    low, high = LONG_AGO * units_per_second, (time.time() + _DAY) * units_per_second
    if not await _keeps_windows(pages, units_per_second):
        raise error
    span = Span(
        low=low,
        high=high,
        units_per_second=units_per_second,
        resolution=units_per_second,
        density=1 / (high - low),
        bounded=pages.filters.on_first_chat,
    )
    return Survey(ServerProfile(units_per_second=units_per_second, order_kept=True, windows_kept=True), span=span)


class _Surveyor(Generic[RowT]):
    """Surveys a list whose first page was read."""

    def __init__(
        self,
        pages: PageReader[RowT],
        walk: Walk[RowT],
        entries: list[ListEntry[RowT]],
        take: Callable[[Sequence[ListEntry[RowT]]], Awaitable[object]] | None,
    ) -> None:
        self._pages = pages
        self._take = take
        self._walk = walk
        self._entries = entries
        self._first = list(entries)
        self._tail: Sequence[ListEntry[RowT]] = ()

    async def run(self) -> Survey[RowT]:
        if self._walk.has_ended:
            return self._plain(order_kept=True)
        second_page, tail = await both(self._next(), _other_end(self._pages))
        if tail is None:
            return self._plain(order_kept=True)
        self._tail = tail
        if not self._is_order_kept():
            return self._plain(order_kept=False, by_last_chat=_is_by_last_chat(self._first))
        if self._walk.has_ended or not second_page:
            return self._plain(order_kept=True)
        return await self._with_span()

    def _plain(self, *, order_kept: bool, by_last_chat: bool = False) -> Survey[RowT]:
        profile = ServerProfile(
            units_per_second=units_per_second_in(good_rows(self._entries)),
            cursor=self._kind(),
            offsets=self._walk.cursors,
            order_kept=order_kept,
        )
        return Survey(profile, by_last_chat, None, self._walk, self._entries, self._tail)

    def _kind(self) -> CursorKind:
        return "offset" if self._walk.cursors is not None else "opaque"

    async def _next(self) -> list[ListEntry[RowT]]:
        try:
            entries = await self._walk.next() or []
        except StuckError:
            # The reader that continues this walk meets the same row, and reports it.
            entries = []
        self._entries += entries
        if self._take is not None:
            await self._take(entries)
        return entries

    def _is_order_kept(self) -> bool:
        """Whether the two ends of a list of more than a page are different rows.

        Rows without chats may stand first in both directions.
        """
        ids = {entry.id for entry in self._first}
        tail = [entry for entry in self._tail if isinstance(entry, BadRow) or not is_empty(entry)]
        both_ends = sum(entry.id in ids for entry in tail)
        return not tail or both_ends <= len(tail) / 2 or self._walk.has_ended

    # --- the span, and how cursors behave with other bounds -----------------------------------------------

    async def _with_span(self) -> Survey[RowT]:
        span, _ = await both(self._span(), self._next())
        if span is None or self._walk.has_ended:
            return self._plain(order_kept=True)
        kept, accepts_nearer_end, is_keyset = await concurrently(
            [_keeps_windows(self._pages, span.units_per_second), self._try_bound(end=True), self._is_keyset(span)]
        )
        kind = self._kind()
        if kind == "opaque" and is_keyset and accepts_nearer_end:
            kind = "keyset"
        profile = ServerProfile(
            units_per_second=span.units_per_second,
            cursor=kind,
            offsets=self._walk.cursors,
            order_kept=True,
            windows_kept=kept,
            cursor_accepts_nearer_end=accepts_nearer_end,
        )
        return Survey(profile, False, span if kept else None, self._walk, self._entries, self._tail)

    async def _span(self) -> Span | None:
        """The span between the first and the last rows that have chats; None where partitions are no help."""
        early, late = await both(
            self._with_chats(self._entries, Order.FIRST_CHAT_TIME_ASC),
            self._with_chats(self._tail, Order.FIRST_CHAT_TIME_DESC),
        )
        units_per_second = units_per_second_in(early)
        if (
            units_per_second is None
            or not late
            or not {row.id for row in early}.isdisjoint(row.id for row in late)
        ):
            return None
        bounds = self._pages.filters.user_bounds(units_per_second)
        earliest, latest = UNBOUNDED if bounds is None else bounds.first
        margin = MARGIN * units_per_second
        early_times, late_times = moments(early, units_per_second), moments(late, units_per_second)
        if not early_times or not late_times:
            return None
        # A conversation can be older than its first chat, and so older than the user's bound on the first chat.
        low, high = max(min(early_times), earliest - margin), min(max(late_times), latest + margin)
        density = density_of(early, units_per_second)
        between = min(late_times) - max(early_times)
        few_left = between * density < (_FEW_PAGES - 1) * MAX_PAGE_SIZE and density > 0
        if high - low <= 8 * units_per_second or few_left:
            return None
        return Span(
            low=low,
            high=high,
            units_per_second=units_per_second,
            resolution=units_per_second,
            density=max((density + density_of(late, units_per_second)) / 2, 1 / (high - low)),
            bounded=self._pages.filters.on_first_chat,
        )

    async def _with_chats(self, entries: Iterable[ListEntry[RowT]], order: Order) -> list[RowT]:
        """The rows with chats at one end of the list, requested with a bound if rows without chats hide them."""
        rows = good_rows(entries)
        timed = [row for row in rows if not is_empty(row)]
        units_per_second = units_per_second_in(rows)
        if timed or units_per_second is None:
            return timed
        # A bound on first chat times leaves out the rows without chats.
        bounded = self._pages.filters.within(LONG_AGO * units_per_second, None)
        return [row for row in await first_rows(self._pages, order, bounded) if not is_empty(row)]

    async def _is_keyset(self, span: Span) -> bool:
        """Whether a page stays the same when a bound leaves out rows before its cursor."""
        return self._kind() == "opaque" and span.density > 0 and await self._try_bound(end=False)

    async def _try_bound(self, *, end: bool) -> bool:
        """Ask for the second page once more, with a bound in its middle, or in the middle of the first.

        A page whose rows have one time, or one with few rows, proves nothing.

        Args:
            end: Whether the bound is an end: then the page must be the same up to the bound, and be the last page.
                Otherwise the bound leaves out rows before the cursor, and the page must stay the same.
        """
        rows = good_rows(self._first)
        second_page = self._entries[len(self._first) :][: len(self._first)]
        times = moments(good_rows(second_page) if end else rows, units_per_second_in(rows) or 1.0)
        cursor = self._walk.first_cursor
        distinct = sorted(set(times))
        if len(times) < _MIN_SAMPLE_ROWS or cursor is None or len(distinct) < 2:
            return False
        # The bound is within the page, not at its end, where all rows may have one time.
        bound = distinct[(len(distinct) - 1) // 2] if end else distinct[len(distinct) // 2]
        filters = self._pages.filters
        bounded = filters.within(None, bound) if end else filters.within(bound, None)
        try:
            page = await self._pages.page(Order.FIRST_CHAT_TIME_ASC, cursor, bounded)
        except (BadRequestError, PageFaultError):
            return False
        shown, all_ids = [entry.id for entry in page.entries], [entry.id for entry in second_page]
        if end:
            return bool(shown) and len(shown) < len(all_ids) and shown == all_ids[: len(shown)] and not page.cursor
        return bool(shown) and shown[: len(all_ids)] == all_ids[: len(shown)]


async def _keeps_windows(pages: PageReader[Any], units_per_second: float) -> bool:
    """Whether windows before all and after all conversations are empty; otherwise the server ignores windows."""
    beyond = [
        pages.filters.within(FAR_AHEAD * units_per_second, None, keep=False),
        pages.filters.within(None, LONG_AGO * units_per_second, keep=False),
    ]
    try:
        found = await concurrently([pages.page(Order.FIRST_CHAT_TIME_ASC, None, each, size=1) for each in beyond])
    except (BadRequestError, PageFaultError):
        return False
    return not any(page.entries or page.cursor for page in found)


async def _other_end(pages: PageReader[Any]) -> Sequence[Any] | None:
    """The list's last rows, the last row first; None when the server does not serve that order."""
    try:
        walk: Walk[Any] = Walk(pages, Order.FIRST_CHAT_TIME_DESC, pages.filters)
        return await walk.next_rows()
    except (BadRequestError, StuckError):
        return None


def _is_by_last_chat(entries: Iterable[ListEntry[Any]]) -> bool:
    """Whether rows are in the order of their last chats, the latest first."""
    times = [entry.last_chat_time for entry in good_rows(entries) if entry.last_chat_time is not None]
    return times == sorted(times, reverse=True) and len(set(times)) > 1


def is_empty(row: Row) -> bool:
    """Whether a conversation has no chats. Old rows may have chats, but no time of the last chat."""
    return row.last_chat_time is None and not row.chat_count and not row.chats


def moment(row: Row, units_per_second: float) -> float | None:
    """About the time of a conversation's first chat; None where its times are no dates.

    It is the time at which the conversation was opened, which is at or before its first chat; or the time of its
    last chat, if that is earlier.
    """
    low, high = LONG_AGO * units_per_second, FAR_AHEAD * units_per_second
    times = [time for time in (row.created_at, row.last_chat_time) if time is not None and low < time < high]
    return min(times) if times else None


def moments(rows: Iterable[Row], units_per_second: float) -> list[float]:
    """About the times of the first chats of rows, in the rows' order; rows without a date are left out."""
    found = (moment(row, units_per_second) for row in rows)
    return [time for time in found if time is not None]


def with_spans(
    entries: Sequence[ListEntry[RowT]], units_per_second: float, where: tuple[float, float] | None
) -> list[ListEntry[RowT]]:
    """The same rows, where each row that could not be read has the first chat times between which it lies.

    Args:
        entries: The rows of a page, in order.
        units_per_second: Units of the server's timestamps in one second.
        where: About the first chat times of the first and the last row, where they are known.
    """
    if not any(isinstance(entry, BadRow) for entry in entries):
        return list(entries)
    times = [None if isinstance(entry, BadRow) else moment(entry, units_per_second) for entry in entries]
    low, high = where or (None, None)
    found: list[ListEntry[RowT]] = []
    for number, entry in enumerate(entries):
        if isinstance(entry, BadRow):
            before = next((time for time in reversed(times[:number]) if time is not None), low)
            after = next((time for time in times[number:] if time is not None), high)
            if before is not None and after is not None:
                entry = entry.within((min(before, after), max(before, after)))
        found.append(entry)
    return found


def density_of(rows: Iterable[Row], units_per_second: float) -> float:
    """Rows per unit of time among these rows; 0 where their times do not show it."""
    times = moments((row for row in rows if not is_empty(row)), units_per_second)
    spread = max(times, default=0.0) - min(times, default=0.0)
    return len(times) / spread if spread > 0 and math.isfinite(spread) else 0.0
