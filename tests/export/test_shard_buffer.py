"""Filling a part: a batch is written while the next one comes in, and nothing is pulled from under it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence

import pytest

from alli_async import ExportError, RawTranscript
from alli_async.export.records import Part, Quarantined
from alli_async.export.shard_buffer import ShardBuffer


class Writer:
    """What writes when it is let, and notes what it was told to do."""

    bytes_in = 0
    is_projected = False

    def __init__(self, error: Exception | None = None) -> None:
        self.told: list[str] = []
        self.writing = threading.Event()
        self.may = threading.Event()
        self._error = error

    def write(self, transcripts: Sequence[RawTranscript]) -> list[Quarantined]:
        self.writing.set()
        assert self.may.wait(20)
        if self._error is not None:
            raise self._error
        self.told.append("wrote " + " ".join(each.id for each in transcripts))
        return [Quarantined(id=each.id, why="bad") for each in transcripts if each.id == "bad"]

    def finish(self) -> list[Quarantined]:
        self.told.append("finished")
        return []

    def commit(self, shard: str) -> list[Part]:
        self.told.append("committed")
        return []

    def discard(self) -> None:
        self.told.append("discarded")


def record(name: str) -> RawTranscript:
    return RawTranscript(name, b"12345", 2)


async def test_conversations_come_in_while_others_are_written_and_no_more_than_a_batch() -> None:
    writer = Writer()
    some = ShardBuffer(writer, set(), batch_bytes=10)
    for name in ("a", "bad", "c"):
        # The first two are on their way to the disk, which does not take them yet.
        await asyncio.wait_for(some.add(record(name)), 20)
    assert (some.conversations, some.chats) == (3, 6)
    full = asyncio.create_task(some.add(record("d")))
    done, _ = await asyncio.wait([full], timeout=0.1)
    assert not done
    writer.may.set()
    await asyncio.wait_for(full, 20)
    await some.add(record("e"))
    await some.end("0")
    await some.discard()
    assert writer.told == ["wrote a bad", "wrote c d", "wrote e", "finished", "committed", "discarded"]
    assert (some.conversations, some.chats, [each.id for each in some.bad]) == (4, 8, ["bad"])


async def test_what_is_given_up_is_discarded_only_when_the_batch_on_its_way_has_ended() -> None:
    writer = Writer()
    some = ShardBuffer(writer, set(), batch_bytes=10)
    for name in ("a", "b", "c"):
        await some.add(record(name))
    assert await asyncio.to_thread(writer.writing.wait, 20)
    adding = asyncio.create_task(some.add(record("d")))
    await asyncio.sleep(0)
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    discarding = asyncio.create_task(some.discard())
    done, _ = await asyncio.wait([discarding], timeout=0.1)
    assert (done, writer.told) == (set(), [])
    writer.may.set()
    await asyncio.wait_for(discarding, 20)
    assert writer.told == ["wrote a b", "discarded"]


@pytest.mark.parametrize("at", ["the next batch", "the end", "never"])
async def test_an_error_of_a_batch_is_raised_by_what_comes_next(at: str) -> None:
    writer = Writer(ExportError("the disk is full"))
    writer.may.set()
    some = ShardBuffer(writer, set(), batch_bytes=10)
    for name in ("a", "b", "c"):
        await some.add(record(name))
    if at == "the next batch":
        with pytest.raises(ExportError, match="the disk is full"):
            await some.add(record("d"))
    elif at == "the end":
        with pytest.raises(ExportError, match="the disk is full"):
            await some.end("0")
    await some.discard()
    assert writer.told == ["discarded"]


@pytest.mark.parametrize("written", [False, True])
async def test_one_who_is_cancelled_while_leaving_nothing_behind_leaves_nothing_behind(written: bool) -> None:
    writer = Writer()
    some = ShardBuffer(writer, set(), batch_bytes=10)
    await some.add(record("a"))
    await some.add(record("b"))
    if written:
        writer.may.set()
        while not writer.told:
            await asyncio.sleep(0.001)
    leaving = asyncio.create_task(some.discard())
    # When many shards fail at once, each is on its way out by itself as the group is told to end.
    for _ in range(3):
        await asyncio.sleep(0)
        leaving.cancel()
    writer.may.set()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait_for(leaving, 20)
    assert writer.told == ["wrote a b", "discarded"]
