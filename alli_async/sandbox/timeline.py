"""The chats of one conversation: which ones exist, and when each was sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .data import Data


@dataclass(slots=True)
class Timeline:
    """The chats of a conversation, by their sequence numbers.

    Attributes:
        created: When the conversation was opened.
        first: The first chat time; None if there is none.
        last: The last chat time; None if there is none, or if the conversation is an old row that lacks it.
        sequences: The numbers of the chats that exist, ascending; a range until the first change.
        next_sequence: The number of the next chat. Numbers of deleted chats are never used again.
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
    def generated(cls, data: Data, index: int, *, lacks_last: bool = False) -> Timeline:
        """The chats that a conversation was generated with; an old row lacks its last chat time."""
        count, first_ms, gap_ms = data.born(index)
        created = data.wire(data.created_ms(data.word(index), first_ms))
        first = data.wire(first_ms) if count else None
        last = data.wire(first_ms + (count - 1) * gap_ms) if count and not lacks_last else None
        return cls(created, first, last, range(count), count, data, first_ms, gap_ms)

    @classmethod
    def fresh(cls, data: Data, now: float) -> Timeline:
        """A new conversation without chats."""
        return cls(now, None, None, [], 0, data, 0.0, 0.0)

    @classmethod
    def of_times(cls, data: Data, created: float, times: Sequence[float], last: float | None) -> Timeline:
        """A conversation with chats of its own, ascending in time; one of them may lack its last chat time."""
        made = cls(created, None, None, [], 0, data, 0.0, 0.0)
        for time in times:
            made.add(time)
        made.last = last
        return made

    def time(self, sequence: int) -> float:
        """When a chat was sent."""
        added = self._added.get(sequence)
        return self._data.wire(self._first_ms + sequence * self._gap_ms) if added is None else added

    def add(self, now: float) -> int:
        """Add a chat that is later than all others."""
        sequence = self.next_sequence
        self.sequences = [*self.sequences, sequence]
        self.next_sequence = sequence + 1
        self._added[sequence] = self.last = now
        if self.first is None:
            self.first = now
        return sequence

    def delete(self, sequence: int, *, keep_times: bool) -> None:
        """Delete a chat; the first and last chat time follow the chats that remain, unless they are kept."""
        self.sequences = [kept for kept in self.sequences if kept != sequence]
        if keep_times:
            return
        if not self.sequences:
            self.first = self.last = None
            return
        self.first = self.time(self.sequences[0])
        if self.last is not None:  # an old row gets no last chat time by a deletion
            self.last = self.time(self.sequences[-1])
