"""The generated conversations: a pure function of (seed, index).

Only 64 random bits are stored for each conversation that was read. They determine the number of its chats and
the time between them. The index determines the first chat time, by a formula that grows with the index, so a
million conversations need no sorting to be listed by their first chat.
"""

from __future__ import annotations

import hashlib
import random
from array import array
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator
from typing import NamedTuple

from .options import Unit

DAY_MS = 86_400_000.0
START_MS = 1_704_067_200_000.0  # 2024-01-01
_NOW_MS = 1_767_225_600_000.0  # 2026-01-01
_GROUP = 64  # conversations whose first chats are spread in the same way
_CROWD_FROM = 8  # the first group of a crowd
_BLOCK = 1024  # conversations whose random words are drawn at once
_SPACING_MS = 30_000.0
_GROUP_MS = _GROUP * _SPACING_MS
_LONGEST_MS = 60 * DAY_MS

_MASK = (1 << 64) - 1
_SCRAMBLE = 0x9E37_79B9_7F4A_7C15  # odd, so that multiplying by it can be undone
_UNSCRAMBLE = pow(_SCRAMBLE, -1, 1 << 64)
_SEQUENCE_BITS = 24
_CHOOSE = 0xC2B2_AE3D_27D4_EB4F  # spreads all bits of a word over the upper ones


def _log_uniform(low: float, high: float, steps: int, skew: float = 1.0) -> Iterator[float]:
    """Values from low to high with evenly spread logarithms; a skew above 1 favours low values."""
    return (low * (high / low) ** (((step + 0.5) / steps) ** skew) for step in range(steps))


# Looked up by 12 bits of the word: 3 % have no chats, 87 % up to 20, the rest are a long tail.
CHAT_COUNTS = (
    *([0] * 123),
    *(int(value) for value in _log_uniform(1, 21, 3563)),
    *(int(value) for value in _log_uniform(21, 101, 348, 1.6)),
    *(int(value) for value in _log_uniform(101, 601, 58, 1.9)),
    *(620, 800, 1200, 3000),
)
_COUNT_MASK = len(CHAT_COUNTS) - 1
# Looked up by 8 bits: one second to six hours between two chats; in 2 % all chats share one instant.
_GAPS_MS = (*([0.0] * 5), *(float(round(value, 3)) for value in _log_uniform(1000, 21_600_000, 251)))


class Born(NamedTuple):
    """What a conversation was generated with.

    Attributes:
        chats: Number of chats.
        first_ms: Time of the first chat; also set if there is none.
        gap_ms: Time between two chats.
    """

    chats: int
    first_ms: float
    gap_ms: float


