"""Compares what a reader gave with what the server held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from alli_async import AlliError

from .case import Case
from .excuses import Excuse, cut_chats, most_requests, unlisted_chats
from .readers import Given, GivenChat, Reading
from .truth import HeldChat, Truth

_SHOWN = 5


@dataclass(frozen=True)
class Complaint:
    """A fault of a reader: `kind` names it, `text` says where."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass
class Evidence:
    """All that the judge looks at.

    Attributes:
        case: What was tried.
        truth: What the server held while the reader read.
        reading: What the reader gave.
        allowed: What may be missing.
        required: Conversations that must be there.
        shown_ids: True ids by the ids that the server shows in their place.
        earlier: Versions of conversations from an earlier run, which count where there is no newer one.
    """

    case: Case
    truth: Truth
    reading: Reading
    allowed: Excuse
    required: set[str]
    shown_ids: dict[str, str]
    earlier: dict[str, Given]

    def true_id(self, shown: str) -> str:
        """The true id of a conversation."""
        return self.shown_ids.get(shown, shown)


def judge(evidence: Evidence) -> list[Complaint]:
    """What the reader did wrong; empty if everything was given exactly once, or reported with good reason."""
    reading = evidence.reading
    complaints = [*_ending(evidence), *_requests(evidence), *_identities(evidence), *_order(evidence)]
    given = {evidence.true_id(each.id): each for each in reading.given}
    newest = {**evidence.earlier, **given}
    failed = reading.error is not None
    for conversation_id, each in newest.items():
        # The version of an earlier run stays where this run reports that it cannot have a newer one.
        is_reported = conversation_id in evidence.allowed.rows and conversation_id in reading.reported
        if conversation_id in evidence.truth.ever and (conversation_id in given or not is_reported):
            complaints += _chats(evidence, conversation_id, each, is_final=not failed)
    if not failed:
        complaints += [*_missing(evidence, set(newest)), *_reports(evidence)]
    return complaints


def _ending(evidence: Evidence) -> Iterator[Complaint]:
    reading = evidence.reading
    if reading.has_hung:
        yield Complaint("hang", f"not done after {reading.requests} requests, {len(reading.given)} given")
    elif reading.error is not None and not isinstance(reading.error, tuple(evidence.allowed.errors)):
        kind = type(reading.error).__name__
        known = "" if isinstance(reading.error, AlliError) else ", which is no AlliError"
        yield Complaint(f"error {kind}", f"without an excuse{known}: {reading.error}")


def _requests(evidence: Evidence) -> Iterator[Complaint]:
    most = most_requests(evidence.case, evidence.truth)
    if evidence.reading.requests > most:
        yield Complaint("requests", f"{evidence.reading.requests} were sent, at most {most} are reasonable")


def _identities(evidence: Evidence) -> Iterator[Complaint]:
    reading, truth = evidence.reading, evidence.truth
    times = Counter(evidence.true_id(each.id) for each in reading.given)
    if invented := [each for each in times if each not in truth.ever]:
        yield Complaint("invented", f"no such conversation: {_some(invented)}")
    if foreign := [each for each in times if each in truth.ever and each not in truth.possible]:
        yield Complaint("unmatched", f"{_some(foreign)} never matched the filters")
    if twice := [each for each, count in times.items() if count > 1 + (each in reading.again)]:
        shown = _some([_described(truth, each) for each in twice])
        yield Complaint("twice", f"given more than once: {shown}")


def _order(evidence: Evidence) -> Iterator[Complaint]:
    """An ordered stream goes by first chat time, where the server sorts by it and nothing changes.

    Where equal rows come in another order each time, a row can be missed at first, and comes late.
    """
    case, truth = evidence.case, evidence.truth
    is_sorted = not any(case.server.get(habit) for habit in ("order", "first_chat_orders"))
    is_sorted = is_sorted and case.server.get("ties") != "shuffled"
    if case.reader.kind != "ordered" or not is_sorted or not case.is_quiet or case.marks:
        return
    known = [each.id for each in evidence.reading.given if truth.start.get(each.id)]
    known = [each for each in known if each not in evidence.reading.again]
    times = [truth.ever[each][truth.start[each][0]].timestamp for each in known]
    if misplaced := [each for each, time, last in zip(known[1:], times[1:], times, strict=False) if time < last]:
        yield Complaint("order", f"given behind later conversations: {_some(misplaced)}")


