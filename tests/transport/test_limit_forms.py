"""Whole clients on a virtual clock against limits of many forms: no call is lost, and most of a limit is used."""

from __future__ import annotations

import random

import pytest

from benchmarks.limits import Case, cases, measure

ALL = {case.name: case for case in cases()}
# One form of each kind of limit, and each way in which a server says when to come back.
CHOSEN = [
    "bucket 60/s burst 1",
    "leaky queue 60/s of 20, RA s",
    "fixed 600 in 10 s",
    "sliding log 600 in 10 s, RA date",
    "log counting refused 60 in 1",
    "sliding counter 60 in 1 s, RA s",
    "8 in flight",
    "60, 20, 120/s, RA date",
    "ban after 20 in 60 s, RA s",
    "5% by chance, 60/s",
    "shared by two, 60/s",
    "fixed 60 in 1 s, ietf",
    "bucket 60/s, openai",
    "8 in flight, okta",
]
OTHERS = [name for name in ALL if "600 in 60" not in name and name not in CHOSEN]


def find(name: str) -> Case:
    return ALL[name]


@pytest.mark.parametrize("name", [*CHOSEN, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_no_call_is_lost_to_a_limit(name: str) -> None:
    outcome = measure(find(name), 400, 0.02, seed=random.Random(name).randrange(1000))
    assert outcome.failed == 0
    assert outcome.served == 400
    assert outcome.undercut == 0


@pytest.mark.parametrize(
    ("name", "workers"),
    [
        ("fixed 600 in 10 s", 1),
        ("bucket 60/s burst 20", 1000),
        ("sliding log 60 in 1 s", 4),
        ("8 in flight", 1000),
    ],
)
def test_no_call_is_lost_whatever_the_number_of_callers(name: str, workers: int) -> None:
    outcome = measure(find(name), 1000, 0.02, workers=workers)
    assert (outcome.failed, outcome.served) == (0, 1000)


@pytest.mark.parametrize(
    ("name", "share", "refused"),
    [
        ("bucket 60/s burst 20", 0.93, 0.02),
        ("8 in flight", 0.85, 0.02),
        ("fixed 60 in 1 s, openai", 0.97, 0.01),
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in (
                ("leaky queue 60/s of 20", 0.93, 0.02),
                ("fixed 60 in 1 s", 0.93, 0.02),
                ("fixed 600 in 10 s", 0.93, 0.02),
                ("sliding log 60 in 1 s", 0.93, 0.02),
                ("600 in 60 s, github", 0.97, 0.01),
                ("600 in 60 s, anthropic", 0.97, 0.01),
                ("bucket 60/s, openai", 0.97, 0.01),
                ("bucket 60/s burst 20, RA s", 0.92, 0.02),
                ("fixed 60 in 1 s, RA date", 0.85, 0.02),
                ("sliding log 600 in 10 s", 0.95, 0.02),
                ("fixed 600 in 60 s", 0.93, 0.02),
                ("sliding counter 60 in 1 s", 0.93, 0.02),
            )
        ),
    ],
)
def test_most_of_a_limit_is_used_and_little_refused(name: str, share: float, refused: float) -> None:
    case = find(name)
    outcome = measure(case, 3000, 0.02, seed=3)
    assert max(case.ideal(3000, 0.02), 3000 / case.rate) / outcome.elapsed >= share
    # The first overrun may cost what was in flight.
    assert (outcome.refused - outcome.first) / 3000 <= refused


@pytest.mark.parametrize("seed", [3, pytest.param(12, marks=pytest.mark.slow)])
def test_refusals_by_chance_are_not_taken_for_a_rate(seed: int) -> None:
    case = find("5% by chance")
    outcome = measure(case, 3000, 0.02, seed=seed)
    assert case.share(3000, 0.02, outcome.elapsed) >= 0.6


@pytest.mark.parametrize("latency", [pytest.param(0.005, marks=pytest.mark.slow), 0.1])
def test_growth_brings_about_no_ban(latency: float) -> None:
    assert measure(find("ban after 20 in 60 s"), 1500, latency).bans == 0
