"""Requests to any endpoint of the server, checked before anything is sent, and their answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeVar
from urllib.parse import unquote

import msgspec

from ..errors import ConfigurationError, DecodeError
from ..models import UNSET
from . import wire
from .call import Call
from .session import Session
from .wire import Request

T = TypeVar("T")

Scalar: TypeAlias = str | int | float | bool
Query: TypeAlias = Mapping[str, Scalar | Sequence[Scalar] | None]

_METHOD = re.compile(r"[A-Z]+")
# What aiohttp sends as it is: printable ASCII but for what ends a path, and no percent sign of its own.
_PATH = re.compile(r"/(?:[!$&'()*+,\-./0-9:;=@A-Z_a-z~]|%[0-9A-Fa-f]{2})*")
_REFUSED_METHODS = frozenset({"CONNECT", "TRACE"})


class ApiResponse:
    """A whole answer with a status 2xx.

    Attributes:
        status: The HTTP status.
        headers: The headers, a case-insensitive mapping.
        body: The decompressed body.
        request_id: The server's id of the request, where it sent one.
        attempts: The number of requests that were sent.
        elapsed: Seconds of the whole call, waits and retries included.
    """

    __slots__ = ("attempts", "body", "elapsed", "headers", "request_id", "status")

    def __init__(
        self,
        *,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        request_id: str | None,
        attempts: int,
        elapsed: float,
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.request_id = request_id
        self.attempts = attempts
        self.elapsed = elapsed

    def json(self) -> Any:
        """The body as Python's own types.

        Raises:
            DecodeError: The body is no JSON.
        """
        return self.decode(Any)

    def decode(self, kind: type[T] | Any) -> T:
        """The body as a type that msgspec knows: a struct, a dataclass, a `list[int]`.

        Args:
            kind: The type.

        Raises:
            DecodeError: The body is no JSON, or not of this type.
        """
        decoded: T = wire.decoder(kind, is_answer=False)(self.body)
        return decoded

    def __repr__(self) -> str:
        return f"ApiResponse(status={self.status}, body=<{len(self.body):,} bytes>)"


async def send(
    session: Session, method: str, path: str, *, query: Query | None, json: Any, operation: str | None
) -> ApiResponse:
    """Send a request to an endpoint of the server.

    Raises:
        ConfigurationError: An argument cannot be right; nothing was sent.
        AlliError: The error of the last attempt.
    """
    method, path = _method(method), _path(path)
    if operation is not None and (not isinstance(operation, str) or not operation.isprintable() or not operation):
        raise ConfigurationError(f"operation: expected a text that is not empty, got {operation!a}")
    body = None if json is UNSET else wire.encode("json", json)
    request = Request(operation or f"{method} {path}", method, path, _query(query), body)
    call = Call(request)
    answer = await session.perform(call, _checked)
    response = call.response
    if response is None:  # a call middleware gave a result of its own
        if isinstance(answer, ApiResponse):
            return answer
        raise DecodeError("a call middleware answered client.request() with something else than an ApiResponse")
    return ApiResponse(
        status=response.status,
        headers=response.headers,
        body=response.body,
        request_id=wire.request_id(response.headers),
        attempts=call.made,
        elapsed=call.elapsed,
    )


def _checked(body: bytes) -> Any:
    """Raise the error that an answer with status 2xx reports inside, if it is JSON and does so."""
    if body.lstrip()[:1] == b"{" and wire.reported_error(body) is not None:
        raise wire.error_beside(body)


def _method(method: str) -> str:
    name = method.upper() if isinstance(method, str) else ""
    if not _METHOD.fullmatch(name) or name in _REFUSED_METHODS:
        raise ConfigurationError(f"method: expected an HTTP method such as GET or POST, got {method!a}")
    return name


def _path(path: str) -> str:
    if not isinstance(path, str) or not _PATH.fullmatch(path) or path.startswith("//"):
        raise ConfigurationError(
            f"path: expected a percent-encoded path below the base URL, such as /webapi/v2/projects, got {path!a}"
        )
    if any(unquote(segment) in (".", "..") for segment in path.split("/")):
        raise ConfigurationError(f"path: expected no segments . or .., got {path!a}")
    return path


def _query(query: Query | None) -> str:
    if query is None:
        return ""
    if not isinstance(query, Mapping):
        raise ConfigurationError(f"query: expected a mapping of names to values, got {query!a}")
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"query: expected names that are texts, got {name!a}")
        values = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
        pairs += [(wire.query_name(name), _text(name, each)) for each in values]
    return wire.query(pairs)


def _text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (int, float)):
        return msgspec.json.encode(value).decode()
    raise ConfigurationError(f"query {name}: expected a text, a number, True, False or None, got {value!a}")
