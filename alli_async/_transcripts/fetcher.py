"""The chats of conversations, fetched and compared with the embedded chats of the list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic

from .._listing.survey import is_empty
from .._transport import wire
from .._transport.session import Session
from .._transport.wire import Request
from ..errors import AlliError, NotFoundError
from .chats import Chats, EmbeddedChats, all_chats, fetch_chats
from .codec import Codec, ConversationRow, ResultT, is_newest_first
from .embedded import MAX_USED, EmbeddedCheck

# Most times that a conversation whose embedded chats and pages disagree is fetched; then its pages are used.
_MAX_ROUNDS = 4


class ChatFetcher(Generic[ResultT]):
    """Fetches the chats of conversations, and finds out whether embedded chats can be used instead.

    Args:
        session: The session that sends the requests.
        codec: Decodes the answers.
        max_used: Number of conversations whose embedded chats were used that are remembered.

    Attributes:
        embedded: Whether the embedded chats of conversations that have chats can be used.
        empty: Whether conversations that seem to have no chats have none. Checked separately: a wrong count of 0
            cannot be noticed from embedded chats.
        gone: The ids of conversations that were deleted after the list had shown them.
    """

    def __init__(self, session: Session, codec: Codec[ResultT], *, max_used: int = MAX_USED) -> None:
        self.embedded, self.empty = EmbeddedCheck(max_used), EmbeddedCheck(max_used)
        self.gone: dict[str, None] = {}
        self._session = session
        self._codec: Codec[ResultT] = codec
        self._newest_first = False

    def learn_order(self, rows: Sequence[ConversationRow]) -> list[bool]:
        """Learn from a page of conversations in which order this server sends embedded chats.

        A row with more embedded chats than its chat count shows that counts are wrong, and ends the use of
        embedded chats.

        Returns:
            For each conversation, whether its embedded chats came newest first. Where they do not show it, the
            conversation before decides.
        """
        if any(len(row.chats) > row.chat_count for row in rows):
            self._disprove_counts()
        orders = [is_newest_first(row.chats) for row in rows]
        self._newest_first = next((each for each in reversed(orders) if each is not None), self._newest_first)
        return [self._newest_first if each is None else each for each in orders]

    def check(self, row: ConversationRow) -> EmbeddedCheck:
        """The check that decides whether the embedded chats of a conversation can be used."""
        return self.empty if is_empty(row) else self.embedded

    def can_use_embedded(self, row: ConversationRow) -> bool:
        """Whether the embedded chats of a conversation are known to be all its chats.

        A count of 0 beside the time of a last chat is wrong.
        """
        is_consistent = row.last_chat_time is None or row.chat_count > 0
        return len(row.chats) == row.chat_count and is_consistent and self.check(row).is_proved

    def is_newest_first(self, row: ConversationRow) -> bool:
        """Whether embedded chats came newest first; where they do not show it, whether the others did."""
        order = is_newest_first(row.chats)
        return self._newest_first if order is None else order

    async def is_gone(self, conversation_id: str) -> bool:
        """Whether a conversation was deleted since the list was read: the server no longer knows it."""
        try:
            await self.get(conversation_id)
        except NotFoundError:
            self.gone[conversation_id] = None
            return True
        except AlliError as error:
            if error.is_outage:
                raise
            return False
        return False

    async def chats(self, row: ConversationRow, newest_first: bool) -> Chats[Any]:
        """Fetch the chats of a conversation. Every chat that came embedded with it is among them."""

        async def refetch() -> tuple[list[str], int]:
            now = await self.get(row.id)
            return [chat.id for chat in now.chats], now.chat_count

        holds = self.embedded.is_proved
        chats = await all_chats(
            lambda number: fetch_chats(self._session, row.id, self._codec.chats, number),
            row.id,
            row.chat_count if holds else 0,
            EmbeddedChats(row.chats[::-1] if newest_first else row.chats, refetch),
        )
        if chats.tail and holds:
            self.embedded.use(row.id, len(chats.ids) + chats.tail, self._codec.content_size(row))
        return chats

    async def agreed_chats(self, row: ConversationRow, newest_first: bool) -> Chats[Any]:
        """Fetch the chats of a conversation, and note whether its embedded chats agree with them.

        A chat may have been added, deleted or rated since the list was read, or one of the two answers may be
        wrong once. So a difference counts only if it is still there after both were fetched once more and nothing
        has changed meanwhile.
        """
        check = self.check(row)
        chats = await self.chats(row, newest_first)
        now = row
        for _ in range(_MAX_ROUNDS):
            if check.is_broken and (chats.ids or not now.chat_count):
                break
            if self._is_agreed(now, chats):
                check.prove()
                break
            before, ids = now, chats.ids
            now = await self.get(row.id)
            if self._is_agreed(now, chats):
                check.prove()
                break
            chats = await self.chats(row, newest_first)
            is_same = before.chat_count == now.chat_count and self._codec.content_size(
                before
            ) == self._codec.content_size(now)
            if ids == chats.ids and is_same:
                check.disprove()
                if now.chat_count != chats.pages[0].total_count:
                    self._disprove_counts()
                break
        return chats

    def _disprove_counts(self) -> None:
        """Note that a chat count was wrong: then other counts may be, also those of 0."""
        self.embedded.disprove()
        self.empty.disprove()

    def _is_agreed(self, row: ConversationRow, chats: Chats[Any]) -> bool:
        return row.chat_count == chats.pages[0].total_count and self._codec.agrees(row, chats)

    async def get(self, conversation_id: str) -> ConversationRow:
        """Fetch a conversation."""
        path = wire.conversation_path(conversation_id)
        summary: ConversationRow = await self._session.request(
            Request("getConversation", "GET", path), self._codec.conversation
        )
        return summary
