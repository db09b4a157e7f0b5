"""The wire, as pure functions over plain values: path, query, status to error, Retry-After, body to struct.

Nothing here opens a socket, reads a clock, or knows a key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy, istr

from ..config import is_number
from ..errors import (
    AlliError,
    APIError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    DecodeError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    RedirectError,
    ServerError,
)
from ..models import EPOCH
from .nulls import without_nulls
from .server_clock import http_date

T = TypeVar("T")

CONVERSATIONS = "/webapi/v2/conversations"
# Alli's code of an error for an invalid parameter.
INVALID_PARAMETER = 7003
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(slots=True)
class Request:
    """One request as a middleware sees it. The key is added behind the last middleware.

    Attributes:
        operation: The contract's name of the operation, such as `listConversations`.
        method: The HTTP method.
        path: The percent-encoded path below the base URL.
        query: The percent-encoded query, without the question mark.
        body: The JSON body; None if there is none.
        headers: Further headers; neither the identity headers nor the key are in it.
        attempt: 1 for the first attempt of a call, 2 for the first retry.
        renewals: How often a new token was asked for, since the server did not accept the one before.
        sent: Whether it was handed on to be sent, in this attempt or one before.
        maybe_done: Whether it was sent and may have happened, without a definite answer, in any attempt.
        urgent: Whether it goes before other requests in a queue, since its answer leads to more of them.
    """

    operation: str
    method: str
    path: str
    query: str = ""
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    attempt: int = 1
    renewals: int = 0
    sent: bool = False
    maybe_done: bool = False
    urgent: bool = False

    @property
    def is_read(self) -> bool:
        """Whether the method changes nothing on the server."""
        return self.method in _READS


@dataclass(slots=True)
class Response:
    """One whole answer as a middleware sees it, whatever its status.

    Attributes:
        status: The HTTP status.
        headers: Case-insensitive.
        body: All of it, decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __post_init__(self) -> None:
        # A middleware that answers by itself may give a dict.
        if not isinstance(self.headers, (CIMultiDictProxy, CIMultiDict)):
            self.headers = CIMultiDict(self.headers)


# --- what is sent -----------------------------------------------------------------------------------------


def segment(name: str, value: str) -> str:
    """An id as one path segment: quoted whole, so that `/`, `?`, `%` or `=` in it stay part of it.

    Raises:
        ConfigurationError: The value cannot stand as a path segment; `name` says which it was.
    """
    if not isinstance(value, str) or value in ("", ".", "..") or _CONTROL(value):
        raise ConfigurationError(f"{name}: expected an id (not empty, no control characters), got {value!a}")
    return _quoted(name, value)


def conversation_path(conversation_id: str, *rest: str) -> str:
    """The path of a conversation, or of what is below it."""
    return "/".join((CONVERSATIONS, segment("conversation id", conversation_id), *rest))


def query(pairs: Iterable[tuple[str, str]]) -> str:
    """A query string, in the order given.

    Raises:
        ConfigurationError: A value is no valid Unicode.
    """
    return "&".join(f"{name}={_quoted(name, value, safe=',')}" for name, value in pairs)


def query_name(name: str) -> str:
    """A name in a query, percent-encoded."""
    return _quoted(name, name)


def _quoted(name: str, value: str, safe: str = "") -> str:
    # What nearly all values are, base64 with its padding; `quote` takes longer.
    stem = value.rstrip("=")
    if _UNRESERVED(stem):
        return stem + "%3D" * (len(value) - len(stem))
    try:
        return quote(value, safe=safe)
    except UnicodeEncodeError:
        raise ConfigurationError(f"{name}: not valid Unicode: {value!a}") from None


def encode(name: str, value: Any) -> bytes:
    """`value` as a JSON body.

    Raises:
        ConfigurationError: It holds what JSON cannot; `name` says what was being sent.
    """
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name}: cannot be sent as JSON: {error}") from None


def epoch(name: str, value: datetime | float) -> datetime | float:
    """A time filter's value, checked: an aware datetime, or the wire's own number.

    Raises:
        ConfigurationError: A datetime without a zone, or no finite number.
    """
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise ConfigurationError(f"{name}: expected a datetime with a time zone, got {value!r}")
        return value
    if not is_number(value):
        raise ConfigurationError(f"{name}: expected a datetime with a time zone, or a number, got {value!r}")
    return value


def epoch_text(value: datetime | float, *, milliseconds: bool) -> str:
    """A checked time filter as it is sent: a datetime in the server's unit, a number as it is."""
    if isinstance(value, datetime):
        value = (value - EPOCH) / timedelta(milliseconds=1) if milliseconds else (value - EPOCH).total_seconds()
    if value == int(value):
        return str(int(value))
    text = repr(float(value))
    # No exponent: 1e-7 is a number to JSON, but not to every query parser.
    return f"{value:.6f}" if "e" in text else text


