"""The one place where the package's outer layers reach into a client."""

from __future__ import annotations

from ._transport.session import Session
from .client import AlliClient


def session_of(client: AlliClient) -> Session:
    """The session that sends a client's requests."""
    return client._session
