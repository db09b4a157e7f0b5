"""A case: all that a trial depends on, in a form that can be pasted into a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any


class Terse:
    """Dataclasses whose repr leaves out fields that have their default."""

    def __repr__(self) -> str:
        shown = []
        for each in fields(self):  # type: ignore[arg-type]
            value = getattr(self, each.name)
            default = each.default if each.default_factory is MISSING else each.default_factory()
            if value != default:
                shown.append(f"{each.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, repr=False)
class Change(Terse):
    """A change of the data.

    Attributes:
        what: A key of `history.CHANGES`.
        after: Number of list pages after which it happens.
        at: Position of the conversation among those that can change in this way, in thousandths: 0 is the oldest,
            1000 the newest.
        n: Number of neighbouring conversations that change.
    """

    what: str
    after: int = 1
    at: int = 0
    n: int = 1


@dataclass(frozen=True, repr=False)
class Mark(Terse):
    """A conversation that is answered in another way from the start.

    Attributes:
        what: "poison" (pages that hold it fail), "poison_everywhere" (its own requests too), "id", "created" (a
            field has another value), "deep" (JSON nested too deeply) or "huge" (a title beyond the client's
            limit).
        at: Position of the conversation, in thousandths.
        value: The status of the poison, or the value of the field.
    """

    what: str
    at: int = 0
    value: Any = None


@dataclass(frozen=True, repr=False)
class FaultScript(Terse):
    """Faults of the next requests of an operation, one step a request."""

    operation: str
    steps: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class FilterChoice(Terse):
    """A filter whose value is taken from the conversation at a position, in thousandths."""

    name: str
    at: int = 500


@dataclass(frozen=True, repr=False)
class Reader(Terse):
    """What reads.

    Attributes:
        kind: "stream", "raw", "ordered", "skip", "export", "incremental" (an export, changes, an incremental
            export) or "list".
        filters: Filters of the reader.
    """

    kind: str = "stream"
    filters: tuple[FilterChoice, ...] = ()


@dataclass(frozen=True, repr=False)
class Case(Terse):
    """One trial.

    Attributes:
        server: Options of the sandbox.
        reader: What reads.
        history: Changes while it reads.
        between: Changes between an export and its incremental run.
        later: Changes during the incremental run.
        marks: Conversations that are answered in another way.
        faults: Faults of single requests.
    """

    server: Mapping[str, Any]
    reader: Reader = field(default_factory=Reader)
    history: tuple[Change, ...] = ()
    between: tuple[Change, ...] = ()
    later: tuple[Change, ...] = ()
    marks: tuple[Mark, ...] = ()
    faults: tuple[FaultScript, ...] = ()

    @property
    def page_size(self) -> int:
        """Most rows that a list page can hold."""
        return min(50, self.server.get("page_cap") or 50, self.server.get("heavy_page") or 50)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing changes in the trial."""
        return not (self.history or self.between or self.later)


def place(at: int, count: int, n: int = 1) -> slice:
    """The slice of n of `count` neighbours at a position in thousandths."""
    start = max(0, min(count - n, round(at * (count - 1) / 1000)))
    return slice(start, start + n)
