"""The settings of a client: frozen, and checked once, before anything is sent."""

from __future__ import annotations

import base64
import os
import re
import sys
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from multidict import CIMultiDict

from ._headers import merge_headers
from ._tokens import RotatingToken, Secret, is_credential
from .errors import ConfigurationError
from .models import Region

__all__ = [
    "ClientConfig",
    "RetryPolicy",
    "Secret",
    "Token",
    "checked_flag",
    "checked_whole",
    "is_number",
    "resolve",
]

# A token, or an async function that gives the one that is valid now.
Token = str | Callable[[], Awaitable[str]]

BASE_URLS = {Region.US: "https://backend.alli.ai", Region.JA: "https://backend-ja.alli.ai"}

# Bytes of a decompressed answer. A page of 50 conversations has about 170 KB, a decompression bomb hundreds of MB.
MAX_RESPONSE_BYTES = 32 << 20

# Number of a key's first characters that reveal the key, where a text was cut in its middle.
_MIN_REVEALING = 8
# What documentation and other clients take for a part of the base URL; here it belongs to each path.
_BELOW_BASE = re.compile(r"/webapi(/v2(/conversations)?)?$")
_HTML_NAMES = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a finite number, and no bool. A whole number that no float can hold is none either."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _seconds(name: str, value: float, *, zero: bool = False, unit: str = "seconds") -> None:
    if not is_number(value) or value < 0 or (value == 0 and not zero):
        least = "of at least 0" if zero else "above 0"
        raise ConfigurationError(f"{name}: expected a number of {unit} {least}, got {value!r}")


