"""The share of requests that a server refuses whatever the load."""

from __future__ import annotations

# Refusals, each at a lower load than the one before, that make a share; how much lower the load has to be.
_ENOUGH, _LESS = 3, 0.75
# Shares that may be chance: what is rarer costs little, and what comes more often is a limit or an outage.
_SMALLEST, _LARGEST = 0.015, 0.15
# Refusals that are expected, as a multiple of the share, and at most at once; requests after which it is renewed.
_MARGIN, _MOST_AT_ONCE, _RENEWED = 2.0, 12.0, 200


class BackgroundErrorFilter:
    """Detects refusals that are unrelated to our own load (a background error rate).

    A limit refuses next to nothing once the load is well under it. Where refusals go on while the load falls and
    nothing grows, their share is to be expected from then on. Refusals beyond it are not explained. It never
    raises a limit: it only keeps expected refusals from lowering one.

    Attributes:
        share: The share of all requests that is refused whatever the load; 0 if none is known.
    """

    def __init__(self) -> None:
        self.share = 0.0
        self._expected = 0.0
        self._requests = self._refused = self._before = 0
        self._load = 0.0

    def served(self) -> None:
        """Note that a request was served."""
        self._requests += 1
        if self.share:
            self._expected = min(self._expected + _MARGIN * self.share, _MOST_AT_ONCE)

    def explains(self, load: float, *, is_grown: bool, is_limited: bool) -> bool:
        """Note a refusal. Returns whether it was to be expected.

        Args:
            load: Number of requests that were allowed in flight.
            is_limited: Whether a rate is known, which others may share: then it takes more to make a share.
            is_grown: Whether growth of ours led to the refusal, which then counts for nothing.
        """
        self._requests += 1
        if self._expected >= 1:
            self._expected -= 1
            self._refused += 1
            if self._requests > _RENEWED:
                self.share = (self.share + self._refused / self._requests) / 2
                if self.share > _LARGEST:
                    self.share = self._expected = 0.0
                self._start_over()
            return True
        if is_grown:
            self._start_over()
        elif not self._refused or load <= max(1.0, _LESS * self._load):
            self._watch(load, _ENOUGH + 4 * is_limited)
        return False

    def may_explain(self, refused: int, served: int) -> bool:
        """Whether a background that is known may have refused so many requests beside so many that were served."""
        return self.share > 0 and refused <= min(1 + 3 * self.share * (refused + served), served)

    def _watch(self, load: float, enough: int) -> None:
        self._refused, self._load = self._refused + 1, load
        since, self._before = self._requests - self._before, self._requests
        if self._refused >= enough:
            share = self._refused / self._requests
            if _SMALLEST <= share <= _LARGEST and since * share < 2.5:
                # So few refusals tell a share badly; they are seen beside others that are common.
                self.share, self._expected = (self._refused + 2) / (self._requests + 30), _MOST_AT_ONCE
            self._start_over()

    def _start_over(self) -> None:
        self._requests = self._refused = self._before = 0
