"""Constructions that are refused: what they say, and that no key is left in what a crash report shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from alli_async import AlliClient, AlliError, ConfigurationError
from tests.support.secrets import frames_of_the_package, holds_key

KEY = "canary-0123456789"
ODD: list[Any] = [
    None,
    object(),
    [],
    {},
    7,
    -1,
    1.5,
    float("nan"),
    b"x",
    "",
    "x y",
    "é",
    "\ud800",
    True,
    (),
    print,
    [1],
    10**400,
]
OPTIONS = [
    "token",
    "region",
    "base_url",
    "agent_email",
    "user_email",
    "own_user_id",
    "timeout",
    "deadline",
    "retry",
    "max_concurrency",
    "rate_limit",
    "middlewares",
    "call_middlewares",
    "headers",
    "proxy",
    "trust_env",
    "session",
    "max_response_bytes",
    "allow_http",
    "ssl",
]


def refused(make: Callable[..., AlliClient], **options: Any) -> ConfigurationError | None:
    try:
        make(**options)
    except ConfigurationError as error:
        return error
    return None


@pytest.mark.parametrize("name", OPTIONS)
def test_a_refused_construction_leaves_no_key_in_the_locals_of_its_frames(name: str) -> None:
    for value in ODD:
        error = refused(AlliClient, **{"api_key": KEY, name: value})
        if error is None:
            continue
        assert str(error).startswith(("api_key and token" if name == "token" else name,))
        assert error.__cause__ is error.__context__ is None
        frames = frames_of_the_package(error)
        assert [frame.f_code.co_name for frame in frames] == ["__init__"]
        assert not any(holds_key(value) for frame in frames for value in frame.f_locals.values())
        [instance] = [frame.f_locals["self"] for frame in frames]
        assert repr(instance) == "AlliClient()"


@pytest.mark.parametrize(
    "name", [name for name in OPTIONS if name not in ("proxy", "trust_env", "session", "ssl")]
)
def test_refused_options_leave_no_key_in_the_locals_of_their_frames(name: str) -> None:
    parent = AlliClient("another")
    for value in ODD:
        error = refused(parent.with_options, **{"api_key": KEY, name: value})
        if error is None:
            continue
        frames = frames_of_the_package(error)
        assert [frame.f_code.co_name for frame in frames] == ["with_options"]
        assert not any(holds_key(value) for frame in frames for value in frame.f_locals.values())
        assert repr(frames[0].f_locals["client"]) == "AlliClient()"


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": f"{KEY} {KEY}"},
        {"api_key": f"{KEY}é"},
        {"token": f"{KEY}\n{KEY}"},
        {"api_key": KEY, "token": KEY},
        {"api_key": [KEY]},
        {"api_key": KEY, "base_url": f"https://me:{KEY}@a.b"},
        {"api_key": KEY, "proxy": f"http://me:{KEY}@a.b:x"},
        {"api_key": KEY, "headers": {"X": f"{KEY}\r\n"}},
        {"api_key": KEY, "headers": {"Authorization": f"Bearer {KEY}"}},
    ],
)
def test_a_refused_secret_is_not_shown(options: dict[str, Any]) -> None:
    with pytest.raises(AlliError) as raised:
        AlliClient(**options)
    error = raised.value
    assert "canary" not in "".join((str(error), repr(error), repr(vars(error))))
    for frame in frames_of_the_package(error):
        assert not any(holds_key(value) for value in frame.f_locals.values())


def test_an_unknown_option_leaves_no_key_in_the_locals_of_its_frames() -> None:
    with pytest.raises(TypeError, match="proxy") as raised:
        AlliClient("k").with_options(api_key=KEY, proxy="x")  # type: ignore[call-arg]
    assert not any(
        holds_key(value) for frame in frames_of_the_package(raised.value) for value in frame.f_locals.values()
    )
