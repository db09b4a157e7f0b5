"""Weeks of nightly commands: what is called complete is what the server has, else what is missing is told."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from alli_async import AlliClient
from tests.support.backend import Backend
from tests.support.night import QUICK
from tests.support.weeks import DAY, Night, Week

FEW = st.integers(0, 4)
NIGHTS = st.builds(
    Night,
    command=st.sampled_from(
        ["incremental", "incremental", "incremental", "resume", "refresh", "compact", "drop deleted", "verify"]
    ),
    new=FEW,
    talked=FEW,
    retitled=FEW,
    deleted=FEW,
    trouble=st.sampled_from(
        [
            *("none", "none", "none", "refused", "cancelled", "stumbling", "html", "undecodable", "damaged"),
            *("killed", "killed", "away", "silent", "resetting", "limited", "paused"),
        ]
    ),
    after=st.integers(1, 30),
    step=st.sampled_from([0.0, 0.0, 0.0, -250.0, 250.0]),
)


async def live(nights: Sequence[Night], *, count: int, second: float, skew: float) -> None:
    """Live through nights; afterwards a refresh holds exactly what the server has, and what it has had."""
    with tempfile.TemporaryDirectory() as folder:
        async with Backend(second=second) as backend:
            client = AlliClient(backend.api_key, base_url=backend.url, retry=QUICK)
            async with client:
                week = Week(backend, Path(folder) / "all", client, skew)
                week.begin(count)
                for night in nights:
                    await week.live(night)
                # An unfinished run goes on first.
                for _ in range(2):
                    await week.live(Night("refresh"))
                await week.live(Night("drop deleted"))
                assert week.held() == backend.truth()


@pytest.mark.parametrize(
    "nights",
    [
        (
            Night("incremental", trouble="html", after=7),
            Night("incremental", new=3, talked=2, deleted=2),
            Night("refresh", new=1, retitled=3, deleted=1, trouble="cancelled", after=9),
            Night("incremental", new=2, talked=2),
            Night("compact", trouble="damaged"),
            Night("incremental", new=1, deleted=3, trouble="stumbling"),
        ),
        (
            Night("resume", trouble="refused", after=14),
            Night("refresh", new=2, talked=1, deleted=2),
            Night("incremental", talked=3, trouble="undecodable", after=2),
            Night("drop deleted", deleted=1),
            Night("verify"),
            Night("incremental", new=4),
        ),
        (
            Night("resume", trouble="killed", after=9),
            Night("incremental", new=3, trouble="away", after=2),
            Night("refresh", new=1, deleted=20, trouble="silent", after=9),
            Night("incremental", new=1, talked=2, step=-250.0),
            Night("compact", trouble="killed"),
            Night("incremental", new=2, trouble="resetting", step=250.0),
        ),
    ],
)
def test_a_week_of_nights_leaves_what_the_server_has(nights: Sequence[Night]) -> None:
    asyncio.run(live(nights, count=120, second=1000.0, skew=0.0))


@pytest.mark.slow
@pytest.mark.timeout(600)
# A week takes about a second, so a failing one is shown as it was drawn, and not shrunk for minutes.
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(
    nights=st.lists(NIGHTS, min_size=5, max_size=7),
    count=st.sampled_from([0, 10, 120]),
    second=st.sampled_from([1.0, 1000.0]),
    skew=st.sampled_from([0.0, -3600.0, 3600.0, -2 * DAY]),
)
def test_whatever_a_week_brings_what_is_called_complete_is_what_the_server_has(
    nights: Sequence[Night], count: int, second: float, skew: float
) -> None:
    asyncio.run(live(nights, count=count, second=second, skew=skew))
