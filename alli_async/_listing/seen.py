"""Ids of conversations that were seen, in little memory."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from hashlib import blake2b
from itertools import chain

# Ids up to this number are kept as they are, more as 64-bit digests. Two of ten million ids share a digest with a
# probability of 3 in a million.
_MAX_TEXTS = 100_000
# Sorted runs of digests are merged up to this length: beyond it a merge costs more than one more look-up.
_LONGEST_RUN = 1 << 17


class SeenIds:
    """A set of ids that can only grow. Beyond a hundred thousand ids it takes eight bytes for each."""

    def __init__(self) -> None:
        self._texts: set[str] = set()
        self._runs: list[array[int]] = []
        self._digested = 0

    def __len__(self) -> int:
        return len(self._texts) + self._digested

    def __contains__(self, item: str) -> bool:
        return item in self._texts or (bool(self._runs) and self._has(_number(item)))

    def update(self, ids: Iterable[str]) -> None:
        """Add ids."""
        self._texts.update([each for each in ids if not self._has(_number(each))] if self._runs else ids)
        if len(self._texts) > _MAX_TEXTS:
            self._digested += len(self._texts)
            self._add_run(array("Q", sorted(map(_number, self._texts))))
            self._texts.clear()

    def update_packed(self, packed: bytes) -> None:
        """Add ids that were packed by `pack`, none of which is in the set."""
        run = array("Q")
        run.frombytes(packed)
        if sys.byteorder == "big":
            run.byteswap()
        if run:
            self._digested += len(run)
            self._add_run(run)

    def _has(self, number: int) -> bool:
        for run in self._runs:
            index = bisect_left(run, number)
            if index < len(run) and run[index] == number:
                return True
        return False

    def _add_run(self, run: array[int]) -> None:
        # Runs of similar length are merged, so there are few of them and each digest is moved a few times.
        while self._runs and len(self._runs[-1]) <= 2 * len(run) <= _LONGEST_RUN:
            run = array("Q", sorted(chain(self._runs.pop(), run)))
        self._runs.append(run)


def digest(conversation_id: str) -> bytes:
    """The digest of an id, eight bytes: the same in every process and on every machine."""
    return blake2b(conversation_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _number(conversation_id: str) -> int:
    """The digest of an id as a number."""
    return int.from_bytes(digest(conversation_id), "big")


def pack(ids: Iterable[str]) -> bytes:
    """The digests of ids, sorted, eight bytes each, little-endian."""
    run = array("Q", sorted(map(_number, ids)))
    if sys.byteorder == "big":
        run.byteswap()
    return run.tobytes()
