"""How many conversations were active on each day, where the server counts them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

from .._transport.bodies import daily_request, decode_daily
from .._transport.session import Session
from ..config import RetryPolicy
from ..errors import AlliError
from ..models import to_datetime

# Seconds for the one request for counts, whatever the retry policy says: the counts only save time.
_DEADLINE = 5.0
# Days of the longest span that is requested: a longer one comes from a wrong clock, and costs the server time.
_MAX_DAYS = 10_000


async def daily_activity(
    session: Session, low: float, high: float, units_per_second: float
) -> list[tuple[float, float]]:
    """Ask for the server's daily counts of a span of time.

    Args:
        session: The session that sends the request.
        low: Start of the span, in the server's unit.
        high: End of the span.
        units_per_second: Units of the server's timestamps in one second.

    Returns:
        Pairs of the start of a day (UTC, in the server's unit) and the number of conversations active on it, which
        is about the number that started on it. The time zone of the server's days is not known. Empty where the
        server has no counts.
    """
    first, last = to_datetime(low).date(), to_datetime(high).date()
    if (last - first).days > _MAX_DAYS:
        return []
    once = replace(session.config, retry=RetryPolicy(max_attempts=1), deadline=_DEADLINE)
    try:
        counts = await replace(session, config=once).request(daily_request(first, last), decode_daily)
        return [(_midnight(day.date) * units_per_second, float(day.active_count)) for day in counts.days]
    except (AlliError, ValueError):
        return []


def _midnight(day: str) -> float:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC).timestamp()
