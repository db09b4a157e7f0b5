"""The client that the options stand for: its key, its proxy, its certificates, its log."""

from __future__ import annotations

import codecs
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:  # The help needs none of it.
    from ssl import SSLContext

    from ..client import AlliClient
    from ..config import Secret

_MEGABYTE = 1 << 20
_NO_KEY = (
    "no key: set ALLI_API_KEY (or ALLI_TOKEN), or name a file that holds it with --api-key-file or "
    "ALLI_API_KEY_FILE"
)


@asynccontextmanager
async def open_client(connection: dict[str, Any], *, sandbox: int | None = None) -> AsyncIterator[AlliClient]:
    """A client of the server, or of an embedded sandbox.

    Args:
        connection: The options of the connection.
        sandbox: Number of conversations of the sandbox; None for the server.
    """
    with _without_collections():
        from ..client import AlliClient

    async with AsyncExitStack() as stack:
        start_log(connection.pop("verbose"), connection.pop("log_file"))
        connection["max_response_bytes"] = max(int(connection.pop("max_response_mb") * _MEGABYTE), 1)
        if sandbox is None:
            client = make_client(**connection)
        else:
            from ..sandbox import Sandbox

            served = await stack.enter_async_context(Sandbox(conversations=sandbox))
            kept = ("max_concurrency", "rate_limit", "timeout", "max_response_bytes", "retry")
            options = {name: connection[name] for name in kept if name in connection}
            client = AlliClient(served.api_key, base_url=served.url, **options)
        yield await stack.enter_async_context(client)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Import without garbage collections, which find nothing in it and take a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def make_client(
    *,
    api_key_file: Path | None,
    proxy: str | None,
    ca_file: Path | None,
    client_cert: Path | None,
    **connection: Any,
) -> AlliClient:
    """A client whose key comes from a file, the environment, or a prompt.

    Never from an argument, which would show in a list of processes.
    """
    from ..client import AlliClient

    connection["proxy"] = checked_proxy(proxy, connection)
    connection["ssl"] = certificates(ca_file, client_cert)
    key_options = click.get_current_context().get_parameter_source("api_key_file") if api_key_file else None
    has_key = bool(os.environ.get("ALLI_API_KEY") or os.environ.get("ALLI_TOKEN"))
    # An option beats the environment; within the environment the key itself beats a file that holds it.
    if api_key_file is not None and (key_options is click.core.ParameterSource.COMMANDLINE or not has_key):
        return AlliClient(_key_in(api_key_file), **connection)
    if has_key:
        return AlliClient(**connection)
    if not sys.stdin or not sys.stdin.isatty():
        raise click.UsageError(_NO_KEY)
    return AlliClient(_asked_key(), **connection)


def start_log(verbose: int, log_file: Path | None) -> None:
    """Show the log on standard error, and append it to a file, as far as the options ask for it."""
    handlers: list[logging.Handler] = []
    if verbose:
        # Warnings of exports are among what this shows.
        logging.getLogger("alli_async.export").handlers.clear()
        handlers.append(logging.StreamHandler())
        handlers[0].setLevel(logging.DEBUG if verbose > 1 else logging.INFO)
    if log_file is not None:
        try:
            handlers.append(logging.FileHandler(log_file, encoding="utf-8"))
        except OSError as error:
            raise click.BadParameter(
                f"cannot write {log_file}: {error.strerror}", param_hint="--log-file"
            ) from None
    logger = logging.getLogger("alli_async")
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    if handlers:
        logger.setLevel(logging.INFO if verbose == 1 and log_file is None else logging.DEBUG)


def certificates(ca_file: Path | None, client_cert: Path | None) -> SSLContext | None:
    """The certificates to trust and to show; None for what the environment or the system trusts."""
    if ca_file is None and client_cert is None:
        return None
    import ssl

    from .._transport.routes import trusting

    context = ssl.create_default_context() if ca_file is None else trusting("--ca-file", ca_file)
    if client_cert is not None:
        try:
            # A private key with a passphrase would have OpenSSL ask for it on the terminal.
            context.load_cert_chain(client_cert, password="")
        except (ssl.SSLError, OSError):
            raise click.BadParameter(
                f"{client_cert} does not hold a certificate and its unencrypted private key (PEM)",
                param_hint="--client-cert",
            ) from None
    return context


def checked_proxy(proxy: str | None, connection: dict[str, Any]) -> str | None:
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
    """The key in a file: in UTF-8, or in UTF-16 with a byte order mark, as editors on Windows write it."""
    from ..config import Secret

    try:
        data = path.read_bytes()
        is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        key = data.decode("utf-16" if is_utf16 else "utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise click.BadParameter(f"cannot read {path}: {reason}", param_hint="--api-key-file") from None
    if not key:
        raise click.BadParameter(f"{path} is empty", param_hint="--api-key-file")
    return Secret(key)
