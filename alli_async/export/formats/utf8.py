"""Whether bytes that were passed on as they came are UTF-8: msgspec does not check what it skips."""

from __future__ import annotations

import codecs

# Bytes that are decoded at a time: decoding a long conversation at once would allocate all of its text.
_PIECE = 1 << 16

NO_TEXT = "the answer is not what the contract says: bytes that are no UTF-8 at $"


def is_utf8(data: bytes) -> bool:
    """Whether bytes are UTF-8. Up to 1 ms a megabyte; next to nothing where they are ASCII, as escaped JSON is."""
    if data.isascii():
        return True
    try:
        if len(data) <= _PIECE:
            codecs.utf_8_decode(data)  # the common case, without the cost of the loop below
            return True
        view, place = memoryview(data), 0
        while place < len(view):
            piece = view[place : place + _PIECE]
            place += codecs.utf_8_decode(piece, "strict", place + len(piece) == len(view))[1]
    except UnicodeDecodeError:
        return False
    return True
