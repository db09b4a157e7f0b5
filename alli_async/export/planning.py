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
from .._listing.page_reader import PageReader, good_rows
from .._listing.pages import MAX_PAGE_SIZE, units_per_second_in
from .._listing.planner import Weight, cut_span
from .._listing.survey import LONG_AGO, Span, Survey, is_empty, survey_list
from .._listing.walks import first_rows
from .._transcripts.chats import CHATS_PER_PAGE
from .._transport import wire
from .._transport.session import Session
from .._transport.wire import Request, Response
from .._version import __version__
from ..models import Order, units_per_second_of
from .project import project_of
from .records import Kind, RunPlan, Shard
from .tuning import DEFAULT_TUNING, Tuning

# Seconds before the start of the last run from which an incremental run asks: chats may become visible late or out
# of order, and the clocks of a server's machines differ.
_MARGIN = 600.0
# Number of ids kept to recognise the project: this many with the latest last chats, and this many with the latest
# first chats.
_KNOWN_BY = 4
# Conversations with the latest chats that are looked at: a few may be dated ahead.
_LOOKED_AT = 10


class _ListedRow(Struct, rename="camel", gc=False):
    """The fields of a conversation that planning needs."""

    id: str
    created_at: int | float
    last_chat_time: int | float | None = None
    chat_count: int = 0
    chats: list[Raw] = []


class _ListedPage(Struct, gc=False):
    conversations: list[_ListedRow]
    cursor: str | None = None
    errors: object = None
    error: object = None
    type: object = None


_decode_page = wire.decoder(_ListedPage)


class FirstDate:
    """The first date that the server names in an answer: about when a run begins, by its clock.

    Attributes:
        date: The date that the first answer with one names; None where there is none.
    """

    def __init__(self) -> None:
        self.date: datetime | None = None

    def watch(self, session: Session) -> Session:
        """The same session, whose first answer with a date sets `date`."""

        async def handle(request: Request) -> Response:
            response = await session.handle(request)
            if self.date is None and (date := response.headers.get("date")):
                with contextlib.suppress(ValueError, TypeError, OverflowError):
                    self.date = parsedate_to_datetime(date).astimezone(UTC)
            return response

        return replace(session, handle=handle)

    def earliest(self, began: datetime) -> datetime:
        """The earlier of the server's and our time.

        If our clock were ahead and its time counted, the next incremental run would miss chats.

        Args:
            began: When the run began by this machine's clock.
        """
        return began if self.date is None else min(self.date, began)


class PlannedRun(NamedTuple):
    """A plan, and how many requests it takes, about; None where that is not known."""

    plan: RunPlan
    requests: int | None


async def plan_run(
    session: Session,
    filters: Filters,
    *,
    run: int = 1,
    kind: Kind = "full",
    previous: RunPlan | None = None,
    page_size: int = MAX_PAGE_SIZE,
    tuning: Tuning = DEFAULT_TUNING,
) -> PlannedRun:
    """Plan a run.

    Args:
        session: The session that sends the requests.
        filters: The filters of the export.
        run: The number of the run.
        kind: What the run writes: `"full"`, `"incremental"` or `"refresh"`.
        previous: The complete run before it; None for the first.
        page_size: Number of conversations to ask for at a time.
        tuning: The sizes of shards.
    """
    clock, began = FirstDate(), datetime.now(UTC)
    session = clock.watch(session)
    latest, found = await both(
        _latest_rows(session, filters), _survey(session, filters, kind == "incremental", page_size)
    )
    rows = [] if found is None else good_rows(found.entries)
    shards, expected = await _shards(session, filters, found, len(rows), tuning)
    cut = found if len(shards) > 1 else None
    ids = _known_by(latest, found, rows)
    start = clock.earliest(began)
    plan = RunPlan(
        run=run,
        kind=kind,
        server=session.config.base_url,
        project=project_of(ids),
        snapshot=start.isoformat(timespec="seconds"),
        high_water=_high_water(latest, start),
        expected=expected,
        span=None if cut is None else cut.span,
        profile=None if cut is None else cut.profile,
        shards=shards,
        page_size=page_size,
        ids=ids,
        sdk_version=__version__,
    )
    if previous is not None:
        _continue_from(plan, previous, units_per_second_in(latest))
    return PlannedRun(plan, _requests(plan, rows))


def _continue_from(plan: RunPlan, previous: RunPlan, units_per_second: float | None) -> None:
    """Make a plan the one after a complete run, of the same project.

    Args:
        plan: The plan.
        previous: The plan of the complete run before it.
        units_per_second: Units of the server's timestamps in one second; None where no value shows them.
    """
    plan.previous = previous.run
    plan.project = previous.project or plan.project
    if plan.kind == "incremental":
        plan.since = since_of(previous, units_per_second)


async def _shards(
    session: Session, filters: Filters, found: Survey[_ListedRow] | None, rows: int, tuning: Tuning
) -> tuple[list[Shard], int | None]:
    """The shards of a list, and about how many conversations it has, where that is known."""
    is_all = found is not None and found.walk is not None and found.walk.has_ended
    expected = rows if is_all else None
    shards = [Shard(name="00000", expected=expected)]
    if found is None or found.span is None:
        return shards, expected
    weights = await _weights(session, filters, found.span)
    shards = cut_into_shards(found.span, weights, tuning) or shards
    return shards, round(sum(weight.rows for weight in weights))


