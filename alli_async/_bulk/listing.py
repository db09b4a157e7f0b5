"""Every conversation once: which walks are made over a list, so that none is lost and many go on at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from .._transport.filters import Filters
from .._transport.session import Session
from ..errors import BadRequestError
from ..models import Order, in_milliseconds
from .offsets import cursor_at
from .pages import MAX_PAGE_SIZE, Listed, concurrently, epoch_number, fetch_conversations, walk
from .windows import Plan, Window

# A list of no more pages is simply walked; what windows need to know costs three requests.
_SMALL = 3
# Cursors at a time. More would leave the chats no room in the throttle, and gain nothing on the time they take.
_WALKERS = 16
# Rows can only come again within as many rows as were inserted between two requests.
_REMEMBERED_IDS = 100_000
# In seconds: a day no conversation began before, and one that none will after.
_LONG_AGO, _FAR_AHEAD = 86_400.0, 16_725_225_600.0

Send = Callable[[list[Any]], Awaitable[None]]


class Row(Protocol):
    """What a walk needs to know of a conversation."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    @property
    def created_at(self) -> float:
        """When it was created."""
        ...

    @property
    def last_chat_time(self) -> float | None:
        """When its last chat was; None when it has none."""
        ...


class Listing:
    """The walks over one list.

    Args:
        session: Where the requests go.
        filters: What is asked for.
        decode: Of a page.
        send: Takes the conversations of a page that were not seen before.
        ordered: They are to come by first chat time: one cursor, in that order.
    """

    def __init__(
        self,
        session: Session,
        filters: Filters,
        decode: Callable[[bytes], Listed],
        send: Send,
        *,
        ordered: bool,
    ) -> None:
        self._session = session
        self.filters = filters
        self._decode = decode
        self._send = send
        self._ordered = ordered
        self.recent: dict[str, None] = {}

    async def run(self) -> None:
        """Send every conversation once."""
        if self.filters.on_last_chat:
            await self._walk_last_chats()
            return
        try:
            first = await self.page(order=Order.FIRST_CHAT_TIME_ASC)
        except BadRequestError as error:
            if error.code not in (7003, None):
                raise
            await self._walk_last_chats()
            return
        await self._walk_first_chats(first)

    async def page(
        self,
        *,
        order: Order,
        cursor: str | None = None,
        filters: Filters | None = None,
        page_size: int = MAX_PAGE_SIZE,
    ) -> Any:
        """One page of the list, or of a part of it."""
        return await fetch_conversations(
            self._session, filters or self.filters, self._decode, cursor=cursor, page_size=page_size, order=order
        )

    def fetch(self, order: Order, filters: Filters | None = None) -> Callable[[str | None], Awaitable[Any]]:
        """A function from a cursor to its page."""
        return lambda cursor: self.page(order=order, cursor=cursor, filters=filters)

    async def _give(self, rows: Sequence[Row]) -> None:
        """Send on those of a walk's rows that it has not met before, within the memory it has."""
        fresh = []
        for row in rows:
            if row.id not in self.recent:
                self.recent[row.id] = None
                fresh.append(row)
        while len(self.recent) > _REMEMBERED_IDS:
            del self.recent[next(iter(self.recent))]
        await self.hand_on(fresh)

    async def hand_on(self, rows: list[Any]) -> None:
        """Send rows on."""
        if rows:
            await self._send(rows)

    # --- by first chat time -------------------------------------------------------------------------------

    async def _walk_first_chats(self, first: Any) -> None:
        """One cursor while the list is small, or must be; then windows."""
        pages: list[Any] = []
        async with aclosing(after(first, self.fetch(Order.FIRST_CHAT_TIME_ASC))) as plain:
            async for page in plain:
                await self._give(page.conversations)
                if len(pages) < _SMALL:
                    pages.append(page)
                    if len(pages) == _SMALL and page.cursor and not self._ordered:
                        windows = Windows.over(self, pages, await self._probe(first))
                        if windows is not None:
                            await windows.walk()
                            return

    async def _probe(self, first: Any) -> tuple[Any, float] | None:
        """The list's other end and the server's second; None when its windows cannot be relied on."""
        numbers = [row.created_at for row in first.conversations if row.created_at > 1e8]
        if not numbers:
            return None
        second = 1000.0 if in_milliseconds(numbers[0]) else 1.0
        beyond = [
            self.filters.within(_FAR_AHEAD * second, None, keep=False),
            self.filters.within(None, _LONG_AGO * second, keep=False),
        ]
        probes = [self.page(order=Order.FIRST_CHAT_TIME_ASC, filters=each, page_size=1) for each in beyond]
        try:
            tail, *nothing = await concurrently([self.page(order=Order.FIRST_CHAT_TIME_DESC), *probes])
        except BadRequestError:
            return None
        # A window beyond the end that has rows: the filter is ignored.
        return None if any(page.conversations or page.cursor for page in nothing) else (tail, second)

    # --- by last chat time --------------------------------------------------------------------------------

    async def _walk_last_chats(self) -> None:
        """Descending, without an end bound; then from the top again until nothing is met that was not seen.

        A conversation that gets a chat jumps to the front, behind the walker. It does not leave the list, since
        no bound is set above; what lies beyond the one that was asked for is dropped here.
        """
        filters, end = self.filters.without_end()
        last = None if end is None else await epoch_number(self._session, end)
        seen: dict[str, float | None] = {}
        sweeping = False
        while True:
            unseen = 0
            async with aclosing(walk(self.fetch(Order.LAST_CHAT_TIME_DESC, filters))) as pages:
                async for page in pages:
                    rows = page.conversations
                    fresh = [row for row in rows if row.id not in seen]
                    settled = not fresh and all(seen[row.id] == row.last_chat_time for row in rows)
                    seen.update((row.id, row.last_chat_time) for row in rows)
                    unseen += len(fresh)
                    if last is not None:
                        fresh = [
                            row for row in fresh if row.last_chat_time is not None and row.last_chat_time <= last
                        ]
                    await self.hand_on(fresh)
                    if sweeping and settled and rows:
                        break
            if not unseen:
                return
            sweeping = True


