"""How often a list is read again, where it cannot be proved that one pass has shown every row."""

from __future__ import annotations

from collections.abc import Collection
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


class CountProof:
    """Proves by counting that all rows were seen, where they come in another order at each request.

    Rows that were seen may leave, so that the number of seen rows alone proves nothing. A pass sets the number of
    rows to reach. Only passes after it count, as long as they list as many rows and show no row that is new:
    if they have shown that many different rows, a row that was missed would have to be in place of a row that left
    after it was seen, and then the number of listed rows would be another one.
    """

    def __init__(self) -> None:
        self._count: int | None = None
        self._seen: set[str] = set()

    def is_reached(self, ids: Collection[str], *, listed: int, has_new: bool) -> bool:
        """Whether all rows have been seen.

        Args:
            ids: The ids of the rows that the last pass has shown.
            listed: Number of rows that it has listed, with rows that came twice.
            has_new: Whether it has shown rows that no pass before had shown.
        """
        if has_new or listed != self._count:
            self._count = listed
            self._seen.clear()
            return False
        self._seen.update(ids)
        return len(self._seen) == listed


def changes_too_fast(passes: int) -> IncompleteError:
    """The error when each of so many passes found rows that earlier ones had missed."""
    return IncompleteError(
        f"the list was read {passes} times, and each time conversations were found that had been there before: "
        "it changes faster than it can be read"
    )
