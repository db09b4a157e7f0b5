"""A dlt source: every conversation with all its chats, as Arrow tables, into any destination of dlt.

    pipeline = dlt.pipeline("alli", destination="duckdb", dataset_name="alli")
    pipeline.run(alli_source())

The first run reads everything. Each later run reads the conversations that have had a chat since the one before
began, and merges them: an id is in a table once, as it was last. It needs the extra `dlt`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple, Unpack

from anyio.from_thread import BlockingPortal, start_blocking_portal

from .._client_session import session_of
from .._listing.filters import ConversationFilters, Filters
from ..client import AlliClient
from ..config import checked_flag, checked_whole
from ..errors import ConfigurationError
from ..export import arrow_batches
from ..export.batches import ArrowBatches
from ..export.planning import high_water
from ..models import to_datetime

try:
    import dlt
except ImportError:
    raise ConfigurationError("alli_async.contrib.dlt needs dlt: pip install 'alli-async[dlt]'") from None

__all__ = ["alli_source"]

_log = logging.getLogger("alli_async")

# Subtracted from the beginning of the run before: a server may show a chat some time after its date.
_OVERLAP = timedelta(hours=1)
_KEYS = {"id", "conversation_id", "read_at"}


class _Tables(NamedTuple):
    """Rows of the two tables, as pyarrow tables."""

    conversations: Any
    chats: Any


@dlt.source(name="alli", section="alli", max_table_nesting=0)
def alli_source(
    api_key: str | None = None,
    base_url: str | None = None,
    region: str | None = None,
    client: AlliClient | None = None,
    incremental: bool = True,
    rows: int = 5000,
    on_error: Literal["raise", "skip"] = "raise",
    **filters: Unpack[ConversationFilters],
) -> Any:
    """The resources `conversations` and `chats`, read together by the client's bulk reader.

    Both merge into what a destination holds: `conversations` on `id`, `chats` on `conversation_id` and `id`, and
    chats that were deleted go when their conversation is read again. What an incremental run cannot see (titles,
    states, ratings, deletions without a new chat) comes with `pipeline.run(alli_source(), refresh="drop_data")`,
    which reads everything.

    Args:
        api_key: The key; None for dlt's `sources.alli.api_key`, else the environment's `ALLI_API_KEY`.
        base_url: The server; None for dlt's `sources.alli.base_url`, else the environment's `ALLI_BASE_URL`.
        region: `"us"` or `"ja"`, where the server is one of these.
        client: A client with other options, in place of the three above; it is closed at the end of the run.
        incremental: Whether a run after the first one reads only what has had a chat since that one began.
        rows: The most conversations in one table.
        on_error: `"skip"` goes on past a conversation that cannot be had or decoded, and logs a warning.
        **filters: As for `transcripts`. Other filters than those of the run before begin anew. `started_at` and
            `end_at` do not go with `incremental`.

    Returns:
        A dlt source.

    Raises:
        ConfigurationError: An argument cannot be right.
    """
    checked_whole("rows", rows, least=1)
    checked_flag("incremental", incremental)
    if incremental and (by := {"started_at", "end_at"} & filters.keys()):
        raise ConfigurationError(f"{min(by)}: does not go with incremental=True, which filters by last chats")
    Filters.checked(filters)

    def make_client() -> AlliClient:
        return client or AlliClient(api_key, base_url=base_url, region=region)

    make_client()  # an option that cannot be right is refused here, not in the middle of a pipeline

    @dlt.resource(name="transcripts", selected=False)
    def transcripts() -> Iterator[_Tables]:
        # The state of the two resources, which dlt drops where their data is dropped.
        selected = {"conversations", "chats"} & dlt.current.source().selected_resources.keys()
        states = [dlt.current.resource_state(name) for name in selected]
        asked = json.dumps(filters, sort_keys=True, default=str)
        bound: ConversationFilters = {}
        if incremental and all(state.get("filters") == asked for state in states):
            bound["started_at"] = min(datetime.fromisoformat(state["mark"]) for state in states) - _OVERLAP
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            alli = stack.enter_context(portal.wrap_async_context_manager(make_client()))
            mark = portal.call(_mark, alli, filters)
            asked_for: ConversationFilters = {**filters, **bound}
            yield from _tables(portal, arrow_batches(alli, rows=rows, on_error=on_error, **asked_for))
        for state in states:
            state.update(mark=mark.isoformat(), filters=asked)

    # A conversation may come twice in one run; dlt keeps the row that was read last.
    read_at: Any = {"read_at": {"dedup_sort": "desc", "nullable": False}}

    @dlt.transformer(
        data_from=transcripts, write_disposition="merge", primary_key="id", columns=read_at, name="conversations"
    )
    def conversations(tables: _Tables) -> Any:
        return tables.conversations

    @dlt.transformer(
        data_from=transcripts,
        write_disposition="merge",
        primary_key=["conversation_id", "id"],
        merge_key="conversation_id",
        columns=read_at,
        name="chats",
    )
    def chats(tables: _Tables) -> Any:
        return tables.chats

    return transcripts, conversations, chats


async def _mark(alli: AlliClient, filters: ConversationFilters) -> datetime:
    """The time from which the next run asks: the latest chat's, unless it lies ahead of the server's clock."""
    page = await alli.conversations.list(page_size=1)
    told = page.response.headers.get("Date") if page.response else None
    try:
        now = parsedate_to_datetime(told).astimezone(UTC) if told else datetime.now(UTC)
    except ValueError:
        now = datetime.now(UTC)
    latest = await high_water(session_of(alli), Filters.checked(filters))
    try:
        return now if latest is None else min(now, to_datetime(latest))
    except ValueError:
        return now


def _tables(portal: BlockingPortal, batches: ArrowBatches) -> Iterator[_Tables]:
    """Read in the portal's thread, while dlt works on what was read in this one."""

    async def read_next() -> tuple[Any, Any] | None:
        return await anext(batches, None)

    with portal.wrap_async_context_manager(batches):
        while pair := portal.call(read_next):
            yield _with_time(pair)
        for skipped in batches.skipped:
            _log.warning("conversation %s was skipped: %s", skipped.id, skipped.error)


def _with_time(tables: tuple[Any, Any]) -> _Tables:
    """Put the time of reading in the place of the number of an export's run."""
    import pyarrow as pa

    moment = pa.scalar(datetime.now(UTC), pa.timestamp("us", tz="UTC"))
    made = []
    for table in tables:
        time = pa.field("read_at", moment.type, nullable=False)
        table = table.drop_columns(["run"]).append_column(time, pa.repeat(moment, table.num_rows))
        # What dlt merges by is never null, and it wants the schema to say so.
        fields = [field.with_nullable(field.name not in _KEYS) for field in table.schema]
        made.append(table.cast(pa.schema(fields)))
    return _Tables(*made)
