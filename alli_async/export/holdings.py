"""The conversations that an export holds: digests of their ids, their checksums and their numbers of chats.

A commit lists the conversations in its parts, 16 bytes each, in the order of their digests: the digest of the
id (8 bytes), a checksum of the conversation's JSON (4 bytes) and the number of chats (4 bytes), big-endian.
Merged over all runs, the latest version of a conversation holds.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from .._listing.seen import digest

_SPACED = b'": '
# Bytes of a conversation's JSON, and of its chats, in which the first name ends.
_LOOKED_AT = 64
_SIZE = 16
_KEY = 8
# The entries are merged by the first byte of their digests, so that little more than the result is in memory.
_BUCKETS = 256


class Version(NamedTuple):
    """A version of a conversation: a checksum of it, 0 where that is not known, and the number of chats."""

    checksum: int
    chats: int

    @classmethod
    def of(cls, conversation: bytes, chats: int) -> Version:
        """The version of a conversation, however its JSON is spaced, which depends on the operation."""
        if _is_spaced(conversation):
            conversation = msgspec.json.format(conversation, indent=-1)
        return cls(zlib.crc32(conversation), chats)


def _is_spaced(conversation: bytes) -> bool:
    """Whether the JSON of a conversation has spaces behind its names: at its beginning, or where its chats begin.

    A server puts them everywhere or nowhere; to look through all of a conversation takes longer than its checksum.
    """
    if conversation.find(_SPACED, 0, _LOOKED_AT) >= 0:
        return True
    chats = conversation.find(b'"chats":')
    return chats >= 0 and conversation.find(_SPACED, chats, chats + _LOOKED_AT) >= 0


def pack_versions(versions: Mapping[str, Version]) -> bytes:
    """The entries of a commit."""
    return b"".join(
        sorted(
            digest(each) + version.checksum.to_bytes(4, "big") + version.chats.to_bytes(4, "big")
            for each, version in versions.items()
        )
    )


class Holdings:
    """The latest version of every conversation in some commits.

    Args:
        packed: The entries of commits, the newest last.
    """

    def __init__(self, packed: Sequence[bytes] = ()) -> None:
        self._entries = b"".join(_merged(packed))

    @property
    def conversations(self) -> int:
        """Number of conversations."""
        return len(self._entries) // _SIZE

    @property
    def chats(self) -> int:
        """Number of chats, in the latest version of each conversation."""
        return sum(
            int.from_bytes(self._entries[at - 4 : at], "big") for at in range(_SIZE, len(self._entries) + 1, _SIZE)
        )

    def __contains__(self, conversation_id: str) -> bool:
        return self.get(conversation_id) is not None

    def get(self, conversation_id: str) -> Version | None:
        """The version that is held of a conversation."""
        key = digest(conversation_id)
        place = bisect_left(range(self.conversations), key, key=self._key)
        if place >= self.conversations or self._key(place) != key:
            return None
        rest = self._entries[place * _SIZE + _KEY : (place + 1) * _SIZE]
        return Version(int.from_bytes(rest[:4], "big"), int.from_bytes(rest[4:], "big"))

    def keys(self) -> Iterator[bytes]:
        """The digests of all ids, in order."""
        return (self._key(place) for place in range(self.conversations))

    def keys_not_in(self, other: Holdings) -> set[bytes]:
        """The digests of the ids that are here and not there."""
        found: set[bytes] = set()
        others = other.keys()
        there = next(others, None)
        for key in self.keys():
            while there is not None and there < key:
                there = next(others, None)
            if there != key:
                found.add(key)
        return found

    def _key(self, place: int) -> bytes:
        return self._entries[place * _SIZE : place * _SIZE + _KEY]


def _merged(packed: Iterable[bytes]) -> Iterator[bytes]:
    commits = [(each, 0) for each in packed if each]
    for bucket in range(1, _BUCKETS + 1):
        found: dict[bytes, bytes] = {}
        rest = []
        for entries, start in commits:
            end = len(entries) if bucket == _BUCKETS else _first_from(entries, bucket)
            for at in range(start, end, _SIZE):
                found[entries[at : at + _KEY]] = entries[at : at + _SIZE]
            rest.append((entries, end))
        commits = rest
        yield b"".join(found[key] for key in sorted(found))


def _first_from(entries: bytes, first_byte: int) -> int:
    """Where the entries begin whose digests have this first byte, or a higher one."""
    return _SIZE * bisect_left(range(len(entries) // _SIZE), first_byte, key=lambda place: entries[place * _SIZE])
