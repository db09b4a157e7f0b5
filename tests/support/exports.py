"""Exports that are tuned for tests: many shards in a small list, and workers that are polled often."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from alli_async import AlliClient
from alli_async.export import ExportProgress, ExportReport
from alli_async.export.job import run_export
from alli_async.export.request import ExportRequest
from alli_async.export.tuning import DEFAULT_TUNING, Tuning

# A small list is cut into as many shards as a large one, and workers are polled often.
SMALL = replace(DEFAULT_TUNING, least_shard_rows=25, poll=0.1, watch=0.1)
# One shard is read after the other, so that there is something left in the middle of an export.
ONE_AT_A_TIME = replace(DEFAULT_TUNING, shards_at_once=1)
SMALL_ONE_AT_A_TIME = replace(SMALL, shards_at_once=1)


async def export_tuned(
    client: AlliClient,
    dest: str | os.PathLike[str],
    tuning: Tuning = SMALL,
    *,
    cluster: Any = None,
    on_progress: Callable[[ExportProgress], None] | None = None,
    **options: Any,
) -> ExportReport:
    """What `export` does, with numbers that a user cannot set."""
    request = ExportRequest.checked(dest, {}, on_cluster=cluster is not None, **options)
    return await run_export(client, request, cluster=cluster, on_progress=on_progress, tuning=tuning)
