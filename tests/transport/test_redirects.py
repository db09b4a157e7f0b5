"""Redirects: they are not followed, and the key goes nowhere else."""

from __future__ import annotations

import ssl

import aiohttp
import pytest

from alli_async import AlliClient, RedirectError
from tests.support import ScriptedServer, answer
from tests.support.servers import OK, Call, delete, fact, get, patch, post, put

pytestmark = pytest.mark.wire

CANARY = "canary-0123456789"

# --- redirects --------------------------------------------------------------------------------------------


# Each status with each place, and each method with either.
CALLS = [get, put, patch, post, delete]
STATUSES = [301, 302, 303, 307, 308]
PLACES = ["the same host", "another host", "http, from https", "nowhere", "no URL"]
REDIRECTS = [
    fact(f"{status} of {call.__name__} to {where}", status, where, call)
    for number, where in enumerate(PLACES)
    for place, status in enumerate(STATUSES)
    for call in [CALLS[(number + place) % 5]]
]


@pytest.mark.parametrize(("status", "where", "call"), REDIRECTS)
async def test_a_redirect_is_never_followed_and_the_key_never_seen_elsewhere(
    status: int, where: str, call: Call, certified: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async with ScriptedServer(OK) as other:
        location = {"the same host": "/x", "nowhere": None, "no URL": "http://[::1"}.get(where, f"{other.url}/x")
        headers = [] if location is None else [("Location", location)]
        tls = certified if where == "http, from https" else None
        async with (
            ScriptedServer(answer(status, headers=headers), OK, tls=tls) as server,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as http,
            AlliClient(CANARY, base_url=server.url, session=http) as client,
        ):
            with pytest.raises(RedirectError, match="not followed") as raised:
                await call(client.conversations)
            assert (raised.value.status, raised.value.outcome) == (status, "rejected")
            assert len(server.requests) == 1
        assert other.connections == 0


# --- ids --------------------------------------------------------------------------------------------------


# --- where to ---------------------------------------------------------------------------------------------
