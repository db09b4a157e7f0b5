"""AlliClient: configuration in, resources out, and a lifecycle."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

import aiohttp

from ._transport.call import CallMiddleware
from ._transport.connection import Connection
from ._transport.endpoint import ApiResponse, Query, send
from ._transport.session import Middleware, Session
from ._transport.throttle import Throttle
from .config import MAX_RESPONSE_BYTES, ClientConfig, RetryPolicy, resolve
from .conversations import ConversationsAPI
from .errors import ConfigurationError
from .models import UNSET, Region

__all__ = ["AlliClient", "ClientOptions"]

_LIMITS = ("max_concurrency", "rate_limit")
# Options that `with_options` adds to those of the client it is called on.
_ADDED = ("middlewares", "call_middlewares")


class ClientOptions(TypedDict, total=False):
    """The options that `with_options` takes; what they mean stands at `AlliClient`."""

    api_key: str | None
    token: str | None
    region: Region | str | None
    base_url: str | None
    agent_email: str | None
    user_email: str | None
    own_user_id: str | None
    timeout: float
    deadline: float | None
    retry: RetryPolicy
    max_concurrency: int
    rate_limit: float | None
    middlewares: Sequence[Middleware]
    call_middlewares: Sequence[CallMiddleware]
    max_response_bytes: int
    allow_http: bool


class AlliClient:
    """A client of the Alli conversations API.

    Use it as an async context manager, or call `aclose` when done. It is made anywhere, and then belongs to
    the event loop (and process) that uses it first.

    Args:
        api_key: Sent as `API-KEY`. Default: the environment's `ALLI_API_KEY`.
        token: Sent as `Authorization: Bearer …` instead. Default: the environment's `ALLI_TOKEN`.
        region: `"us"` or `"ja"`. Default: the environment's `ALLI_REGION`, else `"us"`.
        base_url: The server, when it is in neither region. Default: the environment's `ALLI_BASE_URL`.
        agent_email: Sent as `AGENT-EMAIL`.
        user_email: Sent as `USER-EMAIL`.
        own_user_id: Sent as `OWN-USER-ID`; one that is not ASCII as `base64:` and the base64 of its UTF-8.
        timeout: Seconds for one attempt.
        deadline: Seconds for a whole call, with its waits, its retries and all its requests; for each page of a
            walk or a stream. None for no bound.
        retry: When and how often a call is tried again.
        max_concurrency: Ceiling of requests in flight; below it the client adapts to what the server takes.
        rate_limit: Requests per second, evenly spaced; None for no bound.
        middlewares: Each `async (request, call_next) -> response`, once per attempt, inside the retry; the
            first is the outermost. They see neither the key nor the identity headers.
        call_middlewares: Each `async (call, call_next) -> result`, once per operation, outside the retry; the
            first is the outermost. `call` has `operation`, `method`, `path`, `headers` and `attempts`.
        session: An aiohttp session of the caller's (for a proxy, say), which is never closed here.
        max_response_bytes: Decoded bytes of one answer at most.
        allow_http: Send the key unencrypted to a host that is not this machine.

    Raises:
        ConfigurationError: An option that cannot be right, or no key. Nothing was sent.
    """

    conversations: ConversationsAPI

    def __init__(
        self,
        api_key: str | None = None,
        *,
        token: str | None = None,
        region: Region | str | None = None,
        base_url: str | None = None,
        agent_email: str | None = None,
        user_email: str | None = None,
        own_user_id: str | None = None,
        timeout: float = 60.0,
        deadline: float | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        max_concurrency: int = 64,
        rate_limit: float | None = None,
        middlewares: Sequence[Middleware] = (),
        call_middlewares: Sequence[CallMiddleware] = (),
        session: aiohttp.ClientSession | None = None,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        allow_http: bool = False,
    ) -> None:
        self._set_up(
            {
                "api_key": api_key,
                "token": token,
                "region": region,
                "base_url": base_url,
                "agent_email": agent_email,
                "user_email": user_email,
                "own_user_id": own_user_id,
                "timeout": timeout,
                "deadline": deadline,
                "retry": retry,
                "max_concurrency": max_concurrency,
                "rate_limit": rate_limit,
                "middlewares": middlewares,
                "call_middlewares": call_middlewares,
                "max_response_bytes": max_response_bytes,
                "allow_http": allow_http,
            },
            session,
        )

    def _set_up(
        self,
        options: dict[str, Any],
        http: aiohttp.ClientSession | None = None,
        *,
        shared: Connection | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        middlewares = _functions("middlewares", options.pop("middlewares"))
        call_middlewares = _functions("call_middlewares", options.pop("call_middlewares"))
        self._config = config = resolve(**options)
        self._connection = shared or Connection(config, http)
        self._owns_connection = shared is None
        # What the environment said is settled from here on, also for clients derived from this one.
        self._options = (
            options
            | config.settled()
            | {
                "middlewares": middlewares,
                "call_middlewares": call_middlewares,
            }
        )
        self._session = Session.over(self._connection, config, middlewares, throttle, call_middlewares)
        self.conversations = ConversationsAPI(self._session)

    def with_options(self, **options: Unpack[ClientOptions]) -> AlliClient:
        """A client with some options changed, which shares the connections, the throttle and the retry quota.

        `middlewares` and `call_middlewares` are added to this client's, inside of them. A `max_concurrency` or
        `rate_limit` given here holds for the new client within what is shared. Closing it is not needed; it can
        be used until the client it came from is closed.

        Args:
            **options: As for `AlliClient`, but for `session`.

        Raises:
            ConfigurationError: An option that cannot be right.
            TypeError: A name that is no option.
        """
        if unknown := next((name for name in options if name not in self._options), None):
            raise TypeError(f"with_options() got an unexpected option {unknown!r}")
        merged: dict[str, Any] = {**self._options, **options}
        for name in _ADDED:
            if name in options:
                merged[name] = (*self._options[name], *_functions(name, merged[name]))
        for one, other in (("api_key", "token"), ("region", "base_url")):
            if (one in options) != (other in options):
                merged[other if one in options else one] = None
        throttle = None
        if "max_concurrency" in options or "rate_limit" in options:
            limits = ClientConfig(base_url="", headers={}, **{name: merged[name] for name in _LIMITS})
            throttle = Throttle(
                limits.max_concurrency, options.get("rate_limit"), parent=self._connection.throttle
            )
        client = AlliClient.__new__(AlliClient)
        client._set_up(merged, shared=self._connection, throttle=throttle)
        return client

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        json: Any = UNSET,
        operation: str | None = None,
    ) -> ApiResponse:
        """Send a request to any endpoint of the server, with the same key, retries and limits as all others.

        Args:
            method: The HTTP method. GET, HEAD, OPTIONS, PUT and DELETE are retried; POST and PATCH only if they
                were surely not sent, or refused for load.
            path: The percent-encoded path below the base URL, such as `/webapi/v2/projects`.
            query: Names and values. A list is repeated, a bool is sent as `true` or `false`, None is not sent.
            json: The body, sent as JSON; UNSET for no body.
            operation: A name for errors, logs and middlewares; None for the method and the path.

        Raises:
            ConfigurationError: An argument cannot be right. Nothing was sent.
            AlliError: As for all operations: an answer other than 2xx, or one that reports `errors`, is raised.
        """
        return await send(self._session, method, path, query=query, json=json, operation=operation)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, but not an aiohttp session that was given. Twice is fine."""
        if self._owns_connection:
            await self._connection.aclose()

    def __repr__(self) -> str:
        return f"AlliClient(base_url={self._config.base_url!r})"


def _functions(name: str, value: Any) -> tuple[Any, ...]:
    """Check a sequence of functions."""
    functions = tuple(value)
    if bad := next((each for each in functions if not callable(each)), None):
        raise ConfigurationError(f"{name}: expected async functions, got {bad!r}")
    return functions
