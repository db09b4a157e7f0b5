"""The workers that have a place in an export, as the export's own process sees them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from typing import Any

import anyio

from .._aio.threads import in_thread
from ..errors import ConfigurationError, ExportError
from .messages import Hello, Receipt, Told, Work
from .records import Binding, Shard
from .running import AT_FIRST, ExportProgress, add_traffic
from .scheduler import GLANCE, PATIENT_ANSWER, Scheduler
from .sharing import SESSION, serves, shares
from .storage.store import Store
from .workers import begin, change, join, leave, poll, write_shard

logger = logging.getLogger("alli_async")

# So long an export waits for a worker to come, where there is none.
_PATIENCE = 60.0

Part = tuple[int, float | None]


class Member:
    """A worker.

    Attributes:
        address: Its own, which is unique.
        at_once: Shards that it walks at a time, as it has told last; the threads it has are not the bound.
        part: Requests that it may have in flight, and send a second; None for no bound.
        shards: That it is doing.
        begun: Whether it has heard what is to be done.
        progress: What it has told last.
        gone: Set once it is lost.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.at_once = AT_FIRST
        self.part: Part = (0, None)
        self.shards = 0
        self.begun = False
        self.progress = ExportProgress()
        self.gone = asyncio.Event()


class Crew:
    """The workers of a cluster in one export.

    Args:
        scheduler: Theirs.
        store: The destination.
        options: Of a worker's client.
        max_concurrency: Requests in flight, of all workers together.
        rate_limit: Requests per second, of all workers together; None for no bound.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        store: Store,
        options: dict[str, Any],
        max_concurrency: int,
        rate_limit: float | None,
    ) -> None:
        self._scheduler = scheduler
        self._store = store
        self._options = options
        self._budget = max_concurrency, rate_limit
        self._session = secrets.token_hex(8)
        self._hello: Hello
        self._work: Work | None = None
        self._members: dict[str, Member] = {}
        self._refused: set[str] = set()
        self._ended = ExportProgress()
        self._alone_since: float | None = None

    async def call(self, binding: Binding) -> None:
        """Give every worker a place in the export. Nothing is sent to the server.

        Raises:
            ConfigurationError: One cannot take it: it has no key, or does not see the destination.
            ExportError: There is no worker.
        """
        self._hello = Hello(session=self._session, place=str(self._store), binding=binding, options=self._options)
        written = self._session.encode() + b"\n"
        await in_thread(lambda: self._store.put_record(SESSION, written, replace=True))
        with anyio.move_on_after(_PATIENCE):
            while not self._members:
                await self._arrivals(await self._scheduler.present(), strict=True)
                await asyncio.sleep(0 if self._members else GLANCE)
        if not self._members:
            raise ExportError(f"the cluster at {self._scheduler} has no workers")

    async def begin(self, work: Work) -> None:
        """Tell everyone what is to be done.

        Raises:
            ConfigurationError: One cannot: the server does not take its key, or knows another project by it.
        """
        self._work = work
        await self._divide(everyone=True)
        await self._begin(strict=True)

    async def dismiss(self) -> None:
        """End all work, as far as workers can be reached."""
        members, self._members = self._members, {}
        if not members:
            return
        last: dict[str, Any] = await self._scheduler.ask(leave, self._session, workers=list(members))
        for address, member in members.items():
            told = last.get(address)
            self._note_end(told.progress if isinstance(told, Told) else member.progress)

    async def close(self) -> None:
        """End all work, and let the destination go, if it was not taken over."""
        await self.dismiss()
        with contextlib.suppress(ExportError):  # the next export removes it
            if await in_thread(serves, self._store, self._session):
                await in_thread(self._store.remove, SESSION)

    # --- work ---------------------------------------------------------------------------------------------

    def free(self) -> Member | None:
        """The worker with most room for a shard, if any has some."""
        room = {
            member: min(member.at_once, member.part[0]) - member.shards
            for member in self._members.values()
            if member.begun
        }
        member = max(room, key=lambda each: (room[each], -each.shards), default=None)
        return member if member is not None and room[member] > 0 else None

    def hand(self, member: Member, shard: Shard) -> asyncio.Task[Receipt | None]:
        """Have a worker do a shard; the task gives None when the worker was lost.

        It raises an `ExportError` when it failed in a way that is not foreseen.
        """
        member.shards += 1
        return asyncio.create_task(self._done(member, shard))

    async def _done(self, member: Member, shard: Shard) -> Receipt | None:
        key = f"alli-shard-{self._session}-{shard.name}-{secrets.token_hex(4)}"
        given = self._session, member.address, shard
        try:
            receipt: Receipt | None = await self._scheduler.run(
                member.address, member.gone, key, write_shard, *given
            )
            if receipt is not None and not receipt.seated:
                self._remove(member)
            return receipt
        finally:
            member.shards -= 1

    async def look(self, *, everyone: bool) -> list[str]:
        """See who has come and gone, divide the budget anew, and hear what was done.

        Args:
            everyone: Whether there is work for all; else those without have no share.

        Returns:
            The shards that were split.

        Raises:
            ExportError: The scheduler does not answer, or there has been no worker for a minute.
        """
        present = await self._scheduler.present()
        for address in self._members.keys() - present:
            self._remove(self._members[address])
        await self._arrivals(present, strict=False)
        self._wait_for_somebody()
        await self._divide(everyone=everyone)
        await self._begin(strict=False)
        return await self._hear()

    def progress(self) -> list[ExportProgress]:
        """What each worker has told last, and what those that are gone had done."""
        return [self._ended, *(member.progress for member in self._members.values())]

    async def _hear(self) -> list[str]:
        splits = []
        heard: dict[str, Any] = await self._scheduler.ask(poll, self._session, workers=list(self._members))
        for address, told in heard.items():
            member = self._members.get(address)
            if member is not None and isinstance(told, Told):
                member.progress, member.at_once = told.progress, told.at_once
                splits += told.splits
            elif member is not None and told is None:
                self._remove(member)
        return splits

    # --- who is there -------------------------------------------------------------------------------------

    async def _arrivals(self, present: set[str], *, strict: bool) -> None:
        """Give places to those who have none."""
        new = sorted(present - self._members.keys() - self._refused)
        answers: dict[str, Any] = await self._scheduler.ask(join, self._hello, workers=new, seconds=PATIENT_ANSWER)
        for address, complaint in answers.items():
            if complaint is None:
                self._members[address] = Member(address)
            elif not isinstance(complaint, OSError):  # it is lost already, or asked again
                self._complain(address, complaint, strict=strict)

    async def _begin(self, *, strict: bool) -> None:
        """Tell what is to be done to those who have a share and were not told."""
        new = [each.address for each in self._members.values() if each.part[0] and not each.begun]
        answers: dict[str, Any] = await self._scheduler.ask(
            begin, self._session, self._work, workers=new, seconds=PATIENT_ANSWER
        )
        for address, complaint in answers.items():
            if address not in self._members:
                continue
            if complaint is None:
                self._members[address].begun = True
            elif not isinstance(complaint, OSError):
                self._complain(address, complaint, strict=strict)
                self._remove(self._members[address])
                await self._scheduler.ask(leave, self._session, workers=[address])

    def _complain(self, address: str, complaint: object, *, strict: bool) -> None:
        text = f"{type(complaint).__name__}: {complaint}" if isinstance(complaint, Exception) else complaint
        if strict:
            raise ConfigurationError(f"cluster: worker {address}: {text}")
        logger.warning("worker %s is left aside: %s", address, text)
        self._refused.add(address)

    def _remove(self, member: Member) -> None:
        if self._members.pop(member.address, None) is not None:
            self._note_end(member.progress)
            member.gone.set()

    def _note_end(self, progress: ExportProgress) -> None:
        progress.in_flight = 0
        add_traffic(self._ended, progress)

    def _wait_for_somebody(self) -> None:
        now = time.monotonic()
        if self._members:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        elif now - self._alone_since > _PATIENCE:
            raise ExportError(
                f"the cluster at {self._scheduler} has no worker left; what was committed stays, "
                "and the same call goes on"
            )

    # --- the budget ---------------------------------------------------------------------------------------

    async def _divide(self, *, everyone: bool) -> None:
        """Cut the budget into shares for those with work; who gets less gives first, so it is never exceeded."""
        sharing = [each for each in self._members.values() if everyone or each.shards]
        ceiling, rate = self._budget
        parts: dict[str, Part] = dict.fromkeys(self._members, (0, None))
        count = min(len(sharing), ceiling)
        for member, share in zip(sharing, shares(ceiling, len(sharing)), strict=True):
            parts[member.address] = share, None if rate is None else rate / count
        less = {address: _less(part, self._members[address]) for address, part in parts.items()}
        if await self._give(less):
            await self._give(parts)

    async def _give(self, parts: dict[str, Part]) -> bool:
        """Give shares to those who have others; gives whether all have taken them."""
        new = {name: part for name, part in parts.items() if part != self._members[name].part}
        answers = await self._scheduler.ask(change, self._session, new, workers=list(new), seconds=PATIENT_ANSWER)
        taken = [address for address, answer in answers.items() if answer is None]
        for address in self._members.keys() & taken:
            self._members[address].part = new[address]
        return len(taken) == len(new)


def _less(part: Part, member: Member) -> Part:
    """What is in both shares."""
    rates = [rate for rate in (part[1], member.part[1]) if rate is not None]
    return min(part[0], member.part[0]), min(rates, default=None)
