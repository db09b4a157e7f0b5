"""Whether a conversation's `chat_count` counts what its chat pages hold."""

from __future__ import annotations

from collections import OrderedDict

# So many conversations fetched both ways must agree before the count is believed. It is also the most that
# a small job pays for knowing.
_PROOFS = 2


class CountTrust:
    """Embedded chats are taken for all of them only on the word of `chat_count`, and only once it has been proved.

    The first conversations that are fetched both ways prove it; one disagreement, whenever it comes, ends it,
    and what was taken on its word is to be looked at again.
    """

    def __init__(self, keep: int = 100_000) -> None:
        self.taken: OrderedDict[str, int] = OrderedDict()
        self.forgotten = 0
        self._proofs = 0
        self._broken = False
        self._keep = keep

    @property
    def holds(self) -> bool:
        """The count is proved."""
        return self._proofs >= _PROOFS and not self._broken

    @property
    def broken(self) -> bool:
        """The count is disproved."""
        return self._broken

    @property
    def wanted(self) -> int:
        """How many more proofs it takes; 0 once it is decided either way."""
        return 0 if self._broken else max(0, _PROOFS - self._proofs)

    def prove(self) -> None:
        """A conversation fetched both ways agreed."""
        self._proofs += 1

    def break_(self) -> None:
        """A conversation disagreed."""
        self._broken = True

    def take(self, conversation_id: str, chats: int) -> None:
        """Note what was taken on trust; the oldest notes go first, so that memory stays bounded."""
        self.taken[conversation_id] = chats
        if len(self.taken) > self._keep:
            self.taken.popitem(last=False)
            self.forgotten += 1
