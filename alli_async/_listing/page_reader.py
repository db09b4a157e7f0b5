"""One page of a list for a reader: a row that cannot be decoded or fetched is isolated from the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec import Raw, Struct

from .._transport.decoding import RowDecoder
from .._transport.session import Session
from ..errors import (
    AlliConnectionError,
    AlliError,
    AlliTimeoutError,
    APIError,
    DecodeError,
    ResponseTooLargeError,
    ServerError,
)
from ..models import Order, Skipped
from .bounds import MARGIN
from .filters import Filters
from .pages import MAX_PAGE_SIZE, Row, fetch_conversations

RowT = TypeVar("RowT", bound=Row)
T = TypeVar("T")

# Rows to ask for when a larger page cannot be read, before its rows are requested one by one.
_SMALLER = 10
# Attempts at a page before its rows are asked for in other pages, which are further attempts at these rows.
_PAGE_ATTEMPTS = 2
# By how much backoffs are shorter where the server is known to be well, because it has just served another page:
# at the first row that cannot be listed, and once such a row is known, which a reading meets again and again.
_HASTE, _MORE_HASTE = 3, 10
# Consecutive rows that cannot be listed after which the server is at fault, not the rows.
MAX_BAD_ROWS = 10


@dataclass(frozen=True, slots=True, eq=False)
class BadRow:
    """A row that could not be decoded, or not be listed at all; it keeps its place among the rows of a page.

    Attributes:
        id: The conversation's id where it could be decoded, otherwise a text that identifies this row.
        error: Why the row could not be read.
        raw: The row as it was sent; empty when no page with it could be fetched.
        is_known: Whether `id` is the conversation's id.
        span: First chat times between which the row lies, in the server's unit, where they are known.
    """

    id: str
    error: AlliError
    raw: bytes = b""
    is_known: bool = False
    span: tuple[float, float] | None = None
    created_at: float = math.nan
    last_chat_time: float | None = None
    chat_count: int = 0
    chats: Sequence[Any] = field(default_factory=tuple)

    def within(self, span: tuple[float, float]) -> BadRow:
        """The same row, between these first chat times unless its own span is known."""
        return self if self.span is not None else replace(self, span=span)

    def is_same(self, other: BadRow) -> bool:
        """Whether two reports are about one row. Rows without id and content are one if their spans overlap."""
        if self.id == other.id or self.raw or other.raw or self.span is None or other.span is None:
            return self.id == other.id
        return self.span[0] <= other.span[1] and other.span[0] <= self.span[1]

    @property
    def skipped(self) -> Skipped:
        """The report of this row."""
        return Skipped(self.id if self.is_known else None, self.error, self.span)


ListEntry: TypeAlias = RowT | BadRow


def good_rows(entries: Iterable[ListEntry[RowT]]) -> list[RowT]:
    """The rows among entries that were listed and decoded."""
    return [entry for entry in entries if not isinstance(entry, BadRow)]


@dataclass(frozen=True, slots=True)
class Page(Generic[RowT]):
    """A page of a list.

    Attributes:
        entries: The rows, in the server's order; a BadRow stands for a row that could not be read.
        cursor: The cursor of the next page; None on the last.
    """

    entries: Sequence[ListEntry[RowT]]
    cursor: str | None


class ListPage(Protocol):
    """A decoded answer to a request for a list."""

    @property
    def conversations(self) -> Sequence[Any]:
        """The rows, in the server's order."""
        ...

    @property
    def cursor(self) -> str | None:
        """The cursor of the next page; None on the last."""
        ...


class PageFaultError(Exception):
    """A page cannot be read because of a row on it, or because of its size; the server is well.

    Attributes:
        error: Why the page cannot be read.
    """

    def __init__(self, error: AlliError) -> None:
        super().__init__(str(error))
        self.error = error


