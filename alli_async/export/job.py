"""The export job: into a directory, in parts that are each there whole or not at all; or into one file."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Unpack

from msgspec import UNSET, UnsetType

from .._aio.threads import in_stoppable_thread, in_thread
from .._client_session import session_of
from .._listing.filters import ConversationFilters
from .._listing.pages import MAX_PAGE_SIZE
from .._transport.session import Session
from ..client import AlliClient
from ..errors import ConfigurationError, ExportError, IncompleteError
from ..models import Skipped, StreamStats
from .commit_log import RunLog, next_number
from .dask.cluster import ClusterExecutor, coordinated, reached
from .dask.coordinator import Coordinator
from .dask.scheduler import Cluster
from .dask.sharing import CLUSTER_SESSION_FILE, open_shared
from .destination import Destination, EarlierVersions
from .executors import LocalExecutor
from .formats.compression import Compression
from .formats.projection import Redact
from .formats.shard_writer import ShardWriter
from .formats.writers import Format, writer_of
from .holdings import Holdings
from .outstanding import add_outstanding, outstanding_in
from .planning import plan_run
from .progress import ExportProgress
from .project import check_project
from .records import Incomplete, Quarantined, RunEnd, RunPlan
from .report import ExportReport
from .request import ExportRequest, Time
from .run_context import OnError, RunContext
from .running import write_pending
from .single_file import export_file
from .storage.addresses import checked_dest
from .storage.files import PRIVATE
from .storage.opening import open_store
from .storage.store import Store
from .tuning import DEFAULT_TUNING, Tuning


async def export(
    client: AlliClient,
    dest: str | os.PathLike[str],
    *,
    format: Format | UnsetType = UNSET,  # noqa: A002 - a public name
    compression: Compression | None = None,
    since: Time | None = None,
    until: Time | None = None,
    incremental: bool = False,
    refresh: bool = False,
    columns: Sequence[str] | None = None,
    redact: Redact | None = None,
    page_size: int = MAX_PAGE_SIZE,
    mode: int = PRIVATE,
    on_error: OnError | None = None,
    on_progress: Callable[[ExportProgress], None] | None = None,
    cluster: Cluster | None = None,
    same_project: bool = False,
    **filters: Unpack[ConversationFilters],
) -> ExportReport:
    """Write every conversation with all its chats.

    Into a directory the export is a journal of small steps. It can be killed at any byte, and the same call goes
    on with it; when all is there, `manifest.json` says so. A line is what the server sent, unknown fields
    included, with all chats in place of the few that come with a list.

    Args:
        client: The client to read with.
        dest: A directory, which then holds `conversations/*.jsonl.gz`, the manifest and the journal; or one file,
            by its name's ending (`.jsonl` or `.csv`, also with `.gz` or `.zst`), which decides format and
            compression. A file has no journal: it is there whole, or the earlier one still is. Or an address in an
            object store, like `s3://bucket/prefix`, which then holds the same as a directory.
        format: `"jsonl"`; or `"parquet"`: flat datasets in `conversations/` and `chats/`; or `"csv"`: one row a
            chat, for spreadsheets. If left out, the name of a file decides, and JSON Lines
            is the format of a directory.
        compression: `"gzip"`, `"zstd"` or `"none"`; None for gzip, for zstd in Parquet, and for none in CSV.
        since: With a first chat from this time on; the same as `first_chat_started_at`.
        until: With a first chat up to this time; the same as `first_chat_end_at`.
        incremental: When a run was completed before: only what has had a chat since, and again what could not be
            made whole. The latest run's version of a conversation holds.
        refresh: When a run was completed before: everything once more, into the same destination, and what the
            server does not have any more is noted in `deleted.jsonl`. What is there stays until `compact`.
        columns: The fields to write, such as `["title", "user.user_id", "chats.message"]`. The name of an object
            stands for all of it, and `extra` for the fields that this version does not know. `id` is always
            written. None for every field.
        redact: The fields to leave out, such as `["user", "chats.message"]`; or a mapping of each name to None, or
            to a secret key (bytes) by whose HMAC-SHA256 the text is replaced. Fields that this version does not
            know are left out, too, unless `columns` names them. A destination keeps to its columns and redaction.
        page_size: Number of conversations to ask for at a time, from 1 to 50; a run that goes on keeps its own. A
            smaller number is found without it where the server cannot make larger pages.
        mode: Permission bits of the files, such as `0o640`; whoever may read them may also enter the directories
            that are made. 0600 by default: nobody else reads them. An object store has its own permissions.
        on_error: `"skip"` goes on past what cannot be made whole or decoded, and reports it; `"raise"` ends the
            export there. None: skip in a directory, whose manifest lists them, raise for a file.
        on_progress: Called some ten times a second with the numbers so far.
        cluster: A `distributed.Client`, or a scheduler's address like `"tcp://scheduler:8786"`: its workers write
            the shards, each as many at a time as an export without them would, within the client's
            `max_concurrency` and `rate_limit` in all. They need `dest`, a directory under the same path or an
            object store, and in their own environment the key (`ALLI_API_KEY` or `ALLI_TOKEN`), the object
            store's credentials and, if `redact` hashes a field, `ALLI_REDACT_KEY_FILE`: a file with the key of the
            hashes. What is one shard is written by this process: a small list, and an incremental
            run.
        same_project: Go on although the server does not know any conversation of the destination: you know that it
            is the same project, whose conversations were all deleted meanwhile. Without it such a run is refused.
        **filters: `user_ids`, `llm_app_id`, `category_id`, `started_at`, `end_at`, `first_chat_started_at`,
            `first_chat_end_at`, `search_term`, `variables`, `active_only`, `background_running`, as
            `ConversationFilters` describes them. `started_at` and `end_at` bound the time of the LAST chat, so
            that a conversation which goes on leaves such a window; `first_chat_…` bound that of the first.

    Raises:
        ConfigurationError: The destination holds an export of something else, or an option cannot be right.
        ExportError: The file system or the store refuses, or another export is writing there.
        AlliError: As from `transcripts`.
    """
    if on_progress is not None and not callable(on_progress):
        raise ConfigurationError(f"on_progress: expected a function, got {on_progress!a}")
    request = ExportRequest.checked(
        checked_dest(dest),
        filters,
        format=format,
        compression=compression,
        since=since,
        until=until,
        incremental=incremental,
        refresh=refresh,
        columns=columns,
        redact=redact,
        page_size=page_size,
        mode=mode,
        on_error=on_error,
        same_project=same_project,
        on_cluster=cluster is not None,
    )
    return await run_export(client, request, cluster=cluster, on_progress=on_progress)


async def run_export(
    client: AlliClient,
    request: ExportRequest,
    *,
    cluster: Cluster | None = None,
    on_progress: Callable[[ExportProgress], None] | None = None,
    tuning: Tuning = DEFAULT_TUNING,
) -> ExportReport:
    """Do what was asked for.

    Args:
        client: The client to read with.
        request: What was asked for.
        cluster: The cluster whose workers write the shards; None for this process.
        on_progress: Called some ten times a second with the numbers so far.
        tuning: The numbers that the export runs by.
    """
    # A client that is closed, or of another event loop, is refused before anything is written.
    session = session_of(client)
    session.lifetime.check()
    if request.file is not None:
        return await export_file(
            client,
            request.file,
            request,
            on_progress=on_progress,
            tuning=tuning,
        )
    assert request.dest is not None  # noqa: S101
    opener = open_store if cluster is None else open_shared
    store = opener(request.dest, mode=request.mode)
    job = _Job(session, store, request, on_progress, tuning)
    if cluster is None:
        async with _locked(store):
            return await job.run()
    # A cluster that cannot be used is refused before anything is written.
    async with (
        reached(cluster, client, tuning) as workers,
        _locked(store),
        coordinated(workers, store, tuning) as coordinator,
    ):
        job.coordinator = coordinator
        return await job.run()


@asynccontextmanager
async def _locked(store: Store) -> AsyncIterator[None]:
    """Hold the lock of a destination."""
    lock = store.lock()
    await in_thread(lock.__enter__, undo=lambda _: lock.__exit__(None, None, None))
    try:
        yield
    finally:
        # In a thread: letting go of an object store takes a request.
        await in_thread(lock.__exit__, None, None, None)


class _Job:
    """An export into a store that is held.

    Attributes:
        coordinator: The workers that do it; None where this process does.
    """

    coordinator: Coordinator | None = None

    def __init__(
        self,
        session: Session,
        store: Store,
        request: ExportRequest,
        on_progress: Callable[[ExportProgress], None] | None,
        tuning: Tuning,
    ) -> None:
        self._stats = StreamStats()
        self._session = session.counting(self._stats)
        self._store = store
        self._request = request
        self._on_progress = on_progress
        self._tuning = tuning
        self._destination = Destination(store)
        self._known_ids: list[str] | None = None
        self._began = time.monotonic()

    async def run(self) -> ExportReport:
        """Go on with what is there, or begin."""
        destination, request = self._destination, self._request
        # Workers of an export that was killed may still be at it; from here on they commit nothing.
        await in_thread(self._store.remove, CLUSTER_SESSION_FILE)
        await in_thread(destination.open, request.spec)
        if self.coordinator is not None:
            await self.coordinator.register(request.spec)
        await in_thread(destination.drop_compaction)
        if destination.runs:
            self._known_ids = await check_project(
                self._session, destination, request.filters, same_project=request.same_project
            )
        if (run := destination.unfinished) is not None:
            self._check_profile(run)
            report = await self._do(run)
            # To finish that run is what this call does, unless a refresh was asked for, which comes on top.
            if not request.refresh or run.plan.kind in ("full", "refresh"):
                return report
        elif destination.runs and not request.is_incremental and not request.refresh:
            return await self._prove_complete()
        return await self._do(await self._plan_next_run())

    def _check_profile(self, run: RunLog) -> None:
        if run.plan.span is not None and run.plan.profile is None:
            raise ExportError(
                f"{self._store}: run {run.plan.run} was begun by an earlier version and cannot be resumed; "
                "export to another directory"
            )

    async def _prove_complete(self) -> ExportReport:
        """Report what is there. On this machine it is read, since nothing else is to be done."""
        await in_stoppable_thread(self._destination.check_parts)
        await in_thread(self._destination.write_manifest)
        return self._report(self._destination.runs, await in_thread(self._destination.holdings), None)

    async def _plan_next_run(self) -> RunLog:
        runs, request = self._destination.runs, self._request
        requests_before, retries_before = self._stats.requests, self._stats.retries
        number = await in_thread(next_number, self._store)
        planned = await plan_run(
            self._session,
            request.filters,
            run=number,
            kind=request.kind(is_first=not runs),
            previous=runs[-1].plan if runs else None,
            page_size=request.page_size,
            tuning=self._tuning,
        )
        plan = planned.plan
        add_outstanding(plan, runs)
        plan.requests = self._stats.requests - requests_before
        plan.retries = self._stats.retries - retries_before
        return await in_thread(self._plan, plan)

    def _plan(self, plan: RunPlan) -> RunLog:
        self._destination.begin(self._request.spec)
        run = RunLog.begin(self._store, plan)
        self._destination.runs.append(run)
        return run

    async def _do(self, run: RunLog) -> ExportReport:
        context = await self._context(run)
        local = LocalExecutor(context, run)
        known_ids = run.plan.ids if self._known_ids is None else self._known_ids
        executor = (
            local if self.coordinator is None else ClusterExecutor(self.coordinator, context, run, known_ids)
        )
        progress = await write_pending(run, executor, local, on_progress=self._on_progress, tuning=self._tuning)
        end = RunEnd(
            run=run.plan.run,
            seconds=round(time.monotonic() - self._began, 3),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        await in_thread(self._destination.finish, run, end)
        return self._report([run], None, progress)

    async def _context(self, run: RunLog) -> RunContext:
        request, plan, store = self._request, run.plan, self._store
        filters = request.filters if plan.since is None else request.filters.with_last_chat_from(plan.since)

        def open_writer(shard: str) -> ShardWriter:
            return writer_of(request.spec, store, plan.run, shard, projection=request.projection)

        return RunContext(
            session=self._session,
            filters=filters,
            plan=plan,
            open_writer=open_writer,
            on_error=request.on_error or "skip",
            earlier=None if plan.kind == "full" else await in_thread(EarlierVersions, self._destination),
            tuning=self._tuning,
        )

    def _report(
        self, runs: Sequence[RunLog], holdings: Holdings | None, progress: ExportProgress | None
    ) -> ExportReport:
        """Report runs: one that has ended now, or all where nothing was done."""
        commits = [commit for run in runs for commit in run.state.commits.values()]
        parts = [part for run in runs for part in run.parts]
        latest = runs[-1].plan
        outstanding = [each.what for each in outstanding_in(self._destination.runs).values()]
        return ExportReport(
            path=str(self._store),
            conversations=sum(each.conversations for each in commits)
            if holdings is None
            else holdings.conversations,
            chats=sum(each.chats for each in commits) if holdings is None else holdings.chats,
            bytes=sum(part.bytes for part in parts),
            uncompressed_bytes=sum(each.uncompressed_bytes for each in commits),
            seconds=time.monotonic() - self._began,
            requests=self._stats.requests + (progress.requests if progress else 0),
            retries=self._stats.retries + (progress.retries if progress else 0),
            skipped=[
                Skipped(each.id, IncompleteError(each.why), each.span)
                for each in outstanding
                if isinstance(each, Incomplete)
            ],
            quarantined=sum(isinstance(each, Quarantined) for each in outstanding),
            deleted=sum(len(each.deleted) for each in commits),
            run=latest.run,
            kind=latest.kind,
            snapshot=latest.snapshot,
            parts=len(parts),
            resumed=progress.resumed if progress else 0,
            finished_before=progress is None,
        )
