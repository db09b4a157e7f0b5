"""What an export and the workers of a cluster tell each other. None of it holds a key or a credential."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from .._listing.filters import Filters
from .._version import __version__
from ..errors import AlliError
from .records import Binding, Plan
from .running import ExportProgress, OnError


class Hello(Struct, frozen=True, kw_only=True):
    """What a worker is told of an export at first. It holds no key.

    Attributes:
        session: What the destination's journal says too.
        place: The destination.
        options: Of the worker's client.
    """

    session: str
    place: str
    binding: Binding
    options: dict[str, Any]
    sdk_version: str = __version__


class Work(Struct, frozen=True, kw_only=True):
    """What is to be done."""

    plan: Plan
    filters: Filters
    on_error: OnError


class Receipt(Struct, frozen=True, kw_only=True):
    """What became of a task; of the shard itself the journal tells.

    Attributes:
        told: The shards whose fates are in the journal: those it was split into, and at last the one written.
        error: What ended it.
        seated: Whether the worker had a place in the export; without one it did nothing.
    """

    told: list[str] = field(default_factory=list)
    error: AlliError | None = None
    seated: bool = True


class Told(Struct, frozen=True, kw_only=True):
    """What a worker has done so far.

    Attributes:
        progress: Conversations and chats of the shards under way; requests since the beginning.
        splits: The shards that it has split.
        at_once: Shards that it walks at a time, if it has so many.
    """

    progress: ExportProgress
    splits: list[str]
    at_once: int
