"""The changes of a history, the marks on rows and the faults, applied to a sandbox."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .case import Case, Change, Mark, place
from .truth import Witness

HUGE_BYTES = 2_000_000
_DEEP = b'{"a":' * 3000 + b"1" + b"}" * 3000
# Most chats of a conversation that lose all their chats; more would take long.
_FEW = 40


def _any(witness: Witness, conversation_id: str) -> bool:
    return True


def _has_chats(witness: Witness, conversation_id: str) -> bool:
    return witness.count(conversation_id) > 0


def _is_empty(witness: Witness, conversation_id: str) -> bool:
    return witness.count(conversation_id) == 0


def _has_one(witness: Witness, conversation_id: str) -> bool:
    return witness.count(conversation_id) == 1


def _has_few(witness: Witness, conversation_id: str) -> bool:
    return 0 < witness.count(conversation_id) <= _FEW


def _add_chat(witness: Witness, conversation_id: str) -> None:
    witness.sandbox.add_chats(1, conversation_id)


def _lose_first(witness: Witness, conversation_id: str) -> None:
    witness.sandbox.delete_chats(1, conversation_id, first=True)


def _lose_any(witness: Witness, conversation_id: str) -> None:
    witness.sandbox.delete_chats(1, conversation_id)


def _lose_all(witness: Witness, conversation_id: str) -> None:
    witness.sandbox.delete_chats(_FEW, conversation_id)


def _end(witness: Witness, conversation_id: str) -> None:
    witness.sandbox.end_conversations(1, conversation_id)


def _delete(witness: Witness, conversation_id: str) -> None:
    witness.sandbox.delete_conversations(1, conversation_id)


Suits = Callable[[Witness, str], bool]
Act = Callable[[Witness, str], None]
CHANGES: dict[str, tuple[Suits, Act]] = {
    "delete": (_any, _delete),
    "get_chat": (_any, _add_chat),
    "get_first_chat": (_is_empty, _add_chat),
    "lose_first_chat": (_has_chats, _lose_first),
    "lose_last_chat": (_has_chats, Witness.delete_last_chat),
    "lose_only_chat": (_has_one, _lose_first),
    "lose_any_chat": (_has_chats, _lose_any),
    "lose_all_chats": (_has_few, _lose_all),
    "end": (_any, _end),
}
BEGIN = "begin"


def apply(witness: Witness, change: Change) -> None:
    """Make a change, and note it."""
    sandbox = witness.sandbox
    if change.what == BEGIN:
        witness.note(sandbox.add_conversations(change.n))
        return
    suits, act = CHANGES[change.what]
    chosen = [each for each in sandbox.conversation_ids() if suits(witness, each)]
    touched = chosen[place(change.at, len(chosen), change.n)]
    for each in touched:
        act(witness, each)
    witness.note(touched)


class History:
    """Schedules changes. An error in a change is kept: the sandbox would answer it as an error of its own."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self.failure: Exception | None = None

    def schedule(self, changes: tuple[Change, ...]) -> None:
        """Schedule changes after the list pages to come."""
        for change in changes:
            self._witness.sandbox.after_pages(change.after, partial(self._run, change))

    def _run(self, change: Change) -> None:
        try:
            apply(self._witness, change)
        except Exception as error:  # noqa: BLE001 - raised again at the end of the trial
            self.failure = error


def prepare(witness: Witness, case: Case) -> dict[str, str]:
    """Mark the rows and script the faults of a case; returns the marks by the id of their conversation."""
    ids = witness.sandbox.conversation_ids()
    witness.running(ids[::7])
    marked: dict[str, str] = {}
    for mark in case.marks:
        for each in ids[place(mark.at, len(ids))]:
            _mark(witness, each, mark)
            marked[each] = mark.what
    for script in case.faults:
        witness.sandbox.script(script.operation, script.steps)
    return marked


def _mark(witness: Witness, conversation_id: str, mark: Mark) -> None:
    sandbox = witness.sandbox
    match mark.what:
        case "poison" | "poison_everywhere":
            sandbox.poison(conversation_id, mark.value, everywhere=mark.what == "poison_everywhere")
        case "id":
            sandbox.override(conversation_id, {"id": mark.value})
        case "created":
            sandbox.override(conversation_id, {"createdAt": mark.value})
        case "deep":
            sandbox.override(conversation_id, {"variables": _DEEP})
        case "huge":
            sandbox.override(conversation_id, {"title": "x" * (HUGE_BYTES + 1000)})
        case _:
            raise ValueError(mark.what)
