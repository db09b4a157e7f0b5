"""The chats of one conversation: which there are, and when they were sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .data import Data


@dataclass(slots=True)
class Timeline:
    """The chats of a conversation, by their sequence numbers; even ones are the user's.

    Attributes:
        created: When the conversation was opened.
        first: The time of the first chat there ever was; None when there was none.
        last: The time of the last chat there ever was; None when there was none.
        sequences: Of the chats there are, ascending; a range until the first change.
        next_sequence: Of the next chat; numbers of deleted chats are never given again.
    """

    created: float
    first: float | None
    last: float | None
    sequences: Sequence[int]
    next_sequence: int
    _data: Data
    _first_ms: float
    _gap_ms: float
    _added: dict[int, float] = field(default_factory=dict)

    @classmethod
    def generated(cls, data: Data, index: int) -> Timeline:
        """The chats that a conversation was generated with."""
        count, first_ms, gap_ms = data.born(index)
        created = data.wire(data.created_ms(data.word(index), first_ms))
        first = data.wire(first_ms) if count else None
        last = data.wire(first_ms + (count - 1) * gap_ms) if count else None
        return cls(created, first, last, range(count), count, data, first_ms, gap_ms)

    @classmethod
    def fresh(cls, data: Data, now: float) -> Timeline:
        """No chats yet."""
        return cls(now, None, None, [], 0, data, 0.0, 0.0)

    def time(self, sequence: int) -> float:
        """When a chat was sent."""
        added = self._added.get(sequence)
        return self._data.wire(self._first_ms + sequence * self._gap_ms) if added is None else added

    def add(self, now: float) -> int:
        """A new chat, later than all others."""
        sequence = self.next_sequence
        self.sequences = [*self.sequences, sequence]
        self.next_sequence = sequence + 1
        self._added[sequence] = self.last = now
        if self.first is None:
            self.first = now
        return sequence

    def delete(self, sequence: int) -> None:
        """Take a chat away; the first and last chat time stay as they were."""
        self.sequences = [kept for kept in self.sequences if kept != sequence]

    def users_chats(self) -> int:
        """How many of the chats are the user's."""
        return sum(1 for sequence in self.sequences if sequence % 2 == 0)
