"""The judge objects to every kind of loss, and to nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from alli_async import AlliError, IncompleteError, PaginationError
from alli_async.sandbox import Sandbox
from tests.lossless.case import Case, Change, FaultScript, FilterChoice, Mark, Reader
from tests.lossless.draws import cases
from tests.lossless.excuses import Excuse, excuse
from tests.lossless.history import apply, prepare
from tests.lossless.judge import Evidence, judge
from tests.lossless.readers import Given, GivenChat, Reading
from tests.lossless.trial import filters_of, run
from tests.lossless.truth import Truth, Witness, pairs_of

QUIET = Case({"conversations": 70})


def witnessed(case: Case, *changes: Change) -> tuple[Witness, Truth, Excuse]:
    """What stands in a sandbox that is not served, before and after some changes."""
    witness = Witness(Sandbox(**case.server))
    witness.filter_by(pairs_of(filters_of(case, witness)))
    marked = prepare(witness, case)
    truth = witness.watch()
    for change in changes:
        apply(witness, change)
    witness.close(truth)
    return witness, truth, excuse(case, witness, truth, marked)


def whole_reading(truth: Truth) -> Reading:
    """Everything that the server held, once."""
    return Reading(
        given=[
            Given(each, [GivenChat(chat.id, *chat.content) for chat in truth.ever[each].values()])
            for each in truth.steady
        ]
    )


def complaints(
    case: Case, truth: Truth, reading: Reading, allowed: Excuse | None = None, shown: dict[str, str] | None = None
) -> list[str]:
    allowed = Excuse() if allowed is None else allowed
    evidence = Evidence(case, truth, reading, allowed, truth.steady, shown or {}, {})
    return [each.kind for each in judge(evidence)]


def longest(reading: Reading) -> Given:
    return max(reading.given, key=lambda each: len(each.chats or ()))


def lose(reading: Reading) -> None:
    reading.given.pop()


def repeat(reading: Reading) -> None:
    reading.given.append(reading.given[0])


def invent(reading: Reading) -> None:
    reading.given.append(Given("Q29udmVyc2F0aW9uOjE=", []))


def lose_a_chat(reading: Reading) -> None:
    (longest(reading).chats or []).pop(0)


def repeat_a_chat(reading: Reading) -> None:
    chats = longest(reading).chats or []
    chats.insert(0, chats[0])


def swap_chats(reading: Reading) -> None:
    (longest(reading).chats or []).reverse()


def cut_a_chat(reading: Reading) -> None:
    chat = (longest(reading).chats or [])[0]
    chat.message = chat.message[:3]


def lose_citations(reading: Reading) -> None:
    next(chat for each in reading.given for chat in each.chats or () if chat.citations).citations = 0


def mix_chats(reading: Reading) -> None:
    one, other = sorted(reading.given, key=lambda each: len(each.chats or ()))[-2:]
    (one.chats or []).append((other.chats or [])[-1])


def report_what_can_be_read(reading: Reading) -> None:
    reading.reported.append(None)


def report_one_that_is_missing(reading: Reading) -> None:
    reading.reported.append(reading.given.pop().id)


def report_what_never_was(reading: Reading) -> None:
    reading.reported.append("never")


def fail(reading: Reading) -> None:
    reading.error = IncompleteError("gone")


def fail_with_a_foreign_error(reading: Reading) -> None:
    reading.error = KeyError("gone")


def hang(reading: Reading) -> None:
    reading.error, reading.has_hung = TimeoutError(), True


def ask_too_much(reading: Reading) -> None:
    reading.requests = 100_000


@pytest.mark.parametrize(
    ("spoil", "kinds"),
    [
        (lose, ["lost"]),
        (repeat, ["twice"]),
        (invent, ["invented"]),
        (lose_a_chat, ["chat lost"]),
        (repeat_a_chat, ["chat twice"]),
        (swap_chats, ["chat order"]),
        (cut_a_chat, ["chat content"]),
        (lose_citations, ["chat content"]),
        (mix_chats, ["chat invented"]),
        (report_what_can_be_read, ["unnamed report"]),
        (report_one_that_is_missing, ["given up"]),
        (report_what_never_was, ["report invented"]),
        (fail, ["error IncompleteError"]),
        (fail_with_a_foreign_error, ["error KeyError"]),
        (hang, ["hang"]),
        (ask_too_much, ["requests"]),
    ],
)
def test_the_judge_objects_to_each_kind_of_fault_and_to_a_whole_reading_not_at_all(
    spoil: Callable[[Reading], None], kinds: list[str]
) -> None:
    _, truth, allowed = witnessed(QUIET)
    reading = whole_reading(truth)
    assert complaints(QUIET, truth, reading, allowed) == []
    spoil(reading)
    found = complaints(QUIET, truth, reading, allowed)
    assert [each for each in found if each not in {"chat order", "chat lost"} or each in kinds] == kinds


HABITS: list[dict[str, Any]] = [{}, {"cursor": "opaque"}, {"order": "ignored"}, {"ragged": True}, {"embed": 0}]


@pytest.mark.parametrize("habit", HABITS)
def test_a_habit_of_lists_and_changes_excuse_nothing(habit: dict[str, Any]) -> None:
    case = Case({"conversations": 300, **habit})
    _, _, allowed = witnessed(case, Change("delete"), Change("begin"), Change("end"))
    assert allowed == Excuse()


def test_an_ordered_stream_goes_by_first_chat_time() -> None:
    case = Case({"conversations": 70}, Reader("ordered"))
    _, truth, allowed = witnessed(case)
    reading = whole_reading(truth)
    place = {each: number for number, each in enumerate(truth.start)}  # ids are in the order of the first chats
    reading.given.sort(key=lambda each: place[each.id])
    assert complaints(case, truth, reading, allowed) == []
    reading.given.reverse()
    assert complaints(case, truth, reading, allowed) == ["order"]


def test_a_conversation_may_come_again_if_the_stream_says_so() -> None:
    _, truth, allowed = witnessed(QUIET)
    reading = whole_reading(truth)
    whole = longest(reading)
    reading.given.insert(0, Given(whole.id, (whole.chats or [])[1:]))
    assert complaints(QUIET, truth, reading, allowed) == ["twice"]
    reading.again = {whole.id}
    assert complaints(QUIET, truth, reading, allowed) == []


def test_a_poisoned_row_may_be_missing_if_it_is_reported_and_no_other_row_with_it() -> None:
    case = Case({"conversations": 70}, Reader("skip"), marks=(Mark("poison", 500, 500),))
    witness, truth, allowed = witnessed(case)
    (poisoned,) = allowed.rows
    reading = whole_reading(truth)
    reading.given = [each for each in reading.given if each.id != poisoned]
    assert complaints(case, truth, reading, allowed) == ["lost"]
    reading.reported = [None]
    assert complaints(case, truth, reading, allowed) == []
    lose(reading)
    assert complaints(case, truth, reading, allowed) == ["lost"]
    reading.error = AlliError("not here: with skip a row is no reason to fail")
    assert complaints(case, truth, reading, allowed) == ["error AlliError"]
    raising = replace(case, reader=Reader("stream"))
    assert complaints(raising, truth, reading, excuse(raising, witness, truth, {poisoned: "poison"})) == []


def test_a_row_with_another_id_counts_as_the_row_it_stands_for() -> None:
    case = Case({"conversations": 70}, Reader("skip"), marks=(Mark("id", 0, ".."),))
    _, truth, allowed = witnessed(case)
    (renamed,) = allowed.rows
    reading = whole_reading(truth)
    next(each for each in reading.given if each.id == renamed).id = ".."
    assert complaints(case, truth, reading, allowed, {"..": renamed}) == []


def test_what_leaves_or_comes_may_be_missing_and_may_be_given() -> None:
    changes = (Change("delete", at=300), Change("begin"), Change("lose_any_chat", at=1000, n=60))
    _, truth, allowed = witnessed(QUIET, *changes)
    assert complaints(QUIET, truth, whole_reading(truth), allowed) == []
    truth.steady |= truth.possible
    everything = whole_reading(truth)
    truth.steady &= set(truth.start) & set(truth.end)
    assert len(everything.given) == 71
    assert complaints(QUIET, truth, everything, allowed) == []


def test_a_conversation_that_never_matched_must_not_be_given() -> None:
    case = Case({"conversations": 70}, Reader(filters=(FilterChoice("active_only"),)))
    _, truth, _ = witnessed(case)
    assert 0 < len(truth.steady) < 70
    reading = whole_reading(truth)
    reading.given += [Given(each) for each in truth.ever if each not in truth.steady][:1]
    assert complaints(case, truth, reading) == ["unmatched"]


def test_a_row_that_ends_need_not_be_among_the_active_ones() -> None:
    case = Case({"conversations": 70}, Reader(filters=(FilterChoice("active_only"),)))
    _, before, _ = witnessed(case)
    _, truth, _ = witnessed(case, Change("end", at=0, n=35))
    assert truth.steady < before.steady
    assert truth.possible == before.steady


def test_answers_that_are_errors_excuse_an_error_or_as_many_reported_rows() -> None:
    case = Case({"conversations": 70}, Reader("skip"), faults=(FaultScript("*", ("ok", "errors", "500")),))
    _, truth, allowed = witnessed(case)
    reading = whole_reading(truth)
    report_one_that_is_missing(reading)
    assert complaints(case, truth, reading, allowed) == []
    report_one_that_is_missing(reading)
    assert complaints(case, truth, reading, allowed) == ["given up"]


def test_an_endless_list_excuses_an_error_of_pagination_only() -> None:
    case = Case({"conversations": 70, "cursor": "endless"})
    _, truth, allowed = witnessed(case)
    reading = replace(whole_reading(truth), error=PaginationError("endless"))
    assert complaints(case, truth, reading, allowed) == []
    reading.error = IncompleteError("endless")
    assert complaints(case, truth, reading, allowed) == ["error IncompleteError"]


def test_a_lagging_server_excuses_only_chats_that_no_row_shows() -> None:
    shown = Case({"conversations": 70, "chat_lag": 3})
    _, truth, allowed = witnessed(shown)
    assert not allowed.rows
    reading = whole_reading(truth)
    assert longest(reading).chats
    del (longest(reading).chats or [])[-1]
    assert complaints(shown, truth, reading, allowed) == ["chat lost"]
    hidden = Case({"conversations": 70, "chat_lag": 3, "embed": 0})
    assert complaints(hidden, truth, reading) == []


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_a_case_can_be_pasted_and_its_server_exists(case: Case) -> None:
    names = {each.__name__: each for each in (Case, Change, FaultScript, FilterChoice, Mark, Reader)}
    assert eval(repr(case), {"inf": float("inf"), **names}) == case
    assert Sandbox(**case.server)


@pytest.mark.parametrize("kind", ["stream", "raw", "ordered", "skip", "export", "incremental", "list"])
def test_a_polite_server_is_read_without_a_complaint(kind: str) -> None:
    assert run(Case({"conversations": 120}, Reader(kind))) == []
