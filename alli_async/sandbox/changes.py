"""Changes of the data: to a conversation that is named, or to one that is chosen at random."""

from __future__ import annotations

import random
from collections.abc import Callable

from .options import Churn, Options
from .render import Edits
from .store import Store

# Random choices before the conversations are searched one after the other.
_TRIES = 1000


class Changes:
    """Changes a store. Not thread-safe: callers hold the sandbox's lock.

    Each method takes the index of a conversation, or None to choose one at random, and returns None if no
    conversation can be changed in this way.
    """

    def __init__(self, store: Store, options: Options) -> None:
        self._store = store
        self._draw = random.Random(f"{options.seed}:churn")  # noqa: S311 - made-up changes

    def add_chat(self, index: int | None = None) -> tuple[int, int] | None:
        """Add a chat, and return its index and sequence."""
        index = self._choose(index, self._store.exists)
        return None if index is None else (index, self._store.add_chat(index))

    def delete_chat(self, index: int | None = None, *, first: bool = False) -> tuple[int, int] | None:
        """Delete a random chat, or the first one, and return its index and sequence."""
        index = self._choose(index, self._has_chats)
        if index is None:
            return None
        sequences = self._store.timeline(index).sequences
        sequence = sequences[0] if first else self._draw.choice(sequences)
        self._store.delete_chat(index, sequence)
        return index, sequence

    def add_conversation(self) -> int:
        """Add a conversation, and return its index."""
        return self._store.add_conversation()

    def delete_conversation(self, index: int | None = None) -> int | None:
        """Delete a conversation, and return its index."""
        index = self._choose(index, self._store.exists)
        if index is not None:
            self._store.delete_conversation(index)
        return index

    def end_conversation(self, index: int | None = None) -> int | None:
        """End a conversation, and return its index."""
        index = self._choose(index, self._is_active)
        if index is not None:
            self._store.edit(index, Edits(is_end=True))
        return index

    def apply(self, churn: Churn) -> None:
        """Make the changes that follow a list page."""
        for _ in range(churn.new_chats):
            self.add_chat()
        for _ in range(churn.deleted_chats):
            self.delete_chat()
        for _ in range(churn.new_conversations):
            self.add_conversation()
        for _ in range(churn.deleted_first_chats):
            self.delete_chat(first=True)
        for _ in range(churn.deleted_conversations):
            self.delete_conversation()
        for _ in range(churn.ended_conversations):
            self.end_conversation()

    def _choose(self, index: int | None, suits: Callable[[int], bool]) -> int | None:
        """The conversation that was named or is chosen at random, if it suits the change."""
        if index is not None:
            return index if suits(index) else None
        total = self._store.total
        tries = (self._draw.randrange(total) for _ in range(_TRIES if total else 0))
        found = next(filter(suits, tries), None)
        return next(filter(suits, self._store.indices()), None) if found is None else found

    def _has_chats(self, index: int) -> bool:
        return self._store.exists(index) and bool(self._store.timeline(index).sequences)

    def _is_active(self, index: int) -> bool:
        store = self._store
        return store.exists(index) and not store.profile(index).is_end
