"""What object stores refuse, as one clear line. It is obstore that speaks to them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from ...errors import ConfigurationError, ExportError
from .store import MissingError

_NOT_THERE = "it is not there"
_SENTENCES = (
    (r"<Code>(NoSuchBucket|ContainerNotFound)</Code>|The specified bucket does not exist", "no such bucket"),
    (
        r"<Code>(AuthorizationHeaderMalformed|IllegalLocationConstraint)|code: 30[1278]|redirect without LOCATION",
        "the bucket is in another region (AWS_REGION), or elsewhere",
    ),
    (r"<Code>(ExpiredToken|TokenRefreshRequired)</Code>", "the credentials have expired"),
    (
        r"169\.254\.169\.254|metadata\.google|no credentials|Missing ?Credential",
        "no credentials in the environment",
    ),
    (r"builder error", "an endpoint without TLS must be allowed (AWS_ALLOW_HTTP=true)"),
    (r"status code: 40[13]", "permission denied"),
    (r"<Code>SlowDown</Code>|status code: (429|503)", "the store is too busy"),
    (r"timed out", "the store does not answer in time"),
    (r"error sending request|error decoding response|connection", "the store cannot be reached, or hung up"),
    (r"error: (Unable to extract metadata|Got invalid)", "what answers there is no such store"),
)


def load_obstore() -> tuple[Any, Any]:
    """Obstore and its errors.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        import obstore
        from obstore import exceptions
    except ImportError:
        raise ConfigurationError(
            "dest: an object store needs obstore: pip install 'alli-async[objectstore]'"
        ) from None
    return obstore, exceptions


@contextlib.contextmanager
def store_refusals(verb: str, place: str) -> Iterator[None]:
    """Make what a store refuses one clear error. What obstore says is not shown: it may hold a signed address."""
    _, errors = load_obstore()
    try:
        yield
    except (errors.BaseError, OSError) as error:
        why = reason(error)
        missing = isinstance(error, FileNotFoundError) and why.startswith(_NOT_THERE)
        raise (MissingError if missing else ExportError)(f"cannot {verb} {place}: {why}") from None


def reason(error: Exception) -> str:
    """Why a store refused, in a few words."""
    text = str(error).partition("Debug source")[0]
    status = re.search(r"status code: (\d{3})", text)
    code = re.search(r"<Code>(\w{1,60})</Code>", text)
    answered = " ".join(found[1] for found in (status, code) if found)
    said = next((sentence for pattern, sentence in _SENTENCES if re.search(pattern, text)), None)
    if said is None and isinstance(error, FileNotFoundError):
        said = _NOT_THERE
    if said is None and isinstance(error, OSError) and error.strerror:
        said = error.strerror
    if said is None:
        return f"the store answered {answered}" if answered else type(error).__name__
    return f"{said} ({answered})" if answered else said
