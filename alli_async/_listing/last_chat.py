"""Reading a list by last chat: from the latest on, and then again from the top until nothing was missed.

A conversation that gets a chat jumps to the top, behind the walk. It does not leave the list, since no end is
asked for; what lies beyond the end that the user set is dropped here. So what a pass missed stands, in the next
one, before all that its own first page began with. Where one page reaches from the top to there, it shows all of
that at one moment, and is the end, however many conversations get chats meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..errors import IncompleteError
from ..models import Order, units_per_second_of
from .page_reader import BadRow, Entry, PageReader
from .pages import Row, epoch_number
from .walks import StuckError, Walk

RowT = TypeVar("RowT", bound=Row)

_DESC = Order.LAST_CHAT_TIME_DESC
# Full passes before the list is said to change too fast; and how many in a row must bring nothing new where the
# order of rows is not stable.
_MOST_PASSES, _QUIET_PASSES = 20, 5


@dataclass(slots=True)
class _Pass(Generic[RowT]):
    """One pass from the top.

    Attributes:
        walk: Its walk.
        top: The last chat times on its first page.
        unseen: Rows that no pass had shown before.
        unseen_older: Those of them whose last chat was before the first pass began.
        was_full: Whether it went on to the end of the list.
    """

    walk: Walk[RowT]
    top: list[float] | None = None
    unseen: int = 0
    unseen_older: int = 0
    was_full: bool = False

    @property
    def is_proved(self) -> bool:
        """Whether its pages are known to be contiguous."""
        return self.walk.is_proved and not self.walk.is_disturbed


@dataclass(slots=True)
class LastChatReader(Generic[RowT]):
    """Reads a list by last chat.

    Args:
        pages: Fetches its pages.
        take: Takes the rows of a page; it may get a row twice.
    """

    pages: PageReader[RowT]
    take: Callable[[Sequence[Entry[RowT]]], Awaitable[object]]
    _seen: dict[str, float | None] = field(default_factory=dict)
    _began: float | None = None
    _first_began: float | None = None
    _end: float | None = None
    # Whether one pass went through the whole list and is proved: later ones need only look for what has jumped.
    _is_whole_once: bool = False

    async def read(self) -> None:
        """Give every row of the list.

        Raises:
            IncompleteError: The list changes faster than it can be read.
            AlliError: A page could not be had.
        """
        filters, end = self.pages.filters.without_last_chat_end()
        self._end = None if end is None else await epoch_number(self.pages.session, end)
        quiet = 0
        is_sweep = False
        for _ in range(_MOST_PASSES):
            done = _Pass[RowT](Walk(self.pages, _DESC, filters))
            await self._read_pass(done, is_sweep=is_sweep)
            quiet = 0 if done.unseen_older or not is_sweep else quiet + 1
            if self._is_last(done, quiet):
                return
            top = done.top or []
            # A little earlier: the clocks of those who write chats need not be one.
            self._began = max(top) - units_per_second_of(max(top)) if top else None
            if not is_sweep:
                self._first_began = self._began
            is_sweep = True
        raise IncompleteError(
            f"the list was read {_MOST_PASSES} times, and each time conversations were found that had been there "
            "before: it changes faster than it can be read with one cursor"
        )

    def _is_last(self, done: _Pass[RowT], quiet: int) -> bool:
        if done.walk.has_ended and done.walk.listed == len(done.walk.ids) and done.walk.first_cursor is None:
            return True  # all of it on one page
        if not (done.is_proved and self._is_whole_once):
            walk = done.walk
            is_counted = done.was_full and walk.is_proved and not walk.rows_left
            counted = is_counted and len(self._seen) == walk.rows_before
            return counted or quiet >= (_QUIET_PASSES if done.walk.is_disturbed else 1)
        if not done.unseen:
            return True
        return bool(done.top) and self._began is not None and done.top is not None and done.top[-1] < self._began

    async def _read_pass(self, done: _Pass[RowT], *, is_sweep: bool) -> None:
        while True:
            try:
                entries = await done.walk.next()
            except StuckError as stuck:
                await self.take([BadRow("rows that no cursor leads past", stuck.error)])
                await done.walk.from_other_end(self._take_behind)
                entries = None
            if entries is None:
                done.was_full = True
                self._is_whole_once = self._is_whole_once or done.is_proved
                return
            if done.top is None:
                done.top = [row.last_chat_time for row in entries if row.last_chat_time is not None]
            fresh = [row for row in entries if row.id not in self._seen]
            is_known = not fresh and all(self._seen[row.id] == row.last_chat_time for row in entries)
            self._seen.update((row.id, row.last_chat_time) for row in entries)
            done.unseen += len(fresh)
            done.unseen_older += sum(self._is_older(row) for row in fresh)
            await self.take([row for row in fresh if self._is_wanted(row)])
            if is_sweep and is_known and entries and done.is_proved and self._is_whole_once:
                return

    async def _take_behind(self, entries: Sequence[Entry[RowT]]) -> None:
        fresh = [row for row in entries if row.id not in self._seen]
        self._seen.update((row.id, row.last_chat_time) for row in fresh)
        await self.take([row for row in fresh if self._is_wanted(row)])

    def _is_older(self, row: Entry[Any]) -> bool:
        return row.last_chat_time is None or self._first_began is None or row.last_chat_time <= self._first_began

    def _is_wanted(self, row: Entry[Any]) -> bool:
        if self._end is None or isinstance(row, BadRow):
            return True
        return row.last_chat_time is not None and row.last_chat_time <= self._end
