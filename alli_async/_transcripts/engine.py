"""The work behind a stream of transcripts: one reader of the list, many workers on the chats."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from .._aio.channel import Channel
from .._aio.tasks import TaskGroup, concurrently
from .._listing.filters import Filters
from .._listing.page_reader import BadRow, PageReader
from .._listing.reader import ListReader
from .._transport.session import Session
from ..errors import AlliError, ClientStateError, ConfigurationError, DecodeError, IncompleteError, NotFoundError
from ..models import Skipped
from .chats import CHATS_PER_PAGE
from .codecs import Codec, ResultT, Summary
from .embedded import EmbeddedCheck
from .fetcher import ChatFetcher

# What may lie between the list's reader and the consumer, in pages, and in conversations whose chats are to be
# fetched. They bound the memory, whatever the size: a conversation waits as 4 KB of JSON, or as 7 KB of structs.
PAGES_AHEAD, _JOBS_AHEAD = 4, 256

EntryT = TypeVar("EntryT")


class Source(Protocol):
    """Reads the conversations that a stream is about."""

    def __call__(
        self, give: Callable[[list[Any]], Awaitable[None]], report: Callable[[BadRow], None]
    ) -> Awaitable[None]:
        """Give every conversation once, and report rows that cannot be had."""
        ...


@dataclass(frozen=True, slots=True)
class Again(Generic[EntryT]):
    """A transcript that was given before, and was not whole then."""

    id: str
    result: EntryT
    chats_before: int


# A transcript, or in an ordered stream the place of one whose chats are still to come.
Entry: TypeAlias = EntryT | asyncio.Future[EntryT | None] | Again[EntryT]


@dataclass(frozen=True, slots=True, eq=False)
class _Job(Generic[ResultT]):
    """A conversation whose chats are to be fetched, and in an ordered stream the place kept for it."""

    item: Summary
    place: asyncio.Future[ResultT | None] | None


class Engine(Generic[ResultT]):
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
        page_size: int,
    ) -> None:
        self.codec: Codec[ResultT] = codec
        self._session = session
        self._filters = filters
        self._workers = workers
        self._ordered = ordered
        self._skipped = skipped
        self._source = source or self._whole_list
        self._page_size = page_size
        self._fetcher: ChatFetcher[ResultT] = ChatFetcher(session, codec)
        self.gone = self._fetcher.gone
        self._reported: list[BadRow] = []
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
                pages: Channel[list[Summary]] = Channel(PAGES_AHEAD)
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
        pages: PageReader[Any] = PageReader(
            self._session, self._filters, self.codec.list_page, size=self._page_size
        )
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
        descents = self._fetcher.look_at(items)
        embedded, empty = self._fetcher.embedded, self._fetcher.empty
        proved = await self._prove(items) if embedded.wanted or empty.wanted else {}
        entries: list[Entry[ResultT]] = []
        holds = {True: embedded.holds, False: empty.holds}
        for item, descends in zip(items, descents, strict=True):
            if item.id in proved:
                entry: Entry[ResultT] | None = proved[item.id]
            elif len(item.chats) == item.chat_count and holds[item.chat_count > 0]:
                entry = self._whole(item, descends)
            else:
                entry = self._place()
                await self._jobs.put(_Job(item, entry))
            if entry is not None:
                entries.append(entry)
        if entries:
            await self._out.put(entries)

    def _whole(self, item: Summary, newest_first: bool) -> ResultT | None:
        """The transcript of a conversation whose embedded chats are all there are; None when it was skipped."""
        self._fetcher.check(item).use(item.id, item.chat_count, self.codec.extent(item))
        try:
            return self.codec.whole(item, newest_first)
        except DecodeError as error:
            self._skip(item.id, error)
            return None

    async def _prove(self, items: list[Summary]) -> dict[str, ResultT | None]:
        """Fetch a few conversations both ways: some that must be fetched anyway, then those with most to show.

        Of either those first whose texts are longest, if they fit one page of chats: this is what a small job
        pays.
        """
        embedded, empty = self._fetcher.embedded, self._fetcher.empty
        chosen: list[Summary] = []
        if embedded.wanted:
            must: list[Summary] = self._telling(item for item in items if len(item.chats) < item.chat_count)
            may: list[Summary] = self._telling(item for item in items if len(item.chats) == item.chat_count > 0)
            chosen = (must + may)[: embedded.wanted]
        without: list[Summary] = [item for item in items if not item.chats and not item.chat_count]
        chosen += without[: empty.wanted]
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
        newest_first = self._fetcher.is_newest_first(item)
        try:
            chats = await self._fetcher.agreed_chats(item, newest_first)
            result: ResultT = self.codec.join(item, chats, newest_first)
        except ConfigurationError as error:
            # The id cannot be a segment of a path.
            self._skip(item.id, DecodeError(error.message, path="$.id"))
            return None
        except NotFoundError as error:
            if not await self._fetcher.is_gone(item.id):
                self._skip(item.id, error)
            return None
        except AlliError as error:
            self._skip(item.id, error)
            return None
        return result

    def _skip(self, conversation_id: str, error: AlliError) -> None:
        """Go on without a conversation, where that is wanted. A closed client is no fault of the conversation."""
        if self._skipped is None or error.is_outage or isinstance(error, ClientStateError):
            raise error
        self._skipped.append(Skipped(conversation_id, error))

    async def _look_again(self) -> None:
        """Where embedded chats were disproved after some were used: give those conversations again that differ."""
        for check in (self._fetcher.embedded, self._fetcher.empty):
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

    async def _again(self, check: EmbeddedCheck, conversation_id: str) -> Again[ResultT] | None:
        """A conversation with the chats of its pages; None when that is what was given before."""
        try:
            item = await self._fetcher.get(conversation_id)
            newest_first = self._fetcher.is_newest_first(item)
            chats = await self._fetcher.chats(item, newest_first)
        except AlliError as error:
            if not isinstance(error, NotFoundError) or not await self._fetcher.is_gone(conversation_id):
                self._skip(conversation_id, error)
            return None
        result = self.codec.join(item, chats, newest_first)
        before = check.chats_used(conversation_id)
        is_same = (
            self.codec.size(result) == before
            and self.codec.extent(item) == check.extent_used(conversation_id)
            and self.codec.agrees(item, chats)
        )
        return None if is_same else Again(conversation_id, result, before)


def _settle(place: asyncio.Future[ResultT | None], result: ResultT | None) -> None:
    # A consumer that is cancelled while it waits at a place cancels the place.
    if not place.done():
        place.set_result(result)
