from __future__ import annotations

import asyncio
import gc
import io
import json
import socket
import threading
import time
import urllib.request
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import pytest

import alli_async.sandbox
from alli_async.sandbox import Fault, Sandbox

from .client import ROOT, Client, until


def fetch(sandbox: Sandbox, path: str = ROOT) -> Any:
    request = urllib.request.Request(sandbox.url + path, headers={"API-KEY": sandbox.api_key})
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.loads(response.read())


def test_sync_code_is_served_from_a_thread_that_ends_with_it() -> None:
    before = threading.active_count()
    with Sandbox() as sandbox:
        assert len(fetch(sandbox)["conversations"]) == 50
        assert sandbox.url.startswith("http://127.0.0.1:")
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


@pytest.mark.asyncio
async def test_a_thread_serves_async_code_too() -> None:
    with Sandbox() as sandbox:
        async with Client(sandbox) as client:
            assert len(await client.walk()) == 100


@pytest.mark.asyncio
async def test_it_may_be_changed_and_read_from_many_threads_while_it_serves() -> None:
    with Sandbox(conversations=20) as sandbox, ThreadPoolExecutor(4) as pool:
        before = sum(map(len, map(sandbox.chat_ids, sandbox.conversation_ids())))
        changes = [pool.submit(sandbox.add_chats, 5) for _ in range(40)]
        pages = [pool.submit(fetch, sandbox) for _ in range(40)]
        assert all(len(page.result()["conversations"]) == 20 for page in pages)
        added = {chat for change in changes for chat in change.result()}
        assert len(added) == 200
        assert sum(map(len, map(sandbox.chat_ids, sandbox.conversation_ids()))) == before + 200


def test_what_was_changed_stays_when_it_serves_again() -> None:
    sandbox = Sandbox(rate_limit=1000)
    with sandbox:
        sandbox.add_conversations(3)
    with sandbox:
        assert len(sandbox.conversation_ids()) == 103
        assert fetch(sandbox, f"{ROOT}/{sandbox.conversation_ids()[-1]}")["chatCount"] == 1

    async def again() -> int:
        async with sandbox, Client(sandbox) as client:
            return len(await client.walk())

    assert asyncio.run(again()) == 103


@pytest.mark.asyncio
async def test_a_sandbox_serves_once_at_a_time() -> None:
    async with Sandbox() as sandbox:
        with pytest.raises(RuntimeError, match="already"):
            await sandbox.__aenter__()
        with pytest.raises(RuntimeError, match="already"), sandbox:
            pass
        async with Client(sandbox) as client:
            assert await client.page()
    with Sandbox() as sandbox:
        with pytest.raises(RuntimeError, match="already"), sandbox:
            pass
        assert fetch(sandbox)


def test_there_is_no_url_when_it_does_not_serve() -> None:
    sandbox = Sandbox(conversations=7, seed=3)
    with pytest.raises(RuntimeError, match="async with"):
        _ = sandbox.url
    assert repr(sandbox) == "<Sandbox closed conversations=7 seed=3>"
    with sandbox:
        assert repr(sandbox) == f"<Sandbox {sandbox.url} conversations=7 seed=3>"
    with pytest.raises(RuntimeError):
        _ = sandbox.url
    sandbox.__exit__(None, None, None)  # nothing to end


@pytest.mark.asyncio
async def test_a_port_that_is_taken_is_an_error_at_once_in_both_forms() -> None:
    async with Sandbox() as first:
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(OSError, match="address already in use"), Sandbox(port=port):
            pass
        with pytest.raises(OSError, match="address already in use"):
            await Sandbox(port=port).__aenter__()
    again = Sandbox(port=port)
    with again:
        assert again.url == f"http://127.0.0.1:{port}"


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_it_listens_on_the_address_it_is_given() -> None:
    try:
        with Sandbox(host="::1") as sandbox:
            assert sandbox.url.startswith("http://[::1]:")
            assert fetch(sandbox)
    except OSError:
        pytest.skip("this machine has no ::1")


@pytest.mark.parametrize("step", ["silence", "slow", Fault("ok", seconds=30)])
@pytest.mark.asyncio
async def test_closing_does_not_wait_for_answers_under_way(step: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        tasks = asyncio.all_tasks()
        sandbox = Sandbox()
        async with sandbox, Client(sandbox) as client:
            sandbox.script("*", [step] * 30)
            waiting = [asyncio.create_task(client.send("GET", ROOT)) for _ in range(30)]
            await until(lambda: sandbox.in_flight == 30)
            began = time.monotonic()
            await sandbox.__aexit__(None, None, None)
            assert time.monotonic() - began < 1
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(result, aiohttp.ClientError) for result in results)
        assert sandbox.in_flight == 0
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == tasks
        gc.collect()


@pytest.mark.asyncio
async def test_a_request_whose_body_never_arrives_is_dropped() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        host, port = sandbox.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"PUT {ROOT}/x/title HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
        await writer.drain()
        await until(lambda: sandbox.in_flight == 1)
        writer.close()
        await writer.wait_closed()
        await until(lambda: sandbox.in_flight == 0)
        assert not sandbox.received
        assert await client.page()


@pytest.mark.asyncio
async def test_a_bulk_update_of_megabytes_is_read() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        names = [*(f"unknown-{number:060d}" for number in range(40_000)), *sandbox.conversation_ids()]
        update = {"conversationIds": names, "conversationInfo": {"title": "all"}}
        body = io.BytesIO(json.dumps(update).encode())
        assert (await client.send("POST", f"{ROOT}/bulk_update", data=body)).status == 200
        assert {row["title"] for row in await client.walk()} == {"all"}


@pytest.mark.asyncio
async def test_what_was_sent_can_be_looked_at() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        path = f"{ROOT}/{sandbox.conversation_ids()[0].replace('=', '%3D')}"
        headers = {"AGENT-EMAIL": "a@b.c", "OWN-USER-ID": "base64:7YWM"}
        await client.send("PATCH", f"{path}?a=%EA%B0%80&b=&a=2", b'{"title": "x"}', headers=headers)
        (seen,) = sandbox.received
        assert (seen.operation, seen.method, seen.path) == ("updateConversation", "PATCH", path)
        assert seen.query == [("a", "가"), ("b", ""), ("a", "2")]
        assert seen.headers["agent-email"] == "a@b.c"
        assert seen.headers["Own-User-Id"] == "base64:7YWM"
        assert seen.body == b'{"title": "x"}'


@pytest.mark.asyncio
async def test_requests_are_counted_by_operation_and_status() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        await asyncio.gather(*(client.page() for _ in range(5)))
        await client.send("GET", f"{ROOT}/x")
        assert sandbox.requests == {("listConversations", 200): 5, ("getConversation", 404): 1}
        assert (sandbox.count(), sandbox.count("listConversations"), sandbox.count(status=404)) == (6, 5, 1)
        assert sandbox.count("listConversations", 404) == 0
        assert 1 <= sandbox.peak_in_flight <= 5
        sandbox.reset_counters()
        assert (sandbox.count(), sandbox.peak_in_flight, len(sandbox.received)) == (0, 0, 0)


def test_the_key_is_made_from_the_seed() -> None:
    assert Sandbox(seed=1).api_key == Sandbox(seed=1, conversations=5).api_key != Sandbox(seed=2).api_key


def test_the_public_names_are_these() -> None:
    assert alli_async.sandbox.__all__ == ["Churn", "Fault", "Received", "Sandbox", "SandboxOptions"]
    assert all(hasattr(alli_async.sandbox, name) for name in alli_async.sandbox.__all__)
    assert not hasattr(alli_async.sandbox, "Nothing")
