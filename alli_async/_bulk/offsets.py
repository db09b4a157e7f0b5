"""Cursors that are offsets: opaque by contract, but a server's own cursors can show what they count."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

_Codec = Callable[[str], str]
_CODECS: tuple[tuple[_Codec, _Codec], ...] = (
    (lambda cursor: cursor, lambda text: text),
    (
        lambda cursor: b64decode(cursor, validate=True).decode("ascii"),
        lambda text: b64encode(text.encode()).decode(),
    ),
    (
        lambda cursor: urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii"),
        lambda text: urlsafe_b64encode(text.encode()).decode().rstrip("="),
    ),
)


def cursor_at(cursors: Sequence[str], rows: Sequence[int]) -> Callable[[int], str] | None:
    """A function from a number of rows to the cursor behind them; None when these cursors are no offsets.

    Args:
        cursors: What the server gave, at least two.
        rows: How many rows of the list lie before each.
    """
    for number, written in _numbers(cursors[0]):

        def make(count: int, shift: int = number - rows[0], written: Callable[[int], str] = written) -> str:
            return written(count + shift)

        # Only what gives every one of the server's own cursors back is believed.
        if len(cursors) > 1 and [make(count) for count in rows] == list(cursors):
            return make
    return None


def cursor_behind(pages: Sequence[Any]) -> Callable[[int], str] | None:
    """As `cursor_at`, by a list's first pages; one cursor alone does not tell."""
    counts = accumulate(len(page.conversations) for page in pages)
    known = [(page.cursor, count) for page, count in zip(pages, counts, strict=True) if page.cursor]
    return cursor_at([cursor for cursor, _ in known], [count for _, count in known]) if known else None


def earlier_by(at: str | None, cursor: str, rows: int) -> Callable[[int], str | None] | None:
    """A function from a number of rows to the cursor so many before one; None when it looks like no offset.

    A single page proves nothing: what such a cursor brings is to be held against it.

    Args:
        at: The cursor of a page; None for the list's first.
        cursor: The one the server gave with it.
        rows: How many the page held.
    """
    for number, written in _numbers(cursor):
        if number == rows if at is None else written(number - rows) == at:

            def earlier(count: int, number: int = number, written: Callable[[int], str] = written) -> str | None:
                return written(number - count) if count < number else None

            return earlier
    return None


def _numbers(cursor: str) -> Iterator[tuple[int, Callable[[int], str]]]:
    """Each number in a cursor, however that can be read; and what writes another in its place."""
    for decode, encode in _CODECS:
        try:
            text = decode(cursor)
        except (binascii.Error, ValueError):
            continue
        for found in re.finditer(r"\d+", text):

            def written(
                number: int,
                head: str = text[: found.start()],
                tail: str = text[found.end() :],
                encode: _Codec = encode,
            ) -> str:
                return encode(f"{head}{number}{tail}")

            yield int(found[0]), written
