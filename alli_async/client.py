"""AlliClient: the configuration, the operations and the life of a client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

import aiohttp

from ._headers import merge_headers
from ._transport.call import CallMiddleware
from ._transport.connection import Connection, end_all
from ._transport.endpoint import ApiResponse, Query, send
from ._transport.lifetime import Lifetime
from ._transport.limiter import Limits, RateLimiter
from ._transport.routes import Route
from ._transport.sender import Sender
from ._transport.session import Middleware, Session
from ._transport.tenants import Tenants
from .config import MAX_RESPONSE_BYTES, ClientConfig, RetryPolicy, Token, resolve
from .conversations import ConversationsAPI
from .errors import AlliError, ConfigurationError
from .models import UNSET, Region

__all__ = ["AlliClient", "ClientOptions"]


class ClientOptions(TypedDict, total=False):
    """The options that `with_options` takes, as described in `AlliClient`."""

    api_key: str | None
    token: Token | None
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
    headers: Mapping[str, str] | None
    max_response_bytes: int
    allow_http: bool


class AlliClient:
    """A client of the Alli conversations API.

    Use it as an async context manager, or call `aclose` at the end. A client can be created anywhere. It belongs
    to the asyncio event loop (and process) that uses it first; once that loop is closed, another one can use it.

    Args:
        api_key: The API key, sent as `API-KEY`. Default: the environment's `ALLI_API_KEY`.
        token: A token that is sent as `Authorization: Bearer …` instead of a key, or an async function that
            returns one: it is called before the first call, and again after an answer of 401. Default: the
            environment's `ALLI_TOKEN`.
        region: The region, `"us"` or `"ja"`. Default: the environment's `ALLI_REGION`, else `"us"`.
        base_url: The URL of a server in neither region. Default: the environment's `ALLI_BASE_URL`.
        agent_email: An email address, sent as `AGENT-EMAIL`.
        user_email: An email address, sent as `USER-EMAIL`.
        own_user_id: A user id, sent as `OWN-USER-ID`; as `base64:` and the base64 of its UTF-8 if not ASCII.
        timeout: Seconds for one attempt.
        deadline: Seconds for a whole call, including its waits, its retries and all its requests; for each page
            of a walk or a stream. None for no bound.
        retry: When and how often a call is tried again.
        max_concurrency: Most requests in flight. Below it the client adapts to the server's limit.
        rate_limit: Requests per second, evenly spaced; None for no bound.
        middlewares: Functions `async (request, call_next) -> response`, called once per attempt, inside the
            retry; the first is the outermost. They see neither the key nor the identity headers.
        call_middlewares: Functions `async (call, call_next) -> result`, called once per operation, outside the
            retry; the first is the outermost. `call` has `operation`, `method`, `path`, `headers`, `attempts`.
        headers: Further headers of every request; headers of the key are refused.
        proxy: URL of an HTTP proxy, `http://[user:password@]host[:port]`; None for no proxy.
        trust_env: Use the proxies of the environment (`https_proxy`, `http_proxy`, `all_proxy`, and `no_proxy`
            for exceptions) if `proxy` is None.
        session: An aiohttp session of the caller, with its own proxy and certificates. The client never closes
            it, and does not send the cookies of its jar.
        max_response_bytes: Most bytes of one decoded answer.
        allow_http: Allow an unencrypted connection to another machine, on which the key can be read.
        ssl: The certificates to trust and a client certificate. Default: the file that the environment's
            `SSL_CERT_FILE` names, else the certificates that the system trusts.

    Raises:
        ConfigurationError: An option is invalid, or there is no key. Nothing was sent.
    """

    #: The operations. The attribute of the class, which belongs to no client, is for `create_autospec`.
    conversations: ConversationsAPI = ConversationsAPI.__new__(ConversationsAPI)
    _config: ClientConfig

    def __init__(
        self,
        api_key: str | None = None,
        *,
        token: Token | None = None,
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
        headers: Mapping[str, str] | None = None,
        proxy: str | None = None,
        trust_env: bool = False,
        session: aiohttp.ClientSession | None = None,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        allow_http: bool = False,
        ssl: SSLContext | None = None,
    ) -> None:
        options: dict[str, Any] = {
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
            "headers": headers,
            "max_response_bytes": max_response_bytes,
            "allow_http": allow_http,
        }
        refused = self._init_owner(options, proxy, trust_env, ssl, session)
        if refused is not None:
            # A crash report shows the locals of each frame: none that holds a key is left.
            del options, api_key, token, base_url, headers, proxy
            raise refused

    def _init_owner(
        self,
        options: dict[str, Any],
        proxy: str | None,
        trust_env: bool,
        context: SSLContext | None,
        session: aiohttp.ClientSession | None,
    ) -> AlliError | None:
        """Set up a client with a connection of its own.

        Returns:
            The error of an invalid option, without its frames, whose locals hold the key.
        """
        try:
            if session is not None and (proxy is not None or trust_env or context is not None):
                raise ConfigurationError(
                    "session: brings its own proxy and certificates; proxy, trust_env and ssl do not go with it"
                )
            if session is not None and not isinstance(session, aiohttp.ClientSession):
                raise ConfigurationError(
                    f"session: expected an aiohttp.ClientSession, got {type(session).__name__}"
                )
            connection = Connection(Route(proxy, trust_env=trust_env, ssl=context), session)
            self._set_up(options, connection, Tenants())
        except AlliError as error:
            return _bare(error)
        self._is_owner = True
        return None

    def _set_up(
        self,
        options: dict[str, Any],
        connection: Connection,
        tenants: Tenants,
        parent: AlliClient | None = None,
    ) -> None:
        functions = {name: _checked_callables(name, options[name]) for name in _APPENDED}
        options = options | functions | {"headers": merge_headers(options["headers"])}
        config = resolve(**{name: value for name, value in options.items() if name not in _APPENDED})
        proxy = connection.route.proxy_for(config.base_url, allow_http=options["allow_http"])
        self._is_owner = False
        self._connection, self._tenants, self._tenant = connection, tenants, tenants.of(config)
        self._limits = limits = config.max_concurrency, config.rate_limit
        is_alike = parent is not None and parent._tenant is self._tenant and parent._limits == limits
        self._limiter: RateLimiter = parent._limiter if parent and is_alike else self._tenant.limiter_for(*limits)
        connection.shared.update((self._limiter, self._tenant.limiter, self._tenant))
        self._lifetime = Lifetime(connection)
        # What the environment said is settled from here on, also for clients derived from this one.
        self._options = options | config.settled()
        self._session = Session.over(
            self._lifetime,
            config,
            self._tenant,
            sender=Sender(connection, config, proxy),
            limiter=self._limiter,
            **functions,
        )
        self.conversations = ConversationsAPI(self._session)
        self._config = config

    def with_options(self, **options: Unpack[ClientOptions]) -> AlliClient:
        """Make a client with some options changed, which uses the same connections.

        Clients with the same base URL and key share the rate limiter, the retry quota and the time unit of the
        server. A `max_concurrency` or `rate_limit` given here applies to the new client, within the shared limits.
        A client with another base URL or key has its own, so a pause of one key does not hold for another.

        The new client need not be closed; it can be used until the client it was made from is closed.

        Args:
            **options: The options of `AlliClient`, without `session`, `proxy`, `trust_env` and `ssl`, which belong
                to the connections. `headers` are merged with this client's; `middlewares` and `call_middlewares`
                are added inside this client's.

        Raises:
            ConfigurationError: An option is invalid.
            TypeError: There is no option of this name.
        """
        if unknown := next((name for name in options if name not in self._options), None):
            hint = "; it belongs to the connections, so make an AlliClient" if unknown in _OF_CONNECTIONS else ""
            del options
            raise TypeError(f"with_options() got an unexpected option {unknown!r}{hint}")
        client = AlliClient.__new__(AlliClient)
        refused = client._derive(self, dict(options))
        if refused is not None:
            del options
            raise refused
        return client

    def _derive(self, parent: AlliClient, options: dict[str, Any]) -> AlliError | None:
        """Set up a client on another client's connection; returns the error of an option as `_init_owner` does."""
        merged = parent._options | options
        for one, other in (("api_key", "token"), ("region", "base_url")):
            if (one in options) != (other in options):
                merged[other if one in options else one] = None
        try:
            for name in _APPENDED & options.keys():
                merged[name] = (*parent._options[name], *_checked_callables(name, options[name]))
            if "headers" in options:
                merged["headers"] = merge_headers(parent._options["headers"], options["headers"])
            self._set_up(merged, parent._connection, parent._tenants, parent)
        except AlliError as error:
            return _bare(error)
        return None

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        json: Any = UNSET,
        operation: str | None = None,
    ) -> ApiResponse:
        """Send a request to any endpoint of the server, with the same key, retries and limits as every operation.

        Args:
            method: The HTTP method. GET, HEAD, OPTIONS, PUT and DELETE are retried; POST and PATCH only if the
                request was certainly not sent, or was refused with 429.
            path: The percent-encoded path below the base URL, such as `/webapi/v2/projects`.
            query: Names and values. A list is repeated, a bool is sent as `true` or `false`, None is not sent.
            json: The body, sent as JSON; UNSET for no body.
            operation: A name for errors, logs and middlewares; None for the method and the path.

        Returns:
            The answer: `status`, `headers`, `body`, `request_id`, `attempts`, `elapsed`, `.json()` and
            `.decode(type)`.

        Raises:
            ConfigurationError: An argument is invalid. Nothing was sent.
            AlliError: As for all operations: an answer other than 2xx, or one that reports `errors`, is raised.
        """
        return await send(self._session, method, path, query=query, json=json, operation=operation)

    @property
    def limits(self) -> Limits:
        """What the rate limiter allows now. Clients made by `with_options` share what it learnt of the server."""
        return self._session.limiter.limits()

    async def __aenter__(self) -> Self:
        self._lifetime.check()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the client. Calling it twice is fine.

        Its streams end, and calls in flight fail at once with a `ClientStateError`. The client that owns the
        connections closes them too (but not an aiohttp session that was given), and with them all clients that
        `with_options` has made. A client made by `with_options` closes nothing but itself.

        Raises:
            ClientStateError: The client belongs to another event loop, which is not closed.
        """
        if self._is_owner:
            await self._connection.aclose()
        else:
            await end_all([self._lifetime])

    def __repr__(self) -> str:
        config = getattr(self, "_config", None)  # it is missing when the construction was refused
        return "AlliClient()" if config is None else f"AlliClient(base_url={config.base_url!r})"


# Options that `with_options` adds to those of the client it is called on.
_APPENDED = frozenset({"middlewares", "call_middlewares"})
# Options of `AlliClient` that all clients on the same connections have in common.
_OF_CONNECTIONS = frozenset({"session", "proxy", "trust_env", "ssl"})


def _checked_callables(name: str, given: Iterable[Any]) -> tuple[Any, ...]:
    """Check that an option is a sequence of functions.

    Raises:
        ConfigurationError: It is not.
    """
    functions = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    for each in functions:
        if not callable(each):
            raise ConfigurationError(f"{name}: expected async functions, got {each!a}")
    return functions


def _bare(error: AlliError) -> AlliError:
    """An error without the frames that it passed, and without an exception that hangs on it."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
