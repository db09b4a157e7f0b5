"""Every reader gives every conversation once and whole, whatever the server's habits and whatever changes.

The default run tries the same cases each time. ALLI_LOSSLESS_MINUTES=30 looks for failures with fresh seeds for
that long instead (ALLI_LOSSLESS_SEED sets the first seed), and prints each cause of failures once, as an
`@example` that can be pasted above the test:

    ALLI_LOSSLESS_MINUTES=30 pytest tests/listing/test_lossless.py -s

Requests run concurrently, so a change after the n-th page can meet another page the next time: a case that fails
once may pass, and is a failure all the same.
"""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.lossless.case import Case
from tests.lossless.draws import cases
from tests.lossless.examples import EXAMPLES
from tests.lossless.hunt import hunt, report
from tests.lossless.trial import run

_MINUTES = float(os.environ.get("ALLI_LOSSLESS_MINUTES", "0"))
_SEED = int(os.environ.get("ALLI_LOSSLESS_SEED", str(int(time.time()))))


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_was_lost_once_is_given_or_reported(name: str) -> None:
    if complaints := run(EXAMPLES[name]):
        pytest.fail(report(EXAMPLES[name], complaints), pytrace=False)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a failure is run many times until it is small
@pytest.mark.skipif(_MINUTES > 0, reason="a long run was asked for")
@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(case=cases())
def test_every_conversation_is_given_once_and_whole_or_is_reported(case: Case) -> None:
    if complaints := run(case):
        pytest.fail(report(case, complaints), pytrace=False)


@pytest.mark.timeout(0)
@pytest.mark.skipif(_MINUTES <= 0, reason="ALLI_LOSSLESS_MINUTES is not set")
def test_no_reader_loses_anything_for_as_long_as_asked(capsys: pytest.CaptureFixture[str]) -> None:
    def tell(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}")  # noqa: T201 - a long run shows what it finds when it finds it

    found = hunt(_MINUTES, _SEED, tell=tell)
    assert not found, f"{len(found)} causes, first seed {_SEED}: " + "; ".join(map(str, found))
