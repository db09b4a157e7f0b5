from __future__ import annotations

import pytest

from alli_async import AlliError, errors


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.NotFoundError("", status=404), 404),
        (errors.BadRequestError("", status=400), 422),
        (errors.ConfigurationError("title: expected a text"), 422),
        (errors.RateLimitError("", status=429), 429),
        (errors.AlliTimeoutError(""), 504),
        (errors.ServerError("", status=504), 504),
        (errors.ServerError("", status=503), 503),
        (errors.ClientStateError(""), 503),
        (errors.ServerError("", status=500), 502),
        (errors.AlliConnectionError(""), 502),
        (errors.AuthenticationError("", status=401), 502),
        (errors.PermissionDeniedError("", status=403), 502),
        (errors.DecodeError(""), 502),
    ],
)
def test_an_error_has_the_status_for_the_caller_of_a_web_app(error: AlliError, status: int) -> None:
    assert error.http_status == status


def test_an_outage_is_a_503_whatever_it_showed_itself_as() -> None:
    for error in (errors.AlliConnectionError(""), errors.AlliTimeoutError(""), errors.ServerError("", status=500)):
        error.is_outage = True
        assert error.http_status == 503
