"""One list of conversations, a page at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from .._transport.filters import Filters
from .._transport.session import Session
from ..errors import ResponseTooLargeError
from ..models import Order
from .overlap import overlapping
from .pages import MAX_PAGE_SIZE, Listed, fetch_conversations


class Listing:
    """A list of the server's.

    Args:
        session: Where the requests go.
        filters: What is asked for.
        decode: Of a page.
    """

    def __init__(self, session: Session, filters: Filters, decode: Callable[[bytes], Listed]) -> None:
        self.session = session
        self.filters = filters
        self._decode = decode
        self._page_size = MAX_PAGE_SIZE

    async def page(
        self,
        *,
        order: Order,
        cursor: str | None = None,
        filters: Filters | None = None,
        page_size: int = MAX_PAGE_SIZE,
    ) -> Any:
        """One page of the list, or of a part of it; a smaller one where pages are too large to be taken.

        Where conversations can leave the list, those that this moved before a page come with it.
        """

        async def fetch(at: str | None) -> Any:
            return await self._fetch(order, at, filters or self.filters, page_size)

        return await (overlapping(fetch, cursor) if self.filters.on_what_changes else fetch(cursor))

    async def _fetch(self, order: Order, cursor: str | None, filters: Filters, page_size: int) -> Any:
        while True:
            size = min(page_size, self._page_size)
            try:
                return await fetch_conversations(
                    self.session, filters, self._decode, cursor=cursor, page_size=size, order=order
                )
            except ResponseTooLargeError:
                if size == 1:
                    raise
                self._page_size = min(self._page_size, size // 2)

    def fetch(self, order: Order, filters: Filters | None = None) -> Callable[[str | None], Awaitable[Any]]:
        """A function from a cursor to its page."""
        return lambda cursor: self.page(order=order, cursor=cursor, filters=filters)
