"""The one place where the package's outer layers reach into a client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._transport.session import Session
from .client import AlliClient


def session_of(client: AlliClient) -> Session:
    """The session that sends a client's requests."""
    return client._session


def options_of(client: AlliClient) -> Mapping[str, Any]:
    """The options that a client was made with, as its keyword arguments, the key among them."""
    return client._options
