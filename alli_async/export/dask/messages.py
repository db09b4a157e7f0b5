"""The messages between an export and the workers of its cluster. None of them holds a key or a credential."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from ..._listing.filters import Filters
from ..._version import __version__
from ...errors import AlliError
from ..progress import ExportProgress
from ..records import ExportSpec, RunPlan
from ..run_context import OnError
from ..tuning import DEFAULT_TUNING, Tuning


class JoinRequest(Struct, frozen=True, kw_only=True):
    """Ask a worker to join an export. Nothing is sent to the API's server yet.

    Attributes:
        session: Id of the export under way, which the destination's journal holds too.
        place: Path or address of the destination.
        spec: The spec of the destination.
        options: Keyword arguments of the worker's client, without its key.
        sdk_version: Version of this package, which the worker must have too.
        tuning: The numbers that the export runs by.
        tunes_malloc: Whether the worker shall keep freed memory (`tune_malloc`), as the export's process does.
    """

    session: str
    place: str
    spec: ExportSpec
    options: dict[str, Any]
    sdk_version: str = __version__
    tuning: Tuning = DEFAULT_TUNING
    tunes_malloc: bool = False


class Assignment(Struct, frozen=True, kw_only=True):
    """What the workers of an export are to write.

    Attributes:
        plan: The run's plan.
        filters: Filters of the list.
        on_error: The `on_error` of `export`.
        known_ids: Ids of which the server knows at least one, by which a worker's key is checked.
    """

    plan: RunPlan
    filters: Filters
    on_error: OnError
    known_ids: Sequence[str] = ()


class TaskResult(Struct, frozen=True, kw_only=True):
    """The outcome of a task. What became of the shard stands in the journal alone.

    Attributes:
        recorded: Names of the shards with a record in the journal now: each that was split, and the one written.
        error: The error that ended the task.
        has_session: Whether the worker takes part in the export. If not, it did nothing.
    """

    recorded: list[str] = field(default_factory=list)
    error: AlliError | None = None
    has_session: bool = True


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """What a worker has done so far.

    Attributes:
        progress: Conversations and chats of the shards being written; requests since the worker joined.
        splits: Names of the shards that the worker has split.
        at_once: Shards that the worker reads at a time, if it has so many.
    """

    progress: ExportProgress
    splits: list[str]
    at_once: int
