"""The records of the commit log, as structs.

Unknown top-level fields are an error; unknown fields of nested structs are ignored.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from .._listing.pages import MAX_PAGE_SIZE
from .._listing.survey import ServerProfile, Span
from .formats.projection import Choice

Kind = Literal["full", "incremental", "refresh", "compact"]
# The format of the log that this version writes, and the earlier ones that it reads.
FORMAT_VERSION, READABLE_VERSIONS = 2, (1, 2)


class ExportSpec(Struct, kw_only=True, forbid_unknown_fields=True):
    """The spec of a destination, which never changes."""

    format_version: int = FORMAT_VERSION
    format: str
    compression: str
    filters: list[tuple[str, str]]
    fields: Choice = Choice()


class Shard(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A partition of the list that is written to a part of its own, from `start` to `end` in the server's unit.

    Attributes:
        name: Unique in its plan.
        start: None for no bound.
        end: None for no bound. Then the conversations without chats belong to it too, which are in no partition.
        expected: About how many conversations it holds, where that is known.
    """

    name: str
    start: float | None = None
    end: float | None = None
    expected: int | None = None

    @property
    def is_whole_list(self) -> bool:
        """Whether the shard is the whole list."""
        return self.start is None and self.end is None


class RunSummary(Struct, kw_only=True, omit_defaults=True):
    """A run, as the manifest lists it.

    Attributes:
        run: The run's number.
        kind: What the run wrote.
        snapshot: When the run began, as ISO 8601: by the server's clock or by ours, whichever is earlier.
        since: In an incremental run, the last chat's time from which conversations were asked for, as ISO 8601.
        finished: When the run ended, by this machine's clock, as ISO 8601.
        seconds: How long the process that ended the run took.
        conversations: Conversations in the parts that the run wrote.
        chats: Chats in these conversations.
        requests: Requests that the run took.
        retries: How many of these were retries.
        skipped: Conversations that the run could not make whole or decode.
        deleted: Conversations that the run found deleted.
        is_replaced: Whether a compaction has taken the place of the run's parts.
    """

    run: int
    kind: str
    snapshot: str
    since: str | None = None
    finished: str
    seconds: float
    conversations: int
    chats: int
    requests: int
    retries: int
    skipped: int = 0
    deleted: int = 0
    is_replaced: bool = False


class RunPlan(Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The plan of a run.

    Attributes:
        run: The run's number, from 1.
        kind: What the run writes: everything, what is new, everything once more, or what was there without what
            is superseded.
        previous: The number of the complete run before it; None for the first, and in earlier formats.
        server: The base URL of the server.
        project: A hash of the ids by which the project was known first.
        snapshot: When the run began, as ISO 8601: by the server's clock or by ours, whichever is earlier.
        high_water: The latest chat's time when the run began, in the server's unit.
        since: In an incremental run, the last chat's time from which conversations are asked for.
        again: Ids that earlier runs could not make whole or decode, and that this one asks for again.
        again_spans: The first chat times between which earlier runs could not list a row.
        again_list: Whether earlier runs met a row of which nothing could be read, not even when it began.
        expected: About how many conversations there are, where that is known.
        span: None where the list is one shard.
        profile: How the server behaves, where the list is more than one shard.
        shards: The shards, which cover the whole span.
        page_size: Number of conversations to ask for at a time.
        ids: The ids of a few conversations, by which the project is known again.
        replaces: In a compact run, the runs whose place it takes.
        history: In a compact run, the runs before it, as the manifest tells of them.
        sources: In a compact run, the shards that its own are made of, in their order, like `2/00013`.
        sdk_version: The version of this package that made the plan.
        requests: The requests that planning took.
        retries: How many of these were retries.
    """

    run: int
    kind: Kind
    previous: int | None = None
    server: str = ""
    project: str = ""
    snapshot: str
    high_water: float | None = None
    since: float | None = None
    again: list[str] = field(default_factory=list)
    again_spans: list[tuple[float, float]] = field(default_factory=list)
    again_list: bool = False
    expected: int | None = None
    span: Span | None = None
    profile: ServerProfile | None = None
    shards: list[Shard]
    page_size: int = MAX_PAGE_SIZE
    ids: list[str] = field(default_factory=list)
    replaces: list[int] = field(default_factory=list)
    history: list[RunSummary] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    sdk_version: str = ""
    requests: int = 0
    retries: int = 0


class Part(Struct, kw_only=True):
    """A data file, with its size and its hash."""

    name: str
    rows: int
    bytes: int
    sha256: str


class Incomplete(Struct, kw_only=True, omit_defaults=True):
    """A conversation that could not be made whole, or a row that could not be listed, and why.

    Attributes:
        id: The conversation's id; None for a row that could not be listed.
        why: What went wrong.
        span: The first chat times between which such a row lies, in the server's unit.
        run: The run that tried last, where a compaction lists it; None for the run of the record.
    """

    id: str | None
    why: str
    span: tuple[float, float] | None = None
    run: int | None = None


class Quarantined(Struct, kw_only=True, omit_defaults=True):
    """A conversation or a page of its chats that could not be decoded, and why.

    Attributes:
        why: What is wrong with it, and where.
        id: The conversation's id, where it could be read.
        text: The JSON as it came; the field is named `record` on disk.
        span: The first chat times between which a row without a readable id lies, in the server's unit.
        run: The run that tried last, where a compaction lists it; None for the run of the record.
    """

    why: str
    id: str | None = None
    text: str | None = field(default=None, name="record")
    span: tuple[float, float] | None = None
    run: int | None = None


class Deleted(Struct, kw_only=True):
    """A conversation that the server does not have any more.

    Attributes:
        id: The conversation's id.
        noticed_at: When a run found that out, as ISO 8601.
    """

    id: str
    noticed_at: str


class Commit(Struct, kw_only=True, omit_defaults=True):
    """A shard that was written.

    Attributes:
        parts: The files.
        conversations: Number of conversations in the files.
        chats: Number of chats in the files.
        uncompressed_bytes: Size of the conversations' JSON before compression.
        incomplete: Conversations that could not be made whole.
        quarantined: Conversations that could not be decoded.
        requests: Number of requests that the shard took.
        retries: Number of these requests that were retries.
        seconds: Time that the shard took.
        own_count: Number of rows that belong to it; the field is named `own` on disk.
        last_own_id: The id of the last row that belongs to it.
        has_moved: Whether rows left or came while it was read.
        ids: The digests of the ids of its rows, little-endian (see `seen.pack`).
        deferred: Ids of rows that may have moved here from another shard, and are left to the last one.
        written: The conversations in the parts, packed, big-endian (see `holdings`).
        deleted: Conversations that were found deleted.
    """

    parts: list[Part]
    conversations: int
    chats: int
    uncompressed_bytes: int
    incomplete: list[Incomplete] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    requests: int = 0
    retries: int = 0
    seconds: float = 0.0
    own_count: int | None = field(default=None, name="own")
    last_own_id: str | None = None
    has_moved: bool = False
    ids: bytes = b""
    deferred: list[str] = field(default_factory=list)
    written: bytes = b""
    deleted: list[Deleted] = field(default_factory=list)


class ShardRecord(Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The result of a shard: it was committed, or it was split."""

    shard: str
    commit: Commit | None = None
    split: list[Shard] | None = None


class RunEnd(Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The end of a run.

    Attributes:
        run: The run's number.
        seconds: How long the process that ended it took.
        finished: When it ended, by this machine's clock, as ISO 8601.
    """

    run: int
    seconds: float
    finished: str
