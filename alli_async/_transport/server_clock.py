"""The server's clock, by the Date headers of its answers."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# Seconds that two clocks may drift apart in each second: ten times what quartz does.
_DRIFT = 0.001


def http_date(text: str | None) -> datetime | None:
    """The moment of an HTTP date; None if it cannot be read."""
    try:
        moment = parsedate_to_datetime(text or "")
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


class ServerClock:
    """Knows what the server's clock shows at least, to a fraction of a second.

    A Date header has whole seconds only, so one answer tells the time to a second. But the clock cannot have
    shown less than any Date did when that arrived: the latest of these bounds comes from an answer that was sent
    just after a second began. It is a lower bound, so that a moment that the server names is never taken to have
    come before it has. It holds no clock of its own: it is told the time of each event.
    """

    def __init__(self) -> None:
        self._text: str | None = None
        # The epoch seconds at which our clock showed 0, at least; and when that was told.
        self._offset, self._told_at = -math.inf, 0.0

    def note(self, date: str | None, *, sent_at: float, now: float) -> None:
        """Note an answer.

        Args:
            date: The Date header of the answer.
            sent_at: When its request was sent, by our clock.
            now: When the answer arrived, by our clock.
        """
        if date == self._text and now < self._told_at + 1:
            return  # by far the most frequent case
        self._text = date
        if (moment := http_date(date)) is None:
            return
        seconds = moment.timestamp()
        known = self._offset - _DRIFT * (now - self._told_at)
        # A Date that was over before the request was sent is of another clock, or of one that was set back.
        is_other = seconds + 1 < sent_at + known
        self._offset = seconds - now if is_other else max(seconds - now, known)
        self._told_at = now

    def read(self, now: float) -> datetime | None:
        """What the server's clock shows at least; None if no answer told."""
        if self._offset == -math.inf:
            return None
        return datetime.fromtimestamp(self._offset + now - _DRIFT * (now - self._told_at), UTC)
