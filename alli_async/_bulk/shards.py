"""Shards: a list cut into windows of first chat times, each walked by itself, each row in exactly one of them.

Whether the server's bounds are inclusive is unknown, and thousands of rows may share an instant; so both windows
beside a cut reach over it by the server's resolution. What stands in both is what stands in the window between
the two reaches, the seam: the shard on the left lists it, and leaves those rows to the one on its right. Nothing
is remembered from one shard to the next, so they can be walked in any order, anywhere, and again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any

from msgspec import Raw, Struct

from .._transport import wire
from .._transport.filters import Filters
from .._transport.session import Session
from ..errors import BadRequestError, DecodeError
from ..models import Order, in_milliseconds
from .lenient import lenient, raw_records
from .listing import Listing
from .pages import MAX_PAGE_SIZE, after, concurrently, walk

# A list of no more pages is one shard: to cut it would cost more than to take it.
_SMALL = 3
_CHATS_PER_PAGE = 100
# In seconds: a day that no conversation began before, and one that none begins after.
_LONG_AGO, _FAR_AHEAD = 86_400.0, 16_725_225_600.0


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
    return Listing(session, filters, lenient(_rows, note), _nowhere, ordered=True)


async def _nowhere(_: list[Any]) -> None:
    raise NotImplementedError("pages are asked for one by one")  # pragma: no cover


# --- before ----------------------------------------------------------------------------------------------


async def survey(session: Session, filters: Filters) -> Survey:
    """Look at both ends of a list, and whether its windows can be relied on. Eight requests at most."""
    if filters.on_last_chat:
        return Survey(span=None, ids=[])
    listing = listing_of(session, filters)
    try:
        first = await listing.page(order=Order.FIRST_CHAT_TIME_ASC)
    except BadRequestError as error:
        if error.code not in (7003, None):
            raise
        return Survey(span=None, ids=[])
    pages = []
    async with aclosing(after(first, listing.fetch(Order.FIRST_CHAT_TIME_ASC))) as more:
        async for page in more:
            pages.append(page)
            if len(pages) == _SMALL:
                break
    rows = [row for page in pages for row in page.conversations]
    more_to_come = bool(pages[-1].cursor)
    return Survey(
        span=await _span(listing, rows) if more_to_come else None,
        ids=[row.id for row in rows[:3]],
        rows=None if more_to_come else len(rows),
        chat_requests=sum(map(_chat_requests, rows)) / max(len(rows), 1),
    )


def _chat_requests(row: Row) -> int:
    """For the chats of a conversation, where they do not all come with it."""
    count = row.chat_count if isinstance(row.chat_count, int) else 0
    return -(-count // _CHATS_PER_PAGE) if count > len(row.chats) else 0


async def high_water(session: Session, filters: Filters) -> float | None:
    """The time of the latest chat, in the server's unit; None where the server does not tell."""
    listing = listing_of(session, filters.without_end()[0])
    order = Order.LAST_CHAT_TIME_DESC
    try:
        page = await listing.page(order=order, page_size=1)
        if page.conversations and page.conversations[0].last_chat_time is None:
            # Those without chats stand first; any bound leaves them out.
            second = 1000.0 if in_milliseconds(page.conversations[0].created_at) else 1.0
            ever = Filters((*listing.filters.pairs, ("startedAt", f"{_LONG_AGO * second:.0f}")))
            page = await listing.page(order=order, filters=ever, page_size=1)
    except BadRequestError:
        return None
    return page.conversations[0].last_chat_time if page.conversations else None


async def _span(listing: Listing, rows: list[Row]) -> Span | None:
    """The span of a list that begins with these rows; None when its windows cannot be relied on."""
    numbers = [row.created_at for row in rows if row.created_at > 1e8]
    if not numbers:
        return None
    second = 1000.0 if in_milliseconds(numbers[0]) else 1.0
    filters = listing.filters
    beyond = [
        filters.within(_FAR_AHEAD * second, None, keep=False),
        filters.within(None, _LONG_AGO * second, keep=False),
    ]
    probes = [listing.page(order=Order.FIRST_CHAT_TIME_ASC, filters=each, page_size=1) for each in beyond]
    try:
        tail, *nothing = await concurrently([listing.page(order=Order.FIRST_CHAT_TIME_DESC), *probes])
    except BadRequestError:
        return None
    # A window beyond the end that has rows: the filter is ignored.
    if any(page.conversations or page.cursor for page in nothing):
        return None
    early = [row.created_at for row in rows]
    late = [row.created_at for row in tail.conversations if row.last_chat_time is not None]
    if not late and tail.conversations:
        # Those without chats stand first here as well, and hide the end; until now, then.
        late = [time.time() * second]
    if not late:
        return None
    least, most = _bounds(filters, second)
    # A conversation can be older than its first chat, and so than the bound that was set on that.
    low, high = max(min(early), least), min(max(late), most)
    if high <= low:
        return None
    return Span(
        low=low,
        high=high,
        second=second,
        # A second either way costs nothing where rows are far apart; where they are not, a millisecond does.
        resolution=min(second, max(second / 1000, (high - low) / 1e6)),
        density=max((_density(rows) + _density(tail.conversations)) / 2, 1 / (high - low)),
        bounded=filters.on_first_chat,
    )


def _density(rows: list[Row]) -> float:
    times = [row.created_at for row in rows if row.last_chat_time is not None]
    spread = max(times, default=0.0) - min(times, default=0.0)
    return len(times) / spread if spread > 0 else 0.0


def _bounds(filters: Filters, second: float) -> tuple[float, float]:
    """The bounds on first chat times that are asked for, in the server's unit."""
    numbers = {
        name: float(wire.epoch_text(value, milliseconds=second > 1) if isinstance(value, datetime) else value)
        for name, value in filters.pairs
        if name in ("firstChatStartedAt", "firstChatEndAt")
    }
    return numbers.get("firstChatStartedAt", float("-inf")), numbers.get("firstChatEndAt", float("inf"))


# --- windows ----------------------------------------------------------------------------------------------


def window(filters: Filters, shard: Shard, span: Span) -> Filters:
    """What is asked for to get a shard's conversations; some of the next one's come with them."""
    start = None if shard.start is None else shard.start - span.resolution
    if start is None and not span.bounded:
        # Without any bound at the start a server may give those without chats as well.
        start = _LONG_AGO * span.second
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
