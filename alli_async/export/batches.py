"""Every conversation with all its chats as Arrow tables, without files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

from .._aio.threads import in_thread
from .._listing.filters import ConversationFilters
from .._transcripts.stream import TranscriptStream
from ..client import AlliClient
from ..config import checked_whole
from ..errors import DecodeError
from ..models import RawTranscript, Skipped, StreamStats
from .formats.arrow import load
from .formats.conversion import tables_of
from .records import Quarantined

if TYPE_CHECKING:
    import pyarrow

# Bytes of JSON that are converted at a time. Each conversion costs 2 ms in itself, and holds the JSON until then.
_PIECE_BYTES = 2 << 20


def arrow_batches(
    client: AlliClient,
    *,
    rows: int = 5000,
    on_error: Literal["raise", "skip"] = "raise",
    **filters: Unpack[ConversationFilters],
) -> ArrowBatches:
    """Every conversation with all its chats, as pairs of pyarrow tables: conversations, and their chats.

    The tables have the columns of a Parquet export, in which `run` is 0. `chats.conversation_id` is
    `conversations.id`. What one pair holds is all that is in memory; the next one is read meanwhile.

        async with arrow_batches(client, rows=10_000) as batches:
            async for conversations, chats in batches:
                ...

    Args:
        client: The client to read with.
        rows: Number of conversations in a pair; the last one has fewer.
        on_error: `"skip"` goes on past a conversation that cannot be made whole or decoded, and notes it in
            `.skipped`.
        **filters: As for `transcripts`.

    Returns:
        An async iterator, and an async context manager that ends the work when it is left. `.stats` counts.

    Raises:
        ConfigurationError: pyarrow is not installed, or an argument cannot be right.
    """
    checked_whole("rows", rows, least=1)
    load()
    return ArrowBatches(client.conversations.transcripts(raw=True, on_error=on_error, **filters), rows, on_error)


class ArrowBatches(AsyncIterator["tuple[pyarrow.Table, pyarrow.Table]"]):
    """Pairs of tables, to be walked once.

    Attributes:
        stats: The numbers of what was read so far.
        skipped: With `on_error="skip"`: the conversations that are in no table, and why.
        again: The ids of conversations that came a second time, at the end, since chats were missing before.
    """

    def __init__(self, stream: TranscriptStream[RawTranscript], rows: int, on_error: str) -> None:
        self._stream = stream
        self._results = aiter(stream)
        self._rows = rows
        self._on_error = on_error
        self._tables: list[tuple[Any, Any]] = []
        self._count = 0

    @property
    def stats(self) -> StreamStats:
        """What was read so far."""
        return self._stream.stats

    @property
    def skipped(self) -> list[Skipped]:
        """The conversations that are in no table, and why."""
        return self._stream.skipped

    @property
    def again(self) -> set[str]:
        """The ids of conversations that came a second time."""
        return self._stream.again

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the work. Calling it twice is fine."""
        await self._stream.aclose()

    async def __anext__(self) -> tuple[pyarrow.Table, pyarrow.Table]:
        try:
            while self._count < self._rows and (piece := await self._next_piece()):
                tables, bad = await in_thread(tables_of, piece, 0)
                self._put_aside(bad)
                self._tables += tables
                self._count += len(piece) - len(bad)
        except BaseException:
            await self.aclose()
            raise
        if not self._count:
            raise StopAsyncIteration
        tables, self._tables, self._count = self._tables, [], 0
        pa, _ = load()
        conversations, chats = (pa.concat_tables(some) for some in zip(*tables, strict=True))
        return conversations, chats

    async def _next_piece(self) -> list[RawTranscript]:
        """The next conversations, as many as are converted at a time, and no more than the pair lacks."""
        piece: list[RawTranscript] = []
        size = 0
        while len(piece) < self._rows - self._count and size < _PIECE_BYTES:
            transcript = await anext(self._results, None)
            if transcript is None:
                break
            piece.append(transcript)
            size += len(transcript.json)
        return piece

    def _put_aside(self, bad: list[Quarantined]) -> None:
        for each in bad:
            error = DecodeError(f"conversation {each.id!a} cannot be put into a table: {each.why}")
            if self._on_error == "raise":
                raise error
            self.skipped.append(Skipped(each.id, error))
