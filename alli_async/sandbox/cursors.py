"""The cursors of lists: what their text says, and how it is read back."""

from __future__ import annotations

import hashlib
import random
import re
from abc import ABC, abstractmethod
from base64 import b64decode, b64encode

from .options import Options

Place = tuple[float | None, int]
"""The sort key and the index of a row."""

_NONCE = 8
_TAG = 8
_NUMBER = 8
_WHOLE = re.compile(r"-?[0-9]{1,19}")


class Cursors(ABC):
    """One kind of cursor."""

    @abstractmethod
    def write(self, offset: int, last: Place | None) -> str:
        """The cursor of a page that begins behind `offset` rows, the last of which is `last`."""

    @abstractmethod
    def read(self, text: str) -> int | Place:
        """The number of rows before the page, or the row before it.

        Raises:
            ValueError: The text is not a cursor of this kind.
        """

    def respell(self, text: str, offset: int) -> str:
        """Another text for the cursor `text`, whose page begins behind `offset` rows."""
        head, _, number = _decode(text).rpartition(":")
        return _encode(f"{head}:{int(number):0{len(number) + 1}d}")


class _OffsetCursors(Cursors):
    """`offset:50` in base64: the page begins behind 50 rows."""

    def write(self, offset: int, last: Place | None) -> str:
        return _encode(f"offset:{offset}")

    def read(self, text: str) -> int:
        offset = _number(text, "offset")
        if offset < 0:
            raise ValueError(text)
        return offset


class _RelayCursors(Cursors):
    """`arrayconnection:49` in base64: the page begins behind the row with the 0-based index 49."""

    def write(self, offset: int, last: Place | None) -> str:
        return _encode(f"arrayconnection:{offset - 1}")

    def read(self, text: str) -> int:
        return max(0, _number(text, "arrayconnection") + 1)


class _KeysetCursors(Cursors):
    """`after:<time>:<index>` in base64: the page begins behind this row, which may be gone."""

    def write(self, offset: int, last: Place | None) -> str:
        if last is None:
            raise ValueError("a keyset cursor needs the row before it")
        time, index = last
        return _encode(f"after:{time}:{index}")

    def read(self, text: str) -> Place:
        kind, time, index = _decode(text).split(":")
        if kind != "after":
            raise ValueError(text)
        return None if time == "None" else float(time), int(index)


class _OpaqueCursors(Cursors):
    """An encrypted offset with a checksum; the text is another one each time."""

    def __init__(self, seed: int) -> None:
        self._key = hashlib.sha256(f"cursors:{seed}".encode()).digest()
        self._draw = random.Random(f"{seed}:cursors")  # noqa: S311 - made-up data

    def write(self, offset: int, last: Place | None) -> str:
        nonce = self._draw.randbytes(_NONCE)
        hidden = self._mask(nonce, offset.to_bytes(_NUMBER, "big"))
        return b64encode(nonce + hidden + self._tag(nonce + hidden)).decode()

    def read(self, text: str) -> int:
        raw = b64decode(text, validate=True)
        if b64encode(raw).decode() != text or len(raw) != _NONCE + _NUMBER + _TAG:
            raise ValueError(text)
        if self._tag(raw[:-_TAG]) != raw[-_TAG:]:
            raise ValueError(text)
        return int.from_bytes(self._mask(raw[:_NONCE], raw[_NONCE:-_TAG]), "big")

    def respell(self, text: str, offset: int) -> str:
        return self.write(offset, None)

    def _mask(self, nonce: bytes, plain: bytes) -> bytes:
        stream = hashlib.blake2b(nonce, digest_size=_NUMBER, key=self._key, person=b"mask").digest()
        return bytes(left ^ right for left, right in zip(plain, stream, strict=True))

    def _tag(self, covered: bytes) -> bytes:
        return hashlib.blake2b(covered, digest_size=_TAG, key=self._key, person=b"tag").digest()


class _EndlessCursors(Cursors):
    """Cursors that are never read: each text is new, and each page is the first one."""

    def __init__(self) -> None:
        self._written = 0

    def write(self, offset: int, last: Place | None) -> str:
        self._written += 1
        return _encode(f"page:{self._written}")

    def read(self, text: str) -> int:
        return 0

    def respell(self, text: str, offset: int) -> str:
        return self.write(offset, None)


def make_cursors(options: Options) -> Cursors:
    """The kind of cursors that the options choose."""
    match options.cursor:
        case "offset":
            return _OffsetCursors()
        case "relay":
            return _RelayCursors()
        case "keyset":
            return _KeysetCursors()
        case "opaque":
            return _OpaqueCursors(options.seed)
        case "endless":
            return _EndlessCursors()


def _number(text: str, expected: str) -> int:
    kind, number = _decode(text).split(":")
    if kind != expected or not _WHOLE.fullmatch(number):
        raise ValueError(text)
    return int(number)


def _encode(text: str) -> str:
    return b64encode(text.encode()).decode()


def _decode(text: str) -> str:
    return b64decode(text, validate=True).decode("ascii")
