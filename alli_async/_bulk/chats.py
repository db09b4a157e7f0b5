"""Chats: a conversation's pages, fetched at once, and proved to be all of them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from .._transport import wire
from .._transport.session import Session
from .._transport.wire import Request
from ..errors import IncompleteError
from ..models import ChatPage
from .tasks import concurrently

T = TypeVar("T")

# Chats come and go while their pages are fetched; more often than this in a row, something else is wrong.
_MAX_ROUNDS = 4
# Chats come in pages of so many, as far as seen; where they do not, it costs a round trip more.
CHATS_PER_PAGE = 100
# How many chat pages `list_chats` asks for ahead of the reader; and how many at once are asked for on the word of
# a count, which can be a lie.
_AHEAD, _AT_ONCE = 8, 64

decode_chats = wire.decoder(ChatPage)


class ChatHead(Protocol):
    """What the fan-out needs to know of a chat."""

    @property
    def id(self) -> str:
        """The chat's id."""
        ...

    @property
    def timestamp(self) -> float:
        """When it was sent."""
        ...


class Chatted(Protocol):
    """What the fan-out needs to know of a page of chats, however it was decoded."""

    @property
    def chats(self) -> Sequence[ChatHead]:
        """The page's chats."""
        ...

    @property
    def total_count(self) -> int:
        """How many chats the conversation has."""
        ...


ChattedT = TypeVar("ChattedT", bound=Chatted)


@dataclass(frozen=True, slots=True)
class Chats(Generic[ChattedT]):
    """All chats of a conversation.

    Attributes:
        pages: The pages that were fetched.
        tail: How many of the chats that came with the conversation, its last, follow them.
    """

    pages: list[ChattedT]
    tail: int = 0


async def fetch_chats(session: Session, conversation_id: str, decode: Callable[[bytes], T], page_no: int) -> T:
    """One page of a conversation's chats, from 1."""
    path = wire.conversation_path(conversation_id, "chats")
    # The first page is the default, asked for by name all the same: a default can change.
    return await session.request(Request("listConversationChats", "GET", path, f"pageNo={page_no}"), decode)


async def walk_chats(fetch: Callable[[int], Awaitable[ChattedT]]) -> AsyncGenerator[ChattedT, None]:
    """The pages in order; those after the first are asked for ahead. Breaking out leaves no task behind.

    They end when there are as many chats as they promise, or at an empty page, whatever it promises.
    """
    page = first = await fetch(1)
    yield first
    received, number = len(first.chats), 1
    ahead: deque[asyncio.Task[ChattedT]] = deque()
    try:
        while page.chats and (ahead or received < page.total_count):
            # As many as the first one's length says; where later pages are shorter, one more, and one more.
            last = max(-(-page.total_count // len(first.chats)), number if ahead else number + 1)
            while number < last and len(ahead) < _AHEAD:
                number += 1
                ahead.append(asyncio.create_task(_coroutine(fetch, number)))
            page = await ahead[0]
            ahead.popleft()
            yield page
            received += len(page.chats)
    finally:
        for task in ahead:
            task.cancel()
        await asyncio.gather(*ahead, return_exceptions=True)


def page_count(first: Chatted, rest: int = 0) -> int:
    """How many pages there are for all chats but the last few, by the first: full pages are as long as it is."""
    return max(1, -(-(first.total_count - rest) // len(first.chats))) if first.chats else 1


async def all_chats(
    fetch: Callable[[int], Awaitable[ChattedT]],
    conversation_id: str,
    expected: int = 0,
    embedded: Sequence[ChatHead] = (),
) -> Chats[ChattedT]:
    """All chats of a conversation, its pages fetched concurrently, and proved to belong together.

    Every page must give the same `total_count`, no chat may come twice, and together they must be as many;
    else a chat was added or deleted between two pages, and they are fetched again. Where that only showed what
    was there before, and behind it more, none was deleted: then they need only be as many as the last page says,
    however fast others are added.

    Args:
        fetch: Gives the page of a number, from 1.
        conversation_id: For the error.
        expected: How many there are, if that is known: so many pages are asked for at once.
        embedded: The newest, oldest first, as they came with the conversation. Where they go on without a gap
            from a page, those after it are not asked for.

    Raises:
        IncompleteError: They did not add up in several rounds.
    """
    started = time.monotonic()
    before: list[str] | None = None
    for _ in range(_MAX_ROUNDS):
        pages = await _pages(fetch, 1, -(-(expected - len(embedded)) // CHATS_PER_PAGE))
        for rest in (len(embedded), 0):
            if (last := page_count(pages[0], rest)) > len(pages):
                pages += await _pages(fetch, len(pages) + 1, last)
            tail = _tail(pages, embedded)
            totals = {page.total_count for page in pages}
            ids = [chat.id for page in pages for chat in page.chats]
            grown = before is not None and ids[: len(before)] == before and pages[-1].total_count == len(ids)
            if (grown or totals == {len(ids) + tail}) and len(set(ids)) == len(ids):
                return Chats(pages, tail)
        before, expected, embedded = ids, 0, ()
    error = IncompleteError(
        f"the chats of conversation {conversation_id!a} do not add up: totalCount {sorted(totals)}, "
        f"{len(ids)} received, {len(set(ids))} of them distinct"
    )
    path = wire.conversation_path(conversation_id, "chats")
    error.locate("GET", path, _MAX_ROUNDS, time.monotonic() - started)
    raise error


async def _pages(fetch: Callable[[int], Awaitable[ChattedT]], first: int, last: int) -> list[ChattedT]:
    """The pages of these numbers, all at once; or as far as there are any, should the last number be a lie."""
    if first >= last:
        return [await fetch(first)]
    pages: list[ChattedT] = []
    while first <= last and (not pages or pages[-1].chats):
        end = min(last, first + _AT_ONCE - 1)
        pages += await concurrently([_coroutine(fetch, number) for number in range(first, end + 1)])
        first = end + 1
    return pages


def _tail(pages: Sequence[Chatted], embedded: Sequence[ChatHead]) -> int:
    """How many of the embedded chats follow the pages without a gap, so that all are there; 0 when they do not."""
    missing = pages[0].total_count - sum(len(page.chats) for page in pages)
    if not 0 < missing <= len(embedded) or not pages[-1].chats:
        return 0
    overlap = [chat.id for chat in embedded[: len(embedded) - missing]]
    tail = embedded[len(embedded) - missing :]
    before = [chat for page in pages for chat in page.chats]
    known = {chat.id for chat in before}
    seamless = (
        [chat.id for chat in before[len(before) - len(overlap) :]] == overlap
        and before[-1].timestamp <= tail[0].timestamp
        and known.isdisjoint(chat.id for chat in tail)
        and len({chat.id for chat in tail}) == len(tail)
    )
    return missing if seamless else 0


async def _coroutine(fetch: Callable[[int], Awaitable[T]], number: int) -> T:
    return await fetch(number)
