"""Options: where they come from, what is refused, and that it is said before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from alli_async import AlliClient, ConfigurationError, RetryPolicy
from alli_async.config import Secret, resolve
from tests.conftest import ClientFactory
from tests.support import ScriptedServer
from tests.support.servers import OK


def settings(**options: Any) -> Any:
    nothing: dict[str, Any] = dict.fromkeys(
        ("api_key", "token", "region", "base_url", "agent_email", "user_email", "own_user_id")
    )
    return resolve(**{**nothing, "allow_http": False, "environ": {}, **options})


@pytest.mark.parametrize(
    ("environ", "options", "base_url", "header"),
    [
        ({"ALLI_API_KEY": "k"}, {}, "https://backend.alli.ai", ("API-KEY", "k")),
        ({"ALLI_TOKEN": "t"}, {}, "https://backend.alli.ai", ("Authorization", "Bearer t")),
        ({"ALLI_API_KEY": "k", "ALLI_TOKEN": "t"}, {}, "https://backend.alli.ai", ("API-KEY", "k")),
        ({"ALLI_API_KEY": "k"}, {"token": "t"}, "https://backend.alli.ai", ("Authorization", "Bearer t")),
        ({"ALLI_API_KEY": "k\n", "ALLI_REGION": "ja"}, {}, "https://backend-ja.alli.ai", ("API-KEY", "k")),
        ({"ALLI_BASE_URL": "https://a.b/c/"}, {"api_key": "k"}, "https://a.b/c", ("API-KEY", "k")),
        ({"ALLI_BASE_URL": "https://a.b"}, {"api_key": "k", "region": "ja"}, "https://backend-ja.alli.ai", None),
        ({"ALLI_REGION": "ja"}, {"api_key": "k", "base_url": "http://[::1]:80"}, "http://[::1]:80", None),
        ({}, {"api_key": "k", "base_url": "http://localhost:80"}, "http://localhost:80", None),
        ({}, {"api_key": "k", "base_url": "http://a.b", "allow_http": True}, "http://a.b", None),
        ({}, {"api_key": "k", "base_url": "https://a.b/webapi/v2/"}, "https://a.b", None),
        ({}, {"api_key": "k", "base_url": "https://a.b/alli/webapi/v2/conversations"}, "https://a.b/alli", None),
        ({}, {"api_key": "k", "base_url": "https://a.b/webapi"}, "https://a.b", None),
        ({}, {"api_key": "k", "base_url": "https://a.b/mywebapi"}, "https://a.b/mywebapi", None),
    ],
)
def test_arguments_beat_the_environment(
    environ: dict[str, str], options: dict[str, Any], base_url: str, header: tuple[str, str] | None
) -> None:
    config = settings(environ=environ, **options)
    assert config.base_url == base_url
    if header:
        assert config.headers == dict([header])


@pytest.mark.parametrize(
    ("own_user_id", "sent"),
    [("plain-7", "plain-7"), ("민수", "base64:66+87IiY"), ("base64:66+87IiY", "base64:66+87IiY")],
)
async def test_identity_headers_are_sent_and_own_user_ids_outside_ascii_as_base64(
    make_client: ClientFactory, own_user_id: str, sent: str
) -> None:
    async with ScriptedServer(OK) as server:
        client = make_client(server, agent_email="a@b.c", user_email="d@e.f", own_user_id=own_user_id)
        await client.conversations.get("x")
        request = server.requests[0]
        assert request.header("own-user-id") == sent
        assert request.header("agent-email") == "a@b.c"
        assert request.header("user-email") == "d@e.f"
        assert request.header("accept") == "application/json"
        assert (request.header("user-agent") or "").startswith("alli-async/")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"api_key": None}, "ALLI_API_KEY"),
        ({"token": "t"}, "api_key and token"),
        ({"api_key": "a b"}, "api_key"),
        ({"api_key": "ключ-secret"}, "api_key"),
        ({"api_key": 7}, "api_key"),
        ({"region": "eu"}, "region"),
        ({"base_url": "ftp://a.b"}, "base_url"),
        ({"base_url": "a.b"}, "base_url"),
        ({"base_url": "https://"}, "base_url"),
        ({"base_url": "https://a.b:port"}, "base_url"),
        ({"base_url": "https://[::1"}, "base_url"),
        ({"base_url": "https://a.b/?q=1"}, "base_url"),
        ({"base_url": "https://a.b/\r\nX: y"}, "base_url"),
        ({"base_url": "https://u:secret@a.b"}, "base_url"),
        ({"base_url": "http://a.b"}, "allow_http"),
        ({"base_url": 7}, "base_url"),
        ({"user_email": "é"}, "user_email"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": "5"}, "timeout"),
        ({"deadline": -1}, "deadline"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"max_concurrency": 1.5}, "max_concurrency"),
        ({"rate_limit": 0}, "rate_limit"),
        ({"max_response_bytes": 0}, "max_response_bytes"),
        ({"retry": 3}, "retry"),
        ({"middlewares": ["x"]}, "middlewares"),
    ],
)
def test_an_option_that_cannot_be_right_is_refused_by_name_and_without_secrets(
    options: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named) as raised:
        AlliClient(**{"api_key": "k", **options})
    assert isinstance(raised.value, ValueError)
    assert "secret" not in str(raised.value)
    assert raised.value.outcome == "not_sent"


@pytest.mark.parametrize(
    ("name", "value"),
    [("base", -1), ("cap", -1), ("retry_after_cap", -1), ("max_attempts", 0), ("quota", -1)],
)
def test_a_retry_policy_checks_its_numbers(name: str, value: Any) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(ConfigurationError, match=rf"retry\.{name}"):
        RetryPolicy(**options)


def test_a_secret_shows_nowhere() -> None:
    config = settings(api_key="hush")
    assert "hush" not in repr(config) + str(config) + f"{config!r}"
    assert repr(Secret("hush")) == "'***'"
    assert config.redact("the key hush!") == "the key ***!"
    with_more = settings(token="hush", agent_email="a@b.c")
    assert with_more.redact("a@b.c sent hush") == "a@b.c sent ***"


async def test_with_options_shares_the_connection_and_changes_only_what_it_is_given(
    make_client: ClientFactory,
) -> None:
    async with ScriptedServer(OK) as server:
        client = make_client(server, agent_email="a@b.c")
        other = client.with_options(own_user_id="7", token="t")
        await client.conversations.get("x")
        await other.conversations.get("x")
        first, second = server.requests
        assert server.connections == 1
        assert (first.header("api-key"), first.header("authorization")) == ("the-key", None)
        assert (second.header("api-key"), second.header("authorization")) == (None, "Bearer t")
        assert (second.header("agent-email"), second.header("own-user-id")) == ("a@b.c", "7")
        await other.aclose()
        await client.conversations.get("x")
        elsewhere = client.with_options(region="ja")
        assert "backend-ja" in repr(elsewhere)
        assert repr(elsewhere.with_options(timeout=1)) == repr(elsewhere)


async def test_with_options_refuses_what_cannot_be_shared() -> None:
    client = AlliClient("k")
    with pytest.raises(TypeError, match="session"):
        client.with_options(session=None)  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="max_concurrency"):
        client.with_options(max_concurrency=0)
    with pytest.raises(ConfigurationError, match="rate_limit"):
        client.with_options(rate_limit=-1)
    with pytest.raises(ConfigurationError, match="api_key and token"):
        client.with_options(api_key="a", token="b")


@pytest.mark.parametrize(
    "url",
    [
        "http://backend.alli.ai",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://example.com#@127.0.0.1",
        "http://127.0.0.1@example.com",
        "http://localhost:80@example.com",
        "http://0.0.0.0",
        "http://127.1",
        "http://2130706433",
        "http://0x7f.1",
        "http://10.0.0.1",
        "http://[fe80::1]",
        "HTTP://EXAMPLE.COM",
        "http://localhost%2eexample.com",
        "http://localhost\\.example.com",
        "http:example.com",
        "//example.com",
        "ws://localhost",
        "file:///etc/passwd",
    ],
)
def test_the_key_is_not_sent_unencrypted_to_anything_but_this_machine(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^base_url: "):
        AlliClient("k", base_url=url)


@pytest.mark.parametrize("url", ["http://localhost:1", "http://127.0.0.1", "http://127.9.9.9", "http://[::1]:80"])
def test_this_machine_may_be_spoken_to_unencrypted(url: str) -> None:
    assert url in repr(AlliClient("k", base_url=url))
    assert "example" in repr(AlliClient("k", base_url="http://example.com", allow_http=True))
