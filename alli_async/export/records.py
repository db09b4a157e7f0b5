"""What an export writes down: the structs of its journal's records."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from .._bulk.shards import Shard, Span

Kind = Literal["full", "incremental", "compact"]


class Binding(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a destination holds, and will always hold."""

    format_version: int = 1
    format: str
    compression: str
    filters: list[tuple[str, str]]


class Plan(Struct, kw_only=True, omit_defaults=True):
    """How a run is to be done.

    Attributes:
        run: Its number, from 1.
        kind: Everything, what is new, or what was there without what is superseded.
        snapshot: When it began, by the server's clock, as ISO 8601.
        high_water: The latest chat's time when it began, in the server's unit.
        since: Of an incremental run: the last chat's time from which conversations were asked for.
        again: Of an incremental run: conversations that earlier runs could not make whole.
        expected: About how many conversations there are, where that is known.
        span: None where the list is one shard.
        shards: They cover the whole span.
        ids: Of a few conversations, to know the project by.
        replaces: Of a compact run: the runs it takes the place of.
        sources: Of a compact run: what its shards are made of, in their order, like `2/00013`.
        sdk_version: Which planned it.
        requests: That planning took.
        retries: Of these.
    """

    run: int
    kind: Kind
    snapshot: str
    high_water: float | None = None
    since: float | None = None
    again: list[str] = field(default_factory=list)
    expected: int | None = None
    span: Span | None = None
    shards: list[Shard]
    ids: list[str] = field(default_factory=list)
    replaces: list[int] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    sdk_version: str = ""
    requests: int = 0
    retries: int = 0


class Part(Struct, kw_only=True):
    """A file, as it was written."""

    name: str
    rows: int
    bytes: int
    sha256: str


class Missing(Struct, kw_only=True):
    """A conversation that could not be made whole, and why."""

    id: str
    why: str


class Bad(Struct, kw_only=True, omit_defaults=True):
    """A record that could not be decoded, and why.

    Attributes:
        why: What is wrong with it, and where.
        id: The conversation's, where it could be read.
        record: As it came: a conversation, or a page of its chats.
    """

    why: str
    id: str | None = None
    record: str | None = None


class Commit(Struct, kw_only=True, omit_defaults=True):
    """A shard that was written."""

    parts: list[Part]
    conversations: int
    chats: int
    uncompressed_bytes: int
    incomplete: list[Missing] = field(default_factory=list)
    quarantined: list[Bad] = field(default_factory=list)
    requests: int = 0
    retries: int = 0
    seconds: float = 0.0


class Fate(Struct, kw_only=True, omit_defaults=True):
    """What became of a shard: exactly one of the two."""

    shard: str
    commit: Commit | None = None
    split: list[Shard] | None = None


class Complete(Struct, kw_only=True):
    """The end of a run."""

    run: int
    seconds: float
    finished: str
