"""The work behind a stream of transcripts: one reader of the list, many workers on the chats."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from .._aio.channel import Channel
from .._aio.tasks import TaskGroup, concurrently
from .._listing.bounds import TimeBounds
from .._listing.filters import Filters
from .._listing.page_reader import BadRow, PageReader
from .._listing.pages import user_bounds
from .._listing.reader import ListReader
from .._listing.survey import is_empty
from .._transport.session import Session
from ..errors import AlliError, ClientStateError, ConfigurationError, DecodeError, IncompleteError, NotFoundError
from ..models import Skipped
from .chats import CHATS_PER_PAGE, ChatHead
from .codec import Codec, ConversationRow, ResultT
from .embedded import MAX_USED, EmbeddedCheck
from .fetcher import ChatFetcher

# Pages that wait in the channel of the dispatcher, and conversations that wait for their chats. They bound the
# memory, whatever the length of the list: a conversation waits as 4 KB of JSON or 7 KB of structs.
PAGES_AHEAD, _JOBS_AHEAD = 4, 256

T = TypeVar("T")


class Source(Protocol):
    """Reads the conversations whose transcripts a stream fetches."""

    def __call__(
        self, emit: Callable[[list[Any]], Awaitable[None]], report: Callable[[BadRow], None]
    ) -> Awaitable[None]:
        """Pass every conversation to `emit` once, and each row that cannot be read to `report`."""
        ...


@dataclass(frozen=True, slots=True)
class Correction(Generic[T]):
    """A transcript that the consumer got before with missing chats or texts.

    Attributes:
        id: The conversation's id.
        result: The complete transcript.
        chats_before: Number of chats in the transcript that the consumer got before.
    """

    id: str
    result: T
    chats_before: int


# What the consumer takes: a transcript, a correction, or in an ordered stream the slot of a transcript whose chats
# are still being fetched.
StreamEntry: TypeAlias = T | asyncio.Future[T | None] | Correction[T]


@dataclass(frozen=True, slots=True, eq=False)
class _Job(Generic[ResultT]):
    """A conversation whose chats are to be fetched, and in an ordered stream its slot in the output."""

    row: ConversationRow
    slot: asyncio.Future[ResultT | None] | None


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
        max_used: int = MAX_USED,
    ) -> None:
        self.codec: Codec[ResultT] = codec
        self._session = session
        self._filters = filters
        self._workers = workers
        self._ordered = ordered
        self._skipped = skipped
        self._source = source or self._whole_list
        self._page_size = page_size
        self._fetcher: ChatFetcher[ResultT] = ChatFetcher(session, codec, max_used=max_used)
        self.gone = self._fetcher.gone
        self._bounds: TimeBounds | None = None
        self._reported: list[BadRow] = []
        self._out: Channel[Sequence[StreamEntry[ResultT]]]
        self._jobs: Channel[_Job[ResultT]] = Channel(_JOBS_AHEAD)
        self._slots: set[asyncio.Future[ResultT | None]] = set()

    async def run(self, out: Channel[Sequence[StreamEntry[ResultT]]]) -> None:
        """Put every transcript into `out`, then close it.

        Raises:
            AlliError: The first error, once all other work has ended.
        """
        self._out = out
        try:
            self._bounds = await user_bounds(self._session, self._filters)
            async with TaskGroup() as group:
                pages: Channel[list[ConversationRow]] = Channel(PAGES_AHEAD)
                group.create_task(self._read(pages))
                group.create_task(self._dispatch_all(pages))
                for _ in range(self._workers):
                    group.create_task(self._work())
            await self._put_corrections()
        finally:
            for slot in self._slots:
                _fill(slot, None)
            out.close()

    async def _whole_list(
        self, emit: Callable[[list[Any]], Awaitable[None]], report: Callable[[BadRow], None]
    ) -> None:
        pages: PageReader[Any] = PageReader(
            self._session, self._filters, self.codec.list_page, size=self._page_size
        )
        await ListReader(pages, emit, report).read(ordered=self._ordered)

    async def _read(self, pages: Channel[list[ConversationRow]]) -> None:
        """Read the list, while the chats of earlier conversations are fetched."""
        await self._source(pages.put, self._report)
        pages.close()

    def _report(self, row: BadRow) -> None:
        """Skip a row that cannot be listed or decoded, with `on_error="skip"`; otherwise raise its error.

        An outage is no fault of the row.
        """
        if self._skipped is None or row.error.is_outage:
            raise row.error
        if not any(row.is_same(other) for other in self._reported):
            self._reported.append(row)
            self._skipped.append(row.skipped)

    async def _dispatch_all(self, pages: Channel[list[ConversationRow]]) -> None:
        async for page in pages:
            await self._dispatch(page)
        self._jobs.close()

    async def _dispatch(self, rows: list[ConversationRow]) -> None:
        """Send on conversations whose embedded chats are complete, and queue the others.

        As long as it is not proved that embedded chats can be used, some conversations are fetched both ways.
        """
        orders = self._fetcher.learn_order(rows)
        embedded, empty = self._fetcher.embedded, self._fetcher.empty
        proved = await self._prove(rows) if embedded.proofs_missing or empty.proofs_missing else {}
        entries: list[StreamEntry[ResultT]] = []
        for row, newest_first in zip(rows, orders, strict=True):
            if row.id in proved:
                entry: StreamEntry[ResultT] | None = proved[row.id]
            elif len(row.chats) == row.chat_count and self._is_left_out(
                row, row.chats[::-1] if newest_first else row.chats
            ):
                continue
            elif self._fetcher.can_use_embedded(row):
                entry = self._from_embedded(row, newest_first)
            else:
                entry = self._new_slot()
                await self._jobs.put(_Job(row, entry))
            if entry is not None:
                entries.append(entry)
        if entries:
            await self._out.put(entries)

    def _from_embedded(self, row: ConversationRow, newest_first: bool) -> ResultT | None:
        """Make a transcript of a conversation whose embedded chats are all its chats; None when it was skipped."""
        self._fetcher.check(row).use(row.id, row.chat_count, self.codec.content_size(row))
        try:
            return self.codec.from_embedded(row, newest_first)
        except DecodeError as error:
            self._skip(row.id, error)
            return None

    async def _prove(self, rows: list[ConversationRow]) -> dict[str, ResultT | None]:
        """Fetch a few conversations both ways: first some that must be fetched anyway, then others.

        Of both kinds those with most content come first. These requests are the only ones that a small job would
        not need.
        """
        embedded, empty = self._fetcher.embedded, self._fetcher.empty
        chosen: list[ConversationRow] = []
        if embedded.proofs_missing:
            to_fetch = self._most_content_first(row for row in rows if len(row.chats) < row.chat_count)
            complete = self._most_content_first(row for row in rows if len(row.chats) == row.chat_count > 0)
            chosen = (to_fetch + complete)[: embedded.proofs_missing]
        chosen += [row for row in rows if is_empty(row)][: empty.proofs_missing]
        results = await concurrently([self._result(row) for row in chosen])
        return {row.id: result for row, result in zip(chosen, results, strict=True)}

    def _most_content_first(self, rows: Iterable[ConversationRow]) -> list[ConversationRow]:
        """Sort conversations by the size of their content, largest first; last those that take several pages."""
        return sorted(rows, key=lambda row: (row.chat_count > CHATS_PER_PAGE, -self.codec.content_size(row)))

    def _new_slot(self) -> asyncio.Future[ResultT | None] | None:
        """In an ordered stream, a future in the output that waits for a conversation's chats; otherwise None."""
        if not self._ordered:
            return None
        slot: asyncio.Future[ResultT | None] = asyncio.get_running_loop().create_future()
        self._slots.add(slot)
        return slot

    async def _work(self) -> None:
        async for job in self._jobs:
            result = await self._result(job.row)
            if job.slot is not None:
                self._slots.discard(job.slot)
                _fill(job.slot, result)
            elif result is not None:
                await self._out.put((result,))

    async def _result(self, row: ConversationRow) -> ResultT | None:
        """Make a conversation's transcript from its pages of chats; None when it was skipped."""
        newest_first = self._fetcher.is_newest_first(row)
        try:
            chats = await self._fetcher.agreed_chats(row, newest_first)
            if self._is_left_out(row, chats.pages[0].chats or _oldest_first(row, newest_first)):
                return None
            result: ResultT = self.codec.join(row, chats, newest_first)
        except ConfigurationError as error:
            # The id cannot be a segment of a path.
            self._skip(row.id, DecodeError(error.message, path="$.id"))
            return None
        except NotFoundError as error:
            if not await self._fetcher.is_gone(row.id):
                self._skip(row.id, error)
            return None
        except AlliError as error:
            self._skip(row.id, error)
            return None
        return result

    def _is_left_out(self, row: ConversationRow, chats: Sequence[ChatHead]) -> bool:
        """Whether a conversation is outside the user's bounds.

        Args:
            row: The conversation.
            chats: Its chats from the first on.
        """
        if self._bounds is None:
            return False
        # To some servers a conversation without chats began when it was created.
        first = chats[0].timestamp if chats else row.created_at
        return self._bounds.is_left_out(first, row.last_chat_time)

    def _skip(self, conversation_id: str, error: AlliError) -> None:
        """Skip a conversation, with `on_error="skip"`; otherwise raise the error.

        An outage or a closed client is no fault of the conversation.
        """
        if self._skipped is None or error.is_outage or isinstance(error, ClientStateError):
            raise error
        self._skipped.append(Skipped(conversation_id, error))

    async def _put_corrections(self) -> None:
        """Put out corrections of conversations whose embedded chats were used before they were disproved."""
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
                results = await concurrently([self._correction(check, each) for each in some])
                corrections = [each for each in results if each is not None]
                if corrections:
                    await self._out.put(corrections)

    async def _correction(self, check: EmbeddedCheck, conversation_id: str) -> Correction[ResultT] | None:
        """Fetch a conversation and its chats again; None when they equal the transcript that was made before."""
        try:
            row = await self._fetcher.get(conversation_id)
            newest_first = self._fetcher.is_newest_first(row)
            chats = await self._fetcher.chats(row, newest_first)
        except AlliError as error:
            if not isinstance(error, NotFoundError) or not await self._fetcher.is_gone(conversation_id):
                self._skip(conversation_id, error)
            return None
        result = self.codec.join(row, chats, newest_first)
        now = self.codec.size(result), self.codec.content_size(row)
        before = check.used[conversation_id]
        is_same = now == before and self.codec.agrees(row, chats)
        return None if is_same else Correction(conversation_id, result, before[0])


def _fill(slot: asyncio.Future[ResultT | None], result: ResultT | None) -> None:
    # A consumer that is cancelled while it waits for a slot cancels the slot.
    if not slot.done():
        slot.set_result(result)


def _oldest_first(row: ConversationRow, newest_first: bool) -> Sequence[ChatHead]:
    """The embedded chats of a conversation, the oldest first."""
    return row.chats[::-1] if newest_first else row.chats
