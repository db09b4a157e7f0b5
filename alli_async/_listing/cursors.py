"""Cursors that are offsets: opaque by contract, but the server's own cursors show what they count.

A cursor is taken for an offset only when the same arithmetic gives back two or more cursors that the server made
itself, or when a page that was asked for with a made cursor begins with the row that it should. Cursors for
another list of the same server are made from the first cursor that the server gave for it, so that whatever else a
cursor holds stays as it was.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

_Codec = Callable[[str], str]
# The text itself comes last: base64 holds digits as well.
_CODECS: tuple[tuple[_Codec, _Codec], ...] = (
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


class OffsetCursors(Struct, frozen=True):
    """Makes and reads the offset cursors of one list.

    Attributes:
        head: The decoded cursor's text before the number.
        tail: The text behind the number.
        shift: The number in a cursor, less the count of rows before it.
        codec: Which of the known encodings the cursor has.
    """

    head: str
    tail: str
    shift: int
    codec: int

    def learn(self, cursor: str, rows: int) -> OffsetCursors | None:
        """Read the form of another list's cursors from one of them; None when it is not such an offset.

        Args:
            cursor: A cursor that the same server gave for the other list.
            rows: How many rows of that list are before it.
        """
        found = (
            each for each in _candidates(cursor, rows) if (each.shift, each.codec) == (self.shift, self.codec)
        )
        return next(found, None)

    @classmethod
    def agreeing(cls, cursors: Sequence[tuple[str, int]]) -> OffsetCursors | None:
        """What gives back all these cursors of one list; None when they are not offsets.

        Args:
            cursors: At least two cursors that the server gave, each with the count of rows before it.
        """
        if len(cursors) < 2:
            return None
        found = (each for each in _candidates(*cursors[0]) if all(each.cursor(rows) == c for c, rows in cursors))
        return next(found, None)

    @classmethod
    def guess(cls, cursor: str, rows: int) -> OffsetCursors | None:
        """What a single cursor looks like, if it holds a count of the rows before it or the last one's index.

        A single cursor proves nothing: what such a cursor brings is to be held against it.
        """
        return next((found for found in _candidates(cursor, rows) if found.shift in (0, -1)), None)

    def cursor(self, rows: int) -> str:
        """The cursor behind so many rows."""
        return _CODECS[self.codec][1](f"{self.head}{rows + self.shift}{self.tail}")

    def rows_before(self, cursor: str) -> int | None:
        """How many rows are before a cursor; None when it has another form."""
        try:
            text = _CODECS[self.codec][0](cursor)
        except (binascii.Error, ValueError):
            return None
        number = text[len(self.head) : len(text) - len(self.tail)]
        if not number.isdecimal() or text != f"{self.head}{number}{self.tail}":
            return None
        return int(number) - self.shift


def _candidates(cursor: str, rows: int) -> Iterator[OffsetCursors]:
    """Every number in a cursor, however the cursor can be decoded, as if it were the offset."""
    for codec, (decode, encode) in enumerate(_CODECS):
        try:
            text = decode(cursor)
        except (binascii.Error, ValueError):
            continue
        for found in re.finditer(r"\d+", text):
            number = int(found[0])
            head, tail = text[: found.start()], text[found.end() :]
            if encode(f"{head}{number}{tail}") == cursor:
                yield OffsetCursors(head, tail, number - rows, codec)
