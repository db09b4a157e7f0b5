"""What the last shard holds besides its own rows: conversations that are asked for by their ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import aclosing

from .._aio.threads import in_thread
from ..models import Skipped
from .holdings import Holdings, Version, pack_versions
from .outstanding import Gone, fetch_outstanding, find_gone, list_again
from .records import Commit, Shard
from .run_context import EarlierRuns, RunContext
from .shard_buffer import ShardBuffer
from .shard_reader import ShardReader


class LastShard:
    """Asks for conversations that no shard lists: outstanding since earlier runs, deferred, or no longer listed.

    Args:
        context: What all shards of the run share.
        reader: The reader of the last shard, which has read its rows.
        buffer: The buffer that the conversations are added to.
        commits: The other shards, and what was committed of each.
    """

    def __init__(
        self,
        context: RunContext,
        reader: ShardReader,
        buffer: ShardBuffer,
        commits: Sequence[tuple[Shard, Commit]],
    ) -> None:
        self._context = context
        self._session = context.session.counting(reader.stats)
        self._reader = reader
        self._buffer = buffer
        self._commits = [commit for _, commit in commits]

    async def read(self) -> None:
        """Read all of these conversations."""
        await self._read_outstanding()
        await self._read_by_id(self._reader.deferred_ids())
        if self._context.plan.kind == "refresh" and self._context.earlier is not None:
            await self._look_for_absent(self._context.earlier)

    async def _read_outstanding(self) -> None:
        """Ask again for what earlier runs could not make whole, decode or list."""
        plan, earlier, reader = self._context.plan, self._context.earlier, self._reader
        ids, bad = await list_again(self._session, self._context.filters.without_last_chat(), plan)
        for row in bad:
            if row.raw:
                reader.bad.append(row)
            else:
                reader.skipped.append(row.skipped)
        held = earlier.holdings if earlier is not None else Holdings()
        await self._read_by_id(dict.fromkeys([*plan.again, *(each for each in ids if each not in held)]))

    async def _look_for_absent(self, earlier: EarlierRuns) -> None:
        """Find out what became of the conversations that are held and that a refresh has not met."""
        written = [*(commit.written for commit in self._commits), pack_versions(self._buffer.versions)]
        written.append(pack_versions(dict.fromkeys(self._met_unwritten(), Version(0, 0))))
        absent = await in_thread(earlier.absent_from, Holdings(written))
        filters = self._context.filters
        if filters.selects_all and not filters.on_first_chat:
            await self._read_by_id(absent)
        else:
            # A conversation that the server still has left the filter: its last version stays.
            gone = await find_gone(self._session, absent)
            self._buffer.deleted.update(dict.fromkeys(gone))

    def _met_unwritten(self) -> list[str]:
        """The ids of conversations that this run has met and that are in no part."""
        met = [each.id for each in self._reader.skipped if each.id] + [each.id for each in self._reader.bad]
        met += self._buffer.deleted
        for commit in self._commits:
            met += [each.id for each in commit.incomplete if each.id]
            met += [each.id for each in commit.quarantined if each.id]
            met += [each.id for each in commit.deleted]
        return met

    async def _read_by_id(self, ids: Iterable[str]) -> None:
        """Ask for conversations by their ids; a conversation that the server does not know was deleted."""
        reader, buffer = self._reader, self._buffer
        met = {each.id for each in reader.skipped}
        wanted = [each for each in ids if each not in met and not buffer.has([each])]
        async with aclosing(fetch_outstanding(self._session, self._context.filters, wanted)) as answers:
            async for answer in answers:
                if isinstance(answer, Skipped):
                    reader.skipped.append(answer)
                elif isinstance(answer, Gone):
                    buffer.deleted[answer.id] = None
                else:
                    await buffer.add(answer)
