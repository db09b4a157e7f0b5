"""Lists whose cursors never come to an end, and lists that end in each of the ways that servers have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support import answer, conversation
from tests.support.replies import list_page, replying
from tests.support.servers import fact


def page(numbers: Any, cursor: object) -> bytes:
    return list_page([f"c{n}" for n in numbers], cursor)


def up_to(last: int, number: int) -> int | None:
    return number + 1 if number < last else None


Place = Callable[[int], bytes]


def serving(place: Place, *, start: int = 0) -> Any:
    """The page at each cursor, where cursors are numbers and the list begins at `start`."""
    return replying(lambda path, query: place(int(query.get("cursor", start))))


AGAIN = "a cursor came again"
ENDLESS = [
    fact("a page that names itself", lambda n: page([n], n), 2, AGAIN),
    fact("a cycle of two", lambda n: page([n], (n + 1) % 2), 8, AGAIN),
    fact("a cycle of three", lambda n: page([n], (n + 1) % 3), 11, AGAIN),
    fact("a cycle of three after ten pages", lambda n: page([n], n + 1 if n < 12 else 10), 40, AGAIN),
    fact("a cycle of a hundred", lambda n: page([n], (n + 1) % 100), 400, AGAIN),
    fact("a cycle of empty pages", lambda n: page([], (n + 1) % 3), 11, AGAIN),
    fact("empty pages for ever", lambda n: page([], n + 1), 1000, "1000 empty pages"),
    fact("ten rows, then no more", lambda n: page([n] if n < 10 else [], n + 1), 1010, "1000 empty pages"),
]

NO_CURSOR = answer(200, {"conversations": [conversation()]})
ENDING = [
    fact("null", lambda n: page([n], up_to(4, n)), 5),
    fact("an empty cursor", lambda n: page([n], n + 1) if n < 4 else page([n], 7).replace(b'"7"', b' ""'), 5),
    fact("no cursor", lambda n: page([n], n + 1) if n < 4 else NO_CURSOR, 5),
    fact("an empty page and null", lambda n: page([n] if n < 5 else [], up_to(5, n)), 5),
    fact("nothing at all", lambda n: page([], None), 0),
    fact("null, after an empty page in the middle", lambda n: page([n] if n != 2 else [], up_to(5, n)), 5),
    fact("null, after 999 empty pages", lambda n: page([n] if n in (0, 1000) else [], up_to(1000, n)), 2),
    fact("null, after pages larger than asked for", lambda n: page(range(n * 60, n * 60 + 60), up_to(2, n)), 180),
]
