"""Whether bytes that are passed on as they came are text: in what msgspec skips, it does not look."""

from __future__ import annotations

import codecs

from ..errors import DecodeError

# The text of a whole page would be memory that the system has to find and takes back again, each time.
_PIECE = 1 << 16


def is_utf8(data: bytes) -> bool:
    """Whether bytes are UTF-8. Up to 1 ms a megabyte; next to nothing where they are ASCII, as escaped JSON is."""
    if data.isascii():
        return True
    view, place = memoryview(data), 0
    try:
        while place < len(view):
            piece = view[place : place + _PIECE]
            place += codecs.utf_8_decode(piece, "strict", place + len(piece) == len(view))[1]
    except UnicodeDecodeError:
        return False
    return True


def must_be_utf8(data: bytes, path: str) -> None:
    """Refuse what is no UTF-8.

    Raises:
        DecodeError: With this path.
    """
    if not is_utf8(data):
        raise DecodeError(
            f"the answer is not what the contract says: bytes that are no UTF-8 at {path}", path=path
        )
