"""The conversations that are served: shaped like life, the same every time, in memory that does not grow.

At most ten thousand conversations are made; a larger job repeats them, one "day" of 10⁸ ms after the other. A day
is the high digits of every time in it and part of every id, so that a repetition is the same bytes with other
digits in some places.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import msgspec

from alli_async.sandbox import texts
from alli_async.sandbox.render import NO_EDITS, profile

PAGE = 50
CHATS_PER_PAGE = 100
EMBEDDED = 20

_DAY_MS = 100_000_000
_FIRST_DAY = 17040  # in days of 10⁸ ms: the last of 2023
_A_DAY = 10_000  # conversations in a day, at most
_DAY_MARK = b"\0"  # stands where the digits of the day belong; cannot occur in JSON
_ID_HEAD = b"Q29udmVyc2F0aW9uOj"
_ID_LENGTH = len(_ID_HEAD) + 12
_GROUP = 64  # conversations that begin in the same way


class Window(NamedTuple):
    """Rows of an order, from `low` to `high`; those without a time come after `timed` rows, if at all."""

    low: int
    high: int
    timed: int


class _Made(NamedTuple):
    first: float
    chats: int
    gap: float

    @property
    def last(self) -> float:
        return self.first + max(0, self.chats - 1) * self.gap


class Dataset:
    """Conversations by their place in a day, those with chats first, in the order of their first chat."""

    def __init__(self, conversations: int, seed: int = 1, *, a_day: int = _A_DAY) -> None:
        self.conversations = conversations
        self._a_day = min(conversations, a_day)
        self.days, rest = divmod(conversations, max(1, self._a_day))
        if conversations < 1 or rest:
            raise ValueError(f"conversations: expected up to {a_day}, or a multiple of it, got {conversations}")
        draw = random.Random(seed)
        made = _make(self._a_day, draw)
        self._counts = array("I", (each.chats for each in made))
        self._timed = sum(1 for count in self._counts if count)
        timed = range(self._timed)
        self._by_last = array("I", sorted(timed, key=lambda place: made[place].last))
        self._firsts = array("d", (made[place].first for place in timed))
        self._lasts = array("d", (made[place].last for place in self._by_last))
        self._items: list[bytes] = []
        self._chats: list[list[bytes]] = []
        for place, each in enumerate(made):
            self._render(place, each, draw.getrandbits(64))

    @property
    def with_chats(self) -> int:
        """How many conversations have chats."""
        return self._timed * self.days

    @property
    def chats(self) -> int:
        """How many chats there are in all."""
        return self.days * sum(self._counts)

    @property
    def least_requests(self) -> int:
        """What no client can do without: the pages of the list, and of the chats that are not embedded."""
        pages = sum(-(-(count - EMBEDDED) // CHATS_PER_PAGE) for count in self._counts if count > EMBEDDED)
        return -(-self.conversations // PAGE) + self.days * pages

    def count(self, index: int) -> int:
        """How many chats a conversation has."""
        return self._counts[index % self._a_day]

    def item(self, index: int) -> bytes:
        """A conversation as it stands in a list."""
        day, place = divmod(index, self._a_day)
        return self._dated(self._items[place], day)

    def chat_pages(self, index: int) -> list[bytes]:
        """A conversation's pages of chats, as whole answers."""
        day, place = divmod(index, self._a_day)
        pages = self._chats[place]
        if not pages:  # all of them are embedded
            item = self._items[place]
            chats = item[item.index(b'"chats":[') + 9 : item.rindex(b'],"chatCount":')]
            pages = [_chat_page(chats, 1, self._counts[place])]
        return [self._dated(page, day) for page in pages]

    def window(self, by: str, start: float | None, end: float | None) -> Window:
        """The rows from start to end, both included; with neither, all rows."""
        timed = self.with_chats
        if start is None and end is None:
            return Window(0, self.conversations, timed)
        keys = self._firsts if by == "FIRST" else self._lasts
        low = 0 if start is None else self._row(keys, start, bisect_left)
        high = timed if end is None else self._row(keys, end, bisect_right)
        return Window(low, max(low, high), timed)

    def index(self, by: str, row: int) -> int:
        """The conversation in a row of an ascending order."""
        timed = self.with_chats
        if row >= timed:
            day, place = divmod(row - timed, self._a_day - self._timed)
            return day * self._a_day + self._timed + place
        day, place = divmod(row, self._timed)
        return day * self._a_day + (place if by == "FIRST" else self._by_last[place])

    def first_chat_times(self, parts: int) -> list[float]:
        """Where to cut the span of first chats into parts of about equal size, both of its ends included."""
        timed = self.with_chats
        rows = [min(timed - 1, timed * part // parts) for part in range(parts + 1)]
        return [_day(row // self._timed) * _DAY_MS + self._firsts[row % self._timed] for row in rows]

    def _row(self, keys: array[float], time: float, cut: Callable[[array[float], float], int]) -> int:
        day = int(time // _DAY_MS) - _FIRST_DAY
        if not 0 <= day < self.days:
            return 0 if day < 0 else self.with_chats
        # Exact: times are multiples of 1/8 ms.
        return day * self._timed + cut(keys, time - _day(day) * _DAY_MS)

    def _dated(self, json: bytes, day: int) -> bytes:
        return json.replace(_DAY_MARK, b"%d" % _day(day)) if self.days > 1 else json

    def _render(self, place: int, each: _Made, word: int) -> None:
        asked, answered = _bodies()
        chats = [
            b'{"id":"Q2hhdDo%b%05d%04d=",%b,"timestamp":%b}'
            % (
                _DAY_MARK,
                place,
                number,
                _picked(answered if number & 1 else asked, word + number * 97),
                _time(each.first + number * each.gap),
            )
            for number in range(each.chats)
        ]
        pages = []
        if each.chats > EMBEDDED:
            for start in range(0, each.chats, CHATS_PER_PAGE):
                joined = b",".join(chats[start : start + CHATS_PER_PAGE])
                pages.append(_chat_page(joined, start // CHATS_PER_PAGE + 1, each.chats))
        item = _item(place, each, word, b",".join(chats[-EMBEDDED:]))
        if self.days == 1:
            day = b"%d" % _FIRST_DAY
            item, pages = item.replace(_DAY_MARK, day), [page.replace(_DAY_MARK, day) for page in pages]
        self._items.append(item)
        self._chats.append(pages)


def index_of(conversation_id: str, conversations: int, *, a_day: int = _A_DAY) -> int:
    """Which conversation an id is of; -1 if it is no id."""
    if len(conversation_id) != _ID_LENGTH:
        return -1
    try:
        day, place = int(conversation_id[-12:-7]) - _FIRST_DAY, int(conversation_id[-7:-2])
    except ValueError:
        return -1
    index = day * min(conversations, a_day) + place
    return index if 0 <= index < conversations else -1


def _make(conversations: int, draw: random.Random) -> list[_Made]:
    counts = [_count((place + 0.5) / conversations) for place in range(conversations)]
    draw.shuffle(counts)
    made = []
    for place, count in enumerate(counts):
        if place % _GROUP == 0:
            begun = _eighths(draw.triangular(0, 0.85 * _DAY_MS, 0.4 * _DAY_MS))
        match place // _GROUP % 16:
            case 1:  # all at one instant
                first = begun
            case 3 | 9:  # all within a second
                first = begun + _eighths(draw.uniform(0, 1000))
            case _:
                first = _eighths(draw.triangular(0, 0.85 * _DAY_MS, 0.4 * _DAY_MS))
        room = (_DAY_MS - 1 - first) / max(1, count)
        made.append(_Made(first, count, _eighths(min(room, draw.lognormvariate(10.5, 1.5)))))
    return sorted(made, key=lambda each: (not each.chats, each.first))


def _count(quantile: float) -> int:
    """How many chats: none for 3 %, up to 20 for 87 %, and a long tail; 12.8 on average."""
    for share, low, high, skew in (
        (0.03, 0, 0, 1),
        (0.869, 1, 21, 2),
        (0.09, 21, 101, 1.6),
        (0.011, 101, 3000, 2.2),
    ):
        if quantile < share:
            return int(low * (high / low) ** ((quantile / share) ** skew)) if low else 0
        quantile -= share
    return 0


@cache
def _bodies() -> tuple[list[bytes], list[bytes]]:
    """What users and answers say, without the longest, which brings a page of chats to about 53 KB."""
    asked, answered = texts.bodies()
    return sorted(asked, key=len)[:-8], sorted(answered, key=len)[:-32]


def _item(place: int, each: _Made, word: int, chats: bytes) -> bytes:
    shown = profile(place, word, NO_EDITS)
    encode = msgspec.json.encode
    parts = (
        b'{"id":"%b%b%05d==","title":%b' % (_ID_HEAD, _DAY_MARK, place, encode(shown.title)),
        b',"user":%b' % (shown.person.json if shown.person else b"null"),
        b',"createdAt":%b' % _time(each.first),
        b',"lastChatTime":%b' % (_time(each.last) if each.chats else b"null"),
        b',"isEnd":%b,"categories":%b' % (encode(shown.is_end), encode(shown.categories)),
        b',"memo":%b,"chats":[%b],"chatCount":%d' % (encode(shown.memo), chats, each.chats),
        b',"llmApp":%b' % (shown.app.json if shown.app else b"null"),
        b',"variables":%b%b}' % (encode(shown.variables), shown.extras),
    )
    return b"".join(parts)


def _chat_page(chats: bytes, number: int, total: int) -> bytes:
    return b'{"chats":[%b],"pageNo":%d,"totalCount":%d}' % (chats, number, total)


def _picked(bodies: list[bytes], number: int) -> bytes:
    return bodies[number % len(bodies)]


def _day(day: int) -> int:
    return _FIRST_DAY + day


def _time(milliseconds: float) -> bytes:
    return _DAY_MARK + b"%012.3f" % milliseconds


def _eighths(milliseconds: float) -> float:
    return int(milliseconds * 8) / 8