def checked_whole(name: str, value: int, *, least: int) -> int:
    """Check a whole number.

    Raises:
        ConfigurationError: It is none, or less than `least`.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(f"{name}: expected a whole number of at least {least}, got {value!a}")
    return value


def checked_flag(name: str, value: bool) -> bool:
    """Check a switch. A text such as "false" would switch it on, which nobody means by it.

    Raises:
        ConfigurationError: It is neither True nor False.
    """
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name}: expected True or False, got {value!a}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When and how often a call is tried again.

    The delay before retry n (from 0) is uniform in `[0, min(cap, base * 2**n)]`, and never less than the
    Retry-After that the server sent.

    While a server serves nothing, only one request at a time is sent, and all other calls wait without using up
    attempts: a single call for as long as its own backoffs could have lasted, a bulk read (a stream, an export)
    for `patience`.

    Attributes:
        max_attempts: The most requests of one call; 1 means no retry.
        base: Seconds of the first backoff, at most.
        cap: Seconds of any backoff, at most.
        retry_after_cap: Seconds; an error with a Retry-After above it is raised at once. Bulk reads wait for a
            Retry-After up to the larger of this and `patience`.
        quota: Tokens that all calls of a client share. A retry takes some, a success gives some back; when
            there are none, errors are raised at once, so that retries do not storm a server that is down.
        patience: Seconds for which a bulk read lives through an outage. It begins only after the client has had
            one good answer, so that a wrong URL fails at once.
        retry_unknown_writes: Whether POST and PATCH are repeated although they may have happened.
        patience_from_start: Whether `patience` holds before the first good answer too.
    """

    max_attempts: int = 4
    base: float = 0.5
    cap: float = 20.0
    retry_after_cap: float = 120.0
    quota: int = 500
    patience: float = 600.0
    retry_unknown_writes: bool = False
    patience_from_start: bool = False

    def __post_init__(self) -> None:
        checked_whole("retry.max_attempts", self.max_attempts, least=1)
        checked_whole("retry.quota", self.quota, least=0)
        for name in ("base", "cap", "retry_after_cap", "patience"):
            _seconds(f"retry.{name}", getattr(self, name), zero=True)
        for name in ("retry_unknown_writes", "patience_from_start"):
            checked_flag(f"retry.{name}", getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """A client's settings, checked.

    Attributes:
        headers: The key and the identity, which every request carries.
        extra_headers: The caller's own headers, which every request carries.
        token: A token that rotates; None where `headers` hold the key.
    """

    base_url: str
    headers: Mapping[str, str]
    extra_headers: Mapping[str, str] = field(default_factory=dict)
    token: RotatingToken | None = None
    timeout: float = 60.0
    deadline: float | None = None
    retry: RetryPolicy = RetryPolicy()
    max_concurrency: int = 64
    rate_limit: float | None = None
    max_response_bytes: int = MAX_RESPONSE_BYTES

    def __post_init__(self) -> None:
        _seconds("timeout", self.timeout)
        checked_whole("max_concurrency", self.max_concurrency, least=1)
        checked_whole("max_response_bytes", self.max_response_bytes, least=1)
        if self.deadline is not None:
            _seconds("deadline", self.deadline)
        if self.rate_limit is not None:
            _seconds("rate_limit", self.rate_limit, unit="requests per second")
        if not isinstance(self.retry, RetryPolicy):
            raise ConfigurationError(f"retry: expected a RetryPolicy, got {type(self.retry).__name__}")

    @property
    def credential(self) -> Hashable:
        """The key or token: with the base URL it tells one tenant from another."""
        return self.token or self.headers.get("API-KEY") or self.headers["Authorization"]

    def settled(self) -> dict[str, Any]:
        """The options of the server and the key in use, whether they came from arguments or the environment."""
        bearer = self.headers.get("Authorization")
        return {
            "api_key": self.headers.get("API-KEY"),
            "token": Secret(bearer.removeprefix("Bearer ")) if bearer else self.token,
            "base_url": self.base_url,
            "region": None,
        }

    def redact(self, text: str) -> str:
        """Mask the key in a text that a server may have echoed it in, escaped or not, whole or cut short."""
        for value in (*self.headers.values(), *(self.token.known if self.token else ())):
            if isinstance(value, Secret):
                text = _masked(text, value.removeprefix("Bearer "))
        return text

    def redact_headers(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """The headers of an answer without the key."""
        return CIMultiDict((self.redact(name), self.redact(value)) for name, value in headers.items())

    def redact_body(self, body: bytes) -> bytes:
        """The body of an answer without the key."""
        # Latin-1 maps every byte to a character and back; all spellings of a key are ASCII.
        text = body.decode("latin-1")
        masked = self.redact(text)
        return body if masked == text else masked.encode("latin-1")


def _masked(text: str, secret: str) -> str:
    """`text` with `***` for each place that shows the secret, or its beginning up to where the text was cut.

    A word that begins like the secret and goes on otherwise is not masked: it is another word, such as a request
    id with the same prefix.
    """
    beginning, rest = _spelt(secret)
    shown, place = [], 0
    while found := beginning.search(text, place):
        end, matched = found.end(), 0
        for char in rest:
            if not (more := re.compile(char).match(text, end)):
                break
            end, matched = more.end(), matched + 1
        is_key = matched == len(rest) or not text[end : end + 1].isalnum()
        if len(secret) < _MIN_REVEALING:  # so short a key is in many words
            is_key = not (
                text[end : end + 1].isalnum() or text[max(found.start() - 1, 0) : found.start()].isalnum()
            )
        shown.append(text[place : found.start()] + "***" if is_key else text[place:end])
        place = end
    return "".join([*shown, text[place:]])


@lru_cache(maxsize=32)
def _spelt(secret: str) -> tuple[re.Pattern[str], list[str]]:
    """Patterns of what gives a secret away, its beginning, and of each character after that."""
    chars = [_spellings(char) for char in secret]
    return re.compile("".join(chars[:_MIN_REVEALING])), chars[_MIN_REVEALING:]


def _spellings(char: str) -> str:
    """A pattern of a character as itself, or as a URL, JSON, HTML or a repr would have it."""
    number = ord(char)
    itself = r"\\+" if char == "\\" else rf"\\*{re.escape(char)}"
    html = rf"#0*{number}|#x0*{number:x}|{_HTML_NAMES.get(char, 'none')}"
    return rf"(?:(?i:%(?:25)*{number:02x}|\\+[ux]0*{number:x}|&(?:{html});)|{itself})"


def resolve(
    *,
    api_key: str | None,
    token: Token | RotatingToken | None,
    region: Region | str | None,
    base_url: str | None,
    agent_email: str | None,
    user_email: str | None,
    own_user_id: str | None,
    headers: Mapping[str, str] | None = None,
    allow_http: bool,
    environ: Mapping[str, str] | None = None,
    **options: Any,
) -> ClientConfig:
    """Check the client's arguments, and take from the environment what they leave out.

    Raises:
        ConfigurationError: A value that cannot be right. The message names it; it never shows a key.
    """
    env = os.environ if environ is None else environ
    checked_flag("allow_http", allow_http)
    rotating = token if isinstance(token, RotatingToken) else RotatingToken(token) if callable(token) else None
    sent = _credentials(api_key, token, env) | _identity(agent_email, user_email, own_user_id)
    url = server_url(region, base_url, env, allow_http=allow_http)
    return ClientConfig(
        base_url=url, headers=sent, extra_headers=merge_headers(headers), token=rotating, **options
    )


def server_url(
    region: Region | str | None, base_url: str | None, environ: Mapping[str, str], *, allow_http: bool
) -> str:
    """The base URL of a region or of a server, from the environment where both are None.

    Raises:
        ConfigurationError: A region that does not exist, or a URL that cannot be right.
    """
    # An argument beats the environment as a whole: it must not lead a region that was asked for elsewhere.
    if base_url is None and region is None:
        base_url = environ.get("ALLI_BASE_URL") or None
        region = environ.get("ALLI_REGION") or Region.US
    return _region_url(region) if base_url is None else _base_url(base_url, allow_http=allow_http)


def _credentials(
    api_key: str | None, token: Token | RotatingToken | None, env: Mapping[str, str]
) -> dict[str, str]:
    if api_key is not None and token is not None:
        raise ConfigurationError("api_key and token: give one of them, not both")
    if api_key is None and token is None:
        api_key = env.get("ALLI_API_KEY") or None
        token = None if api_key else env.get("ALLI_TOKEN") or None
    if api_key is not None:
        return {"API-KEY": Secret(_credential("api_key", api_key))}
    if isinstance(token, RotatingToken) or callable(token):
        return {}
    if token is not None:
        return {"Authorization": Secret("Bearer " + _credential("token", token))}
    raise ConfigurationError("no key: pass api_key or token, or set ALLI_API_KEY or ALLI_TOKEN")


def _credential(name: str, value: str) -> str:
    value = value.strip() if isinstance(value, str) else ""
    if not is_credential(value):
        raise ConfigurationError(f"{name}: expected visible ASCII characters, and at least one (not shown here)")
    return value


def _identity(agent_email: str | None, user_email: str | None, own_user_id: str | None) -> dict[str, str]:
    headers = {}
    if agent_email is not None:
        headers["AGENT-EMAIL"] = _header("agent_email", agent_email)
    if user_email is not None:
        headers["USER-EMAIL"] = _header("user_email", user_email)
    if own_user_id is not None:
        if isinstance(own_user_id, str) and not own_user_id.isascii():
            try:
                own_user_id = "base64:" + base64.b64encode(own_user_id.encode()).decode()
            except UnicodeEncodeError:
                raise ConfigurationError(f"own_user_id: not valid Unicode: {own_user_id!a}") from None
        headers["OWN-USER-ID"] = _header("own_user_id", own_user_id)
    return headers


def _header(name: str, value: str) -> str:
    if not isinstance(value, str) or not value or not all(" " <= char <= "~" for char in value):
        raise ConfigurationError(f"{name}: expected printable ASCII characters, got {value!a}")
    return value


def _region_url(region: Region | str | None) -> str:
    try:
        return BASE_URLS[Region(region or Region.US)]
    except ValueError:
        raise ConfigurationError(f"region: expected one of {', '.join(Region)}, got {region!a}") from None


def _base_url(url: str, *, allow_http: bool) -> str:
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"base_url: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("base_url: must not hold a user name or password (not shown here)")
    clean = url.isascii() and not any(char <= " " or char in '\\"<>^`{|}' for char in url) if host else False
    if not clean or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise ConfigurationError(f"base_url: expected https://host[:port][/path], got {url!a}")
    if parts.scheme == "http" and not allow_http and not is_loopback(host or ""):
        raise ConfigurationError(
            f"base_url: {url} would carry the key unencrypted; use https, or pass allow_http=True (--allow-http)"
        )
    return _BELOW_BASE.sub("", url.rstrip("/"))


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