# --- what comes back: errors ------------------------------------------------------------------------------

# Bytes of an answer's body that an error keeps: enough for any error page, and quickly searched for the key.
_ERROR_BODY = 64 << 10
# Seconds that have passed since a Date header at most when its answer is read: whole seconds, and a slow way.
_DATE_AGE = 2.0
_REQUEST_ID = tuple(map(istr, ("x-request-id", "x-amzn-requestid", "x-amzn-trace-id", "cf-ray")))
_BY_STATUS: dict[int, type[APIError]] = {
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: ServerError,
    429: RateLimitError,
}
_BY_CODE: dict[int | None, type[APIError]] = {
    7001: AuthenticationError,
    7002: BadRequestError,
    7004: PaymentRequiredError,
}


def is_success(response: Response) -> bool:
    """Whether the status is 2xx."""
    return 200 <= response.status < 300


def error_of(response: Response, now: datetime) -> APIError:
    """The error that an answer other than 2xx stands for.

    Args:
        response: The answer.
        now: What the server's clock shows, at least.
    """
    status, headers = response.status, response.headers
    code, message = _details(response.body)
    kind: type[APIError]
    if 300 <= status < 400:
        kind, message = RedirectError, f"redirected to {headers.get('location', 'nowhere')!a}, not followed"
    elif status >= 500:
        kind = ServerError
    elif status == 403:
        kind = _BY_CODE.get(code, PermissionDeniedError)
    else:
        kind = _BY_STATUS.get(status, BadRequestError if 400 <= status < 500 else APIError)
    shown = f"{status}/{code}" if code is not None else str(status)
    return kind(
        f"{shown}: {message or _excerpt(response.body).removeprefix(f'{status}: ') or 'no message'}",
        status=status,
        code=code,
        request_id=request_id(headers),
        retry_after=retry_after(headers.get("retry-after"), headers.get("date"), now),
        headers=headers,
        body=response.body[:_ERROR_BODY],
    )


def request_id(headers: Mapping[str, str]) -> str | None:
    """The server's id of a request, by the answer's headers; None if it sent none."""
    for name in _REQUEST_ID:
        if (found := headers.get(name)) is not None:
            return found
    return None


def reported_error(body: bytes, status: int = 200) -> APIError | None:
    """The error inside an answer that calls itself a success; None when there is none in it."""
    code, message = _details(body)
    if message is None:
        return None
    kind = _BY_CODE.get(code, BadRequestError if code == INVALID_PARAMETER else APIError)
    shown = f"{status}/{code}" if code is not None else str(status)
    return kind(f"{shown} with an error inside: {message}", status=status, code=code)


def _details(body: bytes) -> tuple[int | None, str | None]:
    """Code and message of the error shapes: {type, code, message}, {error}, {errors}."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, None
    if not isinstance(document, dict):
        return None, None
    code = document.get("code")
    code = code if isinstance(code, int) and not isinstance(code, bool) else None
    found = document.get("error")
    if found is None:
        found = document.get("errors")
    if found is None and (document.get("type") == "APIError" or code is not None):
        found = document.get("message", "no message")
    if found is None:
        return code, None
    text = found if isinstance(found, str) else msgspec.json.encode(found).decode()
    return code, _line(text[:2000], 500)


def _excerpt(body: bytes) -> str:
    return _line(body[:400].decode("utf-8", "replace"), 120)


def _line(text: str, length: int) -> str:
    """A server's words on one line, and without what would steer a terminal."""
    return "".join(char if char.isprintable() else "\ufffd" for char in " ".join(text.split()))[:length]