def _known_by(
    latest: Sequence[_ListedRow], found: Survey[_ListedRow] | None, rows: Sequence[_ListedRow]
) -> list[str]:
    """Ids of a few of the latest conversations: the earliest are the first that retention deletes."""
    tail = good_rows(found.tail) if found is not None else []
    some = [*latest[:_KNOWN_BY], *tail[:_KNOWN_BY], *([] if tail else list(reversed(rows))[:_KNOWN_BY])]
    return list(dict.fromkeys(each.id for each in some))


async def _survey(
    session: Session, filters: Filters, is_incremental: bool, page_size: int
) -> Survey[_ListedRow] | None:
    if is_incremental:
        return None
    pages: PageReader[_ListedRow] = PageReader(session, filters, _decode_page, size=page_size)
    return await survey_list(pages)


async def _latest_rows(session: Session, filters: Filters) -> list[_ListedRow]:
    """The conversations with the latest chats; none where the server cannot list them so."""
    filters = filters.without_last_chat_end()
    pages: PageReader[_ListedRow] = PageReader(session, filters, _decode_page, size=_LOOKED_AT)
    rows = await first_rows(pages, Order.LAST_CHAT_TIME_DESC, pages.filters)
    units_per_second = units_per_second_in(rows)
    if rows and is_empty(rows[0]) and units_per_second is not None:
        # Conversations without chats stand first; any bound leaves them out.
        bounded = pages.filters.with_last_chat_from(LONG_AGO * units_per_second)
        rows = await first_rows(pages, Order.LAST_CHAT_TIME_DESC, bounded)
    return rows


async def high_water(session: Session, filters: Filters) -> float | None:
    """The latest chat's time that is no later than the clock, in the server's unit; None where it shows none."""
    return _high_water(await _latest_rows(session, filters), datetime.now(UTC))


def _high_water(rows: Sequence[_ListedRow], now: datetime) -> float | None:
    """The latest chat's time that is no later than the clock; None where the server does not tell."""
    times = [row.last_chat_time for row in rows if row.last_chat_time is not None]
    known = [each for each in times if LONG_AGO < each / units_per_second_of(each) <= now.timestamp()]
    return max(known, default=None)


def _requests(plan: RunPlan, rows: Sequence[_ListedRow]) -> int | None:
    if plan.expected is None:
        return None
    lists = sum(1 + (shard.expected or 0) // max(1, plan.page_size - 1) for shard in plan.shards)
    chat_requests = sum(map(_chat_requests, rows)) / max(len(rows), 1)
    return lists + 2 * len(plan.shards) + round(plan.expected * chat_requests)


def _chat_requests(row: _ListedRow) -> int:
    """Requests for the chats of a conversation, where they do not all come with it."""
    return -(-row.chat_count // CHATS_PER_PAGE) if row.chat_count > len(row.chats) else 0


def since_of(previous: RunPlan, units_per_second: float | None) -> float | None:
    """The last chat's time from which an incremental run asks; None for everything.

    It is when the run before began, by the clock, less a margin. A chat's date alone never decides: a chat may be
    dated ahead. Where the latest chat is older, its time is used, for servers whose chats are dated behind their
    clock.

    Args:
        previous: The plan of the complete run before.
        units_per_second: Units of the server's timestamps in one second, as its values show now; None where none
            shows them. Then there is no date to ask for.
    """
    if units_per_second is None:
        return None
    moment = datetime.fromisoformat(previous.snapshot).timestamp()
    if previous.high_water is not None:
        moment = min(moment, previous.high_water / units_per_second_of(previous.high_water))
    return max(moment - _MARGIN, LONG_AGO) * units_per_second


async def _weights(session: Session, filters: Filters, span: Span) -> list[Weight]:
    """The weights of a span: by the server's counts of days, else by the density at its ends."""
    even = [Weight(span.low, span.high, (span.high - span.low) * span.density)]
    if not filters.selects_all:
        return even  # the counts are of all conversations
    return _by_day(await daily_activity(session, span.low, span.high, span.units_per_second), span) or even


def _by_day(activity: Iterable[tuple[float, float]], span: Span) -> list[Weight]:
    weights = []
    day = 86_400 * span.units_per_second
    for start, rows in sorted(dict(activity).items()):
        low, high = max(start, span.low), min(start + day, span.high)
        if low < high and rows > 0:
            weights.append(Weight(low, high, rows * (high - low) / day if span.bounded else rows))
    return weights


def cut_into_shards(span: Span, weights: Sequence[Weight], tuning: Tuning = DEFAULT_TUNING) -> list[Shard]:
    """Cut a span into shards of about equal size, the last of which begins where the span ends.

    That one is for what comes while the others are read. Gives nothing where the span is too short to cut.
    """
    total = sum(weight.rows for weight in weights)
    min_count = min(tuning.planned_shards, int(total / tuning.least_shard_rows))
    last = round(round(span.last_cut / span.resolution) * span.resolution, 6)
    cuts = cut_span(weights, span.low, last, overlap=span.resolution, rows=tuning.shard_rows, min_count=min_count)
    if not cuts:
        return []
    rows = round(total / len(cuts))
    bounds = [None, *cuts, None]
    return [
        Shard(name=f"{number:05}", start=start, end=end, expected=rows if end is not None else 0)
        for number, (start, end) in enumerate(pairwise(bounds))
    ]
