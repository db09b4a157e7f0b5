"""The plan of a run: what a list covers, cut into shards of about a thousand conversations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import pairwise
from typing import NamedTuple

from msgspec import Raw, Struct

from .._aio.tasks import both
from .._listing.daily import daily_activity
from .._listing.filters import Filters
from .._listing.page_reader import BadRow, PageFaultError, PageReader
from .._listing.pages import MAX_PAGE_SIZE, second_in
from .._listing.planner import Weight, cut_span
from .._listing.survey import LONG_AGO, Span, Survey, is_empty, survey_list
from .._listing.walks import StuckError, Walk
from .._transcripts.chats import CHATS_PER_PAGE
from .._transport import wire
from .._transport.session import Session
from .._transport.wire import Request, Response
from .._version import __version__
from ..conversations import ConversationsAPI
from ..errors import BadRequestError, ExportError, NotFoundError, PermissionDeniedError
from ..models import Order, second_of
from .records import Kind, RunPlan, Shard

# Conversations in a shard: enough that what each costs in itself is little, few enough to be done again.
ROWS = 1000
# Shards read at a time, where each would still have the least number of conversations.
AT_ONCE, _LEAST = 16, 300
# An incremental run asks again for what came so many seconds before the latest chat there was: chats of one
# moment need not become visible in their order.
_OVERLAP = 600.0
# Conversations by whose ids a project is known again: so many of the earliest, and of the latest.
_KNOWN_BY = 4


class _ListedRow(Struct, rename="camel", gc=False):
    """What is read of a conversation to plan an export."""

    id: str
    created_at: int | float
    last_chat_time: int | float | None = None
    chat_count: int = 0
    chats: list[Raw] = []


class _ListedPage(Struct, gc=False):
    conversations: list[_ListedRow]
    cursor: str | None = None
    errors: object = None


_decode_page = wire.decoder(_ListedPage)


class ServerClock:
    """What the server's answers say the time is."""

    def __init__(self) -> None:
        self.told: datetime | None = None

    def watch(self, session: Session) -> Session:
        """The same session, whose answers tell the time."""

        async def handle(request: Request) -> Response:
            response = await session.handle(request)
            if self.told is None and (date := response.headers.get("date")):
                with contextlib.suppress(ValueError, TypeError, OverflowError):
                    self.told = parsedate_to_datetime(date).astimezone(UTC)
            return response

        return replace(session, handle=handle)


class PlannedRun(NamedTuple):
    """A plan, and how many requests it takes, about; None where that is not known."""

    plan: RunPlan
    requests: int | None


async def plan_run(
    session: Session, filters: Filters, *, run: int = 1, after: RunPlan | None = None
) -> PlannedRun:
    """Plan a run.

    Args:
        session: Where the requests go.
        filters: What is to be exported.
        run: Its number.
        after: The run before it, when only what is new is wanted.
    """
    clock = ServerClock()
    session = clock.watch(session)
    kind: Kind = "full" if after is None else "incremental"
    mark, found = await both(high_water(session, filters), _survey(session, filters, after))
    rows = [] if found is None else [entry for entry in found.entries if not isinstance(entry, BadRow)]
    is_all = found is not None and found.walk is not None and found.walk.has_ended
    expected = len(rows) if is_all else None
    shards = [Shard(name="00000", expected=expected)]
    span = None
    if found is not None and found.span is not None:
        weights = await _weights(session, filters, found.span)
        shards = cut_into_shards(found.span, weights) or shards
        span = found.span if len(shards) > 1 else None
        expected = round(sum(weight.rows for weight in weights))
    plan = RunPlan(
        run=run,
        kind=kind,
        snapshot=(clock.told or datetime.now(UTC)).isoformat(),
        high_water=mark,
        since=None if after is None else since(after),
        expected=expected,
        span=span,
        profile=None if found is None or span is None else found.profile,
        shards=shards,
        ids=_known_by(found, rows) if after is None else after.ids,
        sdk_version=__version__,
    )
    return PlannedRun(plan, _requests(plan, rows))


def _known_by(found: Survey[_ListedRow] | None, rows: Sequence[_ListedRow]) -> list[str]:
    """Ids of a few conversations of both ends of the list. The earliest are the first that retention deletes."""
    latest = [entry.id for entry in found.tail if not isinstance(entry, BadRow)] if found is not None else []
    latest = latest or [row.id for row in reversed(rows)]
    return list(dict.fromkeys([*latest[:_KNOWN_BY], *(row.id for row in rows[:_KNOWN_BY])]))


