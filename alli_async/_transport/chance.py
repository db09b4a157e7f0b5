"""Refusals that no load explains: whether there are such, how many, and which are more than those."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Refusals at half the load before it is judged, and before it is what the next half is compared with. Of more
# than the latter nothing is kept either, so that a share is that of the last few.
_FEW, _ENOUGH = 3, 8
# Shares that may be chance: what is rarer costs little, and what comes more often is a limit or an outage.
_RAREST, _LARGEST = 0.01, 0.2
# Of the share to be expected, what more or less than it is let pass; and so many refusals beyond that are a
# signal, while so many that did not come halve what is expected.
_LESS = 0.6
_MARGIN, _BEYOND, _MISSED = 0.5, 8.0, 4.0


@dataclass
class _Level:
    """What came of the requests at a load; the load is the highest at which one was refused.

    Attributes:
        limit: Requests in flight.
        pace: Requests per second; infinite where there was no pace.
        tried: The highest pace that was one, or 0.
        requests: Those since the first refusal.
        refused: How many of them were refused.
    """

    limit: float = 0.0
    pace: float = 0.0
    tried: float = 0.0
    requests: float = 0.0
    refused: float = 0.0

    @property
    def share(self) -> float:
        return self.refused / max(self.requests, 1.0)

    def refuse(self, limit: float, pace: float, rate: float) -> None:
        self.limit, self.pace = max(self.limit, limit), max(self.pace, pace)
        self.tried = max(self.tried, pace if pace < math.inf else rate)
        if self.refused >= _ENOUGH:
            kept = (_ENOUGH - 1) / self.refused
            self.requests, self.refused = self.requests * kept, self.refused * kept
        self.refused += 1


class Chance:
    """Tells refusals that come whatever the load from those that a limit makes."""

    def __init__(self) -> None:
        self.share = 0.0
        self._excess = self._missing = 0.0
        self._clean = 0
        self._stale = 0
        self._high = _Level()
        self._low: _Level | None = None

    def served(self) -> None:
        """A request was served."""
        self._clean += 1
        if self._stale:
            self._stale -= 1
            self._high.requests += 1
        else:
            (self._low or self._high).requests += 1
        if self.share:
            self._excess = max(self._excess - (1 + _MARGIN) * self.share, 0.0)
            self._missing += (1 - _MARGIN) * self.share
            if self._missing > _MISSED:
                self._missing = 0.0
                self.share = self.share / 2 if self.share >= 2 * _RAREST else 0.0

    def explains(self, limit: float, pace: float, rate: float, *, held: bool) -> bool:
        """A request was refused, with so many in flight and so many per second. Gives whether by chance."""
        if self._clean * _RAREST > _ENOUGH and self._low is None:
            self._high = _Level()
        self._clean = 0
        self._missing = max(self._missing - 1, 0.0)
        if self._low is not None and not self._is_half(limit, pace):
            self._high.requests += self._low.requests
            self._high.refused += self._low.refused
            self._low = None
        if self._stale or self._low is None:
            self._stale -= self._stale > 0
            high = self._high
            known = high.limit > 0
            high.requests += 1
            high.refuse(limit, pace, rate)
            if not known:
                high.requests = high.refused = 0
        else:
            self._low.requests += 1
            if held:
                self._low.refuse(limit, pace, rate)
        if not self.share or self._excess + 1 > _BEYOND:
            return False
        self._excess += 1
        return True

    def _is_half(self, limit: float, pace: float) -> bool:
        return limit <= _LESS * self._high.limit or pace <= _LESS * self._high.tried

    def is_cause(self, limit: float, pace: float, in_flight: int) -> tuple[float, float] | None:
        """After a cut to `limit` and `pace`, the load that is as good, or None."""
        high, low = self._high, self._low
        if low is None:
            if self._is_half(limit, pace):
                self._low, self._stale = _Level(), in_flight - 1
        elif low.refused >= _FEW:
            share = (high.refused + low.refused) / (high.requests + low.requests)
            # Of a few refusals a share is hardly known: it is taken to be as small as it may well be.
            sure = (high.refused - math.sqrt(high.refused)) / max(high.requests, 1.0)
            if low.share >= sure / 2 and _RAREST <= share <= _LARGEST:
                self.share = share
                self._excess = self._missing = 0.0
                self._high, self._low = _Level(), None
                return high.limit, high.pace
            if low.refused >= _ENOUGH:
                self._high, self._low = low, None
        return None
