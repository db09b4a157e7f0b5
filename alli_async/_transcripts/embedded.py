"""Whether the chats that come embedded with a conversation can be used in place of a request."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

# So many conversations fetched both ways must agree before embedded chats are used. It is also the most that a
# small job pays for knowing.
_PROOFS = 2
# Conversations whose embedded chats were used are remembered up to this number, at about 250 bytes each.
_MOST_USED = 100_000
_EXTENT_BITS = 44


@dataclass(slots=True)
class EmbeddedCheck:
    """Whether `chat_count` counts what the chat pages hold, and embedded chats have the content of the pages.

    The first conversations that are fetched both ways prove it. One disagreement, whenever it comes, ends the
    trust, and the conversations that relied on it are looked at again.

    Attributes:
        used: What was given of the conversations whose embedded chats were used; the oldest are forgotten first.
        forgotten: How many of these were forgotten.
        is_broken: Whether the two ways have disagreed.
    """

    used: OrderedDict[str, int] = field(default_factory=OrderedDict)
    forgotten: int = 0
    is_broken: bool = False
    _proofs: int = 0

    @property
    def holds(self) -> bool:
        """Whether embedded chats can be used."""
        return self._proofs >= _PROOFS and not self.is_broken

    @property
    def wanted(self) -> int:
        """How many more proofs it takes; 0 once it is decided either way."""
        return 0 if self.is_broken else max(0, _PROOFS - self._proofs)

    def prove(self) -> None:
        """Note that a conversation fetched both ways agreed."""
        self._proofs += 1

    def disprove(self) -> None:
        """Note that a conversation fetched both ways disagreed."""
        self.is_broken = True

    def use(self, conversation_id: str, chats: int, extent: int) -> None:
        """Note that embedded chats were used.

        Args:
            conversation_id: The conversation.
            chats: How many chats were given.
            extent: A number that changes with their content.
        """
        self.used[conversation_id] = chats << _EXTENT_BITS | extent
        if len(self.used) > _MOST_USED:
            self.used.popitem(last=False)
            self.forgotten += 1

    def chats_used(self, conversation_id: str) -> int:
        """How many chats were given of a conversation whose embedded chats were used."""
        return self.used[conversation_id] >> _EXTENT_BITS

    def extent_used(self, conversation_id: str) -> int:
        """The extent of the content that was given of it."""
        return self.used[conversation_id] & ((1 << _EXTENT_BITS) - 1)
