"""The stream of transcripts: one walk over the conversations, many workers on their chats."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Literal, Self, TypeAlias, TypeVar

from .._transport import wire
from .._transport.filters import Filters
from .._transport.session import Session
from .._transport.wire import Request
from ..errors import AlliError, ConfigurationError, DecodeError, IncompleteError
from ..models import Skipped, StreamStats
from .channel import Channel
from .chats import CHATS_PER_PAGE, all_chats, fetch_chats
from .listing import Listing
from .shapes import ResultT, Shape, Summary, newest_first
from .tasks import concurrently, first_error, settled
from .trust import CountTrust
from .walks import Walks

# What may lie between the walk and the consumer, in pages, and in conversations whose chats are to be fetched.
# They bound the memory, whatever the size: a conversation waits as 4 KB of JSON, or as 7 of structs.
_PAGES_AHEAD, _JOBS_AHEAD = 4, 1000

EntryT = TypeVar("EntryT")


@dataclass(frozen=True, slots=True)
class _Again(Generic[EntryT]):
    """A transcript that was given before, and was not whole then."""

    id: str
    result: EntryT
    chats_before: int


# A transcript, or in an ordered stream the place of one whose chats are still to come.
Entry: TypeAlias = EntryT | asyncio.Future[EntryT | None] | _Again[EntryT]


@dataclass(frozen=True, slots=True, eq=False)
class _Job(Generic[ResultT]):
    """A conversation whose chats are to be fetched, and in an ordered stream the place kept for it."""

    item: Summary
    place: asyncio.Future[ResultT | None] | None


class TranscriptStream(Generic[ResultT]):
    """Conversations, each with all its chats.

    An async iterator, to be walked once, and an async context manager, which ends the work when it is left.
    Breaking out of a plain `async for` ends it too, as soon as the iterator is let go.

    Attributes:
        stats: What it has done so far.
        skipped: With `on_error="skip"`: the conversations that could not be made whole, and why.
        again: The ids of those that were given a second time, which is at the end: `chat_count` proved wrong
            after they had been taken on its word, and they were not whole the first time.
    """

    def __init__(
        self,
        session: Session,
        shape: Shape[ResultT],
        filters: Filters,
        *,
        concurrency: int | None,
        ordered: bool,
        on_error: Literal["raise", "skip"],
    ) -> None:
        if concurrency is not None and (not isinstance(concurrency, int) or concurrency < 1):
            raise ConfigurationError(f"concurrency: expected a whole number of at least 1, got {concurrency!r}")
        if on_error not in ("raise", "skip"):
            raise ConfigurationError(f'on_error: expected "raise" or "skip", got {on_error!r}')
        self.stats = StreamStats()
        self.skipped: list[Skipped] = []
        self.again: set[str] = set()
        self._engine: _Engine[ResultT] = _Engine(
            session.counting(self.stats),
            shape,
            filters,
            workers=concurrency or session.config.max_concurrency,
            ordered=ordered,
            skipped=self.skipped if on_error == "skip" else None,
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the work; what is under way is cancelled. Twice is fine."""
        if self._task is not None:
            self._task.cancel()
            await settled(self._task)

    def __aiter__(self) -> AsyncIterator[ResultT]:
        if self._task is not None:
            raise ConfigurationError("a transcript stream is walked once; ask for another")
        return self._results()

    async def _results(self) -> AsyncGenerator[ResultT, None]:
        out: Channel[Sequence[Entry[ResultT]]] = Channel(_PAGES_AHEAD)
        size = self._engine.shape.size
        # A task of its own: nothing is ever yielded from inside a task group.
        self._task = task = asyncio.create_task(self._engine.run(out))
        try:
            async for batch in out:
                for entry in batch:
                    if isinstance(entry, _Again):
                        self.again.add(entry.id)
                        self.stats.chats += size(entry.result) - entry.chats_before
                        yield entry.result
                        continue
                    result = await entry if isinstance(entry, asyncio.Future) else entry
                    if result is not None:
                        self.stats.conversations += 1
                        self.stats.chats += size(result)
                        yield result
            await task
        finally:
            await self.aclose()


