"""The way to a server: the proxy, and the certificates that are trusted."""

from __future__ import annotations

import base64
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network
from ssl import SSLContext

from yarl import URL

from ..config import Secret, checked_flag, is_loopback
from ..errors import ConfigurationError

__all__ = ["Proxy", "Route", "environment_proxy"]


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        url: The URL, without a password, which the repr of a URL would show.
        credentials: The value of the header `Proxy-Authorization`; None where the proxy wants none.
    """

    url: URL
    credentials: Secret | None = None

    @classmethod
    def parse(cls, name: str, text: str) -> Proxy:
        """Read a proxy's URL.

        Args:
            name: What the message of an error calls the proxy.
            text: `http://[user:password@]host[:port]`; without a scheme, `http` is meant.

        Raises:
            ConfigurationError: The text is no URL of an HTTP proxy. The text is not shown: it may hold a password.
        """
        url = None
        if isinstance(text, str) and text.isascii() and not re.search(r"[\s\x00-\x1f]", text):
            try:
                url = URL(text if "://" in text else f"http://{text}")
                is_proxy = url.scheme in ("http", "https") and bool(url.host) and url.port is not None
            except ValueError:
                is_proxy = False
            url = url if is_proxy else None
        if url is None:
            raise ConfigurationError(
                f"{name}: expected http://[user:password@]host[:port] (the value is not shown here)"
            )
        credentials = None
        if url.user is not None or url.password is not None:
            pair = f"{url.user or ''}:{url.password or ''}"
            credentials = Secret("Basic " + base64.b64encode(pair.encode()).decode())
        return cls(url.origin(), credentials)


class Route:
    """How the clients of one connection reach their servers.

    Args:
        proxy: The proxy for all requests; None for none.
        trust_env: Whether to use the environment's proxies where `proxy` is None.
        ssl: The certificates to trust and to show; None for what the environment or the system trusts.

    Raises:
        ConfigurationError: An option that cannot be right.
    """

    def __init__(
        self, proxy: str | None = None, *, trust_env: bool = False, ssl: SSLContext | None = None
    ) -> None:
        checked_flag("trust_env", trust_env)
        if ssl is not None and not isinstance(ssl, SSLContext):
            raise ConfigurationError(f"ssl: expected an ssl.SSLContext, got {type(ssl).__name__}")
        self.proxy = None if proxy is None else Proxy.parse("proxy", proxy)
        self.trust_env = trust_env
        self.ssl = ssl
        self._trusted: SSLContext | bool | None = ssl

    def proxy_for(self, base_url: str, *, allow_http: bool) -> Proxy | None:
        """The proxy between here and a server; None for a direct way.

        Raises:
            ConfigurationError: The proxy would see the key of an unencrypted request on another machine.
        """
        proxy, name = self.proxy, "proxy"
        if proxy is None and self.trust_env and (found := environment_proxy(base_url, os.environ)):
            name, text = found
            proxy = Proxy.parse(name, text)
        is_open = base_url.startswith("http:") and not allow_http
        if proxy is not None and is_open and not is_loopback(proxy.url.host or ""):
            raise ConfigurationError(
                f"{name}: {proxy.url} would see the key, since {base_url} is not encrypted; use https, or pass "
                "allow_http=True (--allow-http)"
            )
        return proxy

    def trusted(self) -> SSLContext | bool:
        """The certificates that an https server is checked by, as aiohttp takes them: True for the system's.

        Raises:
            ConfigurationError: The file that SSL_CERT_FILE names holds no certificates.
        """
        if self._trusted is None:
            # aiohttp makes its own context when it is imported, before a program can set the variable.
            path = os.environ.get("SSL_CERT_FILE")
            self._trusted = trusting("SSL_CERT_FILE", path) if path else True
        return self._trusted


def trusting(name: str, path: str | os.PathLike[str]) -> SSLContext:
    """A context that trusts the certificates (PEM) in a file, in place of the system's.

    Args:
        name: What the message of an error calls the file.
        path: The file.

    Raises:
        ConfigurationError: The file cannot be read, or holds no certificates.
    """
    try:
        return _context(os.fspath(path), os.stat(path).st_mtime_ns)
    except ssl.SSLError:
        reason = "there are none in it"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "that is no name of a file"
    raise ConfigurationError(f"{name}: cannot read CA certificates (PEM) from {str(path)!a}: {reason}")


@lru_cache(maxsize=8)
def _context(path: str, _modified: int) -> SSLContext:
    # To read the authorities of a whole system takes 20 ms; an app may make many clients.
    return ssl.create_default_context(cafile=path)


def environment_proxy(url: str, environ: Mapping[str, str], *, as_curl: bool = False) -> tuple[str, str] | None:
    """The proxy that the environment names for a URL: the variable and its value; None where there is none.

    Args:
        url: Where a request goes.
        environ: The environment.
        as_curl: Leave out HTTP_PROXY in capital letters, which curl does not use: a CGI program's caller sets it.

    Raises:
        ConfigurationError: The variable's value is no URL of an HTTP proxy.
    """
    target = URL(url, encoded=True)
    no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if _is_direct(target.host or "", no_proxy):
        return None
    names = [f"{target.scheme}_proxy"]
    if target.scheme != "http" or not (as_curl or "REQUEST_METHOD" in environ):
        names.append(names[0].upper())
    names += ["all_proxy", "ALL_PROXY"]
    found = next(((name, environ[name]) for name in names if environ.get(name)), None)
    if found is not None and is_loopback(target.host or ""):
        # A proxy on another machine cannot reach a server on this one, and would see the key.
        return found if is_loopback(Proxy.parse(*found).url.host or "") else None
    return found


def _is_direct(host: str, no_proxy: str) -> bool:
    """Whether NO_PROXY names a host: by name, by a domain above it, by address, by network, or by `*`."""
    if no_proxy.strip() == "*":
        return True
    host = host.rstrip(".").lower()
    entries = [entry.strip("[]") for entry in re.split(r"[\s,]+", no_proxy.lower()) if entry]
    try:
        address = ip_address(host)
    except ValueError:
        names = [entry.removeprefix(".").rstrip(".") for entry in entries]
        return any(name and (host == name or host.endswith(f".{name}")) for name in names)
    return any(_holds(entry, address) for entry in entries)


def _holds(network: str, address: object) -> bool:
    try:
        return address in ip_network(network, strict=False)
    except ValueError:
        return False
