"""Pages of conversations: one request for a page, and the three ways in which a user walks a list."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Generic, NoReturn, Protocol, TypeVar

import msgspec

from .._transport import wire
from .._transport.decoding import row_decoder
from .._transport.session import Session
from .._transport.wire import Request
from ..errors import AlliError, BadRequestError, ConfigurationError, PaginationError
from ..models import Chat, ChatPage, Conversation, ConversationPage, Order
from .bounds import TimeBounds
from .filters import Filters

T = TypeVar("T")
PageT = TypeVar("PageT")
ItemT = TypeVar("ItemT")

MAX_PAGE_SIZE = 50
# Empty pages in a row after which a list counts as endless. A backend that filters after it has cut a page may
# send some; the bound is far above the number that a filter over a million rows in pages of 50 causes in practice.
_MAX_EMPTY_PAGES = 1000
# Times that the same page may come again before the list counts as endless. A list that moves while it is walked
# repeats a whole page by chance at most once.
_MAX_SAME_PAGES = 3
# Rows by whose times the server's unit is learnt: one of them may be nonsense, but not most of them.
_UNIT_ROWS = 10

decode_conversations = row_decoder(ConversationPage, "conversations", msgspec.json.Decoder(Conversation).decode)


def check_page_size(page_size: int) -> None:
    """Refuse a page size that the server does not serve.

    Raises:
        ConfigurationError: The page size is not a whole number from 1 to 50.
    """
    if isinstance(page_size, bool) or not isinstance(page_size, int) or not 1 <= page_size <= MAX_PAGE_SIZE:
        raise ConfigurationError(
            f"page_size: expected a whole number from 1 to {MAX_PAGE_SIZE}, got {page_size!r}"
        )


class Row(Protocol):
    """What a reader of lists needs to know of a conversation, however it was decoded."""

    @property
    def id(self) -> str:
        """The conversation's id."""
        ...

    @property
    def created_at(self) -> float:
        """When the conversation was opened, in the server's unit: at or before its first chat."""
        ...

    @property
    def last_chat_time(self) -> float | None:
        """The time of its last chat; None when it has no chats, and in some old rows."""
        ...

    @property
    def chat_count(self) -> int:
        """Number of its chats, by the server's count."""
        ...

    @property
    def chats(self) -> Sequence[Any]:
        """The chats that came embedded with it."""
        ...


class Pages(Generic[PageT, ItemT]):
    """A list to walk in one of three ways.

    `async for item in pages` yields items, `async for page in pages.pages()` yields pages, and `await pages`
    returns the first page. No request is sent before; each walk starts anew.
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

    An error in the middle of a walk carries `.cursor`, from which `list(cursor=…)` goes on.
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
    margin: float | None = None,
) -> T:
    """Fetch one page of a list.

    Where a server refuses the fractions of a datetime, it is asked again, and from then on, for whole numbers.

    Args:
        session: The session that sends the request.
        filters: The filters.
        decode: Decodes the answer.
        cursor: The page's cursor; None for the first.
        page_size: Number of rows to ask for.
        order: The order; None for the server's own.
        margin: Seconds by which the bounds that the user set are sent wider; None for exact bounds.

    Raises:
        AlliError: With `.cursor`, from which another walk goes on.
    """
    session = session.bounded()
    tenant, is_in_ms = session.tenant, filters.needs_unit and await server_units_per_second(session) != 1
    rest = [("pageSize", str(page_size))]
    if order is not None:
        rest.append(("order", order.value))
    if cursor is not None:
        rest.append(("cursor", cursor))
    if margin is None and tenant.takes_whole_numbers:
        margin = 0.0
    bounds = filters.query(milliseconds=is_in_ms, margin=margin)
    try:
        try:
            return await session.request(_list_request(bounds + rest), decode)
        except BadRequestError:
            whole = filters.query(milliseconds=is_in_ms, margin=0.0)
            if margin is not None or whole == bounds:
                raise
        page = await session.request(_list_request(whole + rest), decode)
    except AlliError as error:
        error.cursor = cursor
        raise
    tenant.takes_whole_numbers = True
    return page


def _list_request(pairs: list[tuple[str, str]]) -> Request:
    # The pages of a list are sequential, and other requests wait for them: they go before requests for chats.
    return Request("listConversations", "GET", wire.CONVERSATIONS, wire.query(pairs), urgent=True)


async def user_bounds(session: Session, filters: Filters) -> TimeBounds | None:
    """The bounds on times that the user set, in the server's unit; None where there are none."""
    return filters.user_bounds(await server_units_per_second(session) if filters.needs_unit else None)