async def _survey(session: Session, filters: Filters, after: RunPlan | None) -> Survey[_ListedRow] | None:
    if after is not None:
        return None
    pages: PageReader[_ListedRow] = PageReader(session, filters, _decode_page)
    return await survey_list(pages)


async def high_water(session: Session, filters: Filters) -> float | None:
    """The time of the latest chat, in the server's unit; None where the server does not tell."""
    pages: PageReader[_ListedRow] = PageReader(session, filters.without_last_chat_end()[0], _decode_page)
    try:
        rows = await _latest(pages, pages.filters)
        second = second_in(rows)
        if rows and is_empty(rows[0]) and second is not None:
            # Those without chats stand first; any bound leaves them out.
            rows = await _latest(pages, pages.filters.with_last_chat_from(LONG_AGO * second))
    except (BadRequestError, StuckError):
        return None
    return rows[0].last_chat_time if rows else None


async def _latest(pages: PageReader[_ListedRow], filters: Filters) -> list[_ListedRow]:
    """The conversation with the latest chat, and others where that one cannot be listed."""
    order = Order.LAST_CHAT_TIME_DESC
    try:
        page = await pages.row(order, None, filters)
    except PageFaultError:
        entries = await Walk(pages, order, filters).next() or []
    else:
        entries = list(page.entries)
    return [entry for entry in entries if not isinstance(entry, BadRow)]


async def check_project(session: Session, ids: Sequence[str], place: object) -> None:
    """See that the server knows one of these conversations, which a place is known by.

    It is bound to what is in it, not to an address or a key, which can change.

    Raises:
        ExportError: The server knows none of them.
    """
    for each in ids:
        try:
            await ConversationsAPI(session).get(each)
        except (NotFoundError, BadRequestError, PermissionDeniedError):
            continue
        return
    if ids:
        raise ExportError(
            f"{place} holds conversations that this server and key do not know: of another project? "
            "Export this one to a directory of its own"
        )


def _requests(plan: RunPlan, rows: Sequence[_ListedRow]) -> int | None:
    if plan.expected is None:
        return None
    lists = sum(1 + (shard.expected or 0) // (MAX_PAGE_SIZE - 1) for shard in plan.shards)
    chat_requests = sum(map(_chat_requests, rows)) / max(len(rows), 1)
    return lists + 2 * len(plan.shards) + round(plan.expected * chat_requests)


def _chat_requests(row: _ListedRow) -> int:
    """Requests for the chats of a conversation, where they do not all come with it."""
    return -(-row.chat_count // CHATS_PER_PAGE) if row.chat_count > len(row.chats) else 0


def since(before: RunPlan) -> float:
    """The last chat's time from which on an incremental run asks, in the server's unit."""
    if before.high_water is None:
        # Nothing told the unit; milliseconds, as far as seen.
        return (datetime.fromisoformat(before.snapshot).timestamp() - _OVERLAP) * 1000
    return before.high_water - _OVERLAP * second_of(before.high_water)


async def _weights(session: Session, filters: Filters, span: Span) -> list[Weight]:
    """What the span holds: by the server's counts of days, or else by what was seen at its ends."""
    even = [Weight(span.low, span.high, (span.high - span.low) * span.density)]
    if not filters.selects_all:
        return even  # the counts are of all conversations
    return _by_day(await daily_activity(session, span.low, span.high, span.second), span) or even


def _by_day(activity: Iterable[tuple[float, float]], span: Span) -> list[Weight]:
    weights = []
    day = 86_400 * span.second
    for start, rows in sorted(dict(activity).items()):
        low, high = max(start, span.low), min(start + day, span.high)
        if low < high and rows > 0:
            weights.append(Weight(low, high, rows * (high - low) / day if span.bounded else rows))
    return weights


def cut_into_shards(span: Span, weights: Sequence[Weight]) -> list[Shard]:
    """Cut a span into shards of about equal size, the last of which begins where the span ends.

    That one is for what comes while the others are read. Gives nothing where the span is too short to cut.
    """
    total = sum(weight.rows for weight in weights)
    least = min(AT_ONCE, int(total / _LEAST))
    last = round(round(span.last_cut / span.resolution) * span.resolution, 6)
    cuts = cut_span(weights, span.low, last, overlap=span.resolution, rows=ROWS, least=least)
    if not cuts:
        return []
    rows = round(total / len(cuts))
    bounds = [None, *cuts, None]
    return [
        Shard(name=f"{number:05}", start=start, end=end, expected=rows if end is not None else 0)
        for number, (start, end) in enumerate(pairwise(bounds))
    ]
