"""Two exports into one file: one is refused, and the earlier good file stays until a whole one takes its place."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from aiohttp import web

from alli_async import LockedError
from alli_async.export import export
from tests.conftest import ClientFactory
from tests.export.support import COMMAND, environment
from tests.support.backend import Backend


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text("utf-8").splitlines()]


async def test_a_second_export_into_a_file_is_refused_and_a_killed_one_leaves_the_earlier_file(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    path = tmp_path / "all.jsonl"
    async with Backend() as backend:
        backend.add(60, chats=8)
        await export(make_client(backend), path)
        good = path.read_bytes()
        backend.add(60, chats=8)
        stalled = asyncio.Event()
        release = asyncio.Event()

        def instead(request: web.Request) -> web.Response | None:
            if request.path.endswith("/chats"):
                stalled.set()
                if not release.is_set():
                    return web.json_response({"type": "APIError", "code": 7000}, status=503)
            return None

        backend.instead = instead
        process = subprocess.Popen(  # noqa: ASYNC220 - it only starts it
            [*COMMAND, "export", str(path), "--force"],
            env=environment({"ALLI_API_KEY": backend.api_key, "ALLI_BASE_URL": backend.url}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(60):
                await stalled.wait()
            with pytest.raises(LockedError, match=r"all.jsonl is being written by another export"):
                await export(make_client(backend), path)
            assert path.read_bytes() == good
        finally:
            process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(process.wait)
        assert path.read_bytes() == good
        release.set()
        await export(make_client(backend), path)
        assert len(ids(path)) == 120
        assert [each.name for each in tmp_path.iterdir()] == ["all.jsonl"]


async def test_exports_into_two_files_of_one_directory_do_not_meet(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Backend() as backend:
        backend.add(30, at=time.time())
        client = make_client(backend)
        await asyncio.gather(export(client, tmp_path / "a.jsonl"), export(client, tmp_path / "b.jsonl"))
        assert sorted(ids(tmp_path / "a.jsonl")) == sorted(ids(tmp_path / "b.jsonl")) == sorted(backend.talks)
        assert sorted(each.name for each in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl"]
