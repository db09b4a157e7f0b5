"""The server's clock as Date headers show it: never ahead of what it is, and right to a fraction of a second."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alli_async._transport.server_clock import ServerClock, http_date

# What the server's clock shows when ours shows 0.
EPOCH = 1_800_000_000.0
moments = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 3)), min_size=1, max_size=30)


def note(clock: ServerClock, sent_at: float, latency: float, *, ahead: float = 0.0) -> None:
    """Note an answer that the server stamps when half of the latency has passed."""
    date = formatdate(EPOCH + ahead + sent_at + latency / 2, usegmt=True)
    clock.note(date, sent_at=sent_at, now=sent_at + latency)


def reading(clock: ServerClock, now: float) -> float:
    moment = clock.read(now)
    assert moment is not None
    return moment.timestamp() - EPOCH


def test_nothing_is_known_of_a_clock_before_a_date_was_seen() -> None:
    clock = ServerClock()
    clock.note(None, sent_at=0.0, now=0.1)
    clock.note("no date", sent_at=0.2, now=0.3)
    assert clock.read(1.0) is None


def test_a_date_that_came_as_a_second_began_tells_the_clock_to_a_fraction() -> None:
    clock = ServerClock()
    for step in range(21):
        note(clock, 5.0 + step / 20, 0.02)
    # One date alone would say 6.0, since dates have whole seconds.
    assert reading(clock, 6.9) == pytest.approx(6.9, abs=0.05)


@given(moments, st.floats(0, 10))
def test_a_clock_is_never_read_ahead_of_what_it_shows(answers: list[tuple[float, float]], later: float) -> None:
    clock, now = ServerClock(), 0.0
    for sent_at, latency in sorted(answers, key=sum):
        note(clock, sent_at, latency)
        now = sent_at + latency
        assert reading(clock, now) <= now + 1e-6
    assert reading(clock, now + later) <= now + later + 1e-6


def test_the_clock_of_a_slower_server_counts_where_two_servers_answer() -> None:
    clock = ServerClock()
    note(clock, 5.0, 0.02, ahead=30.0)
    note(clock, 6.0, 0.02)
    assert reading(clock, 6.02) <= 6.02


def test_a_date_that_stands_still_is_what_the_clock_shows() -> None:
    clock = ServerClock()
    date = formatdate(EPOCH, usegmt=True)
    for now in (0.1, 3.0, 9.0):
        clock.note(date, sent_at=now - 0.05, now=now)
        assert reading(clock, now) <= 1.1


def test_a_date_without_a_zone_is_universal_time() -> None:
    assert http_date("Thu, 01 Jan 2026 00:00:07 -0000") == datetime(2026, 1, 1, 0, 0, 7, tzinfo=UTC)
    assert http_date("2026") is http_date(None) is None
