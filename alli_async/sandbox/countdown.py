"""Actions that run after a number of events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .checks import check_integer

Action = Callable[[], Any]


class Countdown:
    """Counts one kind of event, and runs each action when its event has come."""

    def __init__(self) -> None:
        self._events = 0
        self._scheduled: list[tuple[int, Action]] = []

    def schedule(self, n: int, action: Action) -> None:
        """Run an action after the n-th event from now.

        Raises:
            ValueError: n is no integer of at least 1.
        """
        check_integer("n", n, 1)
        self._scheduled.append((self._events + n, action))

    def tick(self) -> None:
        """Count an event and run the actions that are due, in the order in which they were scheduled."""
        self._events += 1
        if not self._scheduled:
            return
        due = [action for event, action in self._scheduled if event <= self._events]
        self._scheduled = [each for each in self._scheduled if each[0] > self._events]
        for action in due:
            action()
