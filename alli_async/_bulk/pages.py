"""Pages: the cursor walk over conversations, and the fan-out over a conversation's chats."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from .._transport import wire
from .._transport.filters import Filters
from .._transport.session import Session
from .._transport.wire import Request
from ..errors import AlliError, IncompleteError, PaginationError
from ..models import Chat, ChatPage, Conversation, ConversationPage, Order, in_milliseconds

T = TypeVar("T")
PageT = TypeVar("PageT")
ItemT = TypeVar("ItemT")

MAX_PAGE_SIZE = 50
# A backend that filters behind its cursor may give some empty pages in a row; one that never ends, only these.
_MAX_EMPTY_PAGES = 1000
# Chats come and go while their pages are fetched; more often than this in a row, something else is wrong.
_MAX_ROUNDS = 4
# Chats come in pages of so many, as far as seen; where they do not, it costs a round trip more.
CHATS_PER_PAGE = 100
# How many chat pages `list_chats` asks for ahead of the reader; and how many at once are asked for on the word of
# a count, which can be a lie.
_AHEAD, _AT_ONCE = 8, 64

decode_conversations = wire.decoder(ConversationPage)
decode_chats = wire.decoder(ChatPage)


class Row(Protocol):
    """What a walk needs to know of a conversation."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    @property
    def created_at(self) -> float:
        """When it was created."""
        ...

    @property
    def last_chat_time(self) -> float | None:
        """When its last chat was; None when it has none."""
        ...


class Listed(Protocol):
    """What a walk needs to know of a page of conversations, however it was decoded."""

    @property
    def conversations(self) -> Sequence[Any]:
        """The page's conversations."""
        ...

    @property
    def cursor(self) -> str | None:
        """Where the next page is; None on the last."""
        ...


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


ListedT = TypeVar("ListedT", bound=Listed)
ChattedT = TypeVar("ChattedT", bound=Chatted)


class Pages(Generic[PageT, ItemT]):
    """A list to walk in one of three ways.

    `async for item in pages` gives items, `async for page in pages.pages()` gives pages, and `await pages` the
    first page. Nothing is sent before; each walk starts anew.
    """

    def __init__(
        self, walk: Callable[[], AsyncGenerator[PageT, None]], items: Callable[[PageT], Sequence[ItemT]]
    ) -> None:
        self._walk = walk
        self._items = items

    async def __aiter__(self) -> AsyncIterator[ItemT]:
        async with aclosing(self._walk()) as pages:
            async for page in pages:
                for item in self._items(page):
                    yield item

    def pages(self) -> AsyncGenerator[PageT, None]:
        """Walk page by page."""
        return self._walk()

    def __await__(self) -> Generator[Any, None, PageT]:
        return self._first().__await__()

    async def _first(self) -> PageT:
        async with aclosing(self._walk()) as pages:
            return await anext(pages)


class ConversationPages(Pages[ConversationPage, Conversation]):
    """The conversations that `list` found.

    An error in mid-walk carries `.cursor`, from which `list(cursor=…)` goes on.
    """


class ChatPages(Pages[ChatPage, Chat]):
    """A conversation's chats, oldest first. Pages after the first are fetched concurrently."""


# --- conversations ----------------------------------------------------------------------------------------


async def fetch_conversations(
    session: Session,
    filters: Filters,
    decode: Callable[[bytes], T],
    *,
    cursor: str | None,
    page_size: int,
    order: Order | None,
) -> T:
    """One page of a list.

    Raises:
        AlliError: With `.cursor`, from which another walk goes on.
    """
    milliseconds = await _learn_unit(session) if filters.needs_unit else True
    pairs = filters.query(milliseconds=milliseconds)
    pairs.append(("pageSize", str(page_size)))
    if order is not None:
        pairs.append(("order", order.value))
    if cursor is not None:
        pairs.append(("cursor", cursor))
    # A list is sequential, and what it holds can wait: were it to queue behind chats, nothing would be ahead.
    request = Request("listConversations", "GET", wire.CONVERSATIONS, wire.query(pairs), urgent=True)
    try:
        return await session.request(request, decode)
    except AlliError as error:
        error.cursor = cursor
        raise


