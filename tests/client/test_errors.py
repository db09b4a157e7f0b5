"""Errors that leave their process, and the status that a web app answers with."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
from typing import Any

import pytest
from multidict import CIMultiDict

from alli_async import AlliError, APIError, DecodeError, NotFoundError, errors
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer

KINDS = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, AlliError)]


def filled(kind: type[AlliError]) -> AlliError:
    """An error of which every attribute has been set."""
    error = kind("404/7003: no such thing", outcome="unknown") if kind is not DecodeError else kind("no JSON")
    error.locate("GET", "/webapi/v2/conversations", 3, 1.5)
    error.request_id, error.retry_after, error.why_final = "r", 2.5, "its deadline"
    error.is_outage, error.cursor, error.outcome = True, "c", "unknown"
    if isinstance(error, APIError):
        error.status, error.code, error.body = 404, 7003, '{"error": "없음"}'.encode()
        error.headers = CIMultiDict([("X-Request-Id", "r"), ("Set-Cookie", "a"), ("Set-Cookie", "b")])
    if isinstance(error, DecodeError):
        error.path, error.malformed = "$.chats[0]", True
    return error


def state(error: AlliError) -> dict[str, Any]:
    return {**vars(error), "message": error.message, "outcome": error.outcome, "text": str(error)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickled_or_copied_error_keeps_all_its_attributes(kind: type[AlliError]) -> None:
    error = filled(kind)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert state(again) == state(error)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_made_anew_from_its_arguments_in_json_keeps_all_its_attributes(kind: type[AlliError]) -> None:
    # This is what the result backends of Celery and taskiq do.
    error = filled(kind)
    again = kind(*json.loads(json.dumps(error.args)))
    assert state(again) == state(error)
    assert again.args == error.args


def test_arguments_are_the_message_alone_where_nothing_else_is_known() -> None:
    assert AlliError("why").args == ("why",)
    assert AlliError().message == ""
    assert repr(filled(NotFoundError)) == "NotFoundError('404/7003: no such thing')"


def test_arguments_set_nothing_but_attributes_of_the_error() -> None:
    error = NotFoundError("why", {"status": 404, "locate": None, "__class__": "x", "new": 1})
    assert error.status == 404
    assert callable(error.locate)
    assert not hasattr(error, "new")


async def test_an_error_of_a_call_keeps_status_and_request_id(make_client: ClientFactory) -> None:
    last = answer(404, {"type": "APIError", "code": 7003, "message": "none"}, headers=[("X-Request-Id", "r-1")])
    async with ScriptedServer(last) as server:
        with pytest.raises(NotFoundError) as raised:
            await make_client(server).conversations.get("a")
    again = NotFoundError(*json.loads(json.dumps(raised.value.args)))
    assert (again.status, again.code, again.request_id, again.attempts) == (404, 7003, "r-1", 1)
    assert (again.headers["x-request-id"], again.body) == ("r-1", raised.value.body)
    assert str(again) == str(raised.value)


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
