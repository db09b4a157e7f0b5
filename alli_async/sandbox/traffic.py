"""The requests received and counters of the answers, for tests to assert on."""

from collections import Counter, deque
from collections.abc import Mapping
from typing import NamedTuple

_KEPT = 10_000


class Received(NamedTuple):
    """A received request.

    Attributes:
        operation: The operation's id in the contract, or `"unknown"`.
        method: The HTTP method.
        path: The path as it was sent, not decoded, without the query.
        query: Names and values, decoded, in the order sent.
        headers: The headers, by case-insensitive name.
        body: The bytes of the body.
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
        requests: Number of answers by (operation, status); the status is 0 where there was no answer.
        received: The latest requests.
        in_flight: Number of requests that wait for their answer.
        peak_in_flight: Largest number of requests that waited at once.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.received: deque[Received] = deque(maxlen=_KEPT)
        self.in_flight = 0
        self.peak_in_flight = 0

    def enter(self) -> None:
        """Count a request that arrives."""
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def leave(self) -> None:
        """Count a request that was answered or given up."""
        self.in_flight -= 1

    def reset(self) -> None:
        """Set the counters to zero; requests in flight stay in flight."""
        self.requests.clear()
        self.received.clear()
        self.peak_in_flight = self.in_flight
