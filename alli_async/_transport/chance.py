"""Refusals that no load explains: whether there are such, how many, and which are more than those."""

from __future__ import annotations

import math
from dataclasses import dataclass

# A load at which a true limit, refusing at the one before, would refuse nothing: so much of it. Half would be
# surer still, but a pace that chance holds down comes to rest above it.
_LESS = 0.6
# Refusals at less load before they are judged; and so many are a level of their own. Of no more than these, the
# last, is a share made.
_FEW, _ENOUGH = 3, 8
# Shares that may be chance: what is rarer costs little, and what comes more often is a limit or an outage.
_RAREST, _LARGEST = 0.01, 0.2
# By so much of itself may a share be more or less than was learnt; so many refusals beyond that are a signal,
# and so many that did not come halve what was learnt.
_MARGIN, _BEYOND, _MISSED = 0.5, 8.0, 4.0


@dataclass(slots=True)
class Load:
    """What was allowed when a request was refused, and what was served.

    Attributes:
        limit: Requests in flight that were allowed.
        pace: Requests per second that were allowed; infinite where nothing but the limit held them back.
        rate: Requests per second that were served of late.
    """

    limit: float
    pace: float
    rate: float


@dataclass(slots=True)
class _Level:
    """How many were refused at a load, and the highest of each that was refused (`rate`: where no pace was)."""

    limit: float = 0.0
    pace: float = 0.0
    rate: float = 0.0
    requests: float = 0.0
    refused: float = 0.0

    def refuse(self, load: Load) -> None:
        if self.refused >= _ENOUGH:
            kept = (_ENOUGH - 1) / self.refused
            self.requests, self.refused = self.requests * kept, self.refused * kept
        self.requests, self.refused = self.requests + 1, self.refused + 1
        self.limit, self.pace = max(self.limit, load.limit), max(self.pace, load.pace)
        self.rate = max(self.rate, load.pace if load.pace < math.inf else load.rate)

    def is_above(self, limit: float, pace: float) -> bool:
        return limit <= _LESS * self.limit or pace <= _LESS * self.rate

    @property
    def least_share(self) -> float:
        # Of few refusals a share is hardly known: it is taken to be as small as it may well be.
        return (self.refused - math.sqrt(self.refused)) / max(self.requests, 1.0)


class Chance:
    """A gate before what finds the limits, which lets through only the refusals that chance does not explain.

    It learns from the cuts that refusals bring about: a limit refuses next to nothing once the load is well
    under it. Where about as many are refused as before, although nothing grows, load is not the cause, and
    that share is to be expected from then on. Both what is beyond it and what stays short of it are counted as
    in a CUSUM chart; with nothing learnt, every refusal is let through.

    Attributes:
        share: Of all requests, those that are refused whatever the load.
    """

    def __init__(self) -> None:
        self.share = 0.0
        self._excess = self._missing = 0.0
        self._served_since = 0
        self._high = _Level()
        self._low: _Level | None = None
        self._stale = 0

    def served(self) -> None:
        """A request was served."""
        self._served_since += 1
        if self._low is None:
            self._high.requests += 1
        else:
            self._level().requests += 1
        if self.share:
            self._excess = max(self._excess - (1 + _MARGIN) * self.share, 0.0)
            self._missing += (1 - _MARGIN) * self.share
            if self._missing > _MISSED:
                self._missing = 0.0
                self.share = self.share / 2 if self.share >= 2 * _RAREST else 0.0

    def explains(self, load: Load, *, held: bool) -> bool:
        """A request was refused. Gives whether that was to be expected.

        Args:
            load: What was allowed, before anything is cut.
            held: Whether nothing has grown yet since the last cut: what is refused then, no growth led to.
        """
        self._count(load, held=held)
        self._missing = max(self._missing - 1, 0.0)
        if not self.share or self._excess + 1 > _BEYOND:
            return False
        self._excess += 1
        return True

    def was_cause(self, limit: float, pace: float, in_flight: int) -> tuple[float, float] | None:
        """Gives the limit and pace that were cut for nothing, once that is known.

        Args:
            limit: Requests in flight that are allowed, after a cut.
            pace: Requests per second that are allowed.
            in_flight: Requests in flight, sent before it: the one that was refused, and those that still count
                for the load they were sent at.
        """
        high, low = self._high, self._low
        if low is None:
            if high.is_above(limit, pace):
                self._low, self._stale = _Level(), in_flight - 1
            return None
        if low.refused < _FEW:
            return None
        share = (high.refused + low.refused) / (high.requests + low.requests)
        if low.refused / low.requests >= high.least_share / 2 and _RAREST <= share <= _LARGEST:
            self.share = share
            self._excess = self._missing = 0.0
            self._high, self._low = _Level(), None
            return high.limit, high.pace
        if low.refused >= _ENOUGH:
            self._high, self._low = low, None
        return None

    def _level(self) -> _Level:
        if self._low is None or self._stale:
            self._stale -= self._stale > 0
            return self._high
        return self._low

    def _count(self, load: Load, *, held: bool) -> None:
        low = self._low
        if low is None and self._served_since * _RAREST > _ENOUGH:
            self._high = _Level()
        self._served_since = 0
        if low is not None and not self._high.is_above(load.limit, load.pace):
            self._high.requests += low.requests
            self._high.refused += low.refused
            self._low = None
        level = self._level()
        if level is self._low and not held:
            level.requests += 1
        elif level.limit or level is self._low:
            level.refuse(load)
        else:
            # The first one only begins to count: what was served before it was chosen by no refusal.
            level.refuse(load)
            level.requests = level.refused = 0.0
