"""The user's time bounds, which the reader checks as well as the server.

A server may accept only whole numbers, may cut a filter to whole seconds, and may treat a bound as inclusive or
exclusive. So readers ask for one second more on each side, and leave out the conversations that only the extra
second has selected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Seconds that readers ask for beyond a bound.
MARGIN = 1.0
# Seconds by which a returned row can be outside the user's bound: the margin, the second that a server may cut
# off, and half a second for rounding.
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

    def is_left_out(self, first: float | None, last: float | None) -> bool:
        """Whether a conversation is outside the user's bounds by so little that only the wider filter selected it.

        A conversation that is further outside was selected by the server on grounds of its own, and stays.

        Args:
            first: Time of the conversation's first chat; None if it is not known.
            last: Time of its last chat; None if it is not known.
        """
        return self._is_just_outside(first, self.first) or self._is_just_outside(last, self.last)

    def _is_just_outside(self, time: float | None, bounds: Bounds) -> bool:
        if time is None:
            return False
        reach = _REACH * self.units_per_second
        return bounds[0] - reach <= time < bounds[0] or bounds[1] < time <= bounds[1] + reach
