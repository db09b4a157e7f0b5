"""The options that several commands share, and the client and filters they stand for."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import ConfigurationError

if TYPE_CHECKING:  # The help needs none of it.
    from ..client import AlliClient
    from ..config import Secret

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def moment(text: str) -> datetime | float:
    """An ISO 8601 time with a zone, or a number, which is sent as it is."""
    with contextlib.suppress(ValueError):
        return float(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no ISO 8601 time, like 2026-01-31T00:00Z") from None
    if found.utcoffset() is None:
        raise click.BadParameter(f"{text!r} has no time zone; write 2026-01-31T00:00Z or 2026-01-31T09:00+09:00")
    return found


def permission_bits(text: str) -> int:
    """Permission bits as `chmod` takes them: octal digits."""
    try:
        return int(text, 8)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not octal; write 640 for owner and group") from None


# The regions and the default of --max-response-bytes are those of `models` and `config`, which the help does not
# import.
_CONNECTION = (
    click.option(
        "--region",
        type=click.Choice(["us", "ja"]),
        help="Where the service runs. [env: ALLI_REGION]",
    ),
    click.option("--base-url", metavar="URL", help="The server, when it is in no region. [env: ALLI_BASE_URL]"),
    click.option("--allow-http", is_flag=True, help="Send the key unencrypted to another machine."),
    click.option(
        "--api-key-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Holds the API key, instead of ALLI_API_KEY in the environment.",
    ),
    click.option("--agent-email", metavar="EMAIL", help="On behalf of this agent."),
    click.option("--user-email", metavar="EMAIL", help="On behalf of this user."),
    click.option("--own-user-id", metavar="ID", help="On behalf of the user with this id of yours."),
    click.option(
        "--max-concurrency", type=click.IntRange(min=1), default=64, show_default=True, help="Requests in flight."
    ),
    click.option("--rate-limit", type=click.FloatRange(min=0, min_open=True), help="Requests per second."),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=60.0,
        show_default=True,
        help="Seconds for one attempt.",
    ),
    click.option(
        "--max-response-bytes",
        type=click.IntRange(min=1),
        default=32 << 20,
        show_default=True,
        help="Largest answer that is read, in bytes after decompression.",
    ),
    click.option(
        "--proxy",
        metavar="URL",
        help='HTTP proxy; "" for none. [env: https_proxy, http_proxy, all_proxy, no_proxy, as in curl]',
    ),
    click.option(
        "--ca-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="File of CA certificates (PEM) to trust instead of the system's. [env: SSL_CERT_FILE]",
    ),
)

_FILTERS = (
    click.option("--user-id", "user_ids", metavar="ID", multiple=True, help="Of this user; may be repeated."),
    click.option("--llm-app-id", metavar="ID", help="Of this app."),
    click.option("--category-id", metavar="ID", help="In this category."),
    click.option("--started-at", type=moment, metavar="TIME", help="With a last chat from this time on."),
    click.option("--end-at", type=moment, metavar="TIME", help="With a last chat up to this time."),
    click.option(
        "--first-chat-started-at", type=moment, metavar="TIME", help="With a first chat from this time on."
    ),
    click.option("--first-chat-end-at", type=moment, metavar="TIME", help="With a first chat up to this time."),
    click.option("--search-term", metavar="TEXT", help="That hold this text."),
    click.option(
        "--variable", "variables", metavar="NAME", multiple=True, help="Send this variable along; may be repeated."
    ),
    click.option("--active-only", is_flag=True, help="That have not ended."),
    click.option(
        "--background-running/--no-background-running", default=None, help="Being answered just now, or not."
    ),
)

CONNECTION_NAMES = (
    "region",
    "base_url",
    "allow_http",
    "api_key_file",
    "agent_email",
    "user_email",
    "own_user_id",
    "max_concurrency",
    "rate_limit",
    "timeout",
    "max_response_bytes",
    "proxy",
    "ca_file",
)


def connection_options(command: CommandT) -> CommandT:
    """Add the options that say where the service is and who asks."""
    for option in reversed(_CONNECTION):
        command = option(command)
    return command


def filter_options(command: CommandT) -> CommandT:
    """Add the options that select conversations."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Connection options and filters apart; filters that were not given are left out."""
    connection = {name: options.pop(name) for name in CONNECTION_NAMES}
    filters = {name: value for name, value in options.items() if value not in (None, (), False)}
    if options.get("background_running") is False:
        filters["background_running"] = False
    return connection, filters


def make_client(
    *, api_key_file: Path | None, proxy: str | None, ca_file: Path | None, **connection: Any
) -> AlliClient:
    """A client whose key comes from a file, the environment, or a prompt.

    Never from an argument, which would show in a list of processes.
    """
    from .._transport.routes import trusting
    from ..client import AlliClient

    connection["proxy"] = _checked_proxy(proxy, connection)
    if ca_file is not None:
        connection["ssl"] = trusting("--ca-file", ca_file)
    if api_key_file is not None:
        return AlliClient(_key_in(api_key_file), **connection)
    if os.environ.get("ALLI_API_KEY") or os.environ.get("ALLI_TOKEN"):
        return AlliClient(**connection)
    if not sys.stdin.isatty():
        raise click.UsageError("no key: set ALLI_API_KEY (or ALLI_TOKEN), or give --api-key-file")
    return AlliClient(_asked_key(), **connection)


def _checked_proxy(proxy: str | None, connection: dict[str, Any]) -> str | None:
    """The proxy to use: that of the option, else that of the environment; an empty option means none."""
    from .._transport.routes import Proxy, environment_proxy
    from ..config import server_url

    if proxy is not None:
        if proxy:
            Proxy.parse("--proxy", proxy)
        return proxy or None
    where = {name: connection[name] for name in ("region", "base_url", "allow_http")}
    found = environment_proxy(server_url(environ=os.environ, **where), os.environ, as_curl=True)
    if found is None:
        return None
    Proxy.parse(*found)
    return found[1]


def _asked_key() -> Secret:
    from ..config import Secret

    # The command's own handler would only note a Ctrl-C: nothing else goes on while this waits.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return Secret(click.prompt("API key", hide_input=True, err=True))
    finally:
        signal.signal(signal.SIGINT, before)


def _key_in(path: Path) -> Secret:
    from ..config import Secret

    try:
        return Secret(path.read_text("utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise ConfigurationError(f"--api-key-file: cannot read {path}: {reason}") from None
