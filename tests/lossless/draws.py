"""Hypothesis strategies: mostly ordinary servers with a few habits, so that a failure shrinks to its cause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from .case import Case, Change, FaultScript, FilterChoice, Mark, Reader
from .history import BEGIN, CHANGES

Draw = Callable[[st.SearchStrategy[Any]], Any]

_MOST = 1200
_CROWD_FROM = 512  # of the sandbox: a crowd begins behind that many conversations
_MOST_PAGES = 40

# Each deviation from the sandbox's defaults, with its values. Simpler ones first: draws shrink towards them.
_HABITS: dict[str, tuple[Any, ...]] = {
    "nulls": ("first",),
    "cursor": ("relay", "keyset", "opaque", "relay", "keyset", "opaque", "endless"),
    "unit": ("s",),
    "order": ("ignored",),
    "ties": ("shuffled",),
    "bounds": ("open",),
    "filter_numbers": ("whole", "seconds"),
    "first_chat_filters": ("ignored",),
    "first_chat_orders": ("refused",),
    "first_chat_fallback": (True,),
    "null_last_chat": (0.1, 0.5, 1.0),
    "page_cap": (20, 49, 10, 7, 1),
    "ragged": (True,),
    "heavy_page": (25, 49, 10, 1),
    "embed": (0, 5, 1, "all"),
    "embed_order": ("newest_first",),
    "embed_abridged": (40, 10, 0),
    "chat_count": ("user",),
    "chat_lag": (1, 3, 20),
    "chat_times": ("kept",),
    "page_no": ("ignored",),
    "crowd": (64, 128, 320, 640),
    "compress": (True,),
}
# Habits that make it impossible to read around a row that fails each page: what is behind it cannot be reached.
_IMPASSABLE = ("ties", "order", "first_chat_filters", "first_chat_orders", "null_last_chat")
_FILTERS = (
    "user_ids",
    "llm_app_id",
    "category_id",
    "search_term",
    "active_only",
    "background_running",
    "first_chat_started_at",
    "first_chat_end_at",
    "started_at",
    "end_at",
)
_KINDS = ("stream", "stream", "export", "raw", "ordered", "skip", "export", "incremental", "incremental", "list")
_FAULTS = ("500", "429", "503", "reset_before", "reset_after", "html", "broken_json", "errors", "errors_rows")
_POSITIONS = st.one_of(st.sampled_from([0, 1000, 500]), st.integers(0, 1000))
_MARKS = st.one_of(
    st.builds(Mark, st.just("poison"), _POSITIONS, st.sampled_from([500, 503, 504])),
    st.builds(Mark, st.just("poison_everywhere"), _POSITIONS, st.just(500)),
    st.builds(Mark, st.just("id"), _POSITIONS, st.sampled_from(["", "..", "\x1b[31m"])),
    st.builds(Mark, st.just("created"), _POSITIONS, st.sampled_from([1e300, -1.0, 1.7e18])),
    st.builds(Mark, st.just("deep"), _POSITIONS),
    st.builds(Mark, st.just("huge"), _POSITIONS),
)
_CHANGE = st.builds(
    Change,
    what=st.sampled_from([*CHANGES, BEGIN]),
    after=st.one_of(st.integers(1, 4), st.integers(1, 30)),
    at=_POSITIONS,
    n=st.sampled_from([1, 2, 5, 1, 20, 60]),
)


def _changes(most: int) -> st.SearchStrategy[tuple[Change, ...]]:
    return st.lists(_CHANGE, max_size=most).map(tuple)


def _sizes() -> st.SearchStrategy[int]:
    return st.one_of(st.integers(0, 200), st.integers(0, 400), st.integers(0, 400), st.integers(400, _MOST))


@st.composite
def _servers(draw: Draw) -> dict[str, Any]:
    number = draw(st.sampled_from([0, 1, 1, 1, 2, 2, 2, 3, 3, 5]))
    names = draw(st.lists(st.sampled_from([*_HABITS]), min_size=number, max_size=number, unique=True))
    habits = {name: draw(st.sampled_from(_HABITS[name])) for name in names}
    return {"conversations": draw(_sizes()), "seed": draw(st.integers(0, 99)), **habits}


@st.composite
def _readers(draw: Draw) -> Reader:
    kind = draw(st.sampled_from(_KINDS))
    has_filters = draw(st.integers(0, 9)) > 5
    names = draw(st.lists(st.sampled_from(_FILTERS), max_size=2, unique=True)) if has_filters else []
    if kind == "incremental":  # such a run sets the bound of the last chat itself
        names = [name for name in names if name not in {"started_at", "end_at"}]
    return Reader(kind, tuple(FilterChoice(name, draw(_POSITIONS)) for name in names))


@st.composite
def _scripts(draw: Draw) -> FaultScript:
    operation = draw(st.sampled_from(["listConversations", "listConversationChats", "*"]))
    faults = [*_FAULTS, "empty_chats"] if operation == "listConversationChats" else _FAULTS
    steps: list[str] = []
    for _ in range(draw(st.integers(1, 4))):
        steps += ["ok"] * draw(st.integers(0, 12))
        steps.append(draw(st.sampled_from(faults)))
    return FaultScript(operation, tuple(steps))


@st.composite
def cases(draw: Draw) -> Case:
    """Cases of every kind; about a third of them change nothing while the reader reads."""
    server, reader = draw(_servers()), draw(_readers())
    history = draw(_changes(4)) if draw(st.integers(0, 9)) > 2 else ()
    marks = (draw(_MARKS),) if draw(st.integers(0, 9)) > 7 else ()
    faults = (draw(_scripts()),) if draw(st.integers(0, 9)) > 7 else ()
    between: tuple[Change, ...] = ()
    later: tuple[Change, ...] = ()
    if reader.kind == "incremental":
        between, later = draw(_changes(4)), draw(_changes(2))
    return Case(_possible(server, marks), reader, history, between, later, marks, faults)


def _possible(server: dict[str, Any], marks: tuple[Mark, ...]) -> dict[str, Any]:
    """The server without combinations that the sandbox refuses, that take long, or that no reader could master."""
    made = dict(server)
    if made.get("cursor") == "keyset":
        made.pop("ties", None)
    if any(mark.what in {"poison", "poison_everywhere", "huge"} for mark in marks):
        for name in _IMPASSABLE:
            made.pop(name, None)
    if any(mark.what == "huge" for mark in marks) and made.get("embed") == "all":
        del made["embed"]
    if "crowd" in made:
        made["conversations"] = max(made["conversations"], _CROWD_FROM + made["crowd"])
    page = min(50, made.get("page_cap", 50), made.get("heavy_page", 50)) / (4 if made.get("ragged") else 1)
    made["conversations"] = min(made["conversations"], max(60, int(_MOST_PAGES * page)))
    return made
