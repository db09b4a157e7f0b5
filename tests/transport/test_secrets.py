"""Secrets: one key, through every failure, looked for wherever a log or a crash report could find it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import socket
import ssl
import sys
import traceback
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from alli_async import AlliClient, AlliError, ConversationsAPI, NotFoundError
from alli_async.export import export
from alli_async.sandbox import Sandbox
from tests.support import Answer, ScriptedServer, answer, silence
from tests.support.canary import CANARY, ECHOED, SECRET, TWICE, holds_key, walk
from tests.support.servers import OK, ONCE, Call, fact, get, patch, post


def everything_about(error: BaseException) -> str:
    """All that a crash reporter could find: str, repr, args, chains, and every local of every frame of ours."""
    seen: list[str] = []
    assert error.__traceback__ is not None
    # The first frame is the test's own, which knows the key.
    queue: list[BaseException | None] = [error.with_traceback(error.__traceback__.tb_next)]
    while queue:
        if (current := queue.pop()) is None:
            continue
        shown = traceback.TracebackException.from_exception(current, capture_locals=True)
        seen += [str(current), repr(current), repr(current.args), repr(vars(current)), *shown.format()]
        queue += [current.__cause__, current.__context__]
    return "\n".join(seen)


async def stream(api: ConversationsAPI) -> list[Any]:
    return [each async for each in api.transcripts(raw=True)]


# Each answer meets two of the four operations, and each two operations meet.
OPERATIONS = [("api_key", get), ("token", patch), ("api_key", walk), ("token", stream)]
PAIRS = list(combinations(OPERATIONS, 2))
MET = [
    fact(f"{row.id} to {call.__name__}", *row.values, call, kind)
    for number, row in enumerate([*SECRET, *ECHOED])
    for kind, call in PAIRS[number % len(PAIRS)]
]


@pytest.mark.parametrize(("stimulus", "call", "kind"), MET)
async def test_no_failure_shows_the_key_not_even_one_that_the_server_echoes(
    stimulus: Answer, call: Call, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    options: dict[str, Any] = {kind: CANARY, "max_response_bytes": 1_000_000, "retry": TWICE}
    async with ScriptedServer(stimulus) as server:
        async with AlliClient(base_url=server.url, timeout=0.5, **options) as client:
            with pytest.raises(AlliError) as raised:
                await call(client.conversations)
            # A stream may have tried another way before.
            assert raised.value.__cause__ is raised.value.__context__ is None or call is stream
            for text in (
                everything_about(raised.value),
                repr(pickle.loads(pickle.dumps(raised.value)).__dict__),
                repr(client) + repr(vars(client)) + repr(client._config) + repr(vars(client._connection)),
                repr(client.conversations._session),
            ):
                assert not holds_key(text)
        assert CANARY in "".join(value for _, value in server.requests[0].headers)
    # A stream asks for less where an answer was too large, which is no retry.
    assert (
        len(server.requests) == 1 or call is stream or "alli_async" in {record.name for record in caplog.records}
    )
    assert not holds_key(caplog.text)


@pytest.mark.parametrize(
    "options",
    [
        fact("the attempt's time", {"timeout": 0.5}),
        fact("the call's deadline", {"deadline": 0.5}),
    ],
)
async def test_no_end_of_time_shows_the_key(options: dict[str, Any]) -> None:
    async with ScriptedServer(silence) as server, AlliClient(CANARY, base_url=server.url, retry=ONCE) as client:
        with pytest.raises(AlliError) as raised:
            await client.with_options(**options).conversations.stop("a")
        assert not holds_key(everything_about(raised.value))


async def test_no_cancelled_call_shows_the_key_whether_it_waits_sends_or_reads() -> None:
    async def half(exchange: Any) -> None:
        await exchange.send(OK[:-20])
        await silence(exchange)

    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes connections, and what fits its buffers
        deaf_url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        async with ScriptedServer(silence) as quiet, ScriptedServer(half) as stuck:
            await _cancelled(quiet.url, get)
            await _cancelled(stuck.url, get)
            await _cancelled(deaf_url, lambda api: api.set_title("a", "x" * 8_000_000))


async def _cancelled(url: str, call: Call) -> None:
    async with AlliClient(CANARY, base_url=url) as client:
        task = asyncio.ensure_future(call(client.conversations))
        async with asyncio.timeout(20):
            while not client.limits.in_flight:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as raised:
            await task
        assert not holds_key(everything_about(raised.value))


async def test_no_error_before_the_wire_shows_the_key(certified: ssl.SSLContext) -> None:
    async def fails(request: Any, call_next: Any) -> Any:
        raise LookupError("mine")

    async with ScriptedServer(OK) as down:
        pass
    async with ScriptedServer(OK, tls=certified) as tls:
        for url, middlewares, kind in [
            (tls.url, [], AlliError),
            (down.url, [], AlliError),
            (tls.url, [fails], LookupError),
        ]:
            async with AlliClient(CANARY, base_url=url, retry=ONCE, middlewares=middlewares) as client:
                with pytest.raises(kind) as raised:
                    await post(client.conversations)
                assert not holds_key(everything_about(raised.value))
    with pytest.raises(AlliError) as refused:
        AlliClient(CANARY + "\n\r", token=CANARY)
    assert not holds_key(str(refused.value))
    with pytest.raises(AlliError) as refused:
        AlliClient(f"{CANARY} {CANARY}")
    assert not holds_key(str(refused.value) + repr(refused.value))


@pytest.mark.parametrize(
    ("key", "text", "shown"),
    [
        fact("an id with the same prefix", "sandbox-0a1b2c3d4e5f", "sandbox-00000004", "sandbox-00000004"),
        fact("a name with the same prefix", "sandbox-0a1b2c3d4e5f", "a sandbox-like one", "a sandbox-like one"),
        fact("another key", "sandbox-0a1b2c3d4e5f", "no sandbox-0a1b9999 here", "no sandbox-0a1b9999 here"),
        fact("the key", "sandbox-0a1b2c3d4e5f", "no sandbox-0a1b2c3d4e5f here", "no *** here"),
        fact("the key within a word", "sandbox-0a1b2c3d4e5f", "xsandbox-0a1b2c3d4e5fy", "x***y"),
        fact("the key cut short", "sandbox-0a1b2c3d4e5f", "no sandbox-0a1b2c", "no ***"),
        fact("the key cut short, with dots", "sandbox-0a1b2c3d4e5f", "no sandbox-0a1b... here", "no ***... here"),
        fact("a short key in a word", "key", "no monkeys, keyed", "no monkeys, keyed"),
        fact("a short key by itself", "key", "no key, 'key'", "no ***, '***'"),
    ],
)
async def test_only_the_key_is_masked_and_not_what_resembles_it(key: str, text: str, shown: str) -> None:
    async with ScriptedServer(answer(404, {"error": text}, headers=[("X-Request-Id", text)])) as server:
        async with AlliClient(key, base_url=server.url) as client:
            with pytest.raises(NotFoundError) as raised:
                await get(client.conversations)
    error = raised.value
    assert (error.message, error.request_id) == (f"404: {shown}", shown)
    assert error.headers["x-request-id"] == shown
    assert error.body == json.dumps({"error": shown}).encode()


async def test_neither_the_arguments_of_the_command_nor_any_file_hold_the_key(tmp_path: Path) -> None:
    async with Sandbox(conversations=60, latency=0.02) as sandbox:
        async with AlliClient(sandbox.api_key, base_url=sandbox.url) as client:
            await export(client, tmp_path / "by function")
        environ = {**os.environ, "ALLI_API_KEY": sandbox.api_key, "ALLI_BASE_URL": sandbox.url}
        command = [
            sys.executable,
            "-m",
            "alli_async",
            "export",
            str(tmp_path / "by command"),
            "--compression",
            "none",
        ]
        process = await asyncio.create_subprocess_exec(*command, env=environ, stdout=-1, stderr=-1)
        async with asyncio.timeout(50):
            while sandbox.count() < 1 and process.returncode is None:
                await asyncio.sleep(0.01)
            arguments = Path(f"/proc/{process.pid}/cmdline")
            assert not arguments.exists() or sandbox.api_key.encode() not in arguments.read_bytes()
            out, err = await process.communicate()
        assert process.returncode == 0, err
        assert sandbox.api_key.encode() not in out + err
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(files) >= 2
        for path in files:
            assert sandbox.api_key.encode() not in path.read_bytes()


async def test_no_link_planted_where_an_export_writes_is_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    async with Sandbox(conversations=12) as sandbox, AlliClient(sandbox.api_key, base_url=sandbox.url) as client:
        await export(client, tmp_path / "first")
        first = tmp_path / "first"
        written = [path.relative_to(first) for path in first.rglob("*") if path.is_file()]
        assert Path("_journal/lock") in written
        assert {path.parent.name for path in written} == {"", "conversations", "_journal"}
        for number, path in enumerate(written):
            for target in (victim, tmp_path / "nowhere"):
                planted = _planted(tmp_path / f"{number} {target.name}", path, target)
                with suppress(AlliError):  # a record that is there already, and is none, is refused
                    report = await export(client, planted)
                    assert report.conversations == 12
                assert victim.read_text() == "mine"
                assert not (tmp_path / "nowhere").exists()


def _planted(root: Path, path: Path, target: Path) -> Path:
    """A destination with links to a target in the place of a file, and of what is written before it is one."""
    place = root / path
    place.parent.mkdir(parents=True)
    place.symlink_to(target)
    place.with_name(f".{place.name}.partial").symlink_to(target)
    return root