class PageReader(Generic[RowT]):
    """Fetches pages of one list.

    Once the server could not make a page but could make a smaller one (its gateway timed out at 50 rows, or the
    answer was over the limit on bytes), it is only asked for smaller ones.

    Args:
        session: The session that sends the requests.
        filters: The filters of the list.
        decode: Decodes the body of a page.
        size: The number of rows to ask for.
    """

    def __init__(
        self,
        session: Session,
        filters: Filters,
        decode: Callable[[bytes], ListPage],
        *,
        size: int = MAX_PAGE_SIZE,
    ) -> None:
        self.session = session
        self.filters = filters
        self._decode = _isolating_bad_rows(decode)
        self.size = self._largest = size

    async def page(
        self,
        order: Order,
        cursor: str | None = None,
        filters: Filters | None = None,
        *,
        size: int | None = None,
    ) -> Page[RowT]:
        """Fetch one page, a smaller one where the server cannot make a large one.

        Args:
            order: The order of the list.
            cursor: The page's cursor; None for the first page.
            filters: Filters to use in place of the list's own.
            size: Number of rows to ask for; None for as many as the server can make.

        Raises:
            PageFaultError: This page cannot be read, though the server is well.
            AlliError: The server, the key or the request is at fault.
        """
        filters = self.filters if filters is None else filters
        attempts = _PAGE_ATTEMPTS if size is None and self.session.has_served else None
        size = min(size or self.size, self.size)
        try:
            return await self._try(order, cursor, filters, size, attempts)
        except AlliError as failure:
            error = failure
        await self._check_server(error)
        if size <= _SMALLER:
            raise PageFaultError(error)
        return await self._smaller_page(order, cursor, filters, size, error)

    async def _smaller_page(
        self, order: Order, cursor: str | None, filters: Filters, size: int, error: AlliError
    ) -> Page[RowT]:
        """Fetch a smaller page in place of one that failed with `error`."""
        try:
            smaller = await self._try(order, cursor, filters, _SMALLER, 1)
        except AlliError as failure:
            if not is_about_the_page(failure):
                raise
            raise PageFaultError(error) from None
        try:
            # The failure may have been chance.
            return await self._fetch(order, cursor, filters, size, haste=_MORE_HASTE)
        except AlliError as failure:
            if not is_about_the_page(failure):
                raise
        # The size is at fault. If it is a single row further on after all, small pages cost time, but no rows.
        self.size = min(self.size, _SMALLER)
        return smaller

    async def row(self, order: Order, cursor: str | None, filters: Filters) -> Page[RowT]:
        """Fetch a page of one row.

        Raises:
            PageFaultError: This row cannot be read, though the server is well.
            AlliError: The server, the key or the request is at fault.
        """
        try:
            return await self._fetch(order, cursor, filters, 1, haste=_HASTE)
        except AlliError as failure:
            error = failure
        await self._check_server(error)
        self.session.tenant.has_bad_rows = True
        raise PageFaultError(error)

    async def _try(
        self, order: Order, cursor: str | None, filters: Filters, size: int, attempts: int | None
    ) -> Page[RowT]:
        """Fetch a page in few attempts, if it is its rows that make them fail; else in as many as ever."""
        try:
            return await self._fetch(order, cursor, filters, size, attempts)
        except AlliConnectionError as error:
            if attempts is None or error.is_outage:
                raise
        return await self._fetch(order, cursor, filters, size)

    async def _fetch(
        self,
        order: Order,
        cursor: str | None,
        filters: Filters,
        size: int,
        attempts: int | None = None,
        *,
        haste: int = 1,
    ) -> Page[RowT]:
        session = self.session
        if attempts is not None:
            session = replace(session, most_attempts=attempts)
        haste = _MORE_HASTE if session.tenant.has_bad_rows else haste
        if haste > 1:
            policy = session.config.retry
            policy = replace(policy, base=policy.base / haste, cap=policy.cap / haste)
            session = replace(session, config=replace(session.config, retry=policy))
        return await fetch_conversations(
            session, filters, self._decode, cursor=cursor, page_size=size, order=order, margin=MARGIN
        )

    def use_single_rows(self) -> None:
        """Ask for one row at a time: the server can make no larger page."""
        self.size = 1

    def restore_size(self) -> None:
        """Ask for large pages again: a single row was at fault, not the size."""
        self.size = self._largest

    async def _check_server(self, error: AlliError) -> None:
        """Raise the error if it is not about one page: if the server serves no page of one row either.

        The first row in some orders may be the row that cannot be read, so all four orders are tried.
        """
        if not self._may_be_about_the_page(error):
            raise error
        if not isinstance(error, APIError | AlliTimeoutError):
            return
        for order in Order:
            try:
                await self._fetch(order, None, self.filters, 1, 2)
            except AlliError as failure:
                if not self._may_be_about_the_page(failure):
                    raise
            else:
                return
        raise error

    def _may_be_about_the_page(self, error: AlliError) -> bool:
        return is_about_the_page(error, has_served=self.session.has_served)


def is_about_the_page(error: AlliError, *, has_served: bool = True) -> bool:
    """Whether a row on the page may cause an error, rather than the server, the key or the request.

    Args:
        error: The error.
        has_served: Whether the server ever served a request. Before that, a row that is on all requested pages
            looks like an outage.
    """
    may_be = isinstance(error, ServerError | DecodeError | ResponseTooLargeError | AlliTimeoutError)
    return may_be and not (error.is_outage and has_served)


# --- rows that cannot be decoded --------------------------------------------------------------------------


class _RawPage(Struct, gc=False):
    conversations: list[Raw]
    cursor: Raw = Raw(b"null")


class _Identified(Struct, gc=False):
    id: str


_decode_raw_page = msgspec.json.Decoder(_RawPage).decode
_decode_id = msgspec.json.Decoder(_Identified).decode


def _isolating_bad_rows(decode: Callable[[bytes], ListPage]) -> Callable[[bytes], Page[Any]]:
    """A decoder of pages that puts a BadRow in place of each row that it cannot decode."""

    def decode_page(body: bytes) -> Page[Any]:
        try:
            page = decode(body)
        except DecodeError as error:
            if error.malformed or not error.path.startswith("$.conversations["):
                raise
        else:
            return Page(page.conversations, page.cursor or None)
        raw_page = _decode_raw_page(body)
        rows = [_decoded(decode, bytes(raw)) for raw in raw_page.conversations]
        return Page(rows, decode(page_of([], bytes(raw_page.cursor))).cursor or None)

    if isinstance(decode, RowDecoder):
        return decode.map(lambda page: Page(page.conversations, page.cursor or None), decode_page)
    return decode_page


def _decoded(decode: Callable[[bytes], ListPage], raw: bytes) -> Any:
    try:
        return decode(page_of([raw])).conversations[0]
    except DecodeError as error:
        failure = error
    try:
        return BadRow(_decode_id(raw).id, failure, raw, is_known=True)
    except msgspec.DecodeError:
        return BadRow(raw.decode("utf-8", "replace"), failure, raw)


def page_of(records: Sequence[bytes], cursor: bytes = b"null") -> bytes:
    """The body of a page of these conversations."""
    return b'{"conversations":[%b],"cursor":%b}' % (b",".join(records), cursor)
