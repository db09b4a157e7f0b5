"""The workers that have a place in an export, as the export's own process sees them."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import Any

import anyio
import anyio.to_thread

from .._bulk.shards import Shard
from ..errors import ConfigurationError, ExportError
from .journal import Binding
from .planning import AT_ONCE
from .running import ExportProgress, add_traffic
from .sharing import SESSION, SharedDirectory, shares
from .workers import Hello, Receipt, Told, Work, begin, change, join, leave, poll, write_shard

logger = logging.getLogger("alli_async")

# A worker that does not answer in time is not waited for; the scheduler will tell whether it is lost.
_ANSWER, _JOIN, _LEAVE = 5.0, 60.0, 10.0
# So long an export waits for a worker to come, where there is none.
_PATIENCE = 60.0


class Member:
    """A worker.

    Attributes:
        address: Its own, which is unique.
        slots: Shards that it may do at a time: the threads it has.
        ceiling: Requests it may have in flight.
        rate: Requests per second that it may send; None for no bound.
        shards: That it is doing.
        begun: Whether it has heard what is to be done.
        progress: What it has told last.
        gone: Set once it is lost.
    """

    def __init__(self, address: str, slots: int) -> None:
        self.address = address
        self.slots = max(1, min(slots, AT_ONCE))
        self.ceiling = 0
        self.rate: float | None = None
        self.shards = 0
        self.begun = False
        self.progress = ExportProgress()
        self.gone = asyncio.Event()


class Crew:
    """The workers of a cluster in one export.

    Args:
        scheduler: An asynchronous `distributed.Client`.
        store: The destination.
        options: Of a worker's client.
        max_concurrency: Requests in flight, of all workers together.
        rate_limit: Requests per second, of all workers together; None for no bound.
    """

    def __init__(
        self,
        scheduler: Any,
        store: SharedDirectory,
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
        await anyio.to_thread.run_sync(lambda: self._store.put_record(SESSION, written, replace=True))
        with anyio.move_on_after(_PATIENCE):
            while not await self._arrivals(await self._present(), strict=True):  # noqa: ASYNC110 - none tells
                await asyncio.sleep(_ANSWER / 10)
        if not self._members:
            raise ExportError(f"the cluster at {self._address} has no workers")

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
        last: dict[str, Told | None] = await self._ask(leave, self._session, members=list(members), seconds=_LEAVE)
        for address, member in members.items():
            told = last.get(address)
            self._note_end(member.progress if told is None else told.progress)

    # --- work ---------------------------------------------------------------------------------------------

    def free(self) -> Member | None:
        """The worker with most room for a shard, if any has some."""
        room = {
            member: min(member.slots, member.ceiling) - member.shards
            for member in self._members.values()
            if member.begun
        }
        member = max(room, key=lambda each: (room[each], -each.shards), default=None)
        return member if member is not None and room[member] > 0 else None

    async def hand(self, member: Member, shard: Shard) -> Receipt | None:
        """Have a worker do a shard; None when it was lost.

        Raises:
            ExportError: It failed in a way that is not foreseen.
        """
        member.shards += 1
        future = self._scheduler.submit(
            write_shard,
            self._session,
            member.address,
            shard,
            key=f"alli-shard-{self._session}-{shard.name}-{secrets.token_hex(4)}",
            workers=[member.address],
            allow_other_workers=False,
            pure=False,
        )
        answer = asyncio.ensure_future(_outcome(future))
        gone = asyncio.ensure_future(member.gone.wait())
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                return None
            receipt = answer.result()
            if receipt is None:
                # The scheduler has forgotten it. Whether worker and scheduler are there is known soon.
                await asyncio.sleep(_ANSWER / 10)
            elif not receipt.seated:
                self._remove(member)
        except Exception as error:  # noqa: BLE001 - of the worker's making, or of the cluster's
            raise ExportError(f"worker {member.address}: {type(error).__name__}: {error}") from None
        else:
            return receipt
        finally:
            member.shards -= 1
            answer.cancel()
            gone.cancel()
            future.release()

    async def look(self, *, everyone: bool) -> list[str]:
        """See who has come and gone, divide the budget anew, and hear what was done.

        Args:
            everyone: Whether there is work for all; else those without have no share.

        Returns:
            The shards that were split.

        Raises:
            ExportError: The scheduler does not answer, or there has been no worker for a minute.
        """
        present = await self._present()
        for address in self._members.keys() - present.keys():
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
        heard: dict[str, Told | None] = await self._ask(poll, self._session, members=list(self._members))
        for address, told in heard.items():
            member = self._members.get(address)
            if member is not None and told is not None:
                member.progress = told.progress
                splits += told.splits
            elif member is not None:
                self._remove(member)
        return splits

    # --- who is there -------------------------------------------------------------------------------------

    @property
    def _address(self) -> str:
        return str(self._scheduler.scheduler.address)

    async def _present(self) -> dict[str, int]:
        """The workers, and how many threads each has."""
        try:
            async with asyncio.timeout(_JOIN):
                identity = await self._scheduler.scheduler.identity(n_workers=-1)
        except OSError:
            raise ExportError(
                f"the scheduler at {self._address} is gone; what was committed stays, and the same call goes on"
            ) from None
        return {address: worker["nthreads"] for address, worker in identity["workers"].items()}

    async def _arrivals(self, present: dict[str, int], *, strict: bool) -> bool:
        """Give places to those who have none; gives whether there is anybody."""
        new = [address for address in present if address not in self._members and address not in self._refused]
        answers: dict[str, Any] = await self._ask(join, self._hello, members=new, seconds=_JOIN, errors="return")
        for address, complaint in answers.items():
            if complaint is None:
                self._members[address] = Member(address, present[address])
            else:
                await self._complain(address, complaint, strict=strict)
        return bool(self._members)

    async def _begin(self, *, strict: bool) -> None:
        """Tell what is to be done to those who have a share and were not told."""
        new = [each.address for each in self._members.values() if each.ceiling and not each.begun]
        answers: dict[str, Any] = await self._ask(
            begin, self._session, self._work, members=new, seconds=_JOIN, errors="return"
        )
        for address, complaint in answers.items():
            if complaint is not None:
                await self._complain(address, complaint, strict=strict)
            elif address in self._members:
                self._members[address].begun = True

    async def _complain(self, address: str, complaint: object, *, strict: bool) -> None:
        text = f"{type(complaint).__name__}: {complaint}" if isinstance(complaint, Exception) else complaint
        if strict:
            raise ConfigurationError(f"cluster: worker {address}: {text}")
        logger.warning("worker %s is left aside: %s", address, text)
        self._refused.add(address)
        if (member := self._members.get(address)) is not None:
            self._remove(member)

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
                f"the cluster at {self._address} has no worker left; what was committed stays, and the same call "
                "goes on"
            )

    # --- the budget ---------------------------------------------------------------------------------------

    async def _divide(self, *, everyone: bool) -> None:
        """Cut the budget into shares for those with work; who gets less gives first, so it is never exceeded."""
        sharing = [each for each in self._members.values() if everyone or each.shards]
        ceiling, rate = self._budget
        parts: dict[str, tuple[int, float | None]] = dict.fromkeys(self._members, (0, None))
        count = min(len(sharing), ceiling)
        for member, share in zip(sharing, shares(ceiling, len(sharing)), strict=True):
            parts[member.address] = share, None if rate is None else rate / count
        for grows in (False, True):
            some = {
                member.address: parts[member.address]
                for member in self._members.values()
                if parts[member.address] != (member.ceiling, member.rate)
                and (parts[member.address][0] > member.ceiling) is grows
            }
            await self._ask(change, self._session, some, members=list(some), seconds=_JOIN)
            for address, (share, pace) in some.items():
                if address in self._members:
                    self._members[address].ceiling, self._members[address].rate = share, pace

    async def _ask(
        self,
        function: Any,
        *arguments: Any,
        members: list[str],
        seconds: float = _ANSWER,
        errors: str = "ignore",
    ) -> dict[str, Any]:
        """Call a function on workers, beside their tasks; those that do not answer are left out."""
        if not members:
            return {}
        try:
            async with asyncio.timeout(seconds):
                answers: dict[str, Any] = await self._scheduler.run(
                    function, *arguments, workers=members, on_error=errors
                )
                return answers
        except OSError:  # a timeout is one
            return {}


async def _outcome(future: Any) -> Receipt | None:
    """A task's receipt; None when the scheduler has lost or cancelled it."""
    receipt: Receipt | None = None
    try:
        receipt = await future
    except Exception:
        if future.status not in ("cancelled", "lost"):
            raise
    return receipt
