"""The workers of an export, as the export's own process sees them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from typing import Any

import anyio

from ..._aio.threads import in_thread
from ..._malloc import is_malloc_tuned
from ...errors import ConfigurationError, ExportError
from ..progress import ExportProgress, add_traffic
from ..records import ExportSpec, Shard
from ..storage.store import Store
from ..tuning import Tuning
from .messages import Assignment, JoinRequest, TaskResult, WorkerStatus
from .scheduler import ANSWER, GLANCE, PATIENT_ANSWER, Scheduler
from .sharing import CLUSTER_SESSION_FILE, is_current, split_evenly
from .workers import begin, join, leave, report_status, set_share, write_shard

logger = logging.getLogger("alli_async")

# A worker's share of the budget: requests in flight, and requests per second (None: no limit).
BudgetShare = tuple[int, float | None]


class WorkerState:
    """One worker of the cluster.

    Args:
        address: The worker's address, which is unique in the cluster.
        at_once: Shards that the worker reads at a time, until it reports another number.

    Attributes:
        address: The worker's address, which is unique in the cluster.
        at_once: Shards that the worker reads at a time, as last reported; its number of threads is no limit.
        share: The worker's share of the budget.
        shards: Number of shards that the worker is writing.
        has_begun: Whether the worker has the assignment.
        progress: The worker's progress, as last reported.
        lost: Set when the worker is lost.
    """

    def __init__(self, address: str, at_once: int) -> None:
        self.address = address
        self.at_once = at_once
        self.share: BudgetShare = (0, None)
        self.shards = 0
        self.has_begun = False
        self.progress = ExportProgress()
        self.lost = asyncio.Event()


class Coordinator:
    """The workers of a cluster in one export.

    Args:
        scheduler: The Dask scheduler of these workers.
        store: The destination.
        options: Keyword arguments of a worker's client, without its key.
        max_concurrency: Requests in flight, of all workers together.
        rate_limit: Requests per second, of all workers together; None for no limit.
        tuning: The numbers that the export runs by.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        store: Store,
        options: dict[str, Any],
        max_concurrency: int,
        rate_limit: float | None,
        tuning: Tuning,
    ) -> None:
        self._scheduler = scheduler
        self._store = store
        self._options = options
        self._budget = max_concurrency, rate_limit
        self._tuning = tuning
        self._session = secrets.token_hex(8)
        self._join_request: JoinRequest
        self._assignment: Assignment | None = None
        self._workers: dict[str, WorkerState] = {}
        self._refused: set[str] = set()
        self._ended = ExportProgress()
        self._alone_since: float | None = None
        self._idle_since: float | None = None
        self._unreached = "it does not answer"

    async def register(self, spec: ExportSpec) -> None:
        """Let every worker join the export. Nothing is sent to the API's server.

        Raises:
            ConfigurationError: A worker cannot join: it has no key, or does not see the destination.
            ExportError: There is no worker.
        """
        self._join_request = JoinRequest(
            session=self._session,
            place=str(self._store),
            tunes_malloc=is_malloc_tuned(),
            spec=spec,
            options=self._options,
            tuning=self._tuning,
        )
        written = self._session.encode() + b"\n"
        await in_thread(lambda: self._store.put_record(CLUSTER_SESSION_FILE, written, replace=True))
        with anyio.move_on_after(self._tuning.wait_for_workers):
            while not self._workers:
                await self._admit(await self._scheduler.present(), strict=True)
                await asyncio.sleep(0 if self._workers else GLANCE)
        if not self._workers:
            raise ExportError(f"the cluster at {self._scheduler} has no workers")

    async def begin(self, assignment: Assignment) -> None:
        """Tell all workers what is to be written.

        Raises:
            ConfigurationError: A worker cannot begin: the server refuses its key, or shows it another project.
        """
        self._assignment = assignment
        await self._divide(everyone=True)
        await self._begin(strict=True)

    async def dismiss(self) -> None:
        """End the work of all workers that can be reached."""
        workers, self._workers = self._workers, {}
        if not workers:
            return
        last: dict[str, Any] = await self._scheduler.ask(leave, self._session, workers=list(workers))
        for address, worker in workers.items():
            status = last.get(address)
            self._note_end(status.progress if isinstance(status, WorkerStatus) else worker.progress)

    async def close(self) -> None:
        """End all work, and give the destination up, unless another export has taken it over."""
        await self.dismiss()
        with contextlib.suppress(ExportError):  # the next export removes it
            if await in_thread(is_current, self._store, self._session):
                await in_thread(self._store.remove, CLUSTER_SESSION_FILE)

    # --- work ---------------------------------------------------------------------------------------------

    def least_busy(self) -> WorkerState | None:
        """The worker with most room for another shard; None where no worker has room."""
        room = {
            worker: min(worker.at_once, worker.share[0]) - worker.shards
            for worker in self._workers.values()
            if worker.has_begun
        }
        worker = max(room, key=lambda each: (room[each], -each.shards), default=None)
        return worker if worker is not None and room[worker] > 0 else None

    def assign(self, worker: WorkerState, shard: Shard) -> asyncio.Task[TaskResult | None]:
        """Let a worker write a shard.

        Returns:
            A task whose result is None when the worker was lost. It raises an `ExportError` for a failure that
            is not foreseen.
        """
        worker.shards += 1
        return asyncio.create_task(self._run_shard(worker, shard))

    async def _run_shard(self, worker: WorkerState, shard: Shard) -> TaskResult | None:
        key = f"alli-shard-{self._session}-{shard.name}-{secrets.token_hex(4)}"
        given = self._session, worker.address, shard
        try:
            result: TaskResult | None = await self._scheduler.run(
                worker.address, worker.lost, key, write_shard, *given
            )
            if result is not None and not result.has_session:
                self._remove(worker)
            return result
        finally:
            worker.shards -= 1

    async def poll(self, *, everyone: bool) -> list[str]:
        """Find out which workers came and went, divide the budget anew, and collect what was done.

        Args:
            everyone: Whether there is work for all workers. If not, a worker without a shard gets no share.

        Returns:
            The names of the shards that workers have split.

        Raises:
            ExportError: The scheduler does not answer, or there has been no worker for a minute.
        """
        present = await self._scheduler.present()
        for address in self._workers.keys() - present:
            self._remove(self._workers[address])
        await self._admit(present, strict=False)
        self._check_not_alone()
        self._check_not_idle()
        await self._divide(everyone=everyone)
        await self._begin(strict=False)
        return await self._collect()

    def progress(self) -> list[ExportProgress]:
        """The last progress of each worker, and the sum of the workers that have left."""
        return [self._ended, *(worker.progress for worker in self._workers.values())]

    async def _collect(self) -> list[str]:
        splits = []
        answers: dict[str, Any] = await self._scheduler.ask(
            report_status, self._session, workers=list(self._workers)
        )
        for address, status in answers.items():
            worker = self._workers.get(address)
            if worker is not None and isinstance(status, WorkerStatus):
                worker.progress, worker.at_once = status.progress, status.at_once
                splits += status.splits
            elif worker is not None and status is None:
                self._remove(worker)
        return splits

    # --- which workers there are --------------------------------------------------------------------------

    async def _admit(self, present: set[str], *, strict: bool) -> None:
        """Let the workers join that have not."""
        new = sorted(present - self._workers.keys() - self._refused)
        answers: dict[str, Any] = await self._scheduler.ask(
            join, self._join_request, workers=new, seconds=PATIENT_ANSWER
        )
        for address, complaint in answers.items():
            if complaint is None:
                self._workers[address] = WorkerState(address, self._tuning.shards_at_first)
            elif not isinstance(complaint, OSError):  # such a worker is lost already, or is asked again
                self._complain(address, complaint, strict=strict)

    async def _begin(self, *, strict: bool) -> None:
        """Give the assignment to the workers that have a share of the budget and no assignment yet."""
        new = [each.address for each in self._workers.values() if each.share[0] and not each.has_begun]
        # A worker that joins in an outage is asked again: meanwhile the others must be polled.
        seconds = PATIENT_ANSWER if strict else ANSWER
        answers: dict[str, Any] = await self._scheduler.ask(
            begin, self._session, self._assignment, workers=new, seconds=seconds
        )
        for address, complaint in answers.items():
            if address not in self._workers:
                continue
            if complaint is None:
                self._workers[address].has_begun = True
            elif isinstance(complaint, OSError):
                self._unreached = str(complaint)
            else:
                self._complain(address, complaint, strict=strict)
                self._remove(self._workers[address])
                await self._scheduler.ask(leave, self._session, workers=[address])

    def _complain(self, address: str, complaint: object, *, strict: bool) -> None:
        text = f"{type(complaint).__name__}: {complaint}" if isinstance(complaint, Exception) else complaint
        if strict:
            raise ConfigurationError(f"cluster: worker {address}: {text}")
        logger.warning("worker %s is left aside: %s", address, text)
        self._refused.add(address)

    def _remove(self, worker: WorkerState) -> None:
        if self._workers.pop(worker.address, None) is not None:
            self._note_end(worker.progress)
            worker.lost.set()

    def _note_end(self, progress: ExportProgress) -> None:
        progress.in_flight = 0
        add_traffic(self._ended, progress)

    def _check_not_alone(self) -> None:
        now = time.monotonic()
        if self._workers:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        elif now - self._alone_since > self._tuning.wait_for_workers:
            raise ExportError(
                f"the cluster at {self._scheduler} has no worker left; what was committed stays, "
                "and the same call goes on"
            )

    def _check_not_idle(self) -> None:
        """Raise an error when no worker could begin for as long as the export is patient."""
        now = time.monotonic()
        if not self._workers or any(each.has_begun for each in self._workers.values()):
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since > max(self._options["retry"].patience, PATIENT_ANSWER):
            raise ExportError(
                f"no worker of the cluster at {self._scheduler} reaches the server: {self._unreached}; what was "
                "committed stays, and the same call goes on"
            )

    # --- the budget ---------------------------------------------------------------------------------------

    async def _divide(self, *, everyone: bool) -> None:
        """Divide the budget among the workers with work.

        Shares that shrink are changed first, so that the sum of all shares never exceeds the budget.
        """
        sharing = [each for each in self._workers.values() if everyone or each.shards]
        ceiling, rate = self._budget
        shares: dict[str, BudgetShare] = dict.fromkeys(self._workers, (0, None))
        count = min(len(sharing), ceiling)
        for worker, part in zip(sharing, split_evenly(ceiling, len(sharing)), strict=True):
            shares[worker.address] = part, None if rate is None else rate / count
        smaller = {address: _smaller(share, self._workers[address].share) for address, share in shares.items()}
        if await self._set_shares(smaller):
            await self._set_shares(shares)

    async def _set_shares(self, shares: dict[str, BudgetShare]) -> bool:
        """Change the shares that differ.

        Returns:
            Whether all workers have confirmed.
        """
        new = {name: share for name, share in shares.items() if share != self._workers[name].share}
        answers = await self._scheduler.ask(
            set_share, self._session, new, workers=list(new), seconds=PATIENT_ANSWER
        )
        confirmed = [address for address, answer in answers.items() if answer is None]
        for address in self._workers.keys() & confirmed:
            self._workers[address].share = new[address]
        return len(confirmed) == len(new)


def _smaller(one: BudgetShare, other: BudgetShare) -> BudgetShare:
    """The smaller of two shares, in each of their numbers."""
    rates = [rate for rate in (one[1], other[1]) if rate is not None]
    return min(one[0], other[0]), min(rates, default=None)
