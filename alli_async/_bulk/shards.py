"""Shards: a list cut into windows of first chat times, each walked by itself, each row in exactly one of them.

Whether the server's bounds are inclusive is unknown, and thousands of rows may share an instant; so both windows
beside a cut reach over it by the server's resolution. What stands in both is what stands in the window between
the two reaches, the seam: the shard on the left lists it, and leaves those rows to the one on its right. Nothing
is remembered from one shard to the next, so they can be walked in any order, anywhere, and again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

from msgspec import Raw, Struct

from .._transport import wire
from .._transport.filters import Filters
from .._transport.session import Session
from ..errors import BadRequestError, DecodeError
from ..models import Order, second_of
from .chats import CHATS_PER_PAGE
from .ends import LONG_AGO, begins_without_chats, density_of, ends_of, keeps_to_windows, other_end
from .lenient import lenient, raw_records
from .listing import Listing
from .pages import MAX_PAGE_SIZE, walk
from .tasks import both


class Shard(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A window of first chat times, from `start` to `end` in the server's unit.

    Attributes:
        name: Unique in its plan.
        start: None for no bound.
        end: None for no bound. Then the conversations without chats belong to it too, which are in no window.
        expected: About how many conversations it holds, where that is known.
    """

    name: str
    start: float | None = None
    end: float | None = None
    expected: int | None = None

    @property
    def whole(self) -> bool:
        """Whether it is the whole list."""
        return self.start is None and self.end is None


class Span(Struct, frozen=True, kw_only=True):
    """What the first chat times of a list cover, as far as a few requests tell.

    Attributes:
        low: About the earliest, in the server's unit.
        high: About the latest.
        second: The server's second: 1 or 1000.
        resolution: By how much windows reach over a cut.
        density: Conversations per unit of time, about.
        bounded: Whether the filters are on first chat times; then none without chats is meant.
    """

    low: float
    high: float
    second: float
    resolution: float
    density: float
    bounded: bool


class Survey(Struct, frozen=True, kw_only=True):
    """What is known of a list before it is walked.

    Attributes:
        span: None where windows are not to be used; then the whole list is one shard.
        ids: Of a few of its conversations.
        rows: How many there are, when it is so small that this is known.
        chat_requests: For pages of chats, a conversation, about.
    """

    span: Span | None
    ids: list[str]
    rows: int | None = None
    chat_requests: float = 0.0


class Row(Struct, rename="camel", gc=False):
    """What is read of a conversation in a list that is not to be written."""

    id: str
    created_at: int | float
    last_chat_time: int | float | None = None
    chat_count: Any = None
    chats: list[Raw] = []
    json: bytes = b""


class _Rows(Struct, gc=False):
    conversations: list[Row]
    cursor: str | None = None


_decode_rows = wire.decoder(_Rows)


def _rows(body: bytes) -> _Rows:
    page = _decode_rows(body)
    if any(row.last_chat_time is None for row in page.conversations):
        for row, json in zip(page.conversations, raw_records(body), strict=True):
            row.json = json
    return page


def listing_of(
    session: Session, filters: Filters, note: Callable[[bytes, DecodeError], None] = lambda *_: None
) -> Listing:
    """A list whose pages hold rows; `note` is told of records that cannot be decoded."""
    return Listing(session, filters, lenient(_rows, note))


# --- before ----------------------------------------------------------------------------------------------


async def survey(session: Session, filters: Filters) -> Survey:
    """Look at both ends of a list, and whether its windows can be relied on: six requests, in three turns."""
    if filters.on_last_chat:
        return Survey(span=None, ids=[])
    listing = listing_of(session, filters)
    try:
        first = await listing.page(order=Order.FIRST_CHAT_TIME_ASC)
    except BadRequestError as error:
        if error.code not in (7003, None):
            raise
        return Survey(span=None, ids=[])
    pages: list[_Rows] = [first]
    span: Span | None = None
    if first.cursor:
        second, tail = await both(_next(listing, first), other_end(listing))
        pages.append(second)
        if second.cursor:
            third, span = await both(_next(listing, second), _span(listing, pages[:], tail))
            pages.append(third)
    rows = _rows_of(pages)
    # What ends here is one shard: to cut it would cost more than to take it.
    more_to_come = bool(pages[-1].cursor)
    return Survey(
        span=span if more_to_come else None,
        ids=[row.id for row in rows[:3]],
        rows=None if more_to_come else len(rows),
        chat_requests=sum(map(_chat_requests, rows)) / max(len(rows), 1),
    )


