"""Cursors that are offsets: opaque by contract, but the server's own cursors show what they count.

A cursor counts as an offset only when the same arithmetic reproduces two or more cursors that the server made, or
when a page that was requested with a made cursor begins with the expected row. Cursors for another list of the
same server are made from the first cursor that the server sent for that list, so that everything else in a cursor
stays as it was.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

_Convert = Callable[[str], str]
# Pairs of a decoder and an encoder. Plain text comes last: base64 contains digits as well.
_ENCODINGS: tuple[tuple[_Convert, _Convert], ...] = (
    (
        lambda cursor: b64decode(cursor, validate=True).decode("ascii"),
        lambda text: b64encode(text.encode()).decode(),
    ),
    (
        lambda cursor: urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii"),
        lambda text: urlsafe_b64encode(text.encode()).decode().rstrip("="),
    ),
    (lambda cursor: cursor, lambda text: text),
)


# The field's name in the plans of exports, which outlive a release.
_NAMES_IN_PLANS = {"encoding_index": "codec"}


class OffsetCursors(Struct, frozen=True, rename=_NAMES_IN_PLANS):
    """Makes and reads the offset cursors of one list.

    Attributes:
        head: The decoded cursor's text before the number.
        tail: The text after the number.
        shift: The number in a cursor, less the count of rows before it.
        encoding_index: Index of the cursor's encoding among the known ones.
    """

    head: str
    tail: str
    shift: int
    encoding_index: int

    def learn(self, cursor: str, rows: int) -> OffsetCursors | None:
        """The offset cursors of another list of this server; None when they have another form.

        Args:
            cursor: A cursor that the server sent for the other list.
            rows: Number of rows of that list before the cursor.
        """
        for each in _candidates(cursor, rows):
            if (each.shift, each.encoding_index) == (self.shift, self.encoding_index):
                return each
        return None

    @classmethod
    def agreeing(cls, cursors: Sequence[tuple[str, int]]) -> OffsetCursors | None:
        """The offset cursors that reproduce these cursors of one list; None when these are not offsets.

        Args:
            cursors: At least two cursors that the server sent, each with the number of rows before it.
        """
        if len(cursors) < 2:
            return None
        found = (each for each in _candidates(*cursors[0]) if all(each.cursor(rows) == c for c, rows in cursors))
        return next(found, None)

    @classmethod
    def guess(cls, cursor: str, rows: int) -> OffsetCursors | None:
        """The likely form of a list's cursors, if one cursor holds the count of rows before it or the last index.

        A single cursor proves nothing: the page at a made cursor must show whether the guess was right.
        """
        return next((found for found in _candidates(cursor, rows) if found.shift in (0, -1)), None)

    def cursor(self, rows: int) -> str:
        """The cursor after this number of rows."""
        return _ENCODINGS[self.encoding_index][1](f"{self.head}{rows + self.shift}{self.tail}")

    def rows_before(self, cursor: str) -> int | None:
        """Number of rows before a cursor; None when it has another form."""
        try:
            text = _ENCODINGS[self.encoding_index][0](cursor)
        except (binascii.Error, ValueError):
            return None
        number = text[len(self.head) : len(text) - len(self.tail)]
        if not number.isdecimal() or text != f"{self.head}{number}{self.tail}":
            return None
        return int(number) - self.shift


def _candidates(cursor: str, rows: int) -> Iterator[OffsetCursors]:
    """Every number in a cursor, in every encoding that can decode the cursor, as if it were the offset."""
    for encoding_index, (decode, encode) in enumerate(_ENCODINGS):
        try:
            text = decode(cursor)
        except (binascii.Error, ValueError):
            continue
        for found in re.finditer(r"\d+", text):
            number = int(found[0])
            head, tail = text[: found.start()], text[found.end() :]
            if encode(f"{head}{number}{tail}") == cursor:
                yield OffsetCursors(head, tail, number - rows, encoding_index)