def retry_after(value: str | None, date: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for; None when there is none that can be understood.

    An HTTP date is measured against the server's clock, not ours.

    Args:
        value: The header: seconds, or an HTTP date.
        date: The answer's Date header, which tells the server's clock in whole seconds.
        now: What the server's clock shows, at least. It counts where the Date header agrees, or is missing.
    """
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text, re.ASCII):
        return min(float(text), 1e9)
    until, told = http_date(text), http_date(date)
    if until is None:
        return None
    if told is not None and not 0 <= (now - told).total_seconds() < _DATE_AGE:
        now = told
    return max(0.0, (until - now).total_seconds())


# --- what comes back: structs -----------------------------------------------------------------------------

# A pair of surrogates is a character and is left alone; any other escape is skipped whole, so that the text
# `\\ud800` (an escaped backslash, then letters) is not taken for one; what is left is a surrogate alone.
_ESCAPES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# The fields in which an answer with status 200 reports an error, whatever stands beside them.
ERROR_FIELDS = ("errors", "error", "type")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]").search
_UNRESERVED = re.compile(r"[A-Za-z0-9_.~-]*").fullmatch
_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>.*)`)?$", re.DOTALL)


def repair_surrogates(body: bytes) -> bytes:
    r"""`body` with every escaped lone surrogate (`\ud800`) replaced by U+FFFD, all else untouched."""
    return _ESCAPES.sub(lambda found: rb"\ufffd" if found[1] else found[0], body)


def decoder(kind: type[T], *, is_answer: bool = True) -> Callable[[bytes], T]:
    """A function from a response body to a `kind`.

    It raises a `DecodeError`, or the `APIError` that an answer with status 200 reports in `errors`, whatever
    stands beside it.

    Args:
        kind: The type to decode.
        is_answer: Whether the bodies are whole answers, which may report errors.
    """
    if is_answer and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _answer_decoder(kind)
    decode = msgspec.json.Decoder(kind).decode

    def decode_body(body: bytes) -> T:
        try:
            return decode(body)
        except UNDECODABLE as error:
            failure = error
        # Outside of any `except`, here and below: what is raised has no `__context__`.
        return _second_try(decode, body, failure)

    return decode_body


def _answer_decoder(kind: type[T]) -> Callable[[bytes], T]:
    """As `decoder`, for structs. To look for errors in the decoder costs nothing; to search the body would.

    A struct that has all of the `ERROR_FIELDS` is given as it was decoded.
    """
    names = kind.__struct_fields__  # type: ignore[attr-defined]
    added = [(name, Any, None) for name in ERROR_FIELDS if name not in names]
    probe = msgspec.defstruct(kind.__name__, added, bases=(kind,), kw_only=True, frozen=True)
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(probe).decode

    def decode_body(body: bytes) -> T:
        found: Any = None
        failure: Exception | None = None
        try:
            found = decode(body)
        except UNDECODABLE as error:
            failure = error
        if failure is not None:
            found = _second_try(decode, body, failure, kind)
        if reports_error(found):
            raise error_beside(body)
        result: T = kind(**{name: getattr(found, name) for name in names}) if added else found
        return result

    return decode_body


def reports_error(found: Any) -> bool:
    """Whether an answer with status 200 reports an error, in a struct that has the `ERROR_FIELDS`."""
    return found.errors is not None or found.error is not None or found.type == "APIError"


def error_beside(body: bytes) -> AlliError:
    """The error that an answer with status 200 reports. Without a definite code it may be gone the next time."""
    error = reported_error(body)
    if error is None:
        return DecodeError("errors of an unknown form", path="$.errors")
    if type(error) is not APIError:
        return error
    return ServerError(error.message, status=error.status, code=error.code)


def _second_try(decode: Callable[[bytes], T], body: bytes, failure: Exception, kind: Any = None) -> T:
    """Decode again with lone surrogates repaired and nulls filled, so that one such field does not cost its page.

    Args:
        decode: Decodes the body.
        body: The body that could not be decoded.
        failure: Why it could not.
        kind: The struct of an answer, whose nulls may be filled; None for another type.
    """
    repaired = body
    if not isinstance(failure, msgspec.ValidationError) and (repaired := repair_surrogates(body)) != body:
        try:
            return decode(repaired)
        except UNDECODABLE as error:
            failure = error
    if kind is not None and isinstance(failure, msgspec.ValidationError):
        try:
            if filled := without_nulls(kind, repaired):
                return decode(filled)
        except UNDECODABLE as error:
            failure = error  # Of the nulls, only what cannot be filled is at fault.
    raise _decode_error(body, failure)


def _decode_error(body: bytes, error: Exception) -> AlliError:
    if isinstance(error, msgspec.ValidationError):
        found = _PLACE.match(str(error))
        what, path = (found["what"], found["path"] or "$") if found else (str(error), "$")
        return reported_error(body) or DecodeError(
            f"the answer is not what the contract says: {what} at {path}", path=path
        )
    is_deep = isinstance(error, RecursionError)
    reason = "nested too deeply" if is_deep else str(error)
    # What is nested too deeply is no garbage that another attempt may spare, but the data itself.
    return DecodeError(f"the answer is no JSON: {reason}; it begins {_excerpt(body)!a}", malformed=not is_deep)


def nothing(body: bytes) -> None:
    """For operations that answer nothing: takes any body but a reported error, markup, or JSON that was cut.

    A page with status 200 is a gateway's, and half an answer may be half an error.
    """
    if body.lstrip()[:1] not in (b"<", b"{", b"["):
        return
    failure: Exception | None = None
    try:
        msgspec.json.decode(body)
    except UNDECODABLE as error:
        failure = error
    if failure is not None:
        raise _decode_error(body, failure)
    if reported := reported_error(body):
        raise reported
