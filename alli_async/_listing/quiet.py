"""How often a list is read again, where it cannot be proved that one pass has shown every row."""

from __future__ import annotations

from typing import Any

from ..errors import IncompleteError
from .walks import Walk

# Passes over a list, each of which found rows that earlier ones had missed, before it counts as changing too fast.
MAX_PASSES = 20
# Passes in a row that must find nothing new where the order of rows is not stable: five passes over 120 rows in
# random order miss a row in 1 of 3,000 cases.
QUIET_PASSES = 5


class QuietPasses:
    """Counts the passes in a row that found nothing new.

    Args:
        is_order_unstable: Whether the order of rows was not stable in a pass before these.
    """

    def __init__(self, *, is_order_unstable: bool = False) -> None:
        self._count = 0
        self._is_order_unstable = is_order_unstable

    def are_enough(self, walk: Walk[Any], *, found: bool) -> bool:
        """Whether no further pass is needed.

        Args:
            walk: The walk of the pass that has ended.
            found: Whether it found rows that earlier passes had missed.
        """
        self._count = 0 if found else self._count + 1
        # A pass that is not proved says nothing of the order of rows that an earlier one saw change.
        self._is_order_unstable = walk.is_order_unstable or (self._is_order_unstable and not walk.is_proved)
        return self._count >= (QUIET_PASSES if self._is_order_unstable else 1)


def changes_too_fast(passes: int) -> IncompleteError:
    """The error when each of so many passes found rows that earlier ones had missed."""
    return IncompleteError(
        f"the list was read {passes} times, and each time conversations were found that had been there before: "
        "it changes faster than it can be read"
    )
