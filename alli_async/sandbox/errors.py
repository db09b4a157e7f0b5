"""Error answers, in every shape that the service is known to use."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Refusal(Exception):  # noqa: N818 - an answer, not a failure of the sandbox
    """An error answer to a request."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body
        self.headers = headers or {}


def api_error(status: int, code: int, message: str) -> Refusal:
    """An error with one of the API's codes."""
    return Refusal(status, msgspec.json.encode({"type": "APIError", "code": code, "message": message}))


def bad_parameter(message: str) -> Refusal:
    """A wrong parameter, which the message names."""
    return api_error(400, 7003, message)


def bad_json(message: str) -> Refusal:
    """A body that is not JSON, or not an object."""
    return api_error(403, 7002, message)


def bad_key() -> Refusal:
    """A missing or wrong key."""
    return api_error(403, 7001, "Invalid API key")


def not_found(what: str) -> Refusal:
    """Something that the path names does not exist."""
    return Refusal(404, msgspec.json.encode({"error": f"{what} not found"}))


def not_allowed(methods: Iterable[str]) -> Refusal:
    """The path does not take this method."""
    return Refusal(405, b'{"error":"Method not allowed"}', {"Allow": ", ".join(sorted(methods))})


def gateway_timeout() -> Refusal:
    """The page of a gateway whose backend took too long."""
    page = b"<html><head><title>504 Gateway Time-out</title></head><body>504 Gateway Time-out</body></html>"
    return Refusal(504, page, {"Content-Type": "text/html"})


def documented(status: int) -> Refusal:
    """The documented error of a status."""
    match status:
        case 400:
            return bad_parameter("A parameter is wrong")
        case 402 | 403:
            return api_error(status, 7004, "Payment required")
        case 404:
            return not_found("Resource")
        case 429:
            return Refusal(429, b'{"errors":"Too many requests"}')
        case _:
            return api_error(status, 7000, "Service unavailable" if status == 503 else "Internal server error")