@dataclass(frozen=True, slots=True, order=True)
class _Trail:
    """How a window ended: the cursor of its last page, and what stood on it."""

    start: float
    cursor: str = field(compare=False)
    ids: list[str] = field(compare=False)


class Windows:
    """Many cursors over one list, a time window each; and the conversations without chats, which are in none."""

    def __init__(
        self, listing: Listing, pages: list[Any], tail: Any, second: float, low: float, high: float
    ) -> None:
        self._listing = listing
        self._pages = pages
        self._tail = tail
        timed = [row for page in pages for row in page.conversations if row.last_chat_time is not None]
        spread = max((row.created_at for row in timed), default=low) - min(
            (row.created_at for row in timed), default=low
        )
        density = len(timed) / spread if spread > 0 else 0.0
        # A second either way costs nothing where rows are far apart; where they are not, a millisecond does.
        resolution = min(second, max(second / 1000, (high - low) / 1e6))
        # The first window begins where the probes found nothing before: without any bound it would not be one.
        start = None if listing.filters.on_first_chat else _LONG_AGO * second
        self._plan = Plan(low, high, _WALKERS, overlap=resolution, density=density, start=start)
        # Whatever was given before the windows began.
        self._before = set(listing.recent)
        self._timed = len(timed)
        self._trails: list[_Trail] = []
        self._narrows: bool | None = None
        self._trying = False
        self._changed = asyncio.Event()

    @classmethod
    def over(cls, listing: Listing, pages: list[Any], probed: tuple[Any, float] | None) -> Windows | None:
        """Windows over the span that the probes showed; None where they showed none."""
        if probed is None:
            return None
        tail, second = probed
        early = [row.created_at for page in pages for row in page.conversations]
        late = [row.created_at for row in tail.conversations]
        if not late or max(late) <= min(early):
            return None
        return cls(listing, pages, tail, second, min(early), max(late))

    async def walk(self) -> None:
        """Walk them all."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_WALKERS):
                group.create_task(self._walker())
            group.create_task(self._head(self._pages, Order.FIRST_CHAT_TIME_ASC))
            group.create_task(self._head([self._tail], Order.FIRST_CHAT_TIME_DESC))
        heads = (self._pages[0], self._tail)
        at_a_head = any(page.conversations[0].last_chat_time is None for page in heads)
        if not at_a_head and not self._listing.filters.on_first_chat:
            await self._find_the_end()

    # --- windows ------------------------------------------------------------------------------------------

    async def _walker(self) -> None:
        while (window := await self._next()) is not None:
            await self._walk_window(window)
            self._plan.finish(window)
            self._wake()

    async def _next(self) -> Window | None:
        while True:
            # One split shows whether the server minds; until then there are no others.
            may_split = bool(self._narrows) or (self._narrows is None and not self._trying)
            before = len(self._plan.active)
            window = self._plan.take(may_split=may_split)
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
            if cursor is None:
                asked = window.end
            elif asked != window.end and self._narrows is not False:
                page, asked = await self._narrowed(window, cursor, asked)
                return page
            return await self._page(window, cursor, asked)

        cursor: str | None = None
        async with aclosing(walk(fetch)) as pages:
            async for page in pages:
                rows = page.conversations
                fresh = window.family.fresh(row.id for row in rows) - self._before
                self._timed += len(fresh)
                self._plan.walked(
                    window, len(rows), max((row.created_at for row in rows), default=window.position)
                )
                self._wake()
                await self._listing.hand_on([row for row in rows if row.id in fresh])
                if not page.cursor and cursor is not None and rows:
                    self._remember(_Trail(window.position, cursor, [row.id for row in rows]))
                cursor = page.cursor

    async def _page(self, window: Window, cursor: str | None, end: float | None) -> Any:
        filters = self._listing.filters.within(window.start, end)
        return await self._listing.page(order=Order.FIRST_CHAT_TIME_ASC, cursor=cursor, filters=filters)

    async def _narrowed(self, window: Window, cursor: str, asked: float | None) -> tuple[Any, float | None]:
        """The next page, and the end it was asked with: the nearer one that a split has set, if the server lets.

        Below that end the rows are the same, so a cursor should go on to serve. The first time both are asked for
        and compared.
        """
        end = window.end
        if self._narrows:
            return await self._page(window, cursor, end), end
        self._trying = True
        wide = await self._page(window, cursor, asked)
        try:
            narrow = await self._page(window, cursor, end)
        except BadRequestError:
            self._narrows = False
            return wide, asked
        ids, all_ids = [[row.id for row in page.conversations] for page in (narrow, wide)]
        if ids and ids == all_ids[: len(ids)] and (len(ids) == len(all_ids) or not narrow.cursor):
            self._narrows = True
            return narrow, end
        # An empty page tells nothing (the walk may have been beyond the nearer end already): another split will.
        if ids or narrow.cursor:
            self._narrows = False
        self._trying = False
        return wide, asked

    def _remember(self, trail: _Trail) -> None:
        self._trails = sorted([*self._trails, trail])[-4:]

    # --- conversations without chats ----------------------------------------------------------------------

    async def _head(self, pages: list[Any], order: Order) -> None:
        """Where they stand at this end of the list: all of them, up to the first that has chats.

        One that gets its first chat meanwhile leaves the row, and those behind it move up, past a cursor that is
        an offset; so the row is walked until nothing new is met. (Itself, it will stand in the last window.)
        """
        fetch = self._listing.fetch(order)
        page, unseen = pages[-1], 1
        while unseen and pages[0].conversations[0].last_chat_time is None:
            unseen = walked = 0
            async with aclosing(after(page, fetch)) as more:
                async for each in more:
                    walked += 1
                    unseen += await self._give_chatless(each.conversations)
                    if each.conversations and each.conversations[-1].last_chat_time is not None:
                        break
            if walked == 1 and page is pages[0]:
                return
            page = await fetch(None)

    async def _give_chatless(self, rows: Sequence[Row]) -> int:
        chatless = [row for row in rows if row.last_chat_time is None and row.id not in self._before]
        self._before.update(row.id for row in chatless)
        await self._listing.hand_on(chatless)
        return len(chatless)

    async def _find_the_end(self) -> None:
        """Where neither end begins with them, they stand at the end of both orders, if there are any."""
        page = await self._by_offset() or await self._by_trail()
        if page is _NOTHING:
            return
        fetch = self._listing.fetch(Order.FIRST_CHAT_TIME_ASC)
        known = self._plan.last.ids if self._plan.last is not None else set()
        met = False
        async with aclosing(after(page or self._pages[-1], fetch)) as more:
            async for each in more:
                await self._give_chatless(each.conversations)
                for row in each.conversations:
                    met = met or row.id in known
                    # It got its first chat after its window was walked, and before it was met here.
                    if met and row.last_chat_time is not None and row.id not in known | self._before:
                        self._before.add(row.id)
                        await self._listing.hand_on([row])

    async def _by_offset(self) -> Any | None:
        """A page near the end, where cursors are offsets; its first row has chats, so all without come after."""
        counts = [MAX_PAGE_SIZE * number for number in range(1, len(self._pages) + 1)]
        cursor_of = cursor_at([page.cursor for page in self._pages], counts)
        if cursor_of is None or any(len(page.conversations) != MAX_PAGE_SIZE for page in self._pages):
            return None
        back = MAX_PAGE_SIZE
        while (at := self._timed - back) > counts[-1]:
            page = await self._listing.page(order=Order.FIRST_CHAT_TIME_ASC, cursor=cursor_of(at))
            if page.conversations and page.conversations[0].last_chat_time is not None:
                return page
            back *= 4
        return None

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


_NOTHING = object()


def _up_to(row: Row, end: float) -> bool:
    return row.last_chat_time is not None and row.last_chat_time <= end


async def after(first: Any, fetch: Callable[[str | None], Awaitable[Any]]) -> AsyncGenerator[Any, None]:
    """A page that is there already, and those that follow it."""
    yield first
    if first.cursor:
        async with aclosing(walk(fetch, first.cursor)) as pages:
            async for page in pages:
                yield page
