"""Reports of failures: in one line or as JSON, in the words of the command, with what to do next."""

from __future__ import annotations

import contextlib
import errno
import json
import re
from dataclasses import dataclass, replace
from typing import Any

import click

from .. import errors
from ..errors import AlliError, APIError, ConfigurationError
from .exhaustion import exhausted

FAILED, USAGE, INCOMPLETE, LOCKED, INTERRUPTED = 1, 2, 3, 4, 130

# What to do about an error of the server, by Alli's code.
_BY_CODE = {
    7000: "the server failed; try again later, and if it stays, give Allganize the request id",
    7001: "check the key, and that it belongs to this server (--region, --base-url); see alli-async doctor",
    7002: "the server did not take the request; check for a proxy that changes requests",
    7003: "check the ids and the values of the options",
    7004: "the plan of the project does not cover this; ask the owner of the project",
}
# What to do about an error, by its class; the first that fits.
_BY_CLASS: dict[str, str] = {
    "AuthenticationError": _BY_CODE[7001],
    "PaymentRequiredError": _BY_CODE[7004],
    "PermissionDeniedError": "the key does not give access to this; ask the owner of the project",
    "NotFoundError": "check the id, and that the key and the server are those of its project",
    "RateLimitError": "try again later, or send fewer requests (--rate-limit)",
    "RedirectError": "check --base-url: the server is at another address",
    "BadRequestError": _BY_CODE[7003],
    "ServerError": _BY_CODE[7000],
    "TLSError": "if the server has certificates of its own, name their CA with --ca-file; see alli-async doctor",
    "AlliTimeoutError": "try again, or wait longer (--timeout)",
    "AlliConnectionError": "check --base-url, --proxy and the network; see alli-async doctor",
    "DecodeError": "check --base-url: the answer is not that of an Alli server",
    "ResponseTooLargeError": "raise --max-response-mb",
}
_ANOTHER_EXPORT = "name another DEST, or give the options that it was made with"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure, as it is reported.

    Attributes:
        code: The exit code.
        kind: The class of the error.
        message: What failed.
        advice: What to do next; empty where there is nothing to say.
        details: What else is known, for JSON.
        ending: What stays of the work, and how to go on.
    """

    code: int
    kind: str
    message: str
    advice: str = ""
    details: dict[str, Any] | None = None
    ending: str = ""

    def with_ending(self, ending: str) -> Failure:
        """The same failure, with what stays of the work; wrong usage and a destination that is held leave all."""
        return replace(self, ending=ending) if self.code == FAILED else self

    def text(self) -> str:
        """The failure in one line."""
        kind = "" if self.code == USAGE or not self.kind else f"{self.kind}: "
        hints = "; ".join(part for part in (self.advice, self.ending) if part)
        advice = f" ({hints})" if hints else ""
        return f"alli-async: {kind}{self.message}{advice}"

    def json(self) -> str:
        """The failure as a line of JSON."""
        advice = "; ".join(part for part in (self.advice, self.ending) if part)
        fields = {"kind": self.kind, "message": self.message, "advice": advice, "exit_code": self.code}
        return json.dumps({"error": fields | (self.details or {})})


class FailedError(click.ClickException):
    """A failure that was put into the words of the command while its options were known."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def report(error: Exception, *, as_json: bool) -> int:
    """Report a failure on standard error.

    Args:
        error: What ended the command.
        as_json: Whether the failure is reported as JSON.

    Returns:
        The exit code.

    Raises:
        Exception: The error itself, where it is a fault of the command.
    """
    failure = describe(error)
    if failure is None:
        raise error
    from .terminal import visible

    text = failure.json() if as_json else visible(failure.text(), keep_newlines=False)
    # Where standard error is closed, only the exit code reports the failure.
    with contextlib.suppress(OSError):
        click.echo(text, err=True)
    return failure.code


def describe(error: Exception) -> Failure | None:
    """A failure in the words of the command; None where it is a fault of the command."""
    if isinstance(error, FailedError):
        return error.failure
    if isinstance(error, click.Abort):
        return Failure(INTERRUPTED, "", "interrupted")
    if isinstance(error, click.ClickException):
        kind = "UsageError" if isinstance(error, click.UsageError) else ""
        return Failure(error.exit_code, kind, _one_line(error.format_message()))
    if isinstance(error, ConfigurationError):
        message = in_options(str(error))
        is_other = " holds another export: " in message and "; to go on with " not in message
        return Failure(USAGE, "ConfigurationError", message, _ANOTHER_EXPORT if is_other else "")
    if isinstance(error, AlliError):
        return _of_library(error)
    return _of_machine(error)


