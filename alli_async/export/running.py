"""Doing what the plan of a run says: executors write its shards, the last shard when all others are written."""

from __future__ import annotations

from collections.abc import Callable

from .commit_log import RunLog
from .executors import Executor
from .progress import ExportProgress, ProgressMeter
from .tuning import Tuning


async def write_pending(
    run: RunLog,
    executor: Executor,
    local: Executor,
    *,
    on_progress: Callable[[ExportProgress], None] | None,
    tuning: Tuning,
) -> ExportProgress:
    """Write all pending shards of a run.

    Args:
        run: The run.
        executor: Writes all shards but the last.
        local: Writes the last shard in this process; it may be the same executor.
        on_progress: Called with the numbers so far, some ten times a second; None for no calls.
        tuning: The numbers that the export runs by.

    Raises:
        AlliError: The first error, once all other work has ended. What was committed stays.
    """
    executors = [local] if executor is local else [local, executor]
    meter = ProgressMeter(run.state, executors, on_progress, tuning.progress_seconds)
    # The last shard takes what moved while the others were read, so it needs their commits.
    await executor.write_all([each for each in run.state.pending if each.end is not None], meter.report)
    await local.write_all(run.state.pending, meter.report)
    meter.report(always=True)
    return meter.total()
