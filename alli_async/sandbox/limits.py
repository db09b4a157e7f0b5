"""The allowance of the server: requests per second with a burst, and requests in flight."""

from __future__ import annotations

import math
import time
from email.utils import formatdate

from .options import RetryAfter


class TokenBucket:
    """Lets `rate` requests a second through, and up to `burst` at once after a pause."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = time.monotonic()

    def take(self) -> float:
        """Take a token: 0.0 when there was one, otherwise the seconds until there is."""
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate


def retry_after(seconds: float, form: RetryAfter) -> str | None:
    """The value of a Retry-After header, never earlier than the seconds say; None for no header."""
    if form == "none":
        return None
    if form == "seconds":
        return str(max(1, math.ceil(seconds)))
    # An HTTP date has whole seconds only.
    return formatdate(math.ceil(time.time() + max(1.0, seconds)), usegmt=True)
