"""The two ends of a list: what they tell of its span, and whether time windows on it can be relied on."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, NamedTuple

from .._transport import wire
from .._transport.filters import Filters
from ..errors import BadRequestError
from ..models import Order, second_of
from .listing import Listing
from .offsets import cursor_behind
from .pages import MAX_PAGE_SIZE, Row, after
from .tasks import both, concurrently

# In seconds: a day that no conversation began before, and one that none begins after.
LONG_AGO, _FAR_AHEAD = 86_400.0, 16_725_225_600.0


class Ends(NamedTuple):
    """Where a list begins and ends.

    Attributes:
        low: About its earliest first chat time, in the server's unit.
        high: About the latest.
        second: The server's second: 1 or 1000.
        resolution: By how much windows should reach over a cut.
    """

    low: float
    high: float
    second: float
    resolution: float


async def ends_of(listing: Listing, pages: Sequence[Any], tail: Any) -> tuple[Ends | None, list[Row], list[Row]]:
    """The ends of a list, and the first and the last rows that have chats, by which they are known.

    There are none where there is nothing between to cut, nor where the numbers are no dates, by which the server's
    unit is known.

    Args:
        listing: The list.
        pages: Its first ones.
        tail: Its other end.
    """
    early, late = await both(
        _chatted(listing, Order.FIRST_CHAT_TIME_ASC, pages), _chatted(listing, Order.FIRST_CHAT_TIME_DESC, [tail])
    )
    second = _second(early)
    if second is None or not late:
        return None, early, late
    least, most = _bounds(listing.filters, second)
    # A conversation can be older than its first chat, and so than the bound that was set on that.
    low, high = max(min(row.created_at for row in early), least), min(max(row.created_at for row in late), most)
    if high <= low:
        return None, early, late
    # A second either way costs nothing where rows are far apart; where they are not, a millisecond does.
    resolution = min(second, max(second / 1000, (high - low) / 1e6))
    return Ends(low, high, second, resolution), early, late


async def _chatted(listing: Listing, order: Order, pages: Sequence[Any]) -> list[Row]:
    """The rows of an end of a list that have chats.

    Where those without stand first, and hide them, they are asked for: any bound leaves those without out. (This
    machine's clock would not do for the end: no first chat that comes later must lie before it.)

    Args:
        listing: The list.
        order: That begins at this end.
        pages: Its first ones.
    """
    rows = [row for page in pages for row in page.conversations]
    timed = [row for row in rows if row.last_chat_time is not None]
    second = _second(rows)
    if timed or second is None:
        return timed
    try:
        page = await listing.page(order=order, filters=listing.filters.within(LONG_AGO * second, None))
    except BadRequestError:
        return []
    return [row for row in page.conversations if row.last_chat_time is not None]


def _second(rows: Sequence[Row]) -> float | None:
    """The server's second, by when conversations were created; None where the numbers are no dates."""
    return next((second_of(row.created_at) for row in rows if row.created_at > 1e8), None)


def density_of(rows: Sequence[Row]) -> float:
    """Rows for a unit of time, among these; 0 when they do not tell."""
    times = [row.created_at for row in rows if row.last_chat_time is not None]
    spread = max(times, default=0.0) - min(times, default=0.0)
    return len(times) / spread if spread > 0 else 0.0


async def keeps_to_windows(listing: Listing, second: float) -> bool:
    """Whether nothing is found before the beginning of time and beyond its end; else the filter is ignored."""
    filters = listing.filters
    beyond = [
        filters.within(_FAR_AHEAD * second, None, keep=False),
        filters.within(None, LONG_AGO * second, keep=False),
    ]
    asked = [listing.page(order=Order.FIRST_CHAT_TIME_ASC, filters=each, page_size=1) for each in beyond]
    try:
        found = await concurrently(asked)
    except BadRequestError:
        return False
    return not any(page.conversations or page.cursor for page in found)


async def other_end(listing: Listing) -> Any | None:
    """The page of the list's last rows, the very last first; None when the server does not sort that way."""
    try:
        return await listing.page(order=Order.FIRST_CHAT_TIME_DESC)
    except BadRequestError:
        return None


def begins_without_chats(page: Any) -> bool:
    """Whether the first conversation of a page has no chats."""
    return bool(page.conversations) and page.conversations[0].last_chat_time is None


async def walk_head(
    fetch: Callable[[str | None], Awaitable[Any]],
    pages: Sequence[Any],
    give: Callable[[Sequence[Any]], Awaitable[Sequence[Row]]],
) -> None:
    """From an end that begins with conversations without chats, up to the first that has some.

    One that gets its first chat meanwhile leaves the row, and those behind it move up, past a cursor that is an
    offset; so the row is walked until nothing new is met. (Itself, it will stand in the last window.) What is
    newer than all that was met at first is no reason to walk once more: of that there may be no end.

    Args:
        fetch: Gives a cursor's page.
        pages: The first ones from that end.
        give: Takes the rows of a page from the last of these on, and gives back those that were new.
    """
    page, lost = pages[-1], True
    newest, known = 0.0, math.inf
    while lost:
        walked, lost = 0, False
        async with aclosing(after(page, fetch)) as more:
            async for each in more:
                walked += 1
                fresh = await give(each.conversations)
                newest = max([newest, *(row.created_at for row in each.conversations)])
                lost = lost or any(row.created_at <= known for row in fresh)
                if each.conversations and each.conversations[-1].last_chat_time is not None:
                    break
        if walked == 1 and page is pages[0]:
            return
        known = min(known, newest)
        page = await fetch(None)


async def near_the_end(listing: Listing, pages: Sequence[Any], rows: int) -> Any | None:
    """A page near the list's end, where cursors are offsets; else None.

    The page's first row has chats, so where those without stand last, all of them come after.

    Args:
        listing: The list.
        pages: Its first ones, whose cursors show what they count.
        rows: About how many of it have chats; to be far off costs a few requests.
    """
    if not all(page.cursor for page in pages):
        return None
    cursor_of = cursor_behind(pages)
    if cursor_of is None:
        return None
    shown = sum(len(page.conversations) for page in pages)

    async def with_chats(at: int) -> Any | None:
        """The page behind so many rows, if it begins with one that has chats."""
        try:
            page = await listing.page(order=Order.FIRST_CHAT_TIME_ASC, cursor=cursor_of(at))
        except BadRequestError:
            return None  # beyond the end
        return page if page.conversations and not begins_without_chats(page) else None

    # Half a page before where those without begin, if the number is right: this page shows it.
    step, page = MAX_PAGE_SIZE // 2, None
    while page is None:
        at = max(rows - step, shown)
        page = await with_chats(at)
        if page is None and at == shown:
            return None
        step *= 4
    # Where there are more: by ever longer steps as long as rows have chats, then by ever shorter ones.
    step, factor = MAX_PAGE_SIZE, 2.0
    while step >= MAX_PAGE_SIZE and page.cursor and page.conversations[-1].last_chat_time is not None:
        further = await with_chats(at + step)
        if further is None:
            factor = 0.5
        else:
            at, page = at + step, further
        step = int(step * factor)
    return page


def _bounds(filters: Filters, second: float) -> tuple[float, float]:
    """The bounds on first chat times that are asked for, in the server's unit."""
    numbers = {
        name: float(wire.epoch_text(value, milliseconds=second > 1) if isinstance(value, datetime) else value)
        for name, value in filters.pairs
        if name in ("firstChatStartedAt", "firstChatEndAt")
    }
    return numbers.get("firstChatStartedAt", float("-inf")), numbers.get("firstChatEndAt", float("inf"))
