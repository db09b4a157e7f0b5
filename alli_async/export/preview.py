"""A preview of an export: nothing is written, and few requests are sent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal, Unpack

from msgspec import UNSET, Struct, UnsetType

from .._aio.threads import in_thread
from .._client_session import session_of
from .._listing.filters import ConversationFilters
from .._listing.pages import MAX_PAGE_SIZE
from .._transport.session import Session
from ..client import AlliClient
from .commit_log import RunLog, next_number
from .destination import Destination
from .formats.compression import Compression
from .formats.projection import Redact
from .formats.writers import Format
from .outstanding import add_outstanding
from .planning import plan_run
from .project import check_project
from .records import RunPlan, Shard
from .request import ExportRequest, Time
from .storage.opening import open_store

State = Literal["new", "unfinished", "incremental", "refresh", "complete"]


class ExportPreview(Struct, kw_only=True, frozen=True):
    """What an export would do.

    Attributes:
        state: `"new"`: begin; `"unfinished"`: go on with a run; `"incremental"`: begin one of what is new;
            `"refresh"`: begin one of everything once more; `"complete"`: nothing.
        plan: The plan of that run; of the latest run where there is nothing to do.
        shards: The shards that are still to be written.
        written: Number of conversations in the parts that are there.
        requests: Number of requests that it takes, about; None where that is not known.
    """

    state: State
    plan: RunPlan
    shards: list[Shard]
    written: int = 0
    requests: int | None = None


async def plan_export(
    client: AlliClient,
    dest: str | os.PathLike[str] | None = None,
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
    same_project: bool = False,
    **filters: Unpack[ConversationFilters],
) -> ExportPreview:
    """What `export` would do with the same arguments. Nothing is written.

    Of a destination that holds an export its journal is read, and no list is asked for; an export that is under
    way there is seen as far as it is. For a new one it takes about ten requests.

    Args:
        client: The client to read with.
        dest: The destination of the export; None for a new directory.
        format: The file format.
        compression: The compression of the files.
        since: The earliest time of the first chat.
        until: The latest time of the first chat.
        incremental: When a run was completed before: only what is new.
        refresh: When a run was completed before: everything once more.
        columns: The fields to write.
        redact: The fields to leave out or to hash.
        page_size: Number of conversations to ask for at a time.
        same_project: Whether the destination is known to be of this project.
        **filters: The filters of the list, as for `export`.

    Raises:
        ConfigurationError: The destination holds an export of something else, or an option cannot be right.
        ExportError: The destination cannot be read, or is not what its journal says.
        AlliError: From the requests.
    """
    request = ExportRequest.checked(
        dest,
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
        same_project=same_project,
    )
    session = session_of(client)
    session.lifetime.check()
    if dest is None or request.file is not None:
        return await _new(session, request)
    destination = Destination(open_store(dest))
    await in_thread(destination.open_read_only, request.spec)
    # A compaction that was stopped is no run to go on with: it is dropped.
    runs = [run for run in destination.runs if run.complete is not None or run.plan.kind != "compact"]
    if not runs:
        return await _new(session, request)
    latest = runs[-1]
    await check_project(session, destination, request.filters, same_project=same_project)
    if latest.complete is None:
        return _unfinished(runs)
    written = (await in_thread(destination.holdings)).conversations
    if not incremental and not refresh:
        return ExportPreview(state="complete", plan=latest.plan, shards=[], written=written, requests=0)
    number = await in_thread(next_number, destination.store)
    return await _next_run(session, request, runs, number, written)


async def _new(session: Session, request: ExportRequest) -> ExportPreview:
    plan, requests = await plan_run(session, request.filters, page_size=request.page_size)
    return ExportPreview(state="new", plan=plan, shards=plan.shards, requests=requests)


async def _next_run(
    session: Session, request: ExportRequest, runs: Sequence[RunLog], number: int, written: int
) -> ExportPreview:
    kind: Literal["incremental", "refresh"] = "refresh" if request.refresh else "incremental"
    plan, requests = await plan_run(
        session, request.filters, run=number, kind=kind, previous=runs[-1].plan, page_size=request.page_size
    )
    add_outstanding(plan, runs)
    known = requests if request.refresh else None
    return ExportPreview(state=kind, plan=plan, shards=plan.shards, written=written, requests=known)


def _unfinished(runs: Sequence[RunLog]) -> ExportPreview:
    commits = [each for run in runs for each in run.state.commits.values()]
    return ExportPreview(
        state="unfinished",
        plan=runs[-1].plan,
        shards=runs[-1].state.pending,
        written=sum(each.conversations for each in commits),
        requests=_requests_left(runs[-1]),
    )


def _requests_left(run: RunLog) -> int | None:
    """By what the shards took that are written."""
    commits = run.state.commits.values()
    written = sum(each.conversations for each in commits)
    left = sum(shard.expected or 0 for shard in run.state.pending)
    return round(sum(each.requests for each in commits) / written * left) if written and left else None
