from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from alli_async import AlliClient, RetryPolicy
from alli_async._transport import retry

# Enough tries, and no time lost between them.
QUICK = RetryPolicy(base=0.001, cap=0.002)

ClientFactory = Callable[..., AlliClient]


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALLI_API_KEY", "ALLI_TOKEN", "ALLI_REGION", "ALLI_BASE_URL", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
async def make_client() -> AsyncIterator[ClientFactory]:
    """Makes clients of a server, and closes them after the test."""
    async with AsyncExitStack() as stack:

        def make(server: Any, **options: Any) -> AlliClient:
            options.setdefault("retry", QUICK)
            client = AlliClient(getattr(server, "api_key", "the-key"), base_url=server.url, **options)
            stack.push_async_exit(client)
            return client

        yield make


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that retries would have slept; none of them is slept.

    Time is what a test cannot have: the backoffs of the tables would last for minutes.
    """
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(retry, "sleep", sleep)
    return slept
