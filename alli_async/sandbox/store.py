"""The data of a running sandbox: what was generated, under what was changed since."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from msgspec import UNSET

from .data import Data
from .options import Churn, Options
from .orders import TimeOrder
from .render import NO_EDITS, Edits
from .timeline import Timeline

By = Literal["first", "last"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STEP_MS = 137.0


class Store:
    """Conversations, their chats and their orders. Not thread-safe: whoever calls holds the sandbox's lock.

    Attributes:
        total: How many conversations there are.
        version: Grows with every change that a list could show.
    """

    def __init__(self, data: Data, options: Options) -> None:
        self.data = data
        self.total = options.conversations
        self.version = 0
        self._generated = options.conversations
        self._now_ms = data.now_ms(options.conversations)
        self._draw = random.Random(f"{options.seed}:churn")  # noqa: S311 - made-up changes
        self._orders: dict[By, TimeOrder] = {}
        self._timelines: dict[int, Timeline] = {}
        self._edits: dict[int, Edits] = {}
        self._ratings: dict[int, dict[int, bool | None]] = {}
        self._running: dict[int, int | None] = {}

    def timeline(self, index: int) -> Timeline:
        """The chats of a conversation; to be changed through the store only."""
        return self._timelines.get(index) or Timeline.generated(self.data, index)

    def edits(self, index: int) -> Edits:
        """What was written to a conversation."""
        return self._edits.get(index, NO_EDITS)

    def ratings(self, index: int) -> Mapping[int, bool | None]:
        """The ratings given to chats of a conversation, by their sequence."""
        return self._ratings.get(index, {})

    def order(self, by: By) -> TimeOrder:
        """All conversations by their first or last chat time."""
        order = self._orders.get(by)
        if order is None:
            made = (self.data.firsts if by == "first" else self.data.lasts)(self._generated)
            order = self._orders[by] = TimeOrder(*made)
            for index, timeline in self._timelines.items():
                if index < self._generated:
                    order.remove(_time(Timeline.generated(self.data, index), by), index)
                order.add(_time(timeline, by), index)
        return order

    def time_of(self, by: By) -> Callable[[int], float | None]:
        """What the order sorts by."""
        return lambda index: _time(self.timeline(index), by)

    def find(self, conversation_id: str) -> int | None:
        """The index of a conversation that there is."""
        index = self.data.conversation_index(conversation_id)
        return index if index is not None and index < self.total else None

    def find_chat(self, index: int, chat_id: str) -> int | None:
        """The sequence of a chat that there is."""
        sequence = self.data.chat_sequence(index, chat_id)
        return sequence if sequence is not None and sequence in self.timeline(index).sequences else None

    def edit(self, index: int, change: Edits) -> None:
        """Write fields of a conversation; what is unset stays."""
        edits = self._edits.setdefault(index, Edits())
        for name in edits.__struct_fields__:
            if (value := getattr(change, name)) is not UNSET:
                setattr(edits, name, value)
        self.version += 1

    def rate(self, index: int, sequence: int, rating: bool | None) -> None:
        """Write the rating of a chat."""
        self._ratings.setdefault(index, {})[sequence] = rating

    def set_running(self, index: int, polls: int | None) -> None:
        """Mark a conversation as running for so many polls; None for until it is stopped."""
        if polls is not None and polls < 1:
            self.stop(index)
        else:
            self._running[index] = polls
            self.version += 1

    def is_running(self, index: int) -> bool:
        """Whether it is marked as running, without polling it."""
        return index in self._running

    def poll_running(self, index: int) -> bool:
        """Whether a conversation is running; asking uses up one of its polls."""
        if index not in self._running:
            return False
        left = self._running[index]
        if left is not None:
            self._running[index] = left - 1
            if left == 1:
                self.stop(index)
        return True

    def stop(self, index: int) -> None:
        """A conversation is not running any more."""
        self._running.pop(index, None)
        self.version += 1

    def add_chat(self, index: int | None = None) -> tuple[int, int] | None:
        """A new chat, now, in a conversation (by chance if none is named); None if there is none."""
        if index is None:
            if not self.total:
                return None
            index = self._draw.randrange(self.total)
        timeline = self._touch(index)
        before = timeline.first, timeline.last
        sequence = timeline.add(self._tick())
        self._reorder(index, *before)
        return index, sequence

    def delete_chat(self, index: int | None = None, sequence: int | None = None) -> tuple[int, int] | None:
        """Delete a chat (by chance if none is named); None if none was found."""
        if index is None:
            tries = (self._draw.randrange(self.total) for _ in range(1000 if self.total else 0))
            index = next((found for found in tries if self.timeline(found).sequences), None)
        if index is None or not self.timeline(index).sequences:
            return None
        timeline = self._touch(index)
        if sequence is None:
            sequence = self._draw.choice(timeline.sequences)
        timeline.delete(sequence)
        self._tick()
        return index, sequence

    def add_conversation(self) -> int:
        """A new conversation that begins now, with one chat."""
        index = self.total
        self.total += 1
        now = self._tick()
        timeline = self._timelines[index] = Timeline.fresh(self.data, now)
        timeline.add(now)
        for by, order in self._orders.items():
            order.add(_time(timeline, by), index)
        return index

    def apply(self, churn: Churn | None) -> None:
        """Let happen what is to happen after a list page."""
        if churn is not None:
            for _ in range(churn.new_chats):
                self.add_chat()
            for _ in range(churn.deleted_chats):
                self.delete_chat()
            for _ in range(churn.new_conversations):
                self.add_conversation()

    def daily_counts(self, first: date, last: date) -> list[tuple[str, int]]:
        """How many conversations had their first chat on each day (UTC)."""
        order = self.order("first")
        counts = []
        for number in range((last - first).days + 1):
            day = first + timedelta(days=number)
            start = (datetime(day.year, day.month, day.day, tzinfo=UTC) - _EPOCH).total_seconds() * 1000
            low, _ = order.window(self.data.wire(start), None, closed=True)
            high, _ = order.window(self.data.wire(start + 86_400_000), None, closed=True)
            counts.append((day.isoformat(), high - low))
        return counts

    def _touch(self, index: int) -> Timeline:
        timeline = self._timelines[index] = self.timeline(index)
        return timeline

    def _tick(self) -> float:
        self._now_ms += _STEP_MS
        self.version += 1
        return self.data.wire(self._now_ms)

    def _reorder(self, index: int, first: float | None, last: float | None) -> None:
        timeline = self._timelines[index]
        for by, order in self._orders.items():
            before = first if by == "first" else last
            if before != _time(timeline, by):
                order.remove(before, index)
                order.add(_time(timeline, by), index)


def _time(timeline: Timeline, by: By) -> float | None:
    return timeline.first if by == "first" else timeline.last
