"""Every error this library raises.

    AlliError
    ├── ConfigurationError (also a ValueError)   bad options or arguments; nothing was sent
    ├── ClientStateError                         the client is closed, or belongs to another loop or process
    ├── TransportError                           no whole answer arrived
    │   ├── AlliConnectionError                  refused, reset, cut short
    │   ├── AlliTimeoutError (also a TimeoutError)
    │   └── TLSError                             the server's certificate was not accepted
    ├── APIError                                 the server answered with an error
    │   ├── BadRequestError                      400 and other 4xx; 403 with code 7002 (invalid JSON)
    │   ├── AuthenticationError                  401; 403 with code 7001 (invalid key)
    │   ├── PaymentRequiredError                 402; 403 with code 7004
    │   ├── PermissionDeniedError                403 otherwise
    │   ├── NotFoundError                        404
    │   ├── RateLimitError                       429
    │   ├── ServerError                          5xx
    │   └── RedirectError                        3xx: redirects are never followed
    ├── DecodeError                              an answer that does not match the contract
    ├── ResponseTooLargeError                    an answer beyond the limit on decoded bytes
    ├── PaginationError                          a list that cannot end
    ├── IncompleteError                          chats or conversations are missing
    └── ExportError                              an export that could not be written
        └── LockedError                          another export holds the destination

No error holds a key, or an object of aiohttp that holds one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from multidict import CIMultiDict

__all__ = [
    "APIError",
    "AlliConnectionError",
    "AlliError",
    "AlliTimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "ClientStateError",
    "ConfigurationError",
    "DecodeError",
    "ExportError",
    "IncompleteError",
    "LockedError",
    "NotFoundError",
    "Outcome",
    "PaginationError",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "RateLimitError",
    "RedirectError",
    "ResponseTooLargeError",
    "ServerError",
    "TLSError",
    "TransportError",
]

Outcome = Literal["not_sent", "rejected", "unknown"]


# The attribute of exceptions in which the message is kept, and the types of attributes that JSON can hold.
_ARGS: Any = vars(BaseException)["args"]
_PLAIN = (str, int, float)


class AlliError(Exception):
    """The root of all errors of this library.

    Attributes:
        outcome: The outcome of the whole call, with all its attempts: `"not_sent"`, `"rejected"` (the server
            refused it), or `"unknown"` (it may have happened). It is `"unknown"` as soon as one attempt of a
            write may have happened, whatever came after that attempt.
        request: The method and path, such as `GET /webapi/v2/conversations`; None if no request was meant.
        attempts: The number of requests that were sent for this call.
        elapsed: Seconds from the start of the call to the error, waits included.
        request_id: The server's id of the last request, where it sent one.
        retry_after: Seconds after which another call may succeed, where the server or an outage says so.
        why_final: Why the call was not tried again; None if the error comes from no call.
        is_outage: Whether the server served nothing at all for as long as this call could wait.
        cursor: In the middle of a list: the cursor from which `list(cursor=…)` goes on; None at its start.
        args: The message and, where there are any, the other attributes as a dict that JSON can hold. Result
            backends of task queues keep these only, and make the error anew from them.
    """

    outcome: Outcome = "not_sent"
    _http_status = 502

    def __init__(
        self, message: str = "", state: Mapping[str, Any] | None = None, *, outcome: Outcome | None = None
    ) -> None:
        super().__init__(message)
        if outcome is not None:
            self.outcome = outcome
        self.request: str | None = None
        self.attempts = 0
        self.elapsed = 0.0
        self.request_id: str | None = None
        self.retry_after: float | None = None
        self.why_final: str | None = None
        self.is_outage = False
        self.cursor: str | None = None
        self._restore(state or {})

    if not TYPE_CHECKING:  # A type checker knows `args` from every exception.

        @property
        def args(self) -> tuple[Any, ...]:
            """The message and the other attributes, from which an equal error can be made."""
            state = self._state()
            return (self.message, state) if state else (self.message,)

        @args.setter
        def args(self, args: tuple[Any, ...]) -> None:
            _ARGS.__set__(self, args)

    def _state(self) -> dict[str, Any]:
        """The attributes that JSON can hold and that have been set."""
        return {name: value for name, value in vars(self).items() if value and isinstance(value, _PLAIN)}

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Set attributes from what `_state` gave."""
        vars(self).update({name: state[name] for name in (*vars(self), "outcome") if name in state})

    @property
    def message(self) -> str:
        """What went wrong, in one sentence."""
        args = _ARGS.__get__(self)
        return str(args[0]) if args else ""

    @property
    def http_status(self) -> int:
        """The status with which a web app answers its own caller: 404, 422, 429, 502, 503 or 504.

        What the caller can mend is told (404, 422). A key, a plan or an answer that is wrong is a 502: the caller
        can do nothing about it. With a `retry_after`, that is the answer's Retry-After.
        """
        return 503 if self.is_outage else self._http_status

    def __str__(self) -> str:
        if self.request is None:
            return self.message
        tries = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        told = [f"{self.request}: {tries} in {self.elapsed:.1f} s", self.outcome]
        if self.request_id:
            told.append(f"request id {self.request_id}")
        why = f"; not tried again: {self.why_final}" if self.why_final else ""
        return f"{self.message} [{', '.join(told)}{why}]"

    def locate(self, method: str, path: str, attempts: int, elapsed: float) -> None:
        """Note the method, the path, the number of attempts, and the seconds they took."""
        self.request = f"{method} {path}"
        self.attempts = attempts
        self.elapsed = elapsed