async def _learn_unit(session: Session) -> bool:
    """Whether the server counts milliseconds, by its own values; asked once per client.

    Where there is no conversation at all there is nothing that either unit could miss.
    """
    connection = session.connection
    if connection.milliseconds is None:
        page = await fetch_conversations(
            session, Filters(()), decode_conversations, cursor=None, page_size=1, order=None
        )
        # Below, a number is no date of a conversation's (a zero, say) and teaches nothing.
        numbers = [number for each in page.conversations for number in (each.created_at, each.last_chat_time)]
        dates = [number for number in numbers if number is not None and number > 1e8]
        if not dates:
            return True
        connection.milliseconds = in_milliseconds(dates[0])
    return connection.milliseconds


async def epoch_number(session: Session, value: str | datetime) -> float:
    """A time filter's value as a number in the server's unit."""
    if isinstance(value, str):
        return float(value)
    return float(wire.epoch_text(value, milliseconds=await _learn_unit(session)))


async def walk(
    fetch: Callable[[str | None], Awaitable[ListedT]], cursor: str | None = None
) -> AsyncGenerator[ListedT, None]:
    """Follow the cursors to the end.

    Args:
        fetch: Gives the page at a cursor.
        cursor: Where to begin.

    Raises:
        PaginationError: A cursor came again, or pages stayed empty.
    """
    started = time.monotonic()
    pages = empty = 0
    # A cycle of any length, in no memory: the cursor is held against one that is renewed at powers of two.
    kept, renew = cursor, 1
    while True:
        page = await fetch(cursor)
        pages += 1
        empty = 0 if page.conversations else empty + 1
        yield page
        if not page.cursor:
            return
        if page.cursor in (cursor, kept):
            _endless("a cursor came again", cursor, pages, started)
        if empty >= _MAX_EMPTY_PAGES:
            _endless(f"{empty} empty pages in a row", cursor, pages, started)
        cursor = page.cursor
        if pages == renew:
            kept, renew = cursor, renew * 2


async def after(first: Any, fetch: Callable[[str | None], Awaitable[Any]]) -> AsyncGenerator[Any, None]:
    """A page that is there already, and those that follow it."""
    yield first
    if first.cursor:
        async with aclosing(walk(fetch, first.cursor)) as pages:
            async for page in pages:
                yield page


def _endless(why: str, cursor: str | None, pages: int, started: float) -> NoReturn:
    error = PaginationError(f"the list does not end: {why} after {pages} pages")
    error.locate("GET", wire.CONVERSATIONS, pages, time.monotonic() - started)
    error.cursor = cursor
    raise error


# --- chats ------------------------------------------------------------------------------------------------


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
    else a chat was added or deleted between two pages, and they are fetched again.

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
    for _ in range(_MAX_ROUNDS):
        pages = await _pages(fetch, 1, -(-(expected - len(embedded)) // CHATS_PER_PAGE))
        for rest in (len(embedded), 0):
            if (last := page_count(pages[0], rest)) > len(pages):
                pages += await _pages(fetch, len(pages) + 1, last)
            tail = _tail(pages, embedded)
            totals = {page.total_count for page in pages}
            ids = [chat.id for page in pages for chat in page.chats]
            if totals == {len(ids) + tail} and len(set(ids)) == len(ids):
                return Chats(pages, tail)
        expected, embedded = 0, ()
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


# --- tasks ------------------------------------------------------------------------------------------------


async def concurrently(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, in order; the first error ends the others and is raised by itself."""
    try:
        async with asyncio.TaskGroup() as group:  # a child costs 3 µs; anyio's 20
            tasks = [group.create_task(call) for call in calls]
    except BaseExceptionGroup as failures:
        error = first_error(failures)
    else:
        return [task.result() for task in tasks]
    raise error


def first_error(failures: BaseExceptionGroup) -> BaseException:
    """The error that began it."""
    error: BaseException = failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _coroutine(fetch: Callable[[int], Awaitable[T]], number: int) -> T:
    return await fetch(number)
