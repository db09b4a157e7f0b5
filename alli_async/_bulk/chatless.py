"""Conversations without chats: they are in no time window, and stand at one end of the list or the other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from .._transport.filters import Filters
from .._transport.session import Session
from ..errors import BadRequestError, DecodeError
from ..models import Order
from .ends import begins_without_chats, near_the_end, walk_head
from .lenient import Note
from .listing import Listing
from .pages import after
from .shards import Row, Shard, Span, listing_of, window

_ASC, _DESC = Order.FIRST_CHAT_TIME_ASC, Order.FIRST_CHAT_TIME_DESC


@dataclass(slots=True)
class Chatless:
    """The search for them in one list.

    Args:
        session: Where the requests go.
        filters: What the list holds.
        span: Of its windows.
        timed: About how many conversations with chats it has.
        last: The shard of the latest conversations.
        note: Told of records that cannot be decoded.
    """

    session: Session
    filters: Filters
    span: Span
    timed: int
    last: Shard
    note: Note
    _listing: Listing = field(init=False)
    _bad: list[tuple[bytes, DecodeError]] = field(default_factory=list)
    _found: dict[str, Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._listing = listing_of(self.session, self.filters, self._keep)

    async def find(self) -> dict[str, Row]:
        """Those there are, by id. One that gets its first chat meanwhile may be among them or not."""
        listing = self._listing
        first = await listing.page(order=_ASC)
        if begins_without_chats(first):
            await walk_head(listing.fetch(_ASC), [first], self._give)
        elif begins_without_chats(last := await listing.page(order=_DESC)):
            await walk_head(listing.fetch(_DESC), [last], self._give)
        else:
            await self._far_end(first)
        self._tell()
        return self._found

    def _keep(self, raw: bytes, error: DecodeError) -> None:
        self._bad.append((raw, error))

    def _tell(self) -> None:
        """Tell of the bad records that no window holds: one that does is told of by its shard."""
        for raw, error in self._bad:
            record = msgspec.json.decode(raw)
            if not isinstance(record, dict) or record.get("lastChatTime") is None:
                self.note(raw, error)

    async def _give(self, rows: Sequence[Row]) -> list[Row]:
        """Keep the new ones of a page, and give them back."""
        new = [row for row in rows if row.last_chat_time is None and row.id not in self._found]
        self._found.update((row.id, row) for row in new)
        return new

    async def _far_end(self, first: Any) -> None:
        """Where neither end begins with them, they stand at the end of both orders, if there are any.

        One that gets its first chat meanwhile moves up, and those before it move down: none is passed over.
        """
        near = await self._by_offset(first) or await self._by_trail() or first
        async with aclosing(after(near, self._listing.fetch(_ASC))) as more:
            async for page in more:
                await self._give(page.conversations)

    async def _by_offset(self, first: Any) -> Any | None:
        """A page near the end, where cursors are offsets; its first row has chats, so all without come after."""
        pages = []
        async with aclosing(after(first, self._listing.fetch(_ASC))) as more:
            async for page in more:
                pages.append(page)
                if len(pages) == 2 or not page.cursor:
                    break
        return await near_the_end(self._listing, pages, self.timed)

    async def _by_trail(self) -> Any | None:
        """A page near the end, where a cursor of a window also serves without the window."""
        reach = self.span.high - self.last.start if self.last.start is not None else 0.0
        for widening in (1.0, 64.0, 4096.0):
            start = self.span.high - max(reach, 4 * self.span.resolution) * widening
            last = Shard(name="", start=max(start, self.span.low))
            within = listing_of(self.session, window(self.filters, last, self.span), self._keep)
            first = await within.page(order=_ASC, page_size=1)
            if not first.cursor:
                continue
            try:
                here = await within.page(order=_ASC, cursor=str(first.cursor))
                there = await self._listing.page(order=_ASC, cursor=str(first.cursor))
            except BadRequestError:
                return None
            ids, all_ids = ([row.id for row in page.conversations] for page in (here, there))
            return there if ids and ids == all_ids[: len(ids)] else None
        return None
