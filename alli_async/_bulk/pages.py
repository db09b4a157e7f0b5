"""Pages: the cursor walk over conversations, and the ways a user walks pages."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from .._transport import wire
from .._transport.filters import Filters
from .._transport.session import Session
from .._transport.wire import Request
from ..errors import AlliError, PaginationError
from ..models import Chat, ChatPage, Conversation, ConversationPage, Order, in_milliseconds

T = TypeVar("T")
PageT = TypeVar("PageT")
ItemT = TypeVar("ItemT")

MAX_PAGE_SIZE = 50
# A backend that filters behind its cursor may give some empty pages in a row; one that never ends, only these.
_MAX_EMPTY_PAGES = 1000

decode_conversations = wire.decoder(ConversationPage)


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


ListedT = TypeVar("ListedT", bound=Listed)


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
