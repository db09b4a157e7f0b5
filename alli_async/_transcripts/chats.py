"""Chats: a conversation's pages, fetched at once, and proved to be all of them."""

from __future__ import annotations

import asyncio
import copy
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

import msgspec

from .._aio.tasks import cancel_all, concurrently
from .._transport import wire
from .._transport.decoding import row_decoder
from .._transport.session import Session
from .._transport.wire import Request
from ..errors import AlliError, IncompleteError, PaginationError
from ..models import Chat, ChatPage

T = TypeVar("T")

# Rounds in which all pages are fetched, since chats come and go meanwhile. After these something else is wrong.
_MAX_ROUNDS = 4
# Chats of a full page, as far as seen. Where a server's pages have another length, it costs one more round trip.
CHATS_PER_PAGE = 100
# Pages that `list_chats` requests ahead of its consumer.
_AHEAD = 8
# Most pages requested at once when only a chat count, which may be wrong, says that they exist.
_AT_ONCE = 64

decode_chats = row_decoder(ChatPage, "chats", msgspec.json.Decoder(Chat).decode)


class ChatHead(Protocol):
    """What fetching all pages needs to know of a chat."""

    @property
    def id(self) -> str:
        """The chat's id."""
        ...

    @property
    def timestamp(self) -> float:
        """When the chat was sent."""
        ...


class AnyChatPage(Protocol):
    """What fetching all pages needs to know of a page of chats, however it was decoded."""

    @property
    def chats(self) -> Sequence[ChatHead]:
        """The page's chats."""
        ...

    @property
    def total_count(self) -> int:
        """How many chats the conversation has."""
        ...


PageT = TypeVar("PageT", bound=AnyChatPage)


@dataclass(frozen=True, slots=True)
class Chats(Generic[PageT]):
    """All chats of a conversation.

    Attributes:
        pages: The pages that were fetched.
        tail: How many of the embedded chats, the newest ones, follow the pages.
    """

    pages: list[PageT]
    tail: int = 0

    @property
    def ids(self) -> list[str]:
        """The ids of the chats on the pages."""
        return [chat.id for page in self.pages for chat in page.chats]


@dataclass(frozen=True, slots=True)
class EmbeddedChats:
    """The chats that came embedded with a conversation.

    Attributes:
        chats: The chats, oldest first.
        refetch: Fetches the conversation once more, and returns the ids of its embedded chats and its chat count.
    """

    chats: Sequence[ChatHead] = ()
    refetch: Callable[[], Awaitable[tuple[list[str], int]]] | None = None


async def fetch_chats(session: Session, conversation_id: str, decode: Callable[[bytes], T], page_no: int) -> T:
    """Fetch one page of a conversation's chats; the first has number 1."""
    path = wire.conversation_path(conversation_id, "chats")
    # The first page is the default, asked for by its number all the same: a default can change.
    return await session.request(Request("listConversationChats", "GET", path, f"pageNo={page_no}"), decode)


