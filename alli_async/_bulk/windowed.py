"""Walking the windows: many cursors over one list; and the conversations without chats, which are in no window."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from ..errors import BadRequestError
from ..models import Order
from .ends import (
    LONG_AGO,
    Ends,
    begins_without_chats,
    density_of,
    ends_of,
    keeps_to_windows,
    near_the_end,
    walk_head,
)
from .listing import Listing
from .pages import MAX_PAGE_SIZE, Row, after, walk
from .profile import daily_profile
from .windows import Plan, Window

# Takes conversations, each once.
Send = Callable[[list[Any]], Awaitable[None]]

# Cursors at a time. More would leave the chats no room in the throttle, and gain nothing on the time they take.
_WALKERS = 16
# From about so many rows on it is worth a round trip to ask how they are spread over the days.
_WORTH_ASKING = 20_000
# How often it is tried whether a cursor serves with a nearer end, on pages of so many rows at least.
_TRIES, _TELLING = 4, 10
# Said of a list's end that was looked at and holds nothing more.
_NOTHING = object()


@dataclass(frozen=True, slots=True, order=True)
class _Trail:
    """How a window ended: the cursor of its last page, and what stood on it."""

    start: float
    cursor: str = field(compare=False)
    ids: list[str] = field(compare=False)


class _UnusableError(Exception):
    """The server does not keep to windows."""


class Windows:
    """Many cursors over one list, a time window each; and the conversations without chats, which are in none.

    Args:
        listing: The list.
        pages: Its first pages, all given already.
        tail: Its other end.
        ends: What both tell.
        density: Rows per unit of time in the first pages.
        profile: As `Plan` takes it.
        send: Takes what they hold.
    """

    def __init__(
        self,
        listing: Listing,
        pages: list[Any],
        tail: Any,
        ends: Ends,
        density: float,
        profile: list[tuple[float, float]],
        send: Send,
    ) -> None:
        self._listing = listing
        self._send = send
        self._pages = pages
        self._tail = tail
        self._second, self._resolution = ends.second, ends.resolution
        # When the latest was created that a window held; no first chat that comes later is before that.
        self._newest = LONG_AGO * ends.second
        # The first window begins where nothing is found before: without any bound it would not be one.
        start = None if listing.filters.on_first_chat else LONG_AGO * ends.second
        self._plan = Plan(
            ends.low,
            ends.high,
            _WALKERS,
            overlap=ends.resolution,
            density=density,
            start=start,
            profile=profile,
        )
        # Whatever was given before the windows began.
        self._before = {row.id for page in pages for row in page.conversations}
        self._timed = sum(row.last_chat_time is not None for page in pages for row in page.conversations)
        self._trails: list[_Trail] = []
        self._tries, self._trying = _TRIES, False
        self._changed = asyncio.Event()
        self._sure = asyncio.Event()

    @classmethod
    async def over(
        cls, listing: Listing, pages: list[Any], tail: Any, send: Send, *, may_wait: bool
    ) -> Windows | None:
        """Windows over the span of a list that is known by its first pages and its other end.

        None where they are of no use: in a list of one instant, one that ends within a page or so, or (as far as
        can be said, so only if it `may_wait` for another page) within a few; or where an end is an empty page.
        """
        ends, early, late = await ends_of(listing, pages, tail)
        if ends is None or not {row.id for row in early}.isdisjoint(row.id for row in late):
            return None
        density = density_of(early)
        between = min(row.created_at for row in late) - max(row.created_at for row in early)
        if may_wait and between * density < 2 * MAX_PAGE_SIZE:
            return None
        profile: list[tuple[float, float]] = []
        if density * (ends.high - ends.low) >= _WORTH_ASKING:
            profile = await daily_profile(listing.session, ends)
        return cls(listing, pages, tail, ends, density, profile, send)

    async def walk(self) -> bool:
        """Walk them all; False when the server does not keep to windows, and nothing was given."""
        usable = True
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._try_out())
                for _ in range(_WALKERS):
                    group.create_task(self._walker())
                group.create_task(self._head(self._pages, Order.FIRST_CHAT_TIME_ASC))
                group.create_task(self._head([self._tail], Order.FIRST_CHAT_TIME_DESC))
        except* _UnusableError:
            usable = False
        if not usable:
            return False
        heads = (self._pages[0], self._tail)
        at_a_head = any(map(begins_without_chats, heads))
        if not self._listing.filters.on_first_chat:
            if not at_a_head:
                await self._find_the_end()
            await self._look_at_the_last()
        return True

    async def _try_out(self) -> None:
        """Look before the beginning and beyond the end, while the first pages of windows are already asked for."""
        if not await keeps_to_windows(self._listing, self._second):
            raise _UnusableError
        self._sure.set()

    # --- windows ------------------------------------------------------------------------------------------

    async def _walker(self) -> None:
        while (window := await self._next()) is not None:
            await self._walk_window(window)
            self._plan.finish(window)
            self._wake()

    async def _next(self) -> Window | None:
        while True:
            before = len(self._plan.active)
            window = self._plan.take()
            if window is not None or not before:
                return window
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _walk_window(self, window: Window) -> None:
        asked = window.end

        async def fetch(cursor: str | None) -> Any:
            nonlocal asked
            if cursor is None or self._plan.may_cut:
                asked = window.end
            page = await self._page(window, cursor, asked)
            if cursor is not None and self._tries and not self._trying:
                await self._try_nearer_end(window, cursor, page)
            return page

        cursor: str | None = None
        async with aclosing(walk(fetch)) as pages:
            async for page in pages:
                rows = page.conversations
                fresh = window.family.fresh(row.id for row in rows) - self._before
                self._timed += len(fresh)
                position = max((row.created_at for row in rows), default=window.position)
                if rows:
                    self._newest = max(self._newest, position)
                self._plan.walked(window, len(rows), position, narrowed=asked == window.end)
                self._wake()
                await self._send([row for row in rows if row.id in fresh])
                if not page.cursor and cursor is not None and rows:
                    self._remember(_Trail(window.position, str(cursor), [row.id for row in rows]))
                cursor = page.cursor

    async def _page(self, window: Window, cursor: str | None, end: float | None) -> Any:
        filters = self._listing.filters.within(window.start, end)
        try:
            page = await self._listing.page(order=Order.FIRST_CHAT_TIME_ASC, cursor=cursor, filters=filters)
        except BadRequestError:
            if self._sure.is_set():
                raise
            raise _UnusableError from None
        await self._sure.wait()
        return page

    async def _try_nearer_end(self, window: Window, cursor: str, page: Any) -> None:
        """Whether a cursor also serves with a nearer end, so that windows can be cut while they are walked.

        A page is asked for once more, with an end in its middle: then it must be the same up to there, and the
        last. A page at one instant does not tell, nor does an empty answer, which may have begun behind that end.
        """
        rows = page.conversations
        if len(rows) < _TELLING or rows[0].created_at == (nearer := rows[len(rows) // 2].created_at):
            return
        self._trying = True
        self._tries -= 1
        ids = [row.id for row in rows]
        try:
            found = await self._page(window, cursor, nearer)
        except BadRequestError:
            found = None
        shown = [row.id for row in found.conversations] if found is not None else []
        if shown and len(shown) < len(ids) and shown == ids[: len(shown)] and not found.cursor:
            self._plan.may_cut = True
            self._wake()
        if self._plan.may_cut or found is None or shown != ids[: len(shown)]:
            self._tries = 0
        self._trying = False

    def _remember(self, trail: _Trail) -> None:
        self._trails = sorted([*self._trails, trail])[-4:]

    # --- conversations without chats ----------------------------------------------------------------------

    async def _head(self, pages: list[Any], order: Order) -> None:
        """Those of an end that begins with them."""
        await self._sure.wait()
        if begins_without_chats(pages[0]):
            await walk_head(self._listing.fetch(order), pages, self._give_chatless)

    async def _give_chatless(self, rows: Sequence[Row]) -> list[Row]:
        """Send the new ones of a page, and give them back."""
        chatless = [row for row in rows if row.last_chat_time is None and row.id not in self._before]
        self._before.update(row.id for row in chatless)
        await self._send(chatless)
        return chatless

    async def _find_the_end(self) -> None:
        """Where neither end begins with them, they stand at the end of both orders, if there are any.

        One that gets its first chat meanwhile moves up, and those before it move down: none is passed over.
        """
        near = await near_the_end(self._listing, self._pages, self._timed) or await self._by_trail()
        page = self._pages[-1] if near is None else near
        if page is not _NOTHING:
            async with aclosing(after(page, self._listing.fetch(Order.FIRST_CHAT_TIME_ASC))) as more:
                async for each in more:
                    await self._give_chatless(each.conversations)

    async def _look_at_the_last(self) -> None:
        """Those that got their first chat after the last window was walked, and before they were met without.

        They come after all that was in the windows, and nothing moves there: what comes, comes at the end.
        """
        known = self._before | self._plan.last
        filters = self._listing.filters.within(self._newest - self._resolution, None)
        async with aclosing(walk(self._listing.fetch(Order.FIRST_CHAT_TIME_ASC, filters))) as pages:
            async for page in pages:
                fresh = [row for row in page.conversations if row.id not in known]
                known.update(row.id for row in fresh)
                await self._send(fresh)

    async def _by_trail(self) -> Any | None:
        """A page near the end, where a cursor of a window also serves without the window."""
        ended = False
        for trail in reversed(self._trails):
            try:
                page = await self._listing.page(order=Order.FIRST_CHAT_TIME_ASC, cursor=trail.cursor)
            except BadRequestError:
                return None
            ids = [row.id for row in page.conversations]
            if ids[: len(trail.ids)] != trail.ids:
                return None
            if len(ids) > len(trail.ids) or page.cursor:
                # It goes on beyond its window; so where an earlier one ended, the list did.
                return _NOTHING if ended else page
            ended = True
        return None
