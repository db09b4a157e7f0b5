"""An export on a Dask cluster: its shards are handed to workers, one task each; the journal tells what became.

A worker is asked whether it sees the destination and has a key before it is given anything, also one that joins
later. Of the scheduler nothing is believed but who is there: a shard whose worker is lost is handed to another.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import chain, repeat
from typing import Any

from .._aio.tasks import run_to_completion
from .._aio.threads import in_thread
from .._listing.filters import Filters
from .._transport.session import Session
from ..client import AlliClient
from ..errors import ConfigurationError, ExportError
from .crew import Crew
from .formats.shard_writer import ShardWriter
from .journal import Run
from .messages import Receipt, Work
from .records import Fate, Shard
from .running import PROGRESS_SECONDS, ExportProgress, Runner, add_traffic
from .scheduler import Cluster, connected
from .storage.store import Store

# Seconds between two looks at the workers. The first comes as soon as they know how much they can do at a time.
_FIRST_LOOK, _LOOK = 0.2, 0.5
# Workers that one shard may lose, before it is believed that the shard is why.
_LOSSES = 3
# A record that a worker has written may be seen here a little later: ten seconds.
_LOOKS_FOR_RECORD = 20


@asynccontextmanager
async def gathering(cluster: Cluster, client: AlliClient, store: Store) -> AsyncIterator[Crew]:
    """The workers of a cluster, for as long as an export takes.

    Raises:
        ConfigurationError: The cluster cannot be reached, or the client cannot be had anywhere else.
    """
    options = _options(client)
    async with connected(cluster) as scheduler:
        crew = Crew(scheduler, store, options, client._config.max_concurrency, client._config.rate_limit)
        try:
            yield crew
        finally:
            await run_to_completion(crew.close())


def _options(client: AlliClient) -> dict[str, Any]:
    """What a worker's client is made of. The key is not among it: tasks are kept, logged and shown."""
    options, connection = dict(client._options), client._connection
    route = connection.route
    functions = options.pop("middlewares") + options.pop("call_middlewares")
    if functions or connection.is_given:
        raise ConfigurationError(
            "cluster: a client with middlewares or an aiohttp session of its own is in this process only; "
            "make one without"
        )
    if route.ssl is not None:
        raise ConfigurationError(
            "cluster: certificates of the client's own (ssl, --ca-file) are in this process only; set "
            "SSL_CERT_FILE on each worker instead"
        )
    # A proxy with a password is left to the environment of each worker, like the key.
    is_secret = route.proxy is not None and route.proxy.credentials is not None
    options["proxy"] = str(route.proxy.url) if route.proxy is not None and not is_secret else None
    options["trust_env"] = route.trust_env or is_secret
    for name in ("api_key", "token", "region", "rate_limit"):
        del options[name]
    return options


class ClusterRunner(Runner):
    """A run whose shards are written by workers, all but the last one.

    Args:
        crew: The workers.
        session: As for `Runner`, like all that follows.
    """

    def __init__(
        self,
        session: Session,
        filters: Filters,
        run: Run,
        open_writer: Callable[[str], ShardWriter],
        *,
        crew: Crew,
        **how: Any,
    ) -> None:
        super().__init__(session, filters, run, open_writer, **how)
        self._crew = crew
        self._waiting: deque[Shard] = deque()
        self._lost: Counter[str] = Counter()

    async def run(self) -> ExportProgress:
        """Do all that is pending. Workers write all shards but the last, which this process writes after them.

        Raises:
            AlliError: The first error. What was committed stays.
        """
        # The last shard takes what moved while the others were read: it needs their commits.
        for_workers = [shard for shard in self._run.ledger.pending if shard.end is not None]
        if for_workers:
            work = Work(plan=self._run.plan, filters=self._filters, on_error=self._on_error)
            await self._crew.begin(work)
            try:
                await self._hand_out(for_workers)
            finally:
                await run_to_completion(self._crew.dismiss())
        return await super().run()

    def progress(self) -> ExportProgress:
        """The numbers so far, of all workers."""
        total = super().progress()
        for each in self._crew.progress():
            total.conversations += each.conversations
            total.chats += each.chats
            add_traffic(total, each)
        return total

    async def _hand_out(self, shards: Iterable[Shard]) -> None:
        self._waiting.extend(shards)
        at_work: dict[asyncio.Task[Receipt | None], Shard] = {}
        looking = asyncio.create_task(self._keep_looking())
        try:
            while self._waiting or at_work:
                while self._waiting and (member := self._crew.free()):
                    shard = self._waiting.popleft()
                    at_work[self._crew.hand(member, shard)] = shard
                done, _ = await asyncio.wait(
                    {looking, *at_work}, timeout=PROGRESS_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if looking in done:
                    looking.result()
                for task in done & at_work.keys():
                    await self._take_in(at_work.pop(task), task.result())
                self._tell()
        finally:
            for task in (looking, *at_work):
                task.cancel()
            await asyncio.gather(looking, *at_work, return_exceptions=True)

    async def _keep_looking(self) -> None:
        """Who has come and gone, what they have done, and what of it makes more work."""
        for pause in chain([_FIRST_LOOK], repeat(_LOOK)):
            await asyncio.sleep(pause)
            for name in await self._crew.look(everyone=bool(self._waiting)):
                await self._hear(name)

    async def _take_in(self, shard: Shard, receipt: Receipt | None) -> None:
        if receipt is None or not receipt.seated:
            self._lost[shard.name] += receipt is None
            if self._lost[shard.name] > _LOSSES:
                raise ExportError(f"shard {shard.name}: {_LOSSES + 1} workers were lost while they wrote it")
            self._waiting.appendleft(shard)
            return
        if receipt.error is not None:
            raise receipt.error
        for name in receipt.told:
            await self._hear(name)

    async def _hear(self, name: str) -> None:
        """Read what became of a shard, and take it in, unless that was done."""
        ledger = self._run.ledger
        if not ledger.knows(name):
            fate = await self._fate_of(name)
            if not ledger.knows(name):
                ledger.tell(fate)
                self._waiting.extend((fate.split or [])[1:])

    async def _fate_of(self, name: str) -> Fate:
        for _ in range(_LOOKS_FOR_RECORD):
            fate = await in_thread(self._run.fate_of, name)
            if fate is not None:
                return fate
            await asyncio.sleep(_LOOK)
        raise ExportError(f"shard {name}: a worker has told of it, but its record is not to be seen here")