async def _next(listing: Listing, page: _Rows) -> Any:
    return await listing.page(order=Order.FIRST_CHAT_TIME_ASC, cursor=page.cursor)


def _rows_of(pages: Sequence[_Rows]) -> list[Row]:
    return [row for page in pages for row in page.conversations]


def _chat_requests(row: Row) -> int:
    """For the chats of a conversation, where they do not all come with it."""
    count = row.chat_count if isinstance(row.chat_count, int) else 0
    return -(-count // CHATS_PER_PAGE) if count > len(row.chats) else 0


async def high_water(session: Session, filters: Filters) -> float | None:
    """The time of the latest chat, in the server's unit; None where the server does not tell."""
    listing = listing_of(session, filters.without_end()[0])
    order = Order.LAST_CHAT_TIME_DESC
    try:
        page = await listing.page(order=order, page_size=1)
        if begins_without_chats(page):
            # Those without chats stand first; any bound leaves them out.
            second = second_of(page.conversations[0].created_at)
            ever = Filters((*listing.filters.pairs, ("startedAt", f"{LONG_AGO * second:.0f}")))
            page = await listing.page(order=order, filters=ever, page_size=1)
    except BadRequestError:
        return None
    return page.conversations[0].last_chat_time if page.conversations else None


async def _span(listing: Listing, pages: list[_Rows], tail: _Rows | None) -> Span | None:
    """The span of a list that begins and ends with these; None when its windows cannot be relied on."""
    if tail is None:
        return None
    ends, early, late = await ends_of(listing, pages, tail)
    if ends is None or not await keeps_to_windows(listing, ends.second):
        return None
    return Span(
        low=ends.low,
        high=ends.high,
        second=ends.second,
        resolution=ends.resolution,
        density=max((density_of(early) + density_of(late)) / 2, 1 / (ends.high - ends.low)),
        bounded=listing.filters.on_first_chat,
    )


# --- windows ----------------------------------------------------------------------------------------------


def window(filters: Filters, shard: Shard, span: Span) -> Filters:
    """What is asked for to get a shard's conversations; some of the next one's come with them."""
    start = None if shard.start is None else shard.start - span.resolution
    if start is None and not span.bounded:
        # Without any bound at the start a server may give those without chats as well.
        start = LONG_AGO * span.second
    return filters.within(start, None if shard.end is None else shard.end + span.resolution)


async def seam(session: Session, filters: Filters, cut: float, span: Span) -> set[str]:
    """The ids of what stands in the windows on both sides of a cut."""
    between = filters.within(cut - span.resolution, cut + span.resolution)
    found: set[str] = set()
    listing = listing_of(session, between, lambda raw, _: found.add(key_of(raw)))
    async with aclosing(walk(listing.fetch(Order.FIRST_CHAT_TIME_ASC))) as pages:
        async for page in pages:
            found.update(row.id for row in page.conversations)
    return found


def key_of(raw: bytes) -> str:
    """What tells a record that cannot be decoded from others."""
    return raw.decode("utf-8", "replace")


async def following(session: Session, filters: Filters, shard: Shard, cut: float, span: Span) -> list[str]:
    """The ids of the first page of what lies behind a cut in a shard."""
    rest = Shard(name=shard.name, start=cut, end=shard.end)
    listing = listing_of(session, window(filters, rest, span))
    page = await listing.page(order=Order.FIRST_CHAT_TIME_ASC, page_size=MAX_PAGE_SIZE)
    return [row.id for row in page.conversations]
