"""The stream of transcripts: one reader of the list, many workers on the chats."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, Self, TypeAlias, TypeVar

from .._aio.channel import Channel
from .._aio.tasks import TaskGroup, concurrently, wait_done
from .._listing.filters import Filters
from .._listing.page_reader import BadRow, PageReader
from .._listing.reader import ListReader
from .._transport import wire
from .._transport.session import Session
from .._transport.wire import Request
from ..errors import (
    AlliError,
    ClientStateError,
    ConfigurationError,
    DecodeError,
    IncompleteError,
    NotFoundError,
)
from ..models import Skipped, StreamStats
from .chats import CHATS_PER_PAGE, Chats, Shown, all_chats, fetch_chats
from .codecs import Codec, ResultT, Summary, is_newest_first
from .embedded import EmbeddedCheck

# What may lie between the list's reader and the consumer, in pages, and in conversations whose chats are to be
# fetched. They bound the memory, whatever the size: a conversation waits as 4 KB of JSON, or as 7 KB of structs.
_PAGES_AHEAD, _JOBS_AHEAD = 4, 256

# Seconds for which a consumer that awaits nothing itself is given transcripts before other tasks get their turn.
_SECONDS_A_TURN = 0.005

# How often a conversation whose two sources disagree is asked for, before its pages are taken as they are.
_MAX_ROUNDS = 4

EntryT = TypeVar("EntryT")


class Source(Protocol):
    """Reads the conversations that a stream is about."""

    def __call__(
        self, give: Callable[[list[Any]], Awaitable[None]], report: Callable[[BadRow], None]
    ) -> Awaitable[None]:
        """Give every conversation once, and report rows that cannot be had."""
        ...


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
        again: The ids of conversations that were given a second time, at the end: their embedded chats had been
            used, and later proved not to be what the pages of chats hold.
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
            codec,
            filters,
            workers=concurrency or session.config.max_concurrency,
            ordered=ordered,
            skipped=self.skipped if on_error == "skip" else None,
            source=source,
        )
        self._lifetime = session.lifetime
        self._task: asyncio.Task[None] | None = None
        self._out: Channel[Sequence[Entry[ResultT]]] = Channel(_PAGES_AHEAD)
        self._batch: Iterator[Entry[ResultT]] = iter(())
        self._turn_ends = math.inf
        self._is_walked = self._is_ended = self._is_client_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the work; what is under way is cancelled. Calling it twice is fine."""
        self._is_ended = True
        if self._task is not None:
            self._task.cancel()
        await self.wait_ended()

    def __aiter__(self) -> AsyncIterator[ResultT]:
        if self._is_walked:
            raise ConfigurationError("a transcript stream is walked once; ask for another")
        self._is_walked = True
        return _Results(self)

    def end(self) -> None:
        """Begin to end the work, since the client is closed: the consumer gets a `ClientStateError`."""
        self._is_client_closed = True
        if self._task is not None:
            self._task.cancel()

    def let_go(self) -> None:
        """Begin to end the work, since nobody can read on. The collector calls this, in any thread."""
        self._is_ended = True
        task = self._task
        if task is not None and not task.done() and not task.get_loop().is_closed():
            task.get_loop().call_soon_threadsafe(task.cancel)

    async def wait_ended(self) -> None:
        """Wait until no task of the stream is left."""
        if self._task is not None:
            await wait_done(self._task)

    async def next_result(self) -> ResultT:
        """The next result.

        Raises:
            StopAsyncIteration: There is none left, or the stream was closed.
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
            if isinstance(entry, _Again):
                self.again.add(entry.id)
                self.stats.chats += size(entry.result) - entry.chats_before
                return entry.result
            result = await entry if isinstance(entry, asyncio.Future) else entry
            if result is not None:
                self.stats.conversations += 1
                self.stats.chats += size(result)
                return result
        raise StopAsyncIteration

    async def _next_batch(self) -> Sequence[Entry[ResultT]]:
        """The next entries; the end of the work when there are none, with its error if it has one."""
        if self._task is None:
            self._lifetime.check()
            self._turn_ends = time.monotonic() + _SECONDS_A_TURN
            # A task of its own: nothing is ever yielded from inside a task group.
            self._task = asyncio.create_task(self._engine.run(self._out))
            self._task.add_done_callback(self._on_done)
            self._lifetime.add_stream(self)
        async for batch in self._out:
            return batch
        await wait_done(self._task)
        if not self._is_client_closed and not self._is_ended:
            self._is_ended = True
            self._task.result()
        return ()

    def _on_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # asyncio complains of an error that nobody looks at, and nobody may read on
        self._out.close()
        self._lifetime.discard_stream(self)


class _Results(AsyncIterator[ResultT], Generic[ResultT]):
    """The iterator of a stream. Letting go of it ends the work, as soon as the event loop gets to it.

    An asynchronous generator would be finished by a task that its event loop begins, behind everybody's back.
    """

    __slots__ = ("_stream",)

    def __init__(self, stream: TranscriptStream[ResultT]) -> None:
        self._stream: TranscriptStream[ResultT] = stream

    async def __anext__(self) -> ResultT:
        try:
            return await self._stream.next_result()
        except GeneratorExit:
            raise  # the loop was closed in the middle of this: nothing can be ended there
        except BaseException:
            await self._stream.aclose()
            raise

    async def aclose(self) -> None:
        """End the work."""
        await self._stream.aclose()

    def __del__(self) -> None:
        self._stream.let_go()


class _Engine(Generic[ResultT]):
    """The work behind a stream: a reader of the list, a dispatcher, and long-lived workers."""

    def __init__(
        self,
        session: Session,
        codec: Codec[ResultT],
        filters: Filters,
        *,
        workers: int,
        ordered: bool,
        skipped: list[Skipped] | None,
        source: Source | None,
    ) -> None:
        self.codec: Codec[ResultT] = codec
        self._session = session
        self._filters = filters
        self._workers = workers
        self._ordered = ordered
        self._skipped = skipped
        self._source = source or self._whole_list
        # Conversations that seem to have no chats are proved apart: of them a count that is wrong shows nothing.
        self._embedded, self._empty = EmbeddedCheck(), EmbeddedCheck()
        self._reported: list[BadRow] = []
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
        try:
            async with TaskGroup() as group:
                pages: Channel[list[Summary]] = Channel(_PAGES_AHEAD)
                group.create_task(self._read(pages))
                group.create_task(self._dispatch_all(pages))
                for _ in range(self._workers):
                    group.create_task(self._work())
            await self._look_again()
        finally:
            for place in self._places:
                _settle(place, None)
            out.close()

    async def _whole_list(
        self, give: Callable[[list[Any]], Awaitable[None]], report: Callable[[BadRow], None]
    ) -> None:
        pages: PageReader[Any] = PageReader(self._session, self._filters, self.codec.list_page)
        await ListReader(pages, give, report).read(ordered=self._ordered)

    async def _read(self, pages: Channel[list[Summary]]) -> None:
        """Read the list, while the conversations before are worked on."""
        await self._source(pages.put, self._report)
        pages.close()

    def _report(self, row: BadRow) -> None:
        """Go on without a row that cannot be listed or decoded, where that is wanted."""
        if self._skipped is None or row.error.is_outage:
            raise row.error
        if not any(row.is_same(other) for other in self._reported):
            self._reported.append(row)
            self._skipped.append(row.skipped)

    async def _dispatch_all(self, pages: Channel[list[Summary]]) -> None:
        async for page in pages:
            await self._dispatch(page)
        self._jobs.close()

    async def _dispatch(self, items: list[Summary]) -> None:
        """Send on what is whole, and queue the rest; before embedded chats are proved, prove them."""
        if any(len(item.chats) > item.chat_count for item in items):
            self._embedded.disprove()
        descents = [is_newest_first(item.chats) for item in items]
        self._newest_first = next((each for each in reversed(descents) if each is not None), self._newest_first)
        proved = await self._prove(items) if self._embedded.wanted or self._empty.wanted else {}
        entries: list[Entry[ResultT]] = []
        holds = {True: self._embedded.holds, False: self._empty.holds}
        for item, descends in zip(items, descents, strict=True):
            if item.id in proved:
                entry: Entry[ResultT] | None = proved[item.id]
            elif len(item.chats) == item.chat_count and holds[item.chat_count > 0]:
                entry = self._whole(item, self._newest_first if descends is None else descends)
            else:
                entry = self._place()
                await self._jobs.put(_Job(item, entry))
            if entry is not None:
                entries.append(entry)
        if entries:
            await self._out.put(entries)

    def _check(self, item: Summary) -> EmbeddedCheck:
        return self._embedded if item.chats or item.chat_count else self._empty

    def _whole(self, item: Summary, newest_first: bool) -> ResultT | None:
        """The transcript of a conversation whose embedded chats are all there are; None when it was skipped."""
        self._check(item).use(item.id, item.chat_count, self.codec.extent(item))
        try:
            return self.codec.whole(item, newest_first)
        except DecodeError as error:
            self._skip(item.id, error)
            return None

    def _is_turned(self, item: Summary) -> bool:
        """Whether its embedded chats came newest first; where they do not tell, as the others did."""
        descending = is_newest_first(item.chats)
        return self._newest_first if descending is None else descending

    async def _prove(self, items: list[Summary]) -> dict[str, ResultT | None]:
        """Fetch a few conversations both ways: some that must be fetched anyway, then those with most to show.

        Of either those first whose texts are longest, if they fit one page of chats: this is what a small job
        pays.
        """
        chosen: list[Summary] = []
        if self._embedded.wanted:
            must: list[Summary] = self._telling(item for item in items if len(item.chats) < item.chat_count)
            may: list[Summary] = self._telling(item for item in items if len(item.chats) == item.chat_count > 0)
            chosen = (must + may)[: self._embedded.wanted]
        empty: list[Summary] = [item for item in items if not item.chats and not item.chat_count]
        chosen += empty[: self._empty.wanted]
        results = await concurrently([self._result(item) for item in chosen])
        return {item.id: result for item, result in zip(chosen, results, strict=True)}

    def _telling(self, items: Iterable[Summary]) -> list[Summary]:
        """The conversations that show most come first: those that fit a page, by the extent of their texts."""
        return sorted(items, key=lambda item: (item.chat_count > CHATS_PER_PAGE, -self.codec.extent(item)))

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
        newest_first = self._is_turned(item)
        try:
            chats = await self._agreed_chats(item, newest_first)
            result: ResultT = self.codec.join(item, chats, newest_first)
        except ConfigurationError as error:
            # The id cannot be a segment of a path.
            self._skip(item.id, DecodeError(error.message, path="$.id"))
            return None
        except NotFoundError as error:
            if not await self._is_gone(item.id):
                self._skip(item.id, error)
            return None
        except AlliError as error:
            self._skip(item.id, error)
            return None
        return result

    async def _is_gone(self, conversation_id: str) -> bool:
        """Whether a conversation was deleted since the list was asked for: the server knows it no more."""
        try:
            await self._get(conversation_id)
        except NotFoundError:
            return True
        except AlliError as error:
            if error.is_outage:
                raise
            return False
        return False

    async def _chats(self, item: Summary, newest_first: bool) -> Chats[Any]:
        async def again() -> tuple[list[str], int]:
            now = await self._get(item.id)
            return [chat.id for chat in now.chats], now.chat_count

        holds = self._embedded.holds
        chats = await all_chats(
            lambda number: fetch_chats(self._session, item.id, self.codec.chats, number),
            item.id,
            item.chat_count if holds else 0,
            Shown(item.chats[::-1] if newest_first else item.chats, again),
        )
        if chats.tail and holds:
            self._embedded.use(item.id, len(chats.ids) + chats.tail, self.codec.extent(item))
        return chats

    def _skip(self, conversation_id: str, error: AlliError) -> None:
        """Go on without a conversation, where that is wanted. A closed client is no fault of the conversation."""
        if self._skipped is None or error.is_outage or isinstance(error, ClientStateError):
            raise error
        self._skipped.append(Skipped(conversation_id, error))

    async def _agreed_chats(self, item: Summary, newest_first: bool) -> Chats[Any]:
        """The chats of a conversation that was fetched both ways, and what that says about embedded chats.

        A chat may have come or gone, or been rated, since the list was asked for; or one of the two answers may be
        wrong once. So a difference counts only if it is still there when both were asked for once more, and
        nothing has changed meanwhile.
        """
        check = self._check(item)
        chats = await self._chats(item, newest_first)
        now = item
        for _ in range(_MAX_ROUNDS):
            if check.is_broken and (chats.ids or not now.chat_count):
                break
            if self._is_agreed(now, chats):
                check.prove()
                break
            before, ids = now, chats.ids
            now = await self._get(item.id)
            if self._is_agreed(now, chats):
                check.prove()
                break
            chats = await self._chats(item, newest_first)
            is_same = before.chat_count == now.chat_count and self.codec.extent(before) == self.codec.extent(now)
            if ids == chats.ids and is_same:
                check.disprove()
                break
        return chats

    def _is_agreed(self, item: Summary, chats: Chats[Any]) -> bool:
        return item.chat_count == chats.pages[0].total_count and self.codec.agrees(item, chats)

    async def _get(self, conversation_id: str) -> Summary:
        path = wire.conversation_path(conversation_id)
        summary: Summary = await self._session.request(
            Request("getConversation", "GET", path), self.codec.conversation
        )
        return summary

    async def _look_again(self) -> None:
        """Where embedded chats were disproved after some were used: give those conversations again that differ."""
        for check in (self._embedded, self._empty):
            if not check.is_broken:
                continue
            if check.forgotten:
                raise IncompleteError(
                    "embedded chats are not what the pages of chats hold; "
                    f"{check.forgotten} transcripts were made of them and may lack chats or texts"
                )
            used = list(check.used)
            for start in range(0, len(used), self._workers):
                some = used[start : start + self._workers]
                results = await concurrently([self._again(check, each) for each in some])
                different = [each for each in results if each is not None]
                if different:
                    await self._out.put(different)

    async def _again(self, check: EmbeddedCheck, conversation_id: str) -> _Again[ResultT] | None:
        """A conversation with the chats of its pages; None when that is what was given before."""
        try:
            item = await self._get(conversation_id)
            newest_first = self._is_turned(item)
            chats = await self._chats(item, newest_first)
        except AlliError as error:
            if not isinstance(error, NotFoundError) or not await self._is_gone(conversation_id):
                self._skip(conversation_id, error)
            return None
        result = self.codec.join(item, chats, newest_first)
        before = check.chats_used(conversation_id)
        is_same = (
            self.codec.size(result) == before
            and self.codec.extent(item) == check.extent_used(conversation_id)
            and self.codec.agrees(item, chats)
        )
        return None if is_same else _Again(conversation_id, result, before)


def _settle(place: asyncio.Future[ResultT | None], result: ResultT | None) -> None:
    # A consumer that is cancelled while it waits at a place cancels the place.
    if not place.done():
        place.set_result(result)
