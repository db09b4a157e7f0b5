"""Cursors that are offsets: opaque by contract, but a server's own cursors can show what they count."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
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
    for decode, encode in _CODECS:
        try:
            texts = [decode(cursor) for cursor in cursors]
        except (binascii.Error, ValueError):
            continue
        for found in re.finditer(r"\d+", texts[0]):
            head, tail = texts[0][: found.start()], texts[0][found.end() :]
            shift = int(found[0]) - rows[0]

            def make(
                count: int, head: str = head, tail: str = tail, shift: int = shift, encode: _Codec = encode
            ) -> str:
                return encode(f"{head}{count + shift}{tail}")

            # Only what gives every one of the server's own cursors back is believed.
            if len(cursors) > 1 and [make(count) for count in rows] == list(cursors):
                return make
    return None


def earlier_by(at: str | None, cursor: str, rows: int) -> Callable[[int], str | None] | None:
    """A function from a number of rows to the cursor so many before one; None when it looks like no offset.

    A single page proves nothing: what such a cursor brings is to be held against it.

    Args:
        at: The cursor of a page; None for the list's first.
        cursor: The one the server gave with it.
        rows: How many the page held.
    """
    for decode, encode in _CODECS:
        try:
            text, before = decode(cursor), None if at is None else decode(at)
        except (binascii.Error, ValueError):
            continue
        for found in re.finditer(r"\d+", text):
            head, number, tail = text[: found.start()], int(found[0]), text[found.end() :]
            if number != rows if before is None else before != f"{head}{number - rows}{tail}":
                continue

            def earlier(
                count: int, head: str = head, number: int = number, tail: str = tail, encode: _Codec = encode
            ) -> str | None:
                return encode(f"{head}{number - count}{tail}") if count < number else None

            return earlier
    return None


def are_offsets(pages: Sequence[Any]) -> bool:
    """Whether the cursors of a list's first pages are offsets, as far as can be said; one alone does not tell."""
    counts = accumulate(len(page.conversations) for page in pages)
    known = [(page.cursor, count) for page, count in zip(pages, counts, strict=True) if page.cursor]
    if len(known) < 2:
        return False
    return cursor_at([cursor for cursor, _ in known], [count for _, count in known]) is not None
