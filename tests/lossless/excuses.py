"""What a case allows a reader to miss, or to fail with. Whatever is not listed here is a fault of the reader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from alli_async import AlliError, APIError, IncompleteError, PaginationError, ServerError

from .case import Case
from .truth import Truth, Witness, crowded

_CHATS_PER_PAGE = 100
_PAGE = 50
_ALL = 1 << 30
# Marks on rows that may be missing, if they are reported. A nonsensical time is no reason to miss a row.
_UNREADABLE = {"poison", "poison_everywhere", "id", "deep", "huge"}
_UNLISTABLE = _UNREADABLE - {"id"}
# Requests for the time from which on a list can be had, behind rows that no cursor leads past.
_SEARCH = 1500


@dataclass
class Excuse:
    """What is acceptable.

    Attributes:
        errors: Errors that the reading may raise.
        rows: Conversations that may be missing if they are reported.
        spare: Number of further conversations that may be missing if each is reported by its id.
        reasons: Why, in words.
    """

    errors: list[type[AlliError]] = field(default_factory=list)
    rows: set[str] = field(default_factory=set)
    spare: int = 0
    reasons: list[str] = field(default_factory=list)


def excuse(case: Case, witness: Witness, truth: Truth, marked: dict[str, str]) -> Excuse:
    """The outcomes that are acceptable besides everything, once, whole and without an error."""
    found = Excuse()
    skips = case.reader.kind in {"skip", "export", "incremental"}

    def rows(ids: set[str], error: type[AlliError], reason: str) -> None:
        if ids:
            found.rows |= ids
            found.reasons.append(f"{reason} ({len(ids)} conversations)")
            if not skips:
                found.errors.append(error)

    rows({each for each, mark in marked.items() if mark in _UNREADABLE}, AlliError, "cannot be read")
    rows(_lagging(case, truth), IncompleteError, "newest chats are on no page and in no row")
    if case.server.get("cursor", "relay") in {"opaque", "keyset"} and _UNLISTABLE & set(marked.values()):
        # Also those that lost their chats before the reader came to them.
        empty = {each for each, chats in truth.ever.items() if not chats or not truth.end.get(each, chats)}
        rows(empty, AlliError, "stand behind rows that no cursor leads past, and in no window")
    if case.server.get("page_no") == "ignored":
        long = {each for each, chats in truth.ever.items() if len(chats) > _CHATS_PER_PAGE}
        rows(long, IncompleteError, "chat pages after the first cannot be had")
    if case.server.get("ties") == "shuffled":
        rows(_unprovable(case, witness), IncompleteError, "share an instant with more rows than a page holds")
    for error, reason in _failing_lists(case, truth, marked):
        found.errors.append(error)
        found.reasons.append(reason)
    if errors := sum(step.startswith("errors") for script in case.faults for step in script.steps):
        found.errors.append(APIError)
        found.spare = errors
        found.reasons.append(f"{errors} answers are errors that need not be tried again")
    return found


def _failing_lists(case: Case, truth: Truth, marked: dict[str, str]) -> Iterator[tuple[type[AlliError], str]]:
    """Reasons why a whole list may fail."""
    poisoned = {each for each, mark in marked.items() if mark.startswith("poison")}
    if poisoned & truth.possible and truth.steady <= poisoned:
        yield AlliError, "no page can be had while all rows that match are poisoned"
    if case.reader.kind == "list" and (case.server.get("heavy_page") or _PAGE) < _PAGE:
        yield ServerError, "list() asks for pages that are too large for the server"
    if case.server.get("cursor") == "endless":
        yield PaginationError, "the list does not end"


def _lagging(case: Case, truth: Truth) -> set[str]:
    """Conversations some of whose chats are neither on a page nor whole in a row of the list."""
    lag = case.server.get("chat_lag", 0)
    if not lag:
        return set()
    embed = case.server.get("embed", 20)
    shown = 0 if case.server.get("embed_abridged") is not None else _ALL if embed == "all" else embed
    # Where the count tells nothing either, chats that no page overlaps cannot be proved to be all.
    reach = lag + 1 if case.server.get("chat_count") == "user" else lag
    return {
        each
        for each, chats in truth.ever.items()
        if chats and (reach > min(shown, len(chats) if reach > lag else _ALL) or truth.shrunk.get(each))
    }


def _unprovable(case: Case, witness: Witness) -> set[str]:
    """Conversations of an instant that no page holds whole, where each request has another order.

    With a cursor that cannot be made, a page cannot be put where it holds a group of equal rows whole. The rows
    without chats, which no window holds, are such a group, and so is each instant where windows are ignored.
    """
    is_opaque = case.server.get("cursor") in {"opaque", "endless"}
    has_windows = case.server.get("first_chat_filters") != "ignored"
    most = 1 if case.server.get("ragged") or (is_opaque and not has_windows) else case.page_size
    times = witness.times("first")
    found = crowded(times, most)
    if is_opaque:
        found |= {each for each, moment in times.items() if moment is None}
    habits = {"order": "ignored", "first_chat_filters": "ignored", "first_chat_orders": "refused"}
    if any(case.server.get(name) == value for name, value in habits.items()) or _by_last_chat(case):
        found |= crowded(witness.times("last"), most)
    return found


def _by_last_chat(case: Case) -> bool:
    return any(each.name in {"started_at", "end_at"} for each in case.reader.filters)


def unlisted_chats(case: Case, truth: Truth, conversation_id: str) -> set[str]:
    """Chats of a conversation that a lagging server never shows, or may not have shown."""
    lag = case.server.get("chat_lag", 0)
    if not lag:
        return set()
    chats = list(truth.ever[conversation_id])
    embed = case.server.get("embed", 20)
    if truth.shrunk.get(conversation_id):
        return set(chats[-lag - truth.shrunk[conversation_id] :])
    shown = len(chats) if embed == "all" else embed
    return set(chats[max(0, len(chats) - lag) : max(0, len(chats) - shown)])


def cut_chats(case: Case, truth: Truth, conversation_id: str) -> set[str]:
    """Chats of a conversation that a lagging server may show in an abridged version only."""
    lag = case.server.get("chat_lag", 0)
    if not lag or case.server.get("embed_abridged") is None:
        return set()
    return set(list(truth.ever[conversation_id])[-lag - truth.shrunk.get(conversation_id, 0) :])


def most_requests(case: Case, truth: Truth) -> int:
    """A generous bound on the requests of one reading."""
    rows = len(truth.ever)
    chat_pages = sum(1 + len(chats) // _CHATS_PER_PAGE for chats in truth.ever.values())
    pages = 1 + rows * (4 if case.server.get("ragged") else 1) // case.page_size
    search = _SEARCH if any(mark.what in _UNLISTABLE for mark in case.marks) else 0
    return 500 + search + 60 * pages + 10 * (rows + chat_pages)
