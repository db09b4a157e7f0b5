"""The bounds on times that a user set, kept by the reader too.

A server may take whole numbers only, cut a filter to whole seconds, and count its bound in or not. So readers ask
for a second more on each side, and leave out what is outside only by that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Seconds that readers ask for beyond a bound.
MARGIN = 1.0
# Seconds by which rows can be outside that a server returns for it: it may cut the filter down by a second too.
_REACH = 2.5

Bounds = tuple[float, float]
UNBOUNDED: Bounds = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class TimeBounds:
    """The bounds on the times of first and last chats, both inclusive.

    Attributes:
        first: Earliest and latest time of the first chat, in the server's unit.
        last: Earliest and latest time of the last chat, in the server's unit.
        units_per_second: Units of the server's timestamps in one second.
    """

    first: Bounds
    last: Bounds
    units_per_second: float

    def leave_out(self, first: float | None, last: float | None) -> bool:
        """Whether a conversation is outside, by so little that only the wider filter can have selected it.

        What is further outside was selected by the server's own idea of its times, and stays.

        Args:
            first: Time of its first chat; None where that is not known.
            last: Time of its last chat; None where that is not known.
        """
        return self._is_just_outside(first, self.first) or self._is_just_outside(last, self.last)

    def _is_just_outside(self, time: float | None, bounds: Bounds) -> bool:
        if time is None:
            return False
        reach = _REACH * self.units_per_second
        return bounds[0] - reach <= time < bounds[0] or bounds[1] < time <= bounds[1] + reach
