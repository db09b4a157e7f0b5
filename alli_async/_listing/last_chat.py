"""Reading a list by last chat: from the latest on, and then again from the top until nothing was missed.

A conversation that gets a chat jumps to the top of the list, into the part that was already read. It does not
leave the list, since the server is asked for no end; rows later than the end that the user set are dropped here.
So rows that a pass missed stand, in the next pass, before the rows with which the earlier pass began. Where
one page reaches from the top to these, it shows all missed rows at one moment, and the reading ends, however many
conversations get chats meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..models import Order, units_per_second_of
from .page_reader import BadRow, ListEntry, PageReader
from .pages import Row, user_bounds
from .quiet import MAX_PASSES, QuietPasses, changes_too_fast
from .single_rows import StuckError
from .walks import Walk

RowT = TypeVar("RowT", bound=Row)

_DESC = Order.LAST_CHAT_TIME_DESC


@dataclass(slots=True)
class _Pass(Generic[RowT]):
    """One pass from the top.

    Attributes:
        walk: Its walk.
        top: The last chat times on its first page, once that was read.
        unseen: Number of rows that no pass had shown before.
        unseen_older: Number of these rows whose last chat was before the first pass began.
    """

    walk: Walk[RowT]
    top: list[float] | None = None
    unseen: int = 0
    unseen_older: int = 0


@dataclass(slots=True)
class LastChatReader(Generic[RowT]):
    """Reads a list by last chat.

    Args:
        pages: Fetches its pages.
        take: Takes the rows of a page; it may get a row twice.
    """

    pages: PageReader[RowT]
    take: Callable[[Sequence[ListEntry[RowT]]], Awaitable[object]]
    _seen: dict[str, float | None] = field(default_factory=dict)
    _began: float | None = None
    _first_began: float | None = None
    _end: float = math.inf
    # Whether a proved pass has read the whole list: later passes need only look for rows that have jumped.
    _is_whole_once: bool = False
    _quiet: QuietPasses = field(default_factory=QuietPasses)

    async def read(self) -> None:
        """Read every row of the list.

        Raises:
            IncompleteError: The list changes faster than it can be read.
            AlliError: A page could not be fetched.
        """
        filters = self.pages.filters.without_last_chat_end()
        bounds = await user_bounds(self.pages.session, self.pages.filters)
        self._end = math.inf if bounds is None else bounds.last[1]
        is_sweep = False
        for _ in range(MAX_PASSES):
            this_pass = _Pass[RowT](Walk(self.pages, _DESC, filters))
            await self._read_pass(this_pass, is_sweep=is_sweep)
            if self._is_last(this_pass, found=this_pass.unseen_older > 0 or not is_sweep):
                return
            top = this_pass.top or []
            # A second earlier, since the clocks of the servers that date chats may differ.
            self._began = max(top) - units_per_second_of(max(top)) if top else None
            if not is_sweep:
                self._first_began = self._began
            is_sweep = True
        raise changes_too_fast(MAX_PASSES)

    def _is_last(self, this_pass: _Pass[RowT], *, found: bool) -> bool:
        """Whether every row was read once this pass was.

        Args:
            this_pass: The pass.
            found: Whether it brought rows that had been there before, or is the first one.
        """
        is_quiet = self._quiet.are_enough(this_pass.walk, found=found)
        walk, top = this_pass.walk, this_pass.top
        if walk.has_ended and walk.is_proved and walk.listed == len(walk.ids) and walk.first_cursor is None:
            return True  # The list is one page.
        if not (this_pass.walk.is_contiguous and self._is_whole_once):
            return is_quiet
        if not this_pass.unseen:
            return True
        # One page reaches from the top to where the pass before began: no missed row can hide between two pages.
        return top is not None and len(top) > 0 and self._began is not None and top[-1] < self._began

    async def _read_pass(self, this_pass: _Pass[RowT], *, is_sweep: bool) -> None:
        while True:
            try:
                entries = await this_pass.walk.next()
            except StuckError as stuck:
                await self.take([BadRow("rows that no cursor leads past", stuck.error)])
                await this_pass.walk.read_from_other_end(self._take_from_other_end)
                entries = None
            if entries is None:
                self._is_whole_once = self._is_whole_once or this_pass.walk.is_contiguous
                return
            if this_pass.top is None:
                this_pass.top = [row.last_chat_time for row in entries if row.last_chat_time is not None]
            fresh = [row for row in entries if row.id not in self._seen]
            is_known = not fresh and all(self._seen[row.id] == row.last_chat_time for row in entries)
            self._seen.update((row.id, row.last_chat_time) for row in entries)
            this_pass.unseen += len(fresh)
            this_pass.unseen_older += sum(self._is_older(row) for row in fresh)
            await self.take([row for row in fresh if self._is_wanted(row)])
            if is_sweep and is_known and entries and this_pass.walk.is_contiguous and self._is_whole_once:
                return

    async def _take_from_other_end(self, entries: Sequence[ListEntry[RowT]]) -> None:
        fresh = [row for row in entries if row.id not in self._seen]
        self._seen.update((row.id, row.last_chat_time) for row in fresh)
        await self.take([row for row in fresh if self._is_wanted(row)])

    def _is_older(self, row: ListEntry[Any]) -> bool:
        return row.last_chat_time is None or self._first_began is None or row.last_chat_time <= self._first_began

    def _is_wanted(self, row: ListEntry[Any]) -> bool:
        if self._end == math.inf or isinstance(row, BadRow):
            return True
        return row.last_chat_time is not None and row.last_chat_time <= self._end