async def walk_chats(
    fetch: Callable[[int], Awaitable[PageT]], conversation_id: str
) -> AsyncGenerator[PageT, None]:
    """Yield the pages in order; pages after the first are requested ahead. Breaking out leaves no task running.

    They end once they have shown as many chats as the largest total count, or at an empty page, whatever its
    count. A chat that is on two pages, because others came or went meanwhile, is left out of the later one.

    Raises:
        PaginationError: A later page is the first one again.
    """
    started = time.monotonic()
    page = first = await fetch(1)
    seen: set[str] = set()
    yield _without_seen(first, seen)
    first_ids = [chat.id for chat in first.chats]
    number, total = 1, first.total_count
    ahead: deque[asyncio.Task[PageT]] = deque()
    try:
        while page.chats and (ahead or len(seen) != total):
            # The length of the first page says how many pages there are. Where later pages are shorter, one more
            # page at a time is requested after these.
            last = max(-(-total // len(first.chats)), number if ahead else number + 1)
            while number < last and len(ahead) < _AHEAD:
                number += 1
                ahead.append(asyncio.create_task(_fetch_page(fetch, number)))
            page = await ahead[0]
            ahead.popleft()
            if page.chats and [chat.id for chat in page.chats] == first_ids:
                error = PaginationError("the pages of chats do not end: a later page is the first one again")
                raise _located(error, conversation_id, number, time.monotonic() - started)
            yield _without_seen(page, seen)
            total = max(total, page.total_count)
    finally:
        await cancel_all(*ahead)


def _without_seen(page: PageT, seen: set[str]) -> PageT:
    """The page without chats that were seen before; the ids of its chats are added to `seen`."""
    fresh = []
    for chat in page.chats:
        if chat.id not in seen:
            seen.add(chat.id)
            fresh.append(chat)
    if len(fresh) == len(page.chats):
        return page
    without: Any = copy.copy(page)
    msgspec.structs.force_setattr(without, "chats", fresh)
    return cast("PageT", without)


def page_count(first: AnyChatPage, rest: int = 0) -> int:
    """The number of pages that hold all chats but the last `rest`, if full pages are as long as the first."""
    return max(1, -(-(first.total_count - rest) // len(first.chats))) if first.chats else 1


async def all_chats(
    fetch: Callable[[int], Awaitable[PageT]],
    conversation_id: str,
    expected: int = 0,
    shown: EmbeddedChats = EmbeddedChats(),
) -> Chats[PageT]:
    """Fetch all chats of a conversation, its pages concurrently, and prove that they belong together.

    Every page must have the same `total_count`, no chat may come twice, and the number of chats must be that
    count; otherwise a chat was added or deleted between two pages, and the pages are fetched again. If a round
    begins with exactly the chats of the round before, chats were only added. Then it is enough that the number of
    chats is the count on the last page, however fast chats are added.

    The pages must hold the chats that came embedded with the conversation: a replica may lag behind, or an answer
    may be empty once. Embedded chats that still exist and follow the pages without a gap are joined to them.

    Args:
        fetch: Fetches the page with a number, from 1.
        conversation_id: The conversation's id, for the error.
        expected: Number of chats, where it is known: the pages for this number are requested at once, except
            those whose chats came embedded. 0 where it is not known.
        shown: The chats that came with the conversation.

    Raises:
        IncompleteError: The pages did not add up in several rounds.
    """
    started = time.monotonic()
    before: list[str] | None = None
    why = ""
    for _ in range(_MAX_ROUNDS):
        chats, ids, adds_up = await _round(fetch, expected, shown.chats if expected else (), before)
        if not adds_up:
            why = _difference(chats, ids)
        elif (complete := await _with_shown(chats, ids, shown)) is not None:
            return complete
        else:
            why = "they lack chats that the conversation itself shows"
        before, expected = ids, 0
    error = IncompleteError(f"the chats of conversation {conversation_id!a} do not add up: {why}")
    raise _located(error, conversation_id, _MAX_ROUNDS, time.monotonic() - started)


def _located(error: AlliError, conversation_id: str, requests: int, seconds: float) -> AlliError:
    """The error, with the list of chats that was asked for, how often, and for how long."""
    error.locate("GET", wire.conversation_path(conversation_id, "chats"), requests, seconds)
    return error


async def _round(
    fetch: Callable[[int], Awaitable[PageT]], expected: int, embedded: Sequence[ChatHead], before: list[str] | None
) -> tuple[Chats[PageT], list[str], bool]:
    """Fetch the pages that the embedded chats do not cover.

    If the embedded chats do not follow these pages, the remaining pages are fetched too.

    Returns:
        The chats, the ids of the chats on pages, and whether the pages add up.
    """
    pages = await _pages(fetch, 1, -(-(expected - len(embedded)) // CHATS_PER_PAGE))
    for rest in (len(embedded), 0):
        if (last := page_count(pages[0], rest)) > len(pages):
            pages += await _pages(fetch, len(pages) + 1, last)
        chats = Chats(pages, _tail(pages, embedded))
        ids = chats.ids
        if adds_up := _adds_up(chats, ids, before):
            break
    return chats, ids, adds_up


def _adds_up(chats: Chats[PageT], ids: list[str], before: list[str] | None) -> bool:
    totals = {page.total_count for page in chats.pages}
    has_grown = before is not None and ids[: len(before)] == before and chats.pages[-1].total_count == len(ids)
    return (has_grown or totals == {len(ids) + chats.tail}) and len(set(ids)) == len(ids)


def _difference(chats: Chats[PageT], ids: list[str]) -> str:
    totals = sorted({page.total_count for page in chats.pages})
    return f"totalCount {totals}, {len(ids)} received, {len(set(ids))} of them distinct"


async def _with_shown(chats: Chats[PageT], ids: list[str], shown: EmbeddedChats) -> Chats[PageT] | None:
    """The chats of the pages with the embedded ones that they lack; None where these cannot be joined."""
    if chats.tail or not shown.chats:
        return chats
    shown_ids = [chat.id for chat in shown.chats]
    if ids[-len(shown_ids) :] == shown_ids:
        return chats
    fetched = set(ids)
    missing = [each for each in shown_ids if each not in fetched]
    if not missing:
        return chats
    if shown.refetch is None:
        return None
    still_shown, count = await shown.refetch()
    if not set(missing) & set(still_shown):
        return chats  # the missing chats were deleted meanwhile
    if missing != shown_ids[-len(missing) :] or not set(missing) <= set(still_shown):
        return None
    overlap = shown_ids[: -len(missing)]
    follows = bool(overlap) and ids[-len(overlap) :] == overlap
    # Without a chat that both show, the chat count must prove that no chat lies between pages and embedded chats.
    last = chats.pages[-1].chats[-1].timestamp if ids else -math.inf
    is_all = not overlap and count == len(ids) + len(missing) and last <= shown.chats[0].timestamp
    return Chats(chats.pages, len(missing)) if follows or is_all else None


async def _pages(fetch: Callable[[int], Awaitable[PageT]], first: int, last: int) -> list[PageT]:
    """Fetch the pages from one number to another at once, or up to an empty page, should `last` be too high."""
    if first >= last:
        return [await fetch(first)]
    pages: list[PageT] = []
    while first <= last and (not pages or pages[-1].chats):
        end = min(last, first + _AT_ONCE - 1)
        pages += await concurrently([_fetch_page(fetch, number) for number in range(first, end + 1)])
        first = end + 1
    return pages


def _tail(pages: Sequence[AnyChatPage], embedded: Sequence[ChatHead]) -> int:
    """How many embedded chats follow the pages without a gap and make them complete; 0 where they do not."""
    missing = pages[0].total_count - sum(len(page.chats) for page in pages)
    if not 0 < missing <= len(embedded) or not pages[-1].chats:
        return 0
    overlap = [chat.id for chat in embedded[: len(embedded) - missing]]
    tail = embedded[len(embedded) - missing :]
    before = [chat for page in pages for chat in page.chats]
    known = {chat.id for chat in before}
    is_seamless = (
        [chat.id for chat in before[len(before) - len(overlap) :]] == overlap
        and before[-1].timestamp <= tail[0].timestamp
        and known.isdisjoint(chat.id for chat in tail)
        and len({chat.id for chat in tail}) == len(tail)
    )
    return missing if is_seamless else 0


async def _fetch_page(fetch: Callable[[int], Awaitable[T]], number: int) -> T:
    # A task needs a coroutine, and `fetch` may return any awaitable.
    return await fetch(number)
