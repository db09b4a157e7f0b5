"""Faults of the sandbox: single ones, their probabilities, and scripts of them."""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

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
    "errors",
    "errors_rows",
    "empty_chats",
    "ok",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One step of a script: what a request meets instead of its right answer.

    Attributes:
        name: `"ok"` gives the right answer.
            Faults before the operation, which then has no effect: `"429"`, `"500"`, `"503"` (the documented
            errors), `"status"` (any answer, given by `status`, `body` and `headers`), `"html"` (a proxy's page
            with 200), `"reset_before"` (the connection is reset), `"silence"` (no answer until the client goes
            away or the sandbox closes).
            Faults after the operation, which takes effect: `"reset_after"` (the connection is reset),
            `"truncated"` (half of the body that was promised), `"cut_gzip"` (a gzip stream that ends early in a
            complete body), `"broken_json"` (half of the JSON), `"slow"` (the first bytes one at a time),
            `"errors"` (200 with a non-null `errors`; a list page has no rows and a null cursor),
            `"errors_rows"` (the same, but a list page has its first 10 rows), `"empty_chats"` (a page of chats
            without chats and with `totalCount` 0; for other operations the right answer).
        seconds: Seconds before the answer; for `"silence"`, before the connection is closed unanswered.
        status: Status of a `"status"` fault.
        body: Body of a `"status"` fault, sent as it is.
        headers: More headers, sent as they are, for any fault with an answer.
        retry_after: Value of a Retry-After header, for any fault with an answer.
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


class WireModel(Protocol):
    """What a model is to a script. The help of the command needs the names of faults without the models."""

    def to_json(self, *, wire_names: bool = ...) -> str:
        """The model as JSON."""
        ...


Step = str | int | Fault | WireModel | Mapping[str, Any]
"""A step of a script: a fault's name, a status, a `Fault`, or the body of an answer 200."""

OK = Fault("ok")


def _step(step: Step) -> Fault:
    if isinstance(step, Fault):
        return step
    if isinstance(step, int):
        return Fault(str(step)) if str(step) in FAULTS else Fault("status", status=step)
    if isinstance(step, str):
        return Fault(step)
    text = json.dumps(step) if isinstance(step, Mapping) else step.to_json(wire_names=True)
    return Fault("status", status=200, body=text.encode())


class FaultPlan:
    """Chooses the fault of each request: from a script, else at random."""

    def __init__(self, probabilities: Mapping[str, float], seed: int) -> None:
        self._names = list(probabilities)
        self._weights = list(probabilities.values())
        self._draw = random.Random(f"{seed}:faults")  # noqa: S311 - made-up faults
        self._scripts: dict[tuple[str, str | None], deque[Fault]] = {}

    def script(self, operation: str, steps: Iterable[Step], id_: str | None = None) -> None:
        """Replace the script of an operation, of its requests for an id; `"*"` is for the others."""
        self._scripts[operation, id_] = deque(map(_step, steps))

    def next(self, operation: str, ids: Iterable[str] = ()) -> Fault:
        """The fault of the next request of an operation for a conversation, or for one of its chats."""
        # A chat's script goes before the one of its conversation, and either before the one of all requests.
        keys = (*reversed(tuple(ids)), None) if self._scripts else ()
        for name in (operation, "*"):
            for key in keys:
                if steps := self._scripts.get((name, key)):
                    return steps.popleft()
        if not self._names:
            return OK
        drawn = self._draw.random()
        for name, weight in zip(self._names, self._weights, strict=True):
            if drawn < weight:
                return Fault(name)
            drawn -= weight
        return OK
