"""What came and what was answered, for tests to assert on."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import NamedTuple

_KEPT = 10_000


class Received(NamedTuple):
    """A request as it came.

    Attributes:
        operation: Its id in the contract, or `"unknown"`.
        method: The HTTP method.
        path: The path as it was sent, nothing decoded, without the query.
        query: Names and values, decoded, in the order sent.
        headers: By name, whatever its case.
        body: The body's bytes.
    """

    operation: str
    method: str
    path: str
    query: list[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes


class Traffic:
    """Counters of the requests and answers of a sandbox.

    Attributes:
        requests: How often each (operation, status) was answered; status 0 where there was no answer.
        received: The latest requests.
        in_flight: Requests that wait for their answer.
        peak_in_flight: The most there were at once.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.received: deque[Received] = deque(maxlen=_KEPT)
        self.in_flight = 0
        self.peak_in_flight = 0

    def enter(self) -> None:
        """A request came."""
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def leave(self) -> None:
        """A request was answered, or never will be."""
        self.in_flight -= 1

    def reset(self) -> None:
        """Begin to count anew; requests that are in flight stay in flight."""
        self.requests.clear()
        self.received.clear()
        self.peak_in_flight = self.in_flight