def _chats(evidence: Evidence, conversation_id: str, given: Given, *, is_final: bool) -> Iterator[Complaint]:
    if given.chats is None:
        return
    held = evidence.truth.ever[conversation_id]
    ids = [chat.id for chat in given.chats]
    if foreign := [each for each in ids if each not in held]:
        yield Complaint("chat invented", f"{conversation_id} was given {_some(foreign)}")
    if len(set(ids)) < len(ids):
        yield Complaint("chat twice", f"{conversation_id} was given a chat more than once")
    if [chat.timestamp for chat in given.chats] != sorted(chat.timestamp for chat in given.chats):
        yield Complaint("chat order", f"the chats of {conversation_id} are not in time order")
    unlisted = unlisted_chats(evidence.case, evidence.truth, conversation_id)
    cut = cut_chats(evidence.case, evidence.truth, conversation_id)
    changed = [chat for chat in given.chats if chat.id in held and chat.content != held[chat.id].content]
    if wrong := [chat.id for chat in changed if not (chat.id in cut and _is_cut(chat, held))]:
        yield Complaint("chat content", f"{conversation_id}: not as the server holds them: {_some(wrong)}")
    if conversation_id in evidence.reading.again and not is_final:
        return  # the whole version was still to come
    start, end = evidence.truth.start.get(conversation_id, ()), evidence.truth.end.get(conversation_id, ())
    steady = set(start).intersection(end)
    if lost := [each for each in start if each in steady and each not in ids and each not in unlisted]:
        yield Complaint("chat lost", f"{conversation_id} has {len(start)} chats, without {_some(lost)}")


def _is_cut(chat: GivenChat, held: dict[str, HeldChat]) -> bool:
    """Whether the message is the beginning of the right one."""
    return held[chat.id].message.startswith(chat.message)


def _missing(evidence: Evidence, given: set[str]) -> Iterator[Complaint]:
    reading, allowed = evidence.reading, evidence.allowed
    reported = {evidence.true_id(each) for each in reading.reported if each is not None}
    has_unnamed = None in reading.reported or reading.quarantined > 0
    missing = [each for each in evidence.required if each not in given]
    excused = [each for each in missing if each in allowed.rows and (each in reported or has_unnamed)]
    rest = [each for each in missing if each not in excused]
    spared = [each for each in rest if each in reported][: allowed.spare]
    if lost := [each for each in rest if each not in spared]:
        silent = [each for each in lost if each not in reported]
        kind = "lost" if silent else "given up"
        shown = _some([_described(evidence.truth, each) for each in silent or lost])
        yield Complaint(kind, f"{len(lost)} of {len(evidence.required)} are missing: {shown}")


def _reports(evidence: Evidence) -> Iterator[Complaint]:
    reading, allowed = evidence.reading, evidence.allowed
    may_be_unnamed = bool(allowed.rows)
    if (None in reading.reported or reading.quarantined) and not may_be_unnamed:
        yield Complaint("unnamed report", "reports rows that could not be read, and every row can be read")
    ids = [evidence.true_id(each) for each in reading.reported if each is not None]
    if unknown := [each for each in ids if each not in evidence.truth.ever]:
        yield Complaint("report invented", f"reports {_some(unknown)}, which never were")


def _described(truth: Truth, conversation_id: str) -> str:
    """A conversation by its place among all, oldest first, and its chats."""
    if conversation_id not in truth.ever:
        return conversation_id
    place = list(truth.ever).index(conversation_id)
    first, last = len(truth.start.get(conversation_id, ())), len(truth.end.get(conversation_id, ()))
    chats = f"{first} chats" if first == last else f"{first} chats, then {last}"
    return f"#{place} {conversation_id} ({chats})"


def _some(ids: list[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(map(ascii, ids[:_SHOWN])).replace("'", "") + more
