"""The chats of conversations, fetched and held against what the list has shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic

from .._transport import wire
from .._transport.session import Session
from .._transport.wire import Request
from ..errors import AlliError, NotFoundError
from .chats import Chats, Shown, all_chats, fetch_chats
from .codecs import Codec, ResultT, Summary, is_newest_first
from .embedded import EmbeddedCheck

# How often a conversation whose two sources disagree is asked for, before its pages are taken as they are.
_MAX_ROUNDS = 4


class ChatFetcher(Generic[ResultT]):
    """Fetches the chats of conversations, and finds out whether embedded chats can be used instead.

    Args:
        session: The session that sends the requests.
        codec: Decodes the answers.

    Attributes:
        embedded: Whether the embedded chats of conversations that have chats can be used.
        empty: Whether conversations that seem to have no chats have none. This is proved apart: of them a count
            that is wrong shows nothing.
        gone: The ids of conversations that were deleted after the list had shown them.
    """

    def __init__(self, session: Session, codec: Codec[ResultT]) -> None:
        self.embedded, self.empty = EmbeddedCheck(), EmbeddedCheck()
        self.gone: dict[str, None] = {}
        self._session = session
        self._codec: Codec[ResultT] = codec
        self._newest_first = False

    def look_at(self, items: Sequence[Summary]) -> list[bool]:
        """Learn from the conversations of a page.

        Returns:
            Whether the embedded chats of each came newest first; where they do not tell, as the others did.
        """
        if any(len(item.chats) > item.chat_count for item in items):
            self.embedded.disprove()
        descents = [is_newest_first(item.chats) for item in items]
        self._newest_first = next((each for each in reversed(descents) if each is not None), self._newest_first)
        return [self._newest_first if each is None else each for each in descents]

    def check(self, item: Summary) -> EmbeddedCheck:
        """What tells whether the embedded chats of a conversation can be used."""
        return self.embedded if item.chats or item.chat_count else self.empty

    def is_newest_first(self, item: Summary) -> bool:
        """Whether embedded chats came newest first; if they do not tell, whether the others did."""
        descending = is_newest_first(item.chats)
        return self._newest_first if descending is None else descending

    async def is_gone(self, conversation_id: str) -> bool:
        """Whether a conversation was deleted since the list was asked for: the server knows it no more."""
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

    async def chats(self, item: Summary, newest_first: bool) -> Chats[Any]:
        """Fetch the chats of a conversation; every chat that the conversation has shown is among them."""

        async def again() -> tuple[list[str], int]:
            now = await self.get(item.id)
            return [chat.id for chat in now.chats], now.chat_count

        holds = self.embedded.holds
        chats = await all_chats(
            lambda number: fetch_chats(self._session, item.id, self._codec.chats, number),
            item.id,
            item.chat_count if holds else 0,
            Shown(item.chats[::-1] if newest_first else item.chats, again),
        )
        if chats.tail and holds:
            self.embedded.use(item.id, len(chats.ids) + chats.tail, self._codec.extent(item))
        return chats

    async def agreed_chats(self, item: Summary, newest_first: bool) -> Chats[Any]:
        """The chats of a conversation that was fetched both ways, and what that says about embedded chats.

        A chat may have come or gone, or been rated, since the list was asked for; or one of the two answers may be
        wrong once. So a difference counts only if it is still there when both were asked for once more, and
        nothing has changed meanwhile.
        """
        check = self.check(item)
        chats = await self.chats(item, newest_first)
        now = item
        for _ in range(_MAX_ROUNDS):
            if check.is_broken and (chats.ids or not now.chat_count):
                break
            if self._is_agreed(now, chats):
                check.prove()
                break
            before, ids = now, chats.ids
            now = await self.get(item.id)
            if self._is_agreed(now, chats):
                check.prove()
                break
            chats = await self.chats(item, newest_first)
            is_same = before.chat_count == now.chat_count and self._codec.extent(before) == self._codec.extent(now)
            if ids == chats.ids and is_same:
                check.disprove()
                break
        return chats

    def _is_agreed(self, item: Summary, chats: Chats[Any]) -> bool:
        return item.chat_count == chats.pages[0].total_count and self._codec.agrees(item, chats)

    async def get(self, conversation_id: str) -> Summary:
        """Fetch a conversation."""
        path = wire.conversation_path(conversation_id)
        summary: Summary = await self._session.request(
            Request("getConversation", "GET", path), self._codec.conversation
        )
        return summary
