"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
import cloup

from .moments import TIME_HELP, TimeType
from .numbers import Number, WholeNumber

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_SECONDS = Number(min=0, min_open=True)
# Megabytes of an answer: no machine holds more than a terabyte.
_MEGABYTES = Number(min=0, min_open=True, max=1_000_000)


def permission_bits(text: str) -> int:
    """Permission bits as `chmod` takes them: octal digits, by which the owner may read and write."""
    try:
        bits = int(text, 8)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not octal; write 640 for owner and group") from None
    if bits & 0o600 != 0o600 or not 0 <= bits <= 0o777:
        raise click.BadParameter(
            f"{text!r} are not permission bits by which the owner reads and writes; write 600 or 640"
        )
    return bits


# The regions and the defaults are those of `models` and `config`, which the help does not import.
_CONNECTION = (
    cloup.option(
        "--region",
        type=click.Choice(["us", "ja"]),
        help="Region of the server. [default: us; env: ALLI_REGION]",
    ),
    cloup.option(
        "--base-url", metavar="URL", help="Server in no region, such as one of your own. [env: ALLI_BASE_URL]"
    ),
    cloup.option(
        "--api-key-file",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar="ALLI_API_KEY_FILE",
        help="File that holds the API key. [env: ALLI_API_KEY_FILE; else the key is that of ALLI_API_KEY]",
    ),
    cloup.option("--agent-email", metavar="EMAIL", help="Act as this agent."),
    cloup.option("--user-email", metavar="EMAIL", help="Act as the user with this address."),
    cloup.option("--own-user-id", metavar="ID", help="Act as the user with this id of your own."),
    cloup.option(
        "--max-concurrency",
        type=WholeNumber(min=1),
        default=64,
        show_default=True,
        metavar="N",
        help="Most requests in flight.",
    ),
    cloup.option("--rate-limit", type=_SECONDS, metavar="N", help="Most requests per second. [default: no limit]"),
    cloup.option(
        "--timeout",
        type=_SECONDS,
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="Longest wait for one answer.",
    ),
    cloup.option(
        "--max-response-mb",
        type=_MEGABYTES,
        default=32.0,
        show_default=True,
        metavar="MB",
        help="Largest answer that is read, after decompression.",
    ),
    cloup.option(
        "--proxy",
        metavar="URL",
        help='HTTP proxy; "" for none. [env: https_proxy, http_proxy, all_proxy, no_proxy]',
    ),
    cloup.option(
        "--ca-file",
        type=_FILE,
        help="CA certificates (PEM) to trust instead of the system's. [env: SSL_CERT_FILE]",
    ),
    cloup.option("--client-cert", type=_FILE, help="Client certificate and its private key (PEM) to show."),
    cloup.option("--allow-http", is_flag=True, help="Send the key unencrypted to another machine."),
    cloup.option(
        "-v", "--verbose", count=True, help="Log retries and waits on standard error; -vv logs each request."
    ),
    cloup.option(
        "--log-file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Append the log of requests to this file.",
    ),
)
_SPAN = (
    cloup.option("--since", type=TimeType(), metavar="TIME", help="First chat at this time or later."),
    cloup.option(
        "--until",
        type=TimeType(is_end=True),
        metavar="TIME",
        help="First chat at this time or earlier; a date includes that day.",
    ),
)
# The filters that --since and --until stand for.
_SPAN_FILTERS = {"since": "first_chat_started_at", "until": "first_chat_end_at"}
CONNECTION_NAMES = (
    "region",
    "base_url",
    "api_key_file",
    "agent_email",
    "user_email",
    "own_user_id",
    "max_concurrency",
    "rate_limit",
    "timeout",
    "max_response_mb",
    "proxy",
    "ca_file",
    "client_cert",
    "allow_http",
    "verbose",
    "log_file",
)

_FILTERS = (
    cloup.option(
        "--user-id", "user_ids", metavar="ID", multiple=True, help="Conversations of this user; may be repeated."
    ),
    cloup.option(
        "--llm-app-id",
        metavar="ID",
        help="Conversations with this app (conversations list --fields llmApp.id,llmApp.name --all shows ids).",
    ),
    cloup.option("--category-id", metavar="ID", help="Conversations in this category."),
    cloup.option("--started-at", type=TimeType(), metavar="TIME", help="Last chat at this time or later."),
    cloup.option(
        "--end-at", type=TimeType(is_end=True), metavar="TIME", help="Last chat at this time or earlier."
    ),
    cloup.option(
        "--first-chat-started-at", type=TimeType(), metavar="TIME", help="First chat at this time or later."
    ),
    cloup.option(
        "--first-chat-end-at",
        type=TimeType(is_end=True),
        metavar="TIME",
        help="First chat at this time or earlier.",
    ),
    cloup.option("--search-term", metavar="TEXT", help="Conversations that contain this text."),
    cloup.option("--active-only", is_flag=True, help="Only conversations that have not ended."),
    cloup.option(
        "--background-running/--no-background-running",
        default=None,
        help="Only conversations that are being answered now, or that are not.",
    ),
    cloup.option(
        "--variable",
        "variables",
        metavar="NAME",
        multiple=True,
        help="Variable to return with each conversation; may be repeated.",
    ),
)


def connection_options(command: CommandT) -> CommandT:
    """Add the options that say where the server is, who asks, and what is logged."""
    return cloup.option_group("Connection", *_CONNECTION)(command)


def filter_options(command: CommandT) -> CommandT:
    """Add the options that select conversations."""
    return cloup.option_group("Which conversations", *_FILTERS)(command)


def span_options(*more: Callable[[Any], Any]) -> Callable[[CommandT], CommandT]:
    """Add --since and --until, and further options of the same section."""
    return cloup.option_group("Which time", *_SPAN, *more, help=TIME_HELP)


def check_span(options: Mapping[str, Any]) -> None:
    """Check that --since and --until go together, and with the filters that they stand for.

    Raises:
        click.UsageError: They do not.
    """
    for short, name in _SPAN_FILTERS.items():
        if options[short] is not None and options.get(name) is not None:
            raise click.UsageError(f"--{short} is the same as --{name.replace('_', '-')}; give one of them")
    since, until = options["since"], options["until"]
    if since is not None and until is not None and since > until:
        raise click.UsageError(f"--since lies after --until ({since} > {until})")


def span_as_filters(options: dict[str, Any]) -> None:
    """Put the filters that --since and --until stand for in their place."""
    check_span(options)
    for short, name in _SPAN_FILTERS.items():
        if (value := options.pop(short)) is not None:
            options[name] = value


def split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide options into those of the connection and the filters that were given."""
    connection = {name: options.pop(name) for name in CONNECTION_NAMES}
    filters = {name: value for name, value in options.items() if value not in (None, (), False)}
    if options.get("background_running") is False:
        filters["background_running"] = False
    return connection, filters
