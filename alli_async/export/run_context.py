"""The values that all shards of a run share, in this process or on a worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from .._listing.filters import Filters
from .._transport.session import Session
from .formats.shard_writer import ShardWriter
from .holdings import Holdings
from .records import RunPlan
from .tuning import DEFAULT_TUNING, Tuning

OnError = Literal["raise", "skip"]


class EarlierRuns(Protocol):
    """The conversations that earlier runs have written into a destination."""

    @property
    def holdings(self) -> Holdings:
        """The conversations that are held."""
        ...

    def absent_from(self, met: Holdings) -> list[str]:
        """The ids of the held conversations that were not met and are not known to be deleted. It blocks."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class RunContext:
    """The values that all shards of a run share.

    Attributes:
        session: The session that sends the requests.
        filters: Filters of the list.
        plan: The plan of the run.
        open_writer: Makes the writer of a shard's parts, by the shard's name. It blocks.
        on_error: `"raise"` ends the run at the first conversation that cannot be made whole.
        earlier: The conversations that earlier runs have written; None in a full run.
        tuning: The numbers that the export runs by.
    """

    session: Session
    filters: Filters
    plan: RunPlan
    open_writer: Callable[[str], ShardWriter]
    on_error: OnError
    earlier: EarlierRuns | None = None
    tuning: Tuning = DEFAULT_TUNING
