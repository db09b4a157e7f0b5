"""Conversations that are being answered: polled until they are idle, and watched for new chats."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial

from .._transport import bodies, wire
from .._transport.session import Session
from .._transport.wire import Request
from ..errors import AlliTimeoutError
from ..models import Chat, ChatPage
from .chats import decode_chats, fetch_chats, walk_chats

FetchPage = Callable[[int], Awaitable[ChatPage]]


async def is_running(session: Session, conversation_id: str) -> bool:
    """Whether an answer is being generated now."""
    path = wire.conversation_path(conversation_id, "running")
    answer = await session.request(Request("getConversationRunning", "GET", path), bodies.decode_running)
    return answer.is_running


async def wait_idle(session: Session, conversation_id: str, poll_interval: float) -> None:
    """Wait until no answer is being generated.

    Raises:
        AlliTimeoutError: It is still running at the session's deadline.
    """
    is_first = True
    while await _is_still_running(session, conversation_id, is_first=is_first):
        is_first = False
        await _pause(session, conversation_id, poll_interval)


async def _is_still_running(session: Session, conversation_id: str, *, is_first: bool) -> bool:
    """Ask whether an answer is being generated. An error at the deadline says that the conversation still runs."""
    try:
        return await is_running(session, conversation_id)
    except AlliTimeoutError as error:
        now = asyncio.get_running_loop().time()
        if is_first or session.ends_at is None or now < session.ends_at:
            raise
        failure = error
    failure.args = (f"conversation {conversation_id!a} is still running; {failure.message}",)
    raise failure


async def _pause(session: Session, conversation_id: str, seconds: float) -> None:
    """Sleep between two polls of a conversation that is running, until the session's deadline at most.

    Raises:
        AlliTimeoutError: The deadline comes before the next poll.
    """
    if session.ends_at is not None:
        left = session.ends_at - asyncio.get_running_loop().time()
        if seconds >= left:
            await session.lifetime.sleep(max(left, 0.0))
            error = AlliTimeoutError(f"conversation {conversation_id!a} is still running; the deadline passed")
            session.locate(error, "GET", wire.conversation_path(conversation_id, "running"))
            raise error
    await session.lifetime.sleep(seconds)


async def watch_chats(
    open_session: Callable[[], Session], conversation_id: str, poll_interval: float, *, history: bool
) -> AsyncGenerator[Chat, None]:
    """Yield the chats that appear, each once and when it is finished, until the conversation is idle.

    Args:
        open_session: Makes the session, whose deadline counts from the first poll.
        conversation_id: The conversation's id.
        poll_interval: Seconds between two polls.
        history: Whether to start with the chats that are already there.

    Raises:
        AlliTimeoutError: It is still running at the session's deadline.
    """
    session = open_session()
    tail = ChatTail(partial(fetch_chats, session, conversation_id, decode_chats), conversation_id)
    if not history:
        await tail.skip_present()
    is_first = True
    while True:
        # The chats are read after this request: every chat of an idle conversation is finished.
        running = await _is_still_running(session, conversation_id, is_first=is_first)
        is_first = False
        for chat in await tail.finished(is_idle=not running):
            yield chat
        if not running:
            return
        await _pause(session, conversation_id, poll_interval)


class ChatTail:
    """Reads the end of a conversation again and again, and finds the chats that are new and finished.

    A chat is finished when two reads in a row showed the same content, or when the conversation is idle. Chats are
    returned in order, so a finished chat waits for the chats before it.

    Args:
        fetch: Fetches one page of chats; the first has number 1.
        conversation_id: The conversation's id, for errors.
    """

    def __init__(self, fetch: FetchPage, conversation_id: str) -> None:
        self._fetch = fetch
        self._conversation_id = conversation_id
        self._known: set[str] = set()
        self._before: dict[str, Chat] = {}
        self._unfinished: Chat | None = None
        # Number of chats at the last read, of chats at the start that were returned or known, and of a full page.
        self._total = self._known_count = self._per_page = 0

    async def skip_present(self) -> None:
        """Read the chats that are there, and leave them out later, except the last one if it still grows."""
        present = await self._read()
        self._known = {chat.id for chat in present}
        self._before = {chat.id: chat for chat in present[-1:]}
        self._unfinished = present[-1] if present else None
        self._known_count = self._total - 1

    async def finished(self, *, is_idle: bool) -> list[Chat]:
        """Read the end of the conversation, and return the new chats that are finished.

        Args:
            is_idle: Whether the conversation is idle, so that every chat is finished.
        """
        chats = await self._read(is_whole=is_idle)
        if (last := self._unfinished) is not None and any(
            chat.id == last.id and chat.message != last.message for chat in chats
        ):
            self._known.discard(last.id)
            self._unfinished = None
        before, self._before = self._before, {}
        found: list[Chat] = []
        is_blocked = False
        for chat in chats:
            if chat.id in self._known:
                continue
            is_blocked = is_blocked or not (is_idle or before.get(chat.id) == chat)
            if is_blocked:
                self._before[chat.id] = chat
            else:
                found.append(chat)
        self._known.update(chat.id for chat in found)
        self._known_count = self._total - len(self._before)
        return found

    async def _read(self, *, is_whole: bool = False) -> Sequence[Chat]:
        """Read the chats from the last page with known chats on; all chats at first and after deletions."""
        number = self._known_count // self._per_page if self._per_page else 0
        if number > 1 and not is_whole:
            pages = await self._pages_from(number)
            if pages[0].total_count >= self._total:
                return self._unique(pages)
        pages = []
        async with aclosing(walk_chats(self._fetch, self._conversation_id)) as walk:
            async for page in walk:
                pages.append(page)
        self._per_page = len(pages[0].chats) if len(pages) > 1 else 0
        return self._unique(pages)

    async def _pages_from(self, number: int) -> list[ChatPage]:
        pages = [await self._fetch(number)]
        while len(pages[-1].chats) >= self._per_page and number * self._per_page < pages[-1].total_count:
            number += 1
            pages.append(await self._fetch(number))
        return pages

    def _unique(self, pages: Sequence[ChatPage]) -> Sequence[Chat]:
        self._total = pages[-1].total_count
        return list({chat.id: chat for page in pages for chat in page.chats}.values())
