"""Walking a shard: every conversation of it once, with all its chats, as the server sent it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from types import TracebackType
from typing import Self

from .._transport.filters import Filters
from .._transport.session import Session
from ..errors import (
    AlliConnectionError,
    AlliError,
    AlliTimeoutError,
    BadRequestError,
    DecodeError,
    IncompleteError,
    NotFoundError,
    ResponseTooLargeError,
    ServerError,
)
from ..models import RawTranscript, Skipped
from .chatless import Chatless
from .chats import all_chats, fetch_chats
from .lenient import keeping_body, lenient, page_of
from .shapes import RAW, one_line
from .shards import Row, Shard, Span, key_of, seam, window
from .tasks import concurrently
from .transcripts import TranscriptStream

# What is wrong with one conversation and no other; and what may be that, or the server's, when it is frequent.
_ITS_OWN = (DecodeError, IncompleteError, NotFoundError, BadRequestError, ResponseTooLargeError)
_PERHAPS = (ServerError, AlliTimeoutError, AlliConnectionError)
_FEW, _RARE = 3, 100
# So many conversations that seem to have no chats are asked for them, before the others are believed.
_PROOFS = 3


class ShardWalk:
    """The conversations of a shard; an async context manager that ends the work when it is left.

    Those of the next shard, which come with them, are left out. A conversation that comes twice was short the
    first time (see `TranscriptStream`).

    Attributes:
        stats: What it has done so far.
        skipped: Conversations that could not be made whole, and why.
        bad: Records that could not be decoded, by what tells them apart, and why.
    """

    def __init__(
        self,
        session: Session,
        filters: Filters,
        shard: Shard,
        span: Span | None,
        *,
        concurrency: int,
        timed: int = 0,
    ) -> None:
        self._filters = filters
        self._shard = shard
        self._span = span
        self._timed = timed
        self.bad: dict[str, DecodeError] = {}
        shape = replace(RAW, conversations=lenient(RAW.conversations, self._note), chats=keeping_body(RAW.chats))
        self._shape = shape
        asked = filters if span is None or shard.whole else window(filters, shard, span)
        self._stream = TranscriptStream(
            session, shape, asked, concurrency=concurrency, ordered=not shard.whole, on_error="skip"
        )
        self.stats = self._stream.stats
        self._session = session.counting(self.stats)
        self.skipped: list[Skipped] = []
        self._looked_at = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stream.aclose()

    def records(self) -> AsyncGenerator[RawTranscript, None]:
        """Walk it, once."""
        if self._span is None or self._shard.whole:
            return self._checked()
        if self._shard.end is None:
            return self._tail(self._span)
        return self._window(self._shard.end, self._span)

    async def _window(self, end: float, span: Span) -> AsyncGenerator[RawTranscript, None]:
        # Asked for beside the first page: the rows it is about come last.
        asking = asyncio.create_task(seam(self._session, self._filters, end, span))
        others: set[str] | None = None
        try:
            async with aclosing(self._checked()) as given:
                async for transcript in given:
                    if others is None:
                        others = await asking
                    if transcript.id not in others:
                        yield transcript
            others = await asking
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        self.skipped[:] = [each for each in self.skipped if each.id not in others]
        for key in others & self.bad.keys():
            del self.bad[key]

    async def _tail(self, span: Span) -> AsyncGenerator[RawTranscript, None]:
        """The window first asked for last: who gets a first chat meanwhile moves into it."""
        chatless: dict[str, Row] = {}
        if not span.bounded:
            search = Chatless(self._session, self._filters, span, self._timed, self._shard, self._note)
            chatless = await search.find()
        seen: set[str] = set()
        async with aclosing(self._checked()) as given:
            async for transcript in given:
                seen.add(transcript.id)
                yield transcript
        seen.update(each.id for each in self.skipped)
        for transcript in await self._without_chats([row for row in chatless.values() if row.id not in seen]):
            yield transcript

    async def _checked(self) -> AsyncGenerator[RawTranscript, None]:
        """The stream's, as long as what it skips is no sign of something larger."""
        given = 0
        async for transcript in self._stream:
            given += 1
            self._look_at_skipped(given)
            yield transcript
        self._look_at_skipped(given)

    def _look_at_skipped(self, given: int) -> None:
        """Tell what is wrong with one conversation from what is wrong with the server.

        Raises:
            AlliError: It is not about the conversation; the next run shall have it.
        """
        for each in self._stream.skipped[self._looked_at :]:
            self._looked_at += 1
            self.skipped.append(each)
            if isinstance(each.error, _ITS_OWN):
                continue
            perhaps = sum(isinstance(one.error, _PERHAPS) for one in self.skipped)
            if not isinstance(each.error, _PERHAPS) or perhaps > _FEW + given / _RARE:
                raise each.error

    def _note(self, raw: bytes, error: DecodeError) -> None:
        self.bad[key_of(raw)] = error

    # --- conversations without chats ----------------------------------------------------------------------

    async def _without_chats(self, rows: list[Row]) -> list[RawTranscript]:
        """What they look like in the list is all there is, once a few were asked for their chats.

        A count of theirs that is not 0 is not believed, whatever it counts.
        """
        empty = [row for row in rows if not row.chat_count and not row.chats]
        asked = [row for row in rows if row.chat_count or row.chats] + empty[:_PROOFS]
        found = await self._all_with_chats(asked)
        rest = empty[_PROOFS:]
        if any(each.chat_count for each in found[len(asked) - len(empty[:_PROOFS]) :]):
            return found + await self._all_with_chats(rest)
        return found + [RawTranscript(row.id, one_line(row.json), 0) for row in rest]

    async def _all_with_chats(self, rows: list[Row]) -> list[RawTranscript]:
        found: list[RawTranscript] = []
        for start in range(0, len(rows), 16):
            some = await concurrently([self._with_chats(row) for row in rows[start : start + 16]])
            found += [each for each in some if each is not None]
        return found

    async def _with_chats(self, row: Row) -> RawTranscript | None:
        try:
            chats = await all_chats(lambda n: fetch_chats(self._session, row.id, self._shape.chats, n), row.id)
            item = RAW.conversations(page_of([row.json])).conversations[0]
        except _ITS_OWN as error:
            self.skipped.append(Skipped(row.id, error))
            return None
        return RAW.join(item, chats, False)


def walk_shard(
    session: Session, filters: Filters, shard: Shard, span: Span | None, *, concurrency: int, timed: int = 0
) -> ShardWalk:
    """Walk one shard of a list.

    Args:
        session: Where the requests go.
        filters: What the list holds.
        shard: Which part of it.
        span: Of the list's windows; None where the shard is the whole list.
        concurrency: Conversations whose chats are fetched at a time.
        timed: For the last shard: about how many conversations with chats the others hold.

    Returns:
        To be entered with `async with`; `.records()` are its conversations.

    Raises:
        AlliError: From the walk: what is wrong is not about one conversation.
    """
    return ShardWalk(session, filters, shard, span, concurrency=concurrency, timed=timed)


def why(error: Exception) -> str:
    """What went wrong, in one sentence."""
    return error.message if isinstance(error, AlliError) else str(error)
