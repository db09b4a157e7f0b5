"""The data of a running sandbox: the generated conversations, and what was changed since."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from msgspec import UNSET

from .data import Data
from .options import Options
from .orders import TimeOrder
from .own import ChatLike, ConversationLike, OwnConversation, own_conversation
from .render import NO_EDITS, Edits, Profile, Row, edited, profile
from .timeline import Timeline

By = Literal["first", "last"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Milliseconds by which the sandbox's clock advances with each change.
_STEP_MS = 137.0


class Store:
    """Conversations, their chats and their orders. Not thread-safe: callers hold the sandbox's lock.

    Attributes:
        data: The generated conversations.
        total: The number of conversations there ever were; deleted ones keep their index.
        version: Grows with every change that a list could show.
    """

    def __init__(self, data: Data, options: Options) -> None:
        self.data = data
        self.total = options.conversations
        self.version = 0
        self._generated = options.conversations
        self._null_last_share = options.null_last_chat
        self._has_fallback = options.first_chat_fallback
        self._keeps_times = options.chat_times == "kept"
        self._now_ms = data.now_ms(options.conversations)
        self._orders: dict[By, TimeOrder] = {}
        self._timelines: dict[int, Timeline] = {}
        self._own: dict[int, OwnConversation] = {}
        self._own_indices: dict[str, int] = {}
        self._deleted: set[int] = set()
        self._edits: dict[int, Edits] = {}
        self._ratings: dict[int, dict[int, bool | None]] = {}
        self._running: dict[int, int | None] = {}

    def exists(self, index: int) -> bool:
        """Whether a conversation exists."""
        return index < self.total and index not in self._deleted

    def indices(self) -> Iterator[int]:
        """The indices of all conversations, ascending."""
        return (index for index in range(self.total) if index not in self._deleted)

    def timeline(self, index: int) -> Timeline:
        """The chats of a conversation. Only the store changes them."""
        return self._timelines.get(index) or self._as_generated(index)

    def edits(self, index: int) -> Edits:
        """What was written to a conversation."""
        return self._edits.get(index, NO_EDITS)

    def ratings(self, index: int) -> Mapping[int, bool | None]:
        """The ratings given to chats of a conversation, by the chat's sequence."""
        return self._ratings.get(index, {})

    def order(self, by: By) -> TimeOrder:
        """All conversations by their first or last chat time."""
        order = self._orders.get(by)
        if order is None:
            order = self._orders[by] = self._generated_order(by)
            for index in [*self._deleted, *self._timelines]:
                if index < self._generated:
                    order.remove(self._time(self._as_generated(index), by), index)
            for index, timeline in self._timelines.items():
                order.add(self._time(timeline, by), index)
        return order

    def time_of(self, by: By) -> Callable[[int], float | None]:
        """The function that gives the sort key of a conversation."""
        return lambda index: self._time(self.timeline(index), by)

    def row(self, index: int) -> Row:
        """A conversation as it is now."""
        own = self._own.get(index)
        return Row(
            index,
            self.conversation_id(index),
            self.timeline(index),
            self.profile(index),
            self.edits(index),
            self.ratings(index),
            () if own is None else own.chats,
        )

    def profile(self, index: int) -> Profile:
        """The fields of a conversation, apart from its chats, as they are now."""
        own, edits = self._own.get(index), self.edits(index)
        return profile(index, self.data.word(index), edits) if own is None else edited(own.profile, edits)

    def is_as_generated(self, index: int) -> bool:
        """Whether nothing that a conversation shows was changed, and it was not put into the sandbox."""
        changed: tuple[Mapping[int, object], ...] = (self._timelines, self._own, self._edits, self._ratings)
        return not any(index in each for each in changed)

    def conversation_id(self, index: int) -> str:
        """The id of a conversation."""
        own = self._own.get(index)
        return self.data.conversation_id(index) if own is None else own.id

    def chat_id(self, index: int, sequence: int) -> str:
        """The id of a chat."""
        own = self._own.get(index)
        if own is not None and sequence < len(own.chats):
            return own.chats[sequence].id
        return self.data.chat_id(index, sequence).decode()

    def find(self, conversation_id: str) -> int | None:
        """The index of a conversation that exists."""
        index = self._own_indices.get(conversation_id)
        if index is None:
            index = self.data.conversation_index(conversation_id)
        return index if index is not None and self.exists(index) else None

    def find_chat(self, index: int, chat_id: str) -> int | None:
        """The sequence of a chat that exists."""
        own = self._own.get(index)
        ids = [] if own is None else [chat.id for chat in own.chats]
        sequence = ids.index(chat_id) if chat_id in ids else self.data.chat_sequence(index, chat_id)
        return sequence if sequence is not None and sequence in self.timeline(index).sequences else None

    def edit(self, index: int, change: Edits) -> None:
        """Write fields of a conversation; fields that are unset stay."""
        edits = self._edits.setdefault(index, Edits())
        for name in edits.__struct_fields__:
            if (value := getattr(change, name)) is not UNSET:
                setattr(edits, name, value)
        self.version += 1

    def rate(self, index: int, sequence: int, rating: bool | None) -> None:
        """Write the rating of a chat."""
        self._ratings.setdefault(index, {})[sequence] = rating

    def set_running(self, index: int, polls: int | None) -> None:
        """Mark a conversation as running for a number of polls; None for until it is stopped."""
        if polls is not None and polls < 1:
            self.stop(index)
        else:
            self._running[index] = polls
            self.version += 1

    def is_running(self, index: int) -> bool:
        """Whether a conversation is marked as running; this uses up no poll."""
        return index in self._running

    def poll_running(self, index: int) -> bool:
        """Whether a conversation is running; this uses up one of its polls."""
        if index not in self._running:
            return False
        left = self._running[index]
        if left is not None:
            self._running[index] = left - 1
            if left == 1:
                self.stop(index)
        return True

    def stop(self, index: int) -> None:
        """Mark a conversation as not running."""
        self._running.pop(index, None)
        self.version += 1

    def add_chat(self, index: int) -> int:
        """Add a chat that is sent now, and return its sequence."""
        timeline = self._touch(index)
        before = self._times(timeline)
        sequence = timeline.add(self._tick())
        self._reorder(index, before)
        return sequence

    def delete_chat(self, index: int, sequence: int) -> None:
        """Delete a chat."""
        timeline = self._touch(index)
        before = self._times(timeline)
        timeline.delete(sequence, keep_times=self._keeps_times)
        self._tick()
        self._reorder(index, before)

    def add_conversation(self) -> int:
        """Add a conversation that begins now with one chat, and return its index."""
        index = self.total
        self.total += 1
        now = self._tick()
        timeline = self._timelines[index] = Timeline.fresh(self.data, now)
        timeline.add(now)
        for by, order in self._orders.items():
            order.add(self._time(timeline, by), index)
        return index

    def put(self, given: ConversationLike, chats: Iterable[ChatLike] | None) -> int:
        """Put in a conversation, in place of one with the same id, and return its index.

        Raises:
            ValueError: A value of it cannot be right.
        """
        index = self.total
        own = own_conversation(
            given,
            chats,
            default_id=self.data.conversation_id(index),
            now=self.data.wire(self._now_ms),
            second=self.data.wire(1000.0),
        )
        if (replaced := self.find(own.id)) is not None:
            self.delete_conversation(replaced)
        self.total += 1
        self._own[index], self._own_indices[own.id] = own, index
        times = [chat.time for chat in own.chats]
        timeline = self._timelines[index] = Timeline.of_times(self.data, own.created, times, own.last_chat)
        for by, order in self._orders.items():
            order.add(self._time(timeline, by), index)
        # Chats that are added later must be later.
        self._now_ms = max(self._now_ms, *(time / self.data.wire(1.0) for time in (own.created, *times)))
        self._tick()
        return index

    def delete_conversation(self, index: int) -> None:
        """Delete a conversation with its chats."""
        timeline = self.timeline(index)
        for by, order in self._orders.items():
            order.remove(self._time(timeline, by), index)
        for kept in (self._timelines, self._edits, self._ratings, self._running):
            kept.pop(index, None)
        if index in self._own:
            del self._own_indices[self._own[index].id]
        self._deleted.add(index)
        self._tick()

    def daily_counts(self, first: date, last: date) -> list[tuple[str, int]]:
        """The number of conversations whose first chat was on each day (UTC)."""
        order = self.order("first")
        counts = []
        for number in range((last - first).days + 1):
            day = first + timedelta(days=number)
            start = (datetime(day.year, day.month, day.day, tzinfo=UTC) - _EPOCH).total_seconds() * 1000
            low, _ = order.window(self.data.wire(start), None, closed=True)
            high, _ = order.window(self.data.wire(start + 86_400_000), None, closed=True)
            counts.append((day.isoformat(), high - low))
        return counts

    def _as_generated(self, index: int) -> Timeline:
        return Timeline.generated(self.data, index, lacks_last=self._lacks_last(index))

    def _lacks_last(self, index: int) -> bool:
        return self._null_last_share > 0 and self.data.fraction(index) < self._null_last_share

    def _generated_order(self, by: By) -> TimeOrder:
        made = (self.data.firsts if by == "first" else self.data.lasts)(self._generated)
        order = TimeOrder(*made)
        if by == "first" and self._has_fallback:
            order.fill_empty(lambda index: self._as_generated(index).created)
        if by == "last" and self._null_last_share:
            order.clear_times(self._lacks_last)
        return order

    def _time(self, timeline: Timeline, by: By) -> float | None:
        if by == "last":
            return timeline.last
        return timeline.created if timeline.first is None and self._has_fallback else timeline.first

    def _times(self, timeline: Timeline) -> dict[By, float | None]:
        return {by: self._time(timeline, by) for by in self._orders}

    def _touch(self, index: int) -> Timeline:
        timeline = self._timelines[index] = self.timeline(index)
        return timeline

    def _tick(self) -> float:
        self._now_ms += _STEP_MS
        self.version += 1
        return self.data.wire(self._now_ms)

    def _reorder(self, index: int, before: Mapping[By, float | None]) -> None:
        after = self._times(self._timelines[index])
        for by, order in self._orders.items():
            if before[by] != after[by]:
                order.remove(before[by], index)
                order.add(after[by], index)