class ConfigurationError(AlliError, ValueError):
    """An option or argument is wrong; the message names it and what would be right. Nothing was sent."""

    _http_status = 422


class ClientStateError(AlliError):
    """The client is closed, or was closed in mid-call, or belongs to another event loop or process."""

    _http_status = 503


class TransportError(AlliError):
    """No whole answer arrived."""

    outcome: Outcome = "unknown"


class AlliConnectionError(TransportError):
    """The connection was refused, reset, or ended before the answer did."""


class AlliTimeoutError(TransportError, TimeoutError):
    """The attempt's timeout, or the call's deadline, passed."""

    _http_status = 504


class TLSError(TransportError):
    """The server's certificate was not accepted, or the handshake failed."""

    outcome: Outcome = "not_sent"


class APIError(AlliError):
    """The server answered with an error.

    Attributes:
        status: The HTTP status.
        code: Alli's own code (7000 server, 7001 key, 7002 JSON, 7003 parameter, 7004 payment), where sent.
        request_id: The server's id of the request, where sent.
        method: The HTTP method of the request.
        path: The path of the request, without the query.
        retry_after: Seconds the server asked to wait, where it did.
        headers: The answer's headers, a case-insensitive mapping.
        body: The answer's body, at most its first 64 KiB.
    """

    outcome: Outcome = "rejected"

    def __init__(
        self,
        message: str = "",
        state: Mapping[str, Any] | None = None,
        *,
        status: int = 0,
        code: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        outcome: Outcome | None = None,
    ) -> None:
        super().__init__(message, outcome=outcome)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.method: str | None = None
        self.path: str | None = None
        self.retry_after = retry_after
        self.headers: Mapping[str, str] = CIMultiDict(headers or {})
        self.body = body
        self._restore(state or {})

    def _state(self) -> dict[str, Any]:
        state = super()._state()
        if self.headers:
            state["headers"] = [[name, value] for name, value in self.headers.items()]
        if self.body:
            state["body"] = self.body.decode("utf-8", "replace")
        return state

    def _restore(self, state: Mapping[str, Any]) -> None:
        super()._restore(state)
        if isinstance(headers := state.get("headers"), list):
            self.headers = CIMultiDict((name, value) for name, value in headers)
        if isinstance(state.get("body"), str):
            self.body = state["body"].encode()

    def locate(self, method: str, path: str, attempts: int, elapsed: float) -> None:
        """Note the method, the path, the number of attempts, and the seconds they took."""
        super().locate(method, path, attempts, elapsed)
        self.method, self.path = method, path


class BadRequestError(APIError):
    """The server did not accept the request as it was put."""

    _http_status = 422


class AuthenticationError(APIError):
    """The key or token was not accepted."""


class PaymentRequiredError(APIError):
    """The project's plan does not cover the call."""


class PermissionDeniedError(APIError):
    """The key does not give access to this."""


class NotFoundError(APIError):
    """No such conversation, chat, or path."""

    _http_status = 404


class RateLimitError(APIError):
    """Too many requests."""

    _http_status = 429


class ServerError(APIError):
    """The server failed."""

    outcome: Outcome = "unknown"

    @property
    def http_status(self) -> int:
        """503 or 504 as the server answered itself, also in an outage; 502 for what else went wrong in it."""
        return self.status if self.status in (503, 504) else super().http_status


class RedirectError(APIError):
    """The server answered with a redirect. Redirects are not followed, since the key would be sent along."""


class DecodeError(AlliError):
    """An answer does not match the contract.

    Attributes:
        path: The place in the document, such as `$.conversations[3].id`; `$` if the answer is no JSON at all.
        malformed: Whether the answer is no JSON at all, so that another attempt may bring a whole one.
    """

    outcome: Outcome = "unknown"

    def __init__(
        self,
        message: str = "",
        state: Mapping[str, Any] | None = None,
        *,
        path: str = "$",
        malformed: bool = False,
    ) -> None:
        super().__init__(message)
        self.path = path
        self.malformed = malformed
        self._restore(state or {})


class ResponseTooLargeError(AlliError):
    """The answer has more decoded bytes than the limit allows; it was not read further."""

    outcome: Outcome = "unknown"


class PaginationError(AlliError):
    """A list does not end: a cursor came again, or pages stay empty."""

    outcome: Outcome = "unknown"


class IncompleteError(AlliError):
    """Chats are missing: the pages of chats do not add up, however often they are fetched."""

    outcome: Outcome = "unknown"


class ExportError(AlliError):
    """An export could not be written."""


class LockedError(ExportError):
    """Another export holds the destination; it was not changed."""
