"""The plan of a run: what a list covers, cut into shards of about a thousand conversations."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import pairwise
from typing import NamedTuple

from .._bulk.pages import MAX_PAGE_SIZE
from .._bulk.profile import daily_profile
from .._bulk.shards import Shard, Span, Survey, high_water, survey
from .._bulk.tasks import both
from .._transport.filters import Filters
from .._transport.session import Session
from .._transport.wire import Request, Response
from .._version import __version__
from ..conversations import ConversationsAPI
from ..errors import BadRequestError, ExportError, NotFoundError, PermissionDeniedError
from ..models import second_of
from .records import Kind, Plan

# Conversations in a shard: enough that what each costs in itself is little, few enough to be done again.
ROWS = 1000
# Shards walked at a time, where each would still have the least number of conversations.
AT_ONCE, _LEAST = 16, 300
# An incremental run asks again for what came so many seconds before the latest chat there was: chats of one
# moment need not become visible in their order.
_OVERLAP = 600.0


class Weight(NamedTuple):
    """A piece of a span, and about how many conversations it holds."""

    start: float
    end: float
    rows: float


class ServerClock:
    """What the server's answers say the time is."""

    def __init__(self) -> None:
        self.told: datetime | None = None

    def watch(self, session: Session) -> Session:
        """The same session, whose answers tell the time."""

        async def handle(request: Request) -> Response:
            response = await session.handle(request)
            if self.told is None and (date := response.headers.get("date")):
                with contextlib.suppress(ValueError, TypeError):
                    self.told = parsedate_to_datetime(date).astimezone(UTC)
            return response

        return replace(session, handle=handle)


class Prospect(NamedTuple):
    """A plan, and how many requests it takes, about; None where that is not known."""

    plan: Plan
    requests: int | None


async def prospect(session: Session, filters: Filters, *, run: int = 1, after: Plan | None = None) -> Prospect:
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
    mark, found = await both(high_water(session, filters), _seen(session, filters, after))
    expected, shards = found.rows, [Shard(name="00000", expected=found.rows)]
    if found.span is not None:
        weights = await _weights(session, filters, found.span)
        shards = cut(found.span, weights) or shards
        expected = round(sum(weight.rows for weight in weights))
    plan = Plan(
        run=run,
        kind=kind,
        snapshot=(clock.told or datetime.now(UTC)).isoformat(),
        high_water=mark,
        since=None if after is None else since(after),
        expected=expected,
        span=found.span if len(shards) > 1 else None,
        shards=shards,
        ids=found.ids,
        sdk_version=__version__,
    )
    return Prospect(plan, _requests(plan, found))


async def _seen(session: Session, filters: Filters, after: Plan | None) -> Survey:
    return await survey(session, filters) if after is None else Survey(span=None, ids=after.ids)


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


def _requests(plan: Plan, found: Survey) -> int | None:
    if plan.expected is None:
        return None
    lists = sum(1 + (shard.expected or 0) // MAX_PAGE_SIZE for shard in plan.shards)
    return lists + len(plan.shards) + round(plan.expected * found.chat_requests)


def since(before: Plan) -> float:
    """The last chat's time from which on an incremental run asks, in the server's unit."""
    if before.high_water is None:
        # Nothing told the unit; milliseconds, as far as seen.
        return (datetime.fromisoformat(before.snapshot).timestamp() - _OVERLAP) * 1000
    return before.high_water - _OVERLAP * second_of(before.high_water)


async def _weights(session: Session, filters: Filters, span: Span) -> list[Weight]:
    """What the span holds: by the server's counts of days, or else by what was seen at its ends."""
    even = [Weight(span.low, span.high, (span.high - span.low) * span.density)]
    if any(name not in ("firstChatStartedAt", "firstChatEndAt", "variables") for name, _ in filters.pairs):
        return even  # the counts are of all conversations
    return _by_day(await daily_profile(session, span), span) or even


def _by_day(profile: Sequence[tuple[float, float]], span: Span) -> list[Weight]:
    weights = []
    day = 86_400 * span.second
    for start, rows in sorted(dict(profile).items()):
        low, high = max(start, span.low), min(start + day, span.high)
        if low < high and rows > 0:
            weights.append(Weight(low, high, rows * (high - low) / day if span.bounded else rows))
    return weights


def cut(span: Span, weights: Sequence[Weight]) -> list[Shard]:
    """Cut a span into shards of about equal size, the last of which begins where the span ends.

    That one is for what comes while the others are walked. Gives nothing where the span is too short to cut.
    """
    total = sum(weight.rows for weight in weights)
    count = max(min(AT_ONCE, int(total / _LEAST)), round(total / ROWS), 1)
    # What begins after the plan was made begins after this: it lies behind the last cut, and behind its seam.
    last = _on_grid(span.high - 2 * span.resolution, span)
    least = 4 * span.resolution
    if last - span.low < least:
        return []
    cuts: list[float] = []
    for at in _quantiles(weights, total / count):
        at = _on_grid(at, span)
        if at - (cuts[-1] if cuts else span.low) >= least and last - at >= least:
            cuts.append(at)
    cuts.append(last)
    rows = round(total / count)
    bounds = [None, *cuts, None]
    return [
        Shard(name=f"{number:05}", start=start, end=end, expected=rows if end is not None else 0)
        for number, (start, end) in enumerate(pairwise(bounds))
    ]


def even_cuts(start: float, end: float, pieces: int, span: Span) -> list[float]:
    """The cuts, if there are any, that make so many pieces of a window, none too short to be one."""
    pieces = max(1, min(pieces, int((end - start) / (4 * span.resolution))))
    return [_on_grid(start + (end - start) * number / pieces, span) for number in range(1, pieces)]


def _quantiles(weights: Sequence[Weight], goal: float) -> list[float]:
    """Where every `goal` rows are full."""
    found = []
    piled = 0.0
    for start, end, rows in weights:
        at, left = start, rows
        while left > 0 and piled + left >= goal:
            taken = goal - piled
            at += (end - at) * taken / left
            left -= taken
            piled = 0.0
            found.append(at)
        piled += left
    return found


def _on_grid(time: float, span: Span) -> float:
    """A time on whole steps of the resolution: readable, and the same however it was computed."""
    return round(round(time / span.resolution) * span.resolution, 6)
