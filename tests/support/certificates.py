"""Certificates of an authority that the tests make themselves."""

from __future__ import annotations

import ssl
from datetime import datetime

import trustme


def issued(
    authority: trustme.CA,
    host: str = "127.0.0.1",
    *,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> ssl.SSLContext:
    """A server's context, with a certificate of the authority for a host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host, not_before=not_before, not_after=not_after).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context that believes the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