class _Engine(Generic[ResultT]):
    """The work behind a stream: a walk, a dispatcher, and long-lived workers."""

    def __init__(
        self,
        session: Session,
        shape: Shape[ResultT],
        filters: Filters,
        *,
        workers: int,
        ordered: bool,
        skipped: list[Skipped] | None,
    ) -> None:
        self.shape: Shape[ResultT] = shape
        self._session = session
        self._filters = filters
        self._workers = workers
        self._ordered = ordered
        self._skipped = skipped
        self._trust = CountTrust()
        self._newest_first = False
        self._out: Channel[Sequence[Entry[ResultT]]]
        self._jobs: Channel[_Job[ResultT]] = Channel(_JOBS_AHEAD)
        self._places: set[asyncio.Future[ResultT | None]] = set()

    async def run(self, out: Channel[Sequence[Entry[ResultT]]]) -> None:
        """Put every transcript into `out`, then close it.

        Raises:
            AlliError: The first error, once all other work has ended.
        """
        self._out = out
        error: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                pages: Channel[list[Summary]] = Channel(_PAGES_AHEAD)
                group.create_task(self._walk(pages))
                group.create_task(self._dispatch_all(pages))
                for _ in range(self._workers):
                    group.create_task(self._work())
            await self._look_again()
        except BaseExceptionGroup as failures:
            error = first_error(failures)
        finally:
            for place in self._places:
                _settle(place, None)
            out.close()
        if error is not None:
            raise error

    async def _walk(self, pages: Channel[list[Summary]]) -> None:
        """Ask for page after page, while those before are worked on."""
        listing = Listing(self._session, self._filters, self.shape.conversations)
        await Walks(listing, pages.put).run(ordered=self._ordered)
        pages.close()

    async def _dispatch_all(self, pages: Channel[list[Summary]]) -> None:
        async for page in pages:
            await self._dispatch(page)
        self._jobs.close()

    async def _dispatch(self, items: list[Summary]) -> None:
        """Send on what is whole, and queue what is not; before the count is proved, prove it."""
        if any(len(item.chats) > item.chat_count for item in items):
            self._trust.break_()
        for item in items:
            if (descending := newest_first(item.chats)) is not None:
                self._newest_first = descending
        proved = await self._prove(items) if self._trust.wanted else {}
        entries: list[Entry[ResultT]] = []
        for item in items:
            if item.id in proved:
                entry: Entry[ResultT] | None = proved[item.id]
            elif self._trust.holds and len(item.chats) == item.chat_count:
                self._trust.take(item.id, item.chat_count)
                try:
                    entry = self.shape.whole(item, self._turned(item))
                except DecodeError as error:
                    self._skip(item.id, error)
                    continue
            else:
                entry = self._place()
                await self._jobs.put(_Job(item, entry))
            if entry is not None:
                entries.append(entry)
        if entries:
            await self._out.put(entries)

    def _turned(self, item: Summary) -> bool:
        """Whether its embedded chats came newest first; where they do not tell, as the others did."""
        descending = newest_first(item.chats)
        return self._newest_first if descending is None else descending

    async def _prove(self, items: list[Summary]) -> dict[str, ResultT | None]:
        """Fetch a few conversations both ways: such as must be fetched anyway, then those with most to show.

        Of either first what fits one page of chats: this is what a small job pays.
        """
        must = _telling(item for item in items if len(item.chats) < item.chat_count)
        may = _telling(item for item in items if len(item.chats) == item.chat_count)
        chosen = (must + may)[: self._trust.wanted]
        results = await concurrently([self._result(item) for item in chosen])
        return {item.id: result for item, result in zip(chosen, results, strict=True)}

    def _place(self) -> asyncio.Future[ResultT | None] | None:
        """In an ordered stream, what keeps a conversation's place until its chats are there."""
        if not self._ordered:
            return None
        place: asyncio.Future[ResultT | None] = asyncio.get_running_loop().create_future()
        self._places.add(place)
        return place

    async def _work(self) -> None:
        async for job in self._jobs:
            result = await self._result(job.item)
            if job.place is not None:
                self._places.discard(job.place)
                _settle(job.place, result)
            elif result is not None:
                await self._out.put((result,))

    async def _result(self, item: Summary) -> ResultT | None:
        """A conversation with the chats of its pages; None when it was skipped."""
        turn = self._turned(item)
        try:
            chats = await all_chats(
                lambda number: fetch_chats(self._session, item.id, self.shape.chats, number),
                item.id,
                item.chat_count if self._trust.holds else 0,
                item.chats[::-1] if turn else item.chats,
            )
            await self._compare(item, chats.pages[0].total_count)
            result: ResultT = self.shape.join(item, chats, turn)
        except AlliError as error:
            self._skip(item.id, error)
            return None
        return result

    def _skip(self, conversation_id: str, error: AlliError) -> None:
        """Go on without a conversation, where that is wanted."""
        if self._skipped is None:
            raise error
        self._skipped.append(Skipped(conversation_id, error))

    async def _compare(self, item: Summary, total: int) -> None:
        """What a conversation fetched both ways says about `chat_count`.

        A chat may have come or gone since the list was asked for; then the count has moved along. And another,
        while the count is asked for: so only a count between two equal totals that is not theirs is a lie.
        """
        count = item.chat_count
        if not self._trust.broken and total != count:
            count = (await self._get(item.id)).chat_count
        if not self._trust.broken and total != count:
            before = total
            total = (await fetch_chats(self._session, item.id, self.shape.chats, 1)).total_count
            if before != total != count:
                return
        if total == count:
            self._trust.prove()
        else:
            self._trust.break_()

    async def _get(self, conversation_id: str) -> Summary:
        path = wire.conversation_path(conversation_id)
        summary: Summary = await self._session.request(
            Request("getConversation", "GET", path), self.shape.conversation
        )
        return summary

    async def _look_again(self) -> None:
        """The count was disproved after some were taken on its word: give those again that were short."""
        if not self._trust.broken:
            return
        if self._trust.forgotten:
            raise IncompleteError(
                f"chat_count does not count what the chat pages hold; {self._trust.forgotten} transcripts "
                "were given on its word and may lack chats"
            )
        taken = list(self._trust.taken.items())
        for start in range(0, len(taken), self._workers):
            some = taken[start : start + self._workers]
            results = await concurrently([self._again(each) for each, _ in some])
            short = [
                _Again(each, result, count)
                for result, (each, count) in zip(results, some, strict=True)
                if result is not None and self.shape.size(result) != count
            ]
            if short:
                await self._out.put(short)

    async def _again(self, conversation_id: str) -> ResultT | None:
        try:
            item = await self._get(conversation_id)
        except AlliError as error:
            self._skip(conversation_id, error)
            return None
        return await self._result(item)


def _settle(place: asyncio.Future[ResultT | None], result: ResultT | None) -> None:
    # A consumer that is cancelled while it waits at a place cancels the place.
    if not place.done():
        place.set_result(result)


def _telling(items: Iterable[Summary]) -> list[Summary]:
    """Those whose count says most come first: the longest that fit a page, then what is longer."""
    return sorted(
        items, key=lambda item: (item.chat_count > CHATS_PER_PAGE, abs(CHATS_PER_PAGE - item.chat_count))
    )
