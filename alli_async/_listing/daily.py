"""How many conversations were active on each day, where the server counts them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

from .._transport.bodies import daily_request, decode_daily
from .._transport.session import Session
from ..config import RetryPolicy
from ..errors import AlliError
from ..models import to_datetime

# The counts only save time, so they are asked for once and for at most these seconds, whatever the policy says.
_DEADLINE = 5.0
# A span of more days than this comes from a wrong clock; a server may count day after day for it.
_MOST_DAYS = 10_000


async def daily_activity(
    session: Session, low: float, high: float, units_per_second: float
) -> list[tuple[float, float]]:
    """Ask for the server's daily counts of a span of time.

    Args:
        session: Where the request goes.
        low: Start of the span, in the server's unit.
        high: End of the span.
        units_per_second: Units of the server's timestamps in one second.

    Returns:
        Pairs of a day's begin (UTC, in the server's unit) and the conversations active on it, which is about how
        many began on it. Which time zone the server's days have is not known. Empty where it does not count.
    """
    first, last = to_datetime(low).date(), to_datetime(high).date()
    if (last - first).days > _MOST_DAYS:
        return []
    once = replace(session.config, retry=RetryPolicy(max_attempts=1), deadline=_DEADLINE)
    try:
        counts = await replace(session, config=once).request(daily_request(first, last), decode_daily)
        return [(_midnight(day.date) * units_per_second, float(day.active_count)) for day in counts.days]
    except (AlliError, ValueError):
        return []


def _midnight(day: str) -> float:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC).timestamp()
