"""Every conversation once: which walks are made over a list, so that none is lost and many go on at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from ..errors import BadRequestError, IncompleteError
from ..models import Order, second_of
from .ends import LONG_AGO, begins_without_chats, keeps_to_windows, other_end
from .listing import Listing
from .offsets import cursor_behind
from .pages import Row, after, epoch_number, walk
from .tasks import both
from .windowed import Send, Windows

# A list of no more pages is simply walked.
_FEW = 3
# What a walk of one cursor remembers at most, at about 200 bytes each.
_REMEMBERED_IDS = 1_000_000


class Walks:
    """The walks over one list.

    Args:
        listing: The list.
        send: Takes conversations, each once.
    """

    def __init__(self, listing: Listing, send: Send) -> None:
        self._listing = listing
        self._send = send
        self._newest = 0.0
        self._moved = self._forgotten = False
        # Ordered: a plain dict that is emptied from its front looks through all that was deleted, each time.
        self._recent: OrderedDict[str, None] = OrderedDict()

    async def run(self, *, ordered: bool) -> None:
        """Send every conversation once.

        Args:
            ordered: They are to come by first chat time: one cursor, in that order.
        """
        if self._listing.filters.on_last_chat:
            await self._walk_last_chats()
            return
        try:
            first = await self._listing.page(order=Order.FIRST_CHAT_TIME_ASC)
        except BadRequestError as error:
            if error.code not in (7003, None):
                raise
            await self._walk_last_chats()
            return
        await self._walk_first_chats(first, ordered=ordered)

    async def _give(self, rows: Sequence[Row]) -> list[Row]:
        """Send on, and give back, those of a walk's rows that it has not met before."""
        fresh = []
        for row in rows:
            self._newest = max(self._newest, row.created_at)
            if row.id in self._recent:
                self._moved = True
            else:
                self._recent[row.id] = None
                fresh.append(row)
        while len(self._recent) > _REMEMBERED_IDS:
            self._recent.popitem(last=False)
            self._forgotten = True
        await self._hand_on(fresh)
        return fresh

    async def _hand_on(self, rows: list[Any]) -> None:
        if rows:
            await self._send(rows)

    # --- by first chat time -------------------------------------------------------------------------------

    async def _walk_first_chats(self, first: Any, *, ordered: bool) -> None:
        """One cursor while the list is small, or must be; then windows."""
        pages = [first]
        tail: Any = None
        await self._give(first.conversations)
        while pages[-1].cursor and not ordered and len(pages) < _FEW:
            following = self._listing.page(order=Order.FIRST_CHAT_TIME_ASC, cursor=pages[-1].cursor)
            page: Any
            if len(pages) == 1:
                page, tail = await both(following, other_end(self._listing))
            else:
                page = await following
            pages.append(page)
            await self._give(page.conversations)
            if page.cursor and tail is not None:
                windows = await Windows.over(self._listing, pages, tail, self._hand_on, may_wait=len(pages) < _FEW)
                if windows is not None and await windows.walk():
                    return
        page = given = pages[-1]
        newest = _newest_with_chats(pages)
        async with aclosing(after(given, self._listing.fetch(Order.FIRST_CHAT_TIME_ASC))) as plain:
            async for page in plain:
                if page is given:
                    continue
                newest = max(newest, _newest_with_chats([page]))
                await self._give(page.conversations)
                if len(pages) < _FEW:
                    pages.append(page)
        # Behind a cursor that is an offset no row moves without another one coming twice.
        moved = self._moved or cursor_behind(pages) is None
        if not (moved and page is not first and begins_without_chats(page)):
            await self._sweep(lost=self._moved)
        elif not await self._look_at_the_last(newest, first.conversations[0]):
            await self._sweep(lost=self._moved or not self._forgotten)

    async def _look_at_the_last(self, newest: float, any_row: Row) -> bool:
        """Where those without chats stand last: those that got their first chat before they were met there.

        Such a one moves up, behind the walk, to where the latest first chats are. Those before it move down; so
        no other is passed over, and there is no reason to walk all of it once more.

        Args:
            newest: When the last of those with chats was created, before there were only such without.
            any_row: Tells the server's unit.

        Returns:
            Whether the server lets it be looked for.
        """
        second = second_of(any_row.created_at)
        if not await keeps_to_windows(self._listing, second):
            return False
        latest = self._listing.filters.within(max(newest - second, LONG_AGO * second), None)
        async with aclosing(walk(self._listing.fetch(Order.FIRST_CHAT_TIME_ASC, latest))) as pages:
            async for page in pages:
                await self._give(page.conversations)
        return True

    async def _sweep(self, *, lost: bool) -> None:
        """Where rows came twice, they moved: walk again, until none is met that a cursor passed over.

        One that stood first since it had no chats, and got its first, leaves its row; those behind it move up,
        past a cursor that is an offset. What is newer than all that was met is no reason to walk once more.
        """
        newest = self._newest
        while lost:
            if self._forgotten:
                raise IncompleteError(
                    f"rows moved while a list of more than {_REMEMBERED_IDS:,} was walked by one cursor, "
                    "which may have passed over some; filters on first chat times make smaller lists"
                )
            lost = False
            async with aclosing(walk(self._listing.fetch(Order.FIRST_CHAT_TIME_ASC))) as pages:
                async for page in pages:
                    fresh = await self._give(page.conversations)
                    lost = lost or any(row.created_at <= newest for row in fresh)

    # --- by last chat time --------------------------------------------------------------------------------

    async def _walk_last_chats(self) -> None:
        """Descending, without an end bound; then from the top again until nothing is met that was not seen.

        A conversation that gets a chat jumps to the front, behind the walker. It does not leave the list, since
        no bound is set above; what lies beyond the one that was asked for is dropped here.

        So what a pass missed stands, in the next one, before all that its own first page began with. Where one
        page reaches from the top to there, it shows all of that at one moment, and is the end, however many get
        chats meanwhile.
        """
        filters, end = self._listing.filters.without_end()
        last = None if end is None else await epoch_number(self._listing.session, end)
        seen: dict[str, float | None] = {}
        began: float | None = None
        sweeping = False
        while True:
            unseen = 0
            top: list[float] | None = None
            async with aclosing(walk(self._listing.fetch(Order.LAST_CHAT_TIME_DESC, filters))) as pages:
                async for page in pages:
                    rows = page.conversations
                    if top is None:
                        top = [row.last_chat_time for row in rows if row.last_chat_time is not None]
                    fresh = [row for row in rows if row.id not in seen]
                    settled = not fresh and all(seen[row.id] == row.last_chat_time for row in rows)
                    seen.update((row.id, row.last_chat_time) for row in rows)
                    unseen += len(fresh)
                    if last is not None:
                        fresh = [row for row in fresh if _up_to(row, last)]
                    await self._hand_on(fresh)
                    if sweeping and settled and rows:
                        break
            if not unseen or (top and began is not None and top[-1] < began):
                return
            # A little earlier: the clocks of those who write chats need not be one.
            began = max(top) - second_of(max(top)) if top else None
            sweeping = True


def _newest_with_chats(pages: Sequence[Any]) -> float:
    """When the latest of those with chats was created; 0 where there is none."""
    rows = [row for page in pages for row in page.conversations]
    return max((row.created_at for row in rows if row.last_chat_time is not None), default=0.0)


def _up_to(row: Row, end: float) -> bool:
    return row.last_chat_time is not None and row.last_chat_time <= end
