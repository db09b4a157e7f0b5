"""The state of an outage on a clock of the test's own: when it begins, who may ask, and when a call gives up."""

from __future__ import annotations

import math

import pytest

from alli_async import Call, Request, RetryPolicy, ServerError
from alli_async._transport.outage import Outage

POLICY = RetryPolicy(base=1, cap=20, max_attempts=4, patience=600)
LONGEST = 1 + 2 + 4  # the backoffs of one call


def call(method: str = "GET") -> Call:
    return Call(Request("getConversation", method, "/x"))


def error(retry_after: float | None = None) -> ServerError:
    return ServerError("503: busy", status=503, retry_after=retry_after)


def begun(at: float = 10.0) -> Outage:
    """An outage that began at a time."""
    outage = Outage()
    outage.succeeded(Request("getConversation", "GET", "/probe"), bytes)
    outage.served(0.0)
    outage.suspect(error(), at)
    return outage


def fail_canary(outage: Outage, at: float, retry_after: float | None = None) -> None:
    canary, _ = outage.next_canary(call())
    outage.failed(canary, error(retry_after), at, POLICY)
    outage.release(canary)


def test_failures_of_one_call_alone_are_no_outage_nor_are_a_few_nor_those_of_a_moment() -> None:
    outage, one, other = Outage(), call(), call()
    for at in map(float, range(20)):
        outage.failed(one, error(), at, POLICY)
    assert outage.cause is None
    outage.served(20.0)
    for at in (20.1, 20.2, 20.3, 20.4, 20.5, 20.6):
        outage.failed(one, error(), at, POLICY)
        outage.failed(other, error(), at, POLICY)
    assert outage.cause is None
    outage.failed(other, error(), 21.2, POLICY)
    assert outage.cause is not None


def test_one_answer_between_failures_begins_the_count_anew() -> None:
    outage = Outage()
    for at in range(40):
        outage.failed(call(), error(), float(at), POLICY)
        if at % 3 == 2:
            outage.served(float(at))
        assert outage.cause is None


def test_pauses_between_canaries_grow_up_to_the_cap() -> None:
    outage, at, pauses = begun(), 10.0, []
    for _ in range(10):
        fail_canary(outage, at)
        pauses.append(outage.due_for(POLICY, is_bulk=True) - at)
        at += pauses[-1]
    for number, pause in enumerate(pauses, 1):
        assert min(20, 2.0**number) / 2 <= pause <= min(20, 2.0**number)


def test_for_single_calls_a_canary_goes_more_often_than_for_bulk_reads() -> None:
    outage = begun()
    for at in (10.0, 12.0, 16.0, 24.0, 40.0, 60.0):
        fail_canary(outage, at)
    assert outage.due_for(POLICY, is_bulk=False) == 60 + LONGEST / 3
    assert outage.due_for(POLICY, is_bulk=True) >= 70


@pytest.mark.parametrize("is_bulk", [True, False])
def test_a_retry_after_of_the_outage_is_never_undercut(is_bulk: bool) -> None:
    outage = begun()
    fail_canary(outage, 11.0, retry_after=30.0)
    due = outage.due_for(POLICY, is_bulk=is_bulk)
    assert due >= 41.0
    for now in (12.0, 20.0, 40.9):
        # Not even by a call that is about to give up, and in whose time no canary failed.
        assert not outage.may_ask(now, due, now, outage.failed_canaries)
    assert outage.may_ask(41.0 + 20, due, math.inf, 0)


def test_only_one_canary_goes_at_a_time_and_the_next_one_when_it_has_ended() -> None:
    outage = begun()
    canary, _ = outage.next_canary(call())
    assert not outage.may_ask(1000.0, outage.due, math.inf, 0)
    outage.release(canary)
    assert outage.may_ask(1000.0, outage.due, math.inf, 0)


def test_the_canary_is_in_turn_a_read_that_worked_and_the_waiting_call_itself() -> None:
    outage, paths = begun(), []
    for at in (10.0, 12.0, 16.0, 24.0):
        canary, decode = outage.next_canary(call("POST"))
        paths.append(canary.path if decode is not None else "own")
        outage.failed(canary, error(), at, POLICY)
        outage.release(canary)
    assert paths == ["/probe", "own", "/probe", "own"]


def test_a_single_call_gives_up_after_its_backoffs_less_what_it_has_waited() -> None:
    outage, waiting = begun(), call()
    assert outage.give_up_at(waiting, 20.0, POLICY, is_bulk=False) == 20 + LONGEST
    waiting.waited = 5.0
    assert outage.give_up_at(waiting, 20.0, POLICY, is_bulk=False) == 20 + LONGEST - 5


def test_a_bulk_read_gives_up_when_its_patience_is_over_since_the_outage_or_its_own_start() -> None:
    outage, before, later = begun(at=10.0), call(), call()
    before.started, later.started = 5.0, 300.0
    assert outage.give_up_at(before, 20.0, POLICY, is_bulk=True) == 610
    assert outage.give_up_at(later, 300.0, POLICY, is_bulk=True) == 900
    outage.has_served = False
    assert outage.give_up_at(before, 20.0, POLICY, is_bulk=True) == 20 + LONGEST


def test_a_call_that_gives_up_may_ask_once_if_no_canary_failed_while_it_waited() -> None:
    outage = begun()
    fail_canary(outage, 11.0)
    failed_before, give_up_at = outage.failed_canaries, 11.2
    assert outage.may_ask(11.2, math.inf, give_up_at, failed_before)
    fail_canary(outage, 11.3)
    assert not outage.may_ask(11.4, math.inf, give_up_at, failed_before)


def test_a_read_that_fails_as_a_canary_is_asked_for_last_then() -> None:
    outage = Outage()
    for number, operation in enumerate(["listConversations", "listConversations", "listConversationChats"]):
        outage.succeeded(Request(operation, "GET", f"/{number}"), bytes.decode)
    outage.succeeded(Request("listConversations", "GET", "/3"), bytes.decode)
    outage.suspect(error(), 10.0)
    paths = []
    for at in range(6):
        canary, decode = outage.next_canary(call())
        if decode is not None:
            paths.append(canary.path)
        outage.failed(canary, error(), 10.0 + at, POLICY)
        outage.release(canary)
    # The oldest and the latest of each operation, and none of them twice.
    assert sorted(paths) == ["/0", "/2", "/3"]
    canary, decode = outage.next_canary(call())
    assert decode is not None
    outage.succeeded(canary.request, bytes.decode)
    outage.served(20.0)
    outage.release(canary)
    outage.suspect(error(), 30.0)
    assert outage.next_canary(call())[0].path == canary.path


@pytest.mark.parametrize(
    ("share", "attempts"), [(0.0, 4), (0.01, 4), (0.05, 4), (0.14, 6), (0.3, 10), (0.9, 16)], ids=str
)
def test_a_request_is_at_fault_after_as_many_attempts_as_chance_does_not_explain(
    share: float, attempts: int
) -> None:
    outage = Outage()
    for number in range(1000):
        outage.first_attempt_ended(failed=int((number + 1) * share) > int(number * share))
    assert abs(outage.attempts_for(POLICY) - attempts) <= 1
    assert Outage().attempts_for(POLICY) == POLICY.max_attempts
