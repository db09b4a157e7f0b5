"""One list of conversations, a page at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from .._transport.filters import Filters
from .._transport.session import Session
from ..errors import ResponseTooLargeError
from ..models import Order
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
        """One page of the list, or of a part of it; a smaller one where pages are too large to be taken."""
        while True:
            size = min(page_size, self._page_size)
            try:
                return await fetch_conversations(
                    self.session,
                    filters or self.filters,
                    self._decode,
                    cursor=cursor,
                    page_size=size,
                    order=order,
                )
            except ResponseTooLargeError:
                if size == 1:
                    raise
                self._page_size = min(self._page_size, size // 2)

    def fetch(self, order: Order, filters: Filters | None = None) -> Callable[[str | None], Awaitable[Any]]:
        """A function from a cursor to its page."""
        return lambda cursor: self.page(order=order, cursor=cursor, filters=filters)
