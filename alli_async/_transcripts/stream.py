"""The stream of transcripts, as its consumer meets it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from typing import Generic, Literal

from .._aio.channel import Channel
from .._aio.tasks import wait_done
from .._listing.filters import Filters
from .._listing.pages import MAX_PAGE_SIZE
from .._transport.background import BackgroundResults
from .._transport.session import Session
from ..config import checked_flag, checked_whole
from ..errors import ClientStateError, ConfigurationError
from ..models import Skipped, StreamStats
from .codec import Codec, ResultT
from .engine import PAGES_AHEAD, Correction, Engine, Source, StreamEntry

# Seconds in which a consumer that awaits nothing itself gets transcripts before other tasks get their turn.
_SECONDS_A_TURN = 0.005


class TranscriptStream(BackgroundResults[ResultT], Generic[ResultT]):
    """Conversations, each with all its chats.

    An async iterator, to be walked once, and an async context manager, which ends the work when it is left.
    Breaking out of a plain `async for` ends the work too, as soon as the iterator is garbage.

    Attributes:
        stats: The numbers of the stream so far.
        skipped: With `on_error="skip"`: the conversations that could not be fetched completely, and why.
        gone: The ids of conversations that were deleted after the list had shown them.
        again: The ids of conversations that come a second time, corrected, at the end of the stream: their
            embedded chats were used, and later proved to differ from the pages of chats.
    """

    def __init__(
        self,
        session: Session,
        codec: Codec[ResultT],
        filters: Filters,
        *,
        concurrency: int | None,
        ordered: bool,
        on_error: Literal["raise", "skip"],
        source: Source | None = None,
        page_size: int = MAX_PAGE_SIZE,
    ) -> None:
        if concurrency is not None:
            checked_whole("concurrency", concurrency, least=1)
        checked_flag("ordered", ordered)
        if on_error not in ("raise", "skip"):
            raise ConfigurationError(f'on_error: expected "raise" or "skip", got {on_error!r}')
        super().__init__(session.lifetime, "a transcript stream is walked once; ask for another")
        self.stats = StreamStats()
        self.skipped: list[Skipped] = []
        self.again: set[str] = set()
        self._engine: Engine[ResultT] = Engine(
            session.counting(self.stats),
            codec,
            filters,
            workers=concurrency or session.config.max_concurrency,
            ordered=ordered,
            skipped=self.skipped if on_error == "skip" else None,
            source=source,
            page_size=page_size,
        )
        self.gone = self._engine.gone
        self._out: Channel[Sequence[StreamEntry[ResultT]]] = Channel(PAGES_AHEAD)
        self._batch: Iterator[StreamEntry[ResultT]] = iter(())
        self._turn_ends = math.inf

    async def next_result(self) -> ResultT:
        """The next transcript.

        Raises:
            StopAsyncIteration: There is no transcript left, or the stream was closed.
            ClientStateError: The client was closed.
        """
        size = self._engine.codec.size
        if time.monotonic() > self._turn_ends:
            await asyncio.sleep(0)
            self._turn_ends = time.monotonic() + _SECONDS_A_TURN
        while not self._is_ended:
            if self._is_client_closed:
                raise ClientStateError("the client was closed while the stream was read", outcome="unknown")
            entry = next(self._batch, None)
            if entry is None:
                self._batch = iter(await self._next_batch())
                continue
            if isinstance(entry, Correction):
                self.again.add(entry.id)
                self.stats.chats += size(entry.result) - entry.chats_before
                return entry.result
            result = await entry if isinstance(entry, asyncio.Future) else entry
            if result is not None:
                self.stats.conversations += 1
                self.stats.chats += size(result)
                return result
        raise StopAsyncIteration

    async def _next_batch(self) -> Sequence[StreamEntry[ResultT]]:
        """Take the next entries. When there are none left, wait for the end of the work and raise its error."""
        task = self._task
        if task is None:
            task = self._begin(lambda: self._engine.run(self._out), self._out)
            self._turn_ends = time.monotonic() + _SECONDS_A_TURN
        batch = await anext(self._out, None)
        if batch is not None:
            return batch
        await wait_done(task)
        if not self._is_client_closed and not self._is_ended:
            self._is_ended = True
            task.result()
        return ()
