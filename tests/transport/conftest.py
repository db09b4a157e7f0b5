from __future__ import annotations

import ssl

import pytest
import trustme

from tests.support import certificates


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """The authority of the servers of the tables."""
    return trustme.CA()


@pytest.fixture(scope="session")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context that believes the authority."""
    return certificates.trusting(authority)


@pytest.fixture(scope="session")
def certified(authority: trustme.CA) -> ssl.SSLContext:
    """A server's context with a good certificate of the authority."""
    return certificates.issued(authority)