async def server_units_per_second(session: Session) -> float | None:
    """Units of the server's timestamps in one second: 1 (seconds) or 1000 (milliseconds).

    They are learnt from the server's own values, once per base URL and key. None where there are no conversations,
    or none with a date; then no unit could select anything wrongly.
    """
    tenant = session.tenant
    if tenant.units_per_second is None:
        page = await fetch_conversations(
            session, Filters(), decode_conversations, cursor=None, page_size=_UNIT_ROWS, order=None
        )
        tenant.units_per_second = units_per_second_in(page.conversations)
    return tenant.units_per_second


def units_per_second_in(rows: Iterable[Row]) -> float | None:
    """Units in one second of most times in rows: 1 (seconds) or 1000 (milliseconds); None when there is no date.

    Seconds lie between 1e8 and 1e11 (1973 to 5138), milliseconds between 1e11 and 1e14. Other numbers are no
    dates.
    """
    numbers = [number for row in rows for number in (row.created_at, row.last_chat_time) if number is not None]
    votes = Counter(1.0 if number < 1e11 else 1000.0 for number in numbers if 1e8 < number < 1e14)
    return votes.most_common(1)[0][0] if votes else None


async def walk_list(
    fetch: Callable[[str | None], Awaitable[ConversationPage]], cursor: str | None = None
) -> AsyncGenerator[ConversationPage, None]:
    """Follow the cursors to the end, and yield the server's pages as they are.

    Args:
        fetch: Fetches the page at a cursor.
        cursor: The cursor to start with; None for the start of the list.

    Raises:
        PaginationError: The list does not end: a cursor or a page comes again, or pages stay empty.
    """
    guard = EndlessGuard()
    while True:
        page = await fetch(cursor)
        yield page
        if not page.cursor:
            return
        guard.check(cursor, page.cursor, [row.id for row in page.conversations])
        cursor = page.cursor


class EndlessGuard:
    """Notices a list that never ends: a cycle of cursors or of pages of any length, in constant memory.

    Each cursor and page is compared with one that is kept, and replaced after 1, 2, 4, 8, … pages (Brent's
    method).
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._pages = self._empty = self._same = 0
        self._kept: tuple[str | None, list[str]] | None = None
        self._renew = 1

    def check(self, cursor: str | None, next_cursor: str, ids: list[str]) -> None:
        """Check one more page.

        Args:
            cursor: The cursor of the page.
            next_cursor: The cursor of the next page.
            ids: The ids of the page's rows.

        Raises:
            PaginationError: The list does not end.
        """
        self._pages += 1
        self._empty = 0 if ids else self._empty + 1
        kept_cursor, kept_ids = self._kept or (None, None)
        if next_cursor in (cursor, kept_cursor):
            self._fail("a cursor came again", cursor)
        if ids and ids == kept_ids:
            self._same += 1
        if self._same >= _MAX_SAME_PAGES:
            self._fail("the same page came again and again, with ever new cursors", cursor)
        if self._empty >= _MAX_EMPTY_PAGES:
            self._fail(f"{self._empty} empty pages in a row", cursor)
        if self._pages == self._renew:
            self._kept, self._renew, self._same = (next_cursor, ids), self._renew * 2, 0

    def _fail(self, why: str, cursor: str | None) -> NoReturn:
        error = PaginationError(f"the list does not end: {why} after {self._pages} pages")
        error.locate("GET", wire.CONVERSATIONS, self._pages, time.monotonic() - self._started)
        error.cursor = cursor
        raise error
