"""Whether the chats that come embedded with a conversation can be used in place of a request."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

# Conversations fetched both ways that must agree before embedded chats are used. It is also the most that a small
# job pays for knowing.
_PROOFS = 2
# Conversations whose embedded chats were used that are remembered, at about 300 bytes each.
MAX_USED = 100_000


@dataclass(slots=True)
class EmbeddedCheck:
    """Whether `chat_count` counts what the chat pages hold, and embedded chats have the content of the pages.

    The first conversations that are fetched both ways prove it. One disagreement, whenever it comes, ends the
    trust, and the conversations that relied on it are fetched again.

    Attributes:
        max_used: Number of conversations whose embedded chats were used that are remembered.
        used: For each conversation whose embedded chats were used, the number of chats that the consumer got and
            the size of their content; the oldest are forgotten first.
        forgotten: How many of these conversations were forgotten.
        is_broken: Whether the two ways have disagreed.
    """

    max_used: int = MAX_USED
    used: OrderedDict[str, tuple[int, int]] = field(default_factory=OrderedDict)
    forgotten: int = 0
    is_broken: bool = False
    _proofs: int = 0

    @property
    def is_proved(self) -> bool:
        """Whether embedded chats can be used."""
        return self._proofs >= _PROOFS and not self.is_broken

    @property
    def proofs_missing(self) -> int:
        """Number of further conversations to fetch both ways; 0 once it is decided whether embedded chats hold."""
        return 0 if self.is_broken else max(0, _PROOFS - self._proofs)

    def prove(self) -> None:
        """Note that a conversation fetched both ways agreed."""
        self._proofs += 1

    def disprove(self) -> None:
        """Note that a conversation fetched both ways disagreed."""
        self.is_broken = True

    def use(self, conversation_id: str, chats: int, content_size: int) -> None:
        """Note that embedded chats were used.

        Args:
            conversation_id: The conversation's id.
            chats: Number of chats that the consumer gets.
            content_size: Size of the content of the embedded chats.
        """
        self.used[conversation_id] = (chats, content_size)
        if len(self.used) > self.max_used:
            self.used.popitem(last=False)
            self.forgotten += 1
