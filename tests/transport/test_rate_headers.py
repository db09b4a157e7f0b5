"""Rate limit headers: what the forms of services say, and what is not understood."""

from __future__ import annotations

from email.utils import formatdate
from itertools import count

import pytest
from multidict import CIMultiDict

from alli_async._transport.rate_headers import AdvertisedQuota, RateHeaderReader, RateHeaders

NOW = 1_800_000_000
DATE = formatdate(NOW, usegmt=True)


def spelt(prefix: str) -> dict[str, str]:
    return {f"{prefix}-Limit": "600", f"{prefix}-Remaining": "42", f"{prefix}-Reset": str(NOW + 30)}


@pytest.mark.parametrize(
    ("headers", "limit", "remaining", "reset"),
    [
        ({"RateLimit": '"default";r=42;t=30', "RateLimit-Policy": '"default";q=600;w=60'}, 600, 42, 30),
        ({"RateLimit": "limit=600, remaining=42, reset=30"}, 600, 42, 30),
        ({"RateLimit": '"second";r=5;t=1, "day";r=900;t=9000'}, None, 5, 1),
        ({"RateLimit-Limit": "600", "RateLimit-Remaining": "42", "RateLimit-Reset": "30"}, 600, 42, 30),
        (
            {"X-RateLimit-Limit": "600", "X-RateLimit-Remaining": "42", "X-RateLimit-Reset": f"{NOW + 30}"},
            600,
            42,
            30,
        ),
        (
            {"X-Rate-Limit-Limit": "600", "X-Rate-Limit-Remaining": "42", "X-Rate-Limit-Reset": f"{NOW + 30}"},
            600,
            42,
            30,
        ),
        (
            {"X-RateLimit-Remaining": "42", "X-RateLimit-Reset": "9", "X-RateLimit-Reset-After": "0.25"},
            None,
            42,
            0.25,
        ),
        ({"x-ratelimit-remaining-requests": "42", "x-ratelimit-reset-requests": "6m0.5s"}, None, 42, 360.5),
        ({"x-ratelimit-remaining-requests": "42", "x-ratelimit-reset-requests": "20ms"}, None, 42, 0.02),
        (
            {
                "anthropic-ratelimit-requests-limit": "600",
                "anthropic-ratelimit-requests-remaining": "42",
                "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:30Z",
            },
            600,
            42,
            30,
        ),
    ],
)
def test_the_forms_of_services_are_read(
    headers: dict[str, str], limit: float | None, remaining: float, reset: float
) -> None:
    told = RateHeaderReader().read(CIMultiDict({**headers, "Date": DATE}))
    assert told == RateHeaders(remaining, limit, pytest.approx(reset))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"RateLimit": "soon"},
        {"X-RateLimit-Remaining": "many"},
        {"X-RateLimit-Remaining": "-1"},
        {"X-RateLimit-Limit": "600"},
    ],
)
def test_what_says_nothing_is_passed_over(headers: dict[str, str]) -> None:
    assert RateHeaderReader().read(CIMultiDict(headers)) is None


@pytest.mark.parametrize("reset", ["", "soon", "5 minutes", "2027-13-01"])
def test_a_reset_that_cannot_be_read_leaves_what_remains(reset: str) -> None:
    told = RateHeaderReader().read(CIMultiDict({"X-RateLimit-Remaining": "7", "X-RateLimit-Reset": reset}))
    assert told == RateHeaders(7, None, None)


def test_headers_that_begin_late_are_found() -> None:
    reader = RateHeaderReader()
    for _ in range(100):
        assert reader.read(CIMultiDict()) is None
    headers = CIMultiDict({"X-RateLimit-Remaining": "7"})
    assert any(reader.read(headers) for _ in range(64))


def test_no_more_is_sent_than_remains_until_the_reset() -> None:
    quota, numbers = AdvertisedQuota(), count(1)

    def tell(remaining: float, now: float, *, served: bool = True) -> None:
        quota.update(RateHeaders(remaining, 10, 30 - now), now, number=next(numbers), sent_at=now, served=served)

    tell(2, 0.0)
    assert quota.ready_at(0.0, in_flight=1) == 0.0
    assert quota.ready_at(0.0, in_flight=2) > 1e9
    tell(0, 1.0)
    # One request tries whether the reset is meant.
    assert 1.0 < quota.ready_at(1.0, in_flight=0) < 2.0
    tell(0, 1.5, served=False)
    assert quota.ready_at(2.0, in_flight=0) == pytest.approx(30.0)
    assert quota.ready_at(30.0, in_flight=0) == 30.0


def test_a_bucket_that_refills_before_its_reset_is_not_waited_for() -> None:
    quota = AdvertisedQuota()
    quota.update(RateHeaders(0, 20, 30.0), 0.0, number=1, sent_at=0.0, served=True)
    quota.update(RateHeaders(3, 20, 30.0), 0.3, number=2, sent_at=0.2, served=True)
    assert not quota.is_known
    assert quota.ready_at(0.4, in_flight=50) == 0.4


def test_a_limit_and_a_remainder_of_zero_mean_too_many_in_flight() -> None:
    quota = AdvertisedQuota()
    quota.update(RateHeaders(0, 0, 30.0), 0.0, number=1, sent_at=0.0, served=False)
    assert not quota.is_known
    assert quota.ready_at(0.1, in_flight=3) == 0.1
