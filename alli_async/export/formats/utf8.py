"""Whether bytes that were passed on as they came are text: in what msgspec skips, it does not look."""

from __future__ import annotations

import codecs

# The text of a long conversation would be memory that the system has to find and takes back again, each time.
_PIECE = 1 << 16

NO_TEXT = "the answer is not what the contract says: bytes that are no UTF-8 at $"


def is_utf8(data: bytes) -> bool:
    """Whether bytes are UTF-8. Up to 1 ms a megabyte; next to nothing where they are ASCII, as escaped JSON is."""
    if data.isascii():
        return True
    try:
        if len(data) <= _PIECE:
            codecs.utf_8_decode(data)  # a tenth of what most cost is the loop below
            return True
        view, place = memoryview(data), 0
        while place < len(view):
            piece = view[place : place + _PIECE]
            place += codecs.utf_8_decode(piece, "strict", place + len(piece) == len(view))[1]
    except UnicodeDecodeError:
        return False
    return True
