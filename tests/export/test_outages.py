"""Exports live through a server that goes away, alone and on a cluster; what outlives patience ends them."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from alli_async import AlliError, RetryPolicy
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.export.clusters import local
from tests.export.support import chats_by_id
from tests.support.exports import export_tuned

pytestmark = pytest.mark.timeout(150)

PATIENT = RetryPolicy(base=0.05, cap=0.2, patience=60)
COUNT = 400


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serving(port: int) -> Sandbox:
    return Sandbox(conversations=COUNT, latency=0.02, port=port)


@pytest.mark.parametrize("seconds", [0.5, 5.0])
@pytest.mark.parametrize("workers", [0, 2], ids=["alone", "on a cluster"])
async def test_a_server_that_is_away_and_comes_back_is_waited_for(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, workers: int, seconds: float
) -> None:
    port = free_port()
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(local(workers)) if workers else None
        async with serving(port) as server:
            monkeypatch.setenv("ALLI_API_KEY", server.api_key)
            client = make_client(server, retry=PATIENT, max_concurrency=8)
            cluster = None if made is None else made.scheduler_address
            task = asyncio.create_task(export_tuned(client, tmp_path / "all", cluster=cluster))
            while server.count() < 25:
                await asyncio.sleep(0.01)
            assert not task.done()
        await asyncio.sleep(seconds)
        assert not task.done()
        async with serving(port) as again:
            report = await task
            assert (report.conversations, report.skipped) == (COUNT, [])
            assert set(chats_by_id(tmp_path / "all")) == set(again.conversation_ids())


async def test_a_server_that_stays_away_for_longer_than_patience_ends_the_export_and_it_goes_on_later(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    port = free_port()
    async with serving(port) as server:
        client = make_client(server, retry=RetryPolicy(base=0.05, cap=0.2, patience=0.5), max_concurrency=4)
        task = asyncio.create_task(export_tuned(client, tmp_path / "all"))
        while not list((tmp_path / "all" / "_journal").glob("run-*-shard-*")):
            await asyncio.sleep(0.01)
    with pytest.raises(
        AlliError, match=r"has served nothing for .* the outage outlived the call's patience"
    ) as ended:
        await task
    assert ended.value.is_outage
    committed = chats_by_id(tmp_path / "all")
    assert committed
    async with serving(port):
        report = await export_tuned(client, tmp_path / "all")
    assert report.resumed >= len(committed)
    assert report.conversations == COUNT


async def test_a_worker_that_joins_while_the_server_is_away_begins_when_it_is_back(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    async with local(1) as made:
        async with serving(port) as server:
            monkeypatch.setenv("ALLI_API_KEY", server.api_key)
            client = make_client(server, retry=PATIENT, max_concurrency=8)
            task = asyncio.create_task(export_tuned(client, tmp_path / "all", cluster=made.scheduler_address))
            while server.count() < 25:
                await asyncio.sleep(0.01)
        made.scale(2)
        await asyncio.sleep(2)
        async with serving(port):
            report = await task
    assert (report.conversations, report.skipped) == (COUNT, [])
