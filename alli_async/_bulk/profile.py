"""How conversations are spread over the days: what the server's daily counts say, where they say anything."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from .._transport.bodies import daily_request, decode_daily
from .._transport.session import Session
from ..config import RetryPolicy
from ..errors import AlliError
from ..models import to_datetime
from .ends import Ends

if TYPE_CHECKING:
    from .shards import Span

# It is a help, not a need: asked for once, and in so many seconds, whatever the policy.
_DEADLINE = 5.0
# A span that no list has comes from a clock that is wrong; a server may count day after day for it.
_MOST_DAYS = 10_000


async def daily_profile(session: Session, ends: Ends | Span) -> list[tuple[float, float]]:
    """Pairs of a day's beginning (UTC, in the server's unit) and the conversations that were active on it.

    That is about how many began on it; which day it is by the server's clock is not known either. Empty where the
    server does not tell.

    Args:
        session: Where to ask.
        ends: Of the list.
    """
    first, last = to_datetime(ends.low).date(), to_datetime(ends.high).date()
    if (last - first).days > _MOST_DAYS:
        return []
    once = replace(session.config, retry=RetryPolicy(max_attempts=1), deadline=_DEADLINE)
    try:
        counts = await replace(session, config=once).request(daily_request(first, last), decode_daily)
        return [(_midnight(day.date) * ends.second, float(day.active_count)) for day in counts.days]
    except (AlliError, ValueError):
        return []


def _midnight(day: str) -> float:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC).timestamp()
