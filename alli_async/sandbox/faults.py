"""What can go wrong on purpose: single faults, their probabilities, and scripts of them."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

FAULTS = (
    "429",
    "500",
    "503",
    "reset_before",
    "reset_after",
    "truncated",
    "cut_gzip",
    "html",
    "broken_json",
    "silence",
    "slow",
    "ok",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One step of a script: what is answered instead of (or around) the right answer.

    Attributes:
        name: `"ok"` for the right answer. `"429"`, `"500"`, `"503"` for the documented errors, and
            `"status"` for any answer, given by `status`, `body` and `headers`. `"html"`: a page of a proxy,
            with 200. None of these has any effect on the data, nor has `"reset_before"`. The operation does
            take effect with `"reset_after"` (then the connection is reset), `"truncated"` (half of the body
            that was promised), `"cut_gzip"` (a gzip stream that ends early in a whole body),
            `"broken_json"`, and `"slow"` (the first bytes one at a time). `"silence"`: no answer until the
            client goes away or the sandbox closes.
        seconds: How long the answer is held back; for `"silence"`, when the connection is closed unanswered.
        status: The status of a `"status"` fault.
        body: The body of a `"status"` fault, sent as it is.
        headers: More headers, sent as they are, for any fault that has an answer.
        retry_after: The value of a Retry-After header, for any fault that has an answer.
    """

    name: str
    seconds: float | None = None
    status: int | None = None
    body: bytes | None = None
    headers: Mapping[str, str] | None = None
    retry_after: str | None = None

    def __post_init__(self) -> None:
        if self.name not in FAULTS and self.name != "status":
            raise ValueError(f"a fault is one of {', '.join(FAULTS)} or status, not {self.name!r}")
        if (self.name == "status") != (self.status is not None):
            raise ValueError('status belongs to Fault("status", status=…), and to no other')
        if self.status is not None and not 200 <= self.status <= 999:
            raise ValueError(f"status must be from 200 to 999, not {self.status}")
        if self.body is not None and self.name != "status":
            raise ValueError('body belongs to Fault("status", status=…), and to no other')


Step = str | int | Fault
"""A step of a script: a fault's name, a status, or a `Fault`."""

OK = Fault("ok")


def _step(step: Step) -> Fault:
    if isinstance(step, Fault):
        return step
    if isinstance(step, int):
        return Fault(str(step)) if str(step) in FAULTS else Fault("status", status=step)
    return Fault(step)


class FaultPlan:
    """Which request meets which fault: first what scripts say, then chance."""

    def __init__(self, probabilities: Mapping[str, float], seed: int) -> None:
        self._names = list(probabilities)
        self._weights = list(probabilities.values())
        self._draw = random.Random(f"{seed}:faults")  # noqa: S311 - made-up faults
        self._scripts: dict[str, deque[Fault]] = {}

    def script(self, operation: str, steps: Iterable[Step]) -> None:
        """Replace what the next requests of an operation meet (`"*"`: of any without a script)."""
        self._scripts[operation] = deque(map(_step, steps))

    def next(self, operation: str) -> Fault:
        """The fault that the present request meets."""
        for name in (operation, "*"):
            if steps := self._scripts.get(name):
                return steps.popleft()
        if not self._names:
            return OK
        drawn = self._draw.random()
        for name, weight in zip(self._names, self._weights, strict=True):
            if drawn < weight:
                return Fault(name)
            drawn -= weight
        return OK
