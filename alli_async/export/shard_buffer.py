"""Fills the parts of a shard: a thread writes batches, and one version of each conversation is written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from .._aio.tasks import wait_done
from .._aio.threads import in_thread
from ..models import RawTranscript
from .formats.shard_writer import ShardWriter
from .holdings import Version
from .records import Part, Quarantined
from .tuning import DEFAULT_TUNING


class DuplicateConversation(Exception):  # noqa: N818 - no failure: the shard is read once more
    """A conversation arrived again after its first version, which lacked chats, was written.

    Attributes:
        ids: Ids of these conversations.
    """

    def __init__(self, ids: set[str]) -> None:
        super().__init__(f"{len(ids)} conversations came twice")
        self.ids = ids


class _Written(NamedTuple):
    """The result of a batch: the versions of its conversations, and what could not be written."""

    versions: dict[str, Version]
    bad: list[Quarantined]


class ShardBuffer:
    """The parts of a shard while they are filled: a batch is written while the next one comes in.

    Args:
        writer: Writes the parts.
        write_last: Ids of conversations known to arrive twice; their last versions are written at the end.
        batch_bytes: Bytes of JSON that are handed to the writing thread at a time.

    Attributes:
        versions: The latest versions of the conversations that were added, by their ids.
        chats: Number of chats in these conversations.
        deleted: Ids of conversations that were found deleted.
        bad: Conversations that could not be written, and why.
    """

    def __init__(
        self, writer: ShardWriter, write_last: set[str], *, batch_bytes: int = DEFAULT_TUNING.batch_bytes
    ) -> None:
        self.writer = writer
        self.bad: list[Quarantined] = []
        self.deleted: dict[str, None] = {}
        self.chats = 0
        self.versions: dict[str, Version] = {}
        self._write_last: dict[str, RawTranscript | None] = dict.fromkeys(write_last)
        self._repeated: set[str] = set()
        self._batch: list[RawTranscript] = []
        self._size = 0
        self._batch_bytes = batch_bytes
        self._writing: asyncio.Task[_Written] | None = None

    @property
    def conversations(self) -> int:
        """Number of conversations that were added."""
        return len(self.versions)

    def has(self, ids: Sequence[str]) -> bool:
        """Whether any of these ids was added."""
        return any(each in self.versions for each in ids)

    async def add(self, transcript: RawTranscript) -> None:
        """Add a conversation."""
        if transcript.id in self._write_last:
            self._write_last[transcript.id] = transcript
        elif transcript.id in self.versions:
            self._repeated.add(transcript.id)
        else:
            self._batch.append(transcript)
            self._size += len(transcript.json)
        before = self.versions.get(transcript.id)
        self.chats += transcript.chat_count - (before.chats if before else 0)
        # The thread that writes the conversation computes its checksum.
        self.versions[transcript.id] = Version(0, transcript.chat_count)
        if self._size >= self._batch_bytes:
            await self._write()

    async def end(self, shard: str) -> list[Part]:
        """Write what is left, and rename the temporary files to the final part names of the shard.

        Raises:
            DuplicateConversation: Other conversations than `write_last` arrived twice; nothing is committed.
        """
        if self._repeated:
            raise DuplicateConversation(self._repeated)
        self._batch += [each for each in self._write_last.values() if each is not None]
        await self._write()
        await self._written()
        self._put_aside(await in_thread(self.writer.finish))
        if not self.versions:
            # A shard without conversations has no part.
            await in_thread(self.writer.discard)
            return []
        return await in_thread(self.writer.commit, shard)

    async def discard(self) -> None:
        """Delete the temporary files. After `end` it does nothing."""
        try:
            if self._writing is not None:
                # Nobody needs its result, but the writer must not be closed while the thread writes.
                await wait_done(self._writing)
        finally:
            if self._writing is not None and not self._writing.cancelled():
                self._writing.exception()
            self.writer.discard()

    async def _write(self) -> None:
        await self._written()
        if self._batch:
            batch, self._batch, self._size = self._batch, [], 0
            self._writing = asyncio.create_task(in_thread(self._write_batch, batch))

    def _write_batch(self, batch: Sequence[RawTranscript]) -> _Written:
        versions = {each.id: Version.of(each.json, each.chat_count) for each in batch}
        return _Written(versions, self.writer.write(batch))

    async def _written(self) -> None:
        """Wait for the batch that is being written."""
        if self._writing is not None:
            written = await asyncio.shield(self._writing)
            self._writing = None
            self.versions.update(written.versions)
            self._put_aside(written.bad)

    def _put_aside(self, bad: list[Quarantined]) -> None:
        self.bad += bad
        for each in bad:
            before = self.versions.pop(each.id or "", None)
            self.chats -= before.chats if before else 0