def _kind_of(error: AlliError) -> str:
    """The name by which an error can be caught."""
    return next(each for each in type(error).__mro__ if each.__module__ == errors.__name__).__name__


def _of_library(error: AlliError) -> Failure:
    kind = _kind_of(error)
    details: dict[str, Any] = {
        "outcome": error.outcome,
        "request_id": error.request_id,
        "attempts": error.attempts,
    }
    if isinstance(error, APIError):
        details |= {"status": error.status, "code": error.code}
    if error.retry_after is not None:
        details["retry_after"] = error.retry_after
    code = LOCKED if kind == "LockedError" else FAILED
    return Failure(code, kind, _one_line(_message_of(error)), advice_for(error), details)


def _message_of(error: AlliError) -> str:
    """What an error of the library says, in the words of the command; what the server said is left as it is."""
    text, said = str(error), error.message
    message = said if isinstance(error, APIError) else in_options(said)
    return message + _in_plain_words(text.removeprefix(said))


def _in_plain_words(account: str) -> str:
    """The account of a call's attempts, without the arguments of the library that are its bounds."""
    bounds = {"patience": _option_names().get("retry_for", "")}
    account = account.replace(", not_sent", ", not sent")
    return re.sub(
        r" \((max_attempts|patience|quota)\)",
        lambda found: f" ({bounds[found[1]]})" if bounds.get(found[1]) else "",
        account,
    )


def _of_machine(error: Exception) -> Failure | None:
    """A failure of the machine: of its memory, its files, its packages."""
    if (why := exhausted(error)) is not None:
        return Failure(FAILED, "", why)
    if isinstance(error, OSError):
        return Failure(FAILED, "", _os_error(error))
    if isinstance(error, ImportError) and error.name:
        return Failure(FAILED, "", f"this needs the package {error.name}, which is not installed")
    return None


def advice_for(error: AlliError) -> str:
    """What to do about an error of the library; empty where there is nothing to say."""
    kind = _kind_of(error)
    if isinstance(error, APIError) and error.code in _BY_CODE and kind != "NotFoundError":
        return _BY_CODE[error.code]
    return _BY_CLASS.get(kind, "")


def _os_error(error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.filename is not None:
        return f"{error.filename}: {reason}"
    if error.errno in (errno.ENOSPC, errno.EIO, errno.EPIPE, errno.EBADF, errno.EDQUOT):
        return f"cannot write the output: {reason}"
    return reason


def in_options(message: str) -> str:
    """A message about arguments of the library, as one about options of the command."""
    names = _option_names()
    message = message.replace("pass allow_http=True (--allow-http)", "give --allow-http")
    message = message.replace("pass api_key or token, or set ALLI_API_KEY or ALLI_TOKEN", "set ALLI_API_KEY")
    # A name at the start is what the message is about; elsewhere only what can be no word of a sentence is meant.
    if (found := re.match(r"((?:conversation|chat) id|\w+)(?=[: ])", message)) and found[1] in names:
        message = names[found[1]] + message[found.end() :]
    message = re.sub(r"\b([a-z_]+)=(?:True\b|(?=[ ,.;)]|$))", lambda found: names.get(found[1], found[0]), message)
    message = re.sub(r"\b([a-z]+[A-Z]\w+)=", lambda found: f"{_option_of_wire(found[1], names)} ", message)
    return re.sub(r"\b[a-z]+(?:_[a-z]+)+\b", lambda found: names.get(found[0], found[0]), message)


def _option_of_wire(name: str, names: dict[str, str]) -> str:
    """The option of a filter, by the filter's name on the wire."""
    snake = re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name)
    return names.get(snake, name)


def _option_names() -> dict[str, str]:
    """The options of the running command, by the arguments of the library that they stand for."""
    names = {
        "dest": "DEST",
        "format": "--format",
        "api_key": "the key",
        "conversation id": "ID",
        "conversation_ids": "ID",
        "chat id": "CHAT",
        "max_response_bytes": "--max-response-mb",
    }
    ctx = click.get_current_context(silent=True)
    for param in ctx.command.params if ctx is not None else ():
        if isinstance(param, click.Option) and param.name:
            names[param.name] = max(param.opts, key=len)
    for name in ("base_url", "region"):
        # Where the option was not given, the value is that of the environment.
        if ctx is not None and name in names and ctx.params.get(name) is None:
            names[name] = f"ALLI_{name.upper()}"
    for name, option in (("first_chat_started_at", "since"), ("first_chat_end_at", "until")):
        if ctx is not None and ctx.params.get(option) is not None:
            names[name] = f"--{option}"
    return names


def _one_line(text: str) -> str:
    return " ".join(text.split()) if "\n" in text else text
