"""The rate limit of the server: a token bucket, and the Retry-After header."""

from __future__ import annotations

import math
import time
from email.utils import formatdate

from .options import RetryAfter


class TokenBucket:
    """Admits `rate` requests per second, and up to `burst` at once after a pause."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = time.monotonic()

    def take(self) -> float:
        """Take a token and return 0.0, or return the seconds until there is one."""
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate


def retry_after(seconds: float, form: RetryAfter) -> str | None:
    """The value of a Retry-After header, never below the seconds; None for no header."""
    if form == "none":
        return None
    if form == "seconds":
        return str(max(1, math.ceil(seconds)))
    # An HTTP date has only whole seconds.
    return formatdate(math.ceil(time.time() + max(1.0, seconds)), usegmt=True)