class Data:
    """Conversations and their ids for one seed. Times are in the unit of the wire, or in `_ms` as the name says.

    Args:
        seed: Seed of all random bits.
        unit: Unit of times on the wire.
        crowd: Number of conversations, from the ninth group on, that begin at one instant; in whole groups.

    Attributes:
        source: What the conversations are generated from, next to their index.
    """

    def __init__(self, seed: int, unit: Unit, crowd: int = 0) -> None:
        self._seed = seed
        self.source = seed, unit, crowd
        self._crowd = range(_CROWD_FROM, _CROWD_FROM - -crowd // _GROUP)
        self._divisor = 1.0 if unit == "ms" else 1000.0
        self._blocks: dict[int, memoryview[int]] = {}
        self._prefix = hashlib.sha256(f"alli-sandbox:{seed}".encode()).hexdigest()[:8].encode()

    def wire(self, milliseconds: float) -> float:
        """A time in the unit of the wire."""
        return milliseconds / self._divisor

    def now_ms(self, conversations: int) -> float:
        """A time after every chat of that many conversations."""
        return max(_NOW_MS, START_MS + conversations * _SPACING_MS + _GROUP_MS + _LONGEST_MS)

    def word(self, index: int) -> int:
        """The 64 random bits of a conversation."""
        return self._block(index // _BLOCK)[index % _BLOCK]

    def fraction(self, index: int) -> float:
        """A random number from 0 up to 1 for a conversation: those below a share are chosen for it."""
        return (self.word(index) * _CHOOSE & _MASK) / (1 << 64)

    def born(self, index: int) -> Born:
        """What a conversation was generated with."""
        word = self.word(index)
        first = _first_ms(index % _GROUP, word, *self._group(index // _GROUP))
        count = CHAT_COUNTS[word & _COUNT_MASK]
        return Born(count, first, _gap_ms(word, count))

    def created_ms(self, word: int, first_ms: float) -> float:
        """The creation time: for a quarter of the conversations, up to four seconds before the first chat."""
        return first_ms - (word >> 24 & 0xFFF) if word >> 22 & 3 == 0 else first_ms

    def firsts(self, conversations: int) -> tuple[array[float], array[int], array[int]]:
        """First chat times, ascending; their conversations; and the conversations without chats."""
        keys, ids = array("d"), array("I")
        for index, word, first in self._walk(conversations):
            if CHAT_COUNTS[word & _COUNT_MASK]:
                keys.append(first / self._divisor)
                ids.append(index)
        return keys, ids, self._without_chats(conversations)

    def lasts(self, conversations: int) -> tuple[array[float], array[int], array[int]]:
        """Last chat times, ascending; their conversations; and the conversations without chats."""
        by_index = array("d", bytes(8 * conversations))
        ids = []
        for index, word, first in self._walk(conversations):
            if count := CHAT_COUNTS[word & _COUNT_MASK]:
                by_index[index] = (first + (count - 1) * _gap_ms(word, count)) / self._divisor
                ids.append(index)
        ids.sort(key=by_index.__getitem__)  # stable: equal times stay in the order of their index
        return array("d", map(by_index.__getitem__, ids)), array("I", ids), self._without_chats(conversations)

    def conversation_id(self, index: int) -> str:
        """The opaque id of a conversation."""
        return self._encode(b"Conversation:", index << _SEQUENCE_BITS).decode()

    def chat_id(self, index: int, sequence: int) -> bytes:
        """The opaque id of a chat; as bytes, because a page joins many of them."""
        return self._encode(b"Chat:", index << _SEQUENCE_BITS | sequence)

    def conversation_index(self, conversation_id: str) -> int | None:
        """The index of a conversation's id; None if the text is no such id."""
        number = self._decode(b"Conversation:", conversation_id)
        return None if number is None else number >> _SEQUENCE_BITS

    def chat_sequence(self, index: int, chat_id: str) -> int | None:
        """The sequence of a chat's id; None if the text is no such id of the conversation."""
        number = self._decode(b"Chat:", chat_id)
        if number is None or number >> _SEQUENCE_BITS != index:
            return None
        return number & ((1 << _SEQUENCE_BITS) - 1)

    def _encode(self, kind: bytes, number: int) -> bytes:
        mixed = number * _SCRAMBLE & _MASK
        return b2a_base64(b"%b%b%016x" % (kind, self._prefix, mixed ^ mixed >> 32), newline=False)

    def _decode(self, kind: bytes, text: str) -> int | None:
        head = kind + self._prefix
        try:
            plain = a2b_base64(text.encode("ascii"), strict_mode=True)
            mixed = int(plain[len(head) :], 16)
        except (Base64Error, ValueError):
            return None
        number = (mixed ^ mixed >> 32) * _UNSCRAMBLE & _MASK
        # int() also accepts "0X", "_" and blanks: only the exact text that is written is an id.
        return number if self._encode(kind, number).decode() == text else None

    def _block(self, number: int) -> memoryview[int]:
        block = self._blocks.get(number)
        if block is None:
            drawn = random.Random(f"{self._seed}:{number}").randbytes(8 * _BLOCK)  # noqa: S311 - made-up data
            block = self._blocks[number] = memoryview(drawn).cast("Q")
        return block

    def _group(self, number: int) -> tuple[float, float, float]:
        """Start of a group of conversations, time between their first chats, and scatter of these."""
        if number in self._crowd:
            return START_MS + _CROWD_FROM * _GROUP_MS, 0.0, 0.0
        start = START_MS + number * _GROUP_MS
        place = (self.word(number * _GROUP) >> 44 & 0xFFF) * 400
        match number % 16:
            case 1:
                return start + place, 0.0, 0.0  # all at one instant
            case 3 | 9:
                return start + place, 15.0, 0.0  # all within a second
            case _:
                return start, _SPACING_MS, 1.817

    def _walk(self, conversations: int) -> Iterator[tuple[int, int, float]]:
        """Index, word and first chat time of each conversation."""
        for low in range(0, conversations, _GROUP):
            start, spacing, scatter = self._group(low // _GROUP)
            words = self._block(low // _BLOCK)[low % _BLOCK : low % _BLOCK + min(_GROUP, conversations - low)]
            for place, word in enumerate(words):
                yield low + place, word, _first_ms(place, word, start, spacing, scatter)

    def _without_chats(self, conversations: int) -> array[int]:
        found = array("I")
        for low in range(0, conversations, _BLOCK):
            words = self._block(low // _BLOCK)[: conversations - low]
            found.extend([low + place for place, word in enumerate(words) if not CHAT_COUNTS[word & _COUNT_MASK]])
        return found


def _first_ms(place: int, word: int, start: float, spacing: float, scatter: float) -> float:
    # The scatter stays below the spacing (16,383 x 1.817 ms < 30 s): first times grow with the index.
    return start + place * spacing + (word >> 33 & 0x3FFF) * scatter


def _gap_ms(word: int, count: int) -> float:
    gap = _GAPS_MS[word >> 12 & 0xFF]
    return gap if gap * count <= _LONGEST_MS else _LONGEST_MS / count
