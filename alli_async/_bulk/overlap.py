"""Pages that overlap: where rows leave a list, a cursor that is an offset passes over as many others.

A filter on what can change (that a conversation has not ended, say) makes a list that conversations leave while it
is walked. Those behind move up, and as many of them are never seen. So a page is asked for from a few rows before
its cursor: where it begins with one of the page before it, nothing lies between the two.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from ..errors import BadRequestError
from .offsets import earlier_by
from .pages import MAX_PAGE_SIZE

# So many rows are asked for again: a page costs that much more, and as many may leave before it costs requests.
_ROWS = 3
# A list that changes more in a row than that is walked as the server has it.
_MAX_ROUNDS = 8

Fetch = Callable[[str | None], Awaitable[Any]]


class Part(NamedTuple):
    """A page, without what the one before it held.

    Attributes:
        conversations: Its rows.
        cursor: Where the next page is; None on the last.
    """

    conversations: Sequence[Any]
    cursor: str | None


class _Cursor(str):
    """A cursor that is an offset, and the page before it.

    Attributes:
        ids: Of that page's rows.
        earlier: Gives the cursor so many rows before it; None for the list's beginning.
    """

    __slots__ = ("earlier", "ids")

    ids: frozenset[str]
    earlier: Callable[[int], str | None]


async def overlapping(fetch: Fetch, cursor: str | None) -> Part:
    """The page at a cursor, and with it whatever has moved before it.

    Args:
        fetch: Gives the server's page at a cursor.
        cursor: Of a page that this gave; any other is taken as it is.
    """
    if not isinstance(cursor, _Cursor):
        page = await fetch(cursor)
        return Part(page.conversations, _marked(cursor, page))
    rows: dict[str, Any] = {}
    known = set(cursor.ids)

    def new(page: Any) -> None:
        rows.update((row.id, row) for row in page.conversations if row.id not in known)

    def touches(page: Any) -> bool:
        return any(row.id in known for row in page.conversations)

    for number in range(_MAX_ROUNDS):
        # Where more leave than that, the next ones may be as many.
        at, page = await _before(fetch, cursor, min(_ROWS << number, MAX_PAGE_SIZE - 1))
        if page is None:
            # It does not take what it did not give, or the list ends before.
            with contextlib.suppress(BadRequestError):
                page = await fetch(str(cursor))
                break
        elif page.conversations and page.conversations[0].id in known:
            new(page)
            return Part(list(rows.values()), _marked(at, page))
        step = MAX_PAGE_SIZE
        while page is None or not touches(page):
            at, page = await _before(fetch, cursor, step)
            if at is None:
                break
            step *= 2
        new(page)
        known.update(row.id for row in page.conversations)
        following = _marked(at, page)
        if not isinstance(following, _Cursor):
            return Part(list(rows.values()), following)
        cursor = following
    else:
        page = await fetch(str(cursor))
    new(page)
    return Part(list(rows.values()), page.cursor)


async def _before(fetch: Fetch, cursor: _Cursor, rows: int) -> tuple[str | None, Any]:
    """The page so many rows before a cursor, which is given with it; None where the server refuses that."""
    at = cursor.earlier(rows)
    try:
        return at, await fetch(at)
    except BadRequestError:
        if at is None:
            raise
        return at, None


def _marked(at: str | None, page: Any) -> str | None:
    """The cursor of the page at another one, with what has to be known of it; as it is where it is no offset."""
    earlier = earlier_by(at, page.cursor, len(page.conversations)) if page.cursor and page.conversations else None
    if earlier is None:
        return page.cursor  # type: ignore[no-any-return]
    marked = _Cursor(page.cursor)
    marked.ids, marked.earlier = frozenset(row.id for row in page.conversations), earlier
    return marked
