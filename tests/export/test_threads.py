"""Threads of an export outlive no task that started them."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from alli_async import ExportError
from alli_async._aio.threads import in_thread
from alli_async.export import export
from alli_async.export.storage.directory import DirectoryStore
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory


async def test_one_who_is_cancelled_leaves_when_the_thread_has_ended_and_what_it_made_is_undone() -> None:
    begun, go_on = threading.Event(), threading.Event()
    undone: list[str] = []

    def make(what: str) -> str:
        begun.set()
        go_on.wait(10)
        return what

    task = asyncio.create_task(in_thread(make, "a file", undo=undone.append))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.01)
    assert (task.done(), undone) == (False, [])
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert undone == ["a file"]


async def test_what_fails_after_its_caller_was_cancelled_is_nobodys() -> None:
    begun = threading.Event()

    def fail() -> None:
        begun.set()
        raise OSError("too late")

    task = asyncio.create_task(in_thread(fail, undo=print))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert begun.is_set()
    with pytest.raises(OSError, match="too late"):
        await in_thread(fail)


async def test_an_export_that_is_cancelled_keeps_others_out_until_what_it_was_writing_is_written(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, may = threading.Event(), threading.Event()
    put_record = DirectoryStore.put_record

    def slow(self: DirectoryStore, name: str, data: bytes, *, replace: bool = False) -> None:
        if name.endswith("-plan.json"):
            writing.set()
            assert may.wait(20)
        put_record(self, name, data, replace=replace)

    async with Sandbox(conversations=20) as sandbox:
        client = make_client(sandbox)
        monkeypatch.setattr(DirectoryStore, "put_record", slow)
        first = asyncio.create_task(export(client, tmp_path))
        while not writing.is_set():
            await asyncio.sleep(0.001)
        first.cancel()
        with pytest.raises(ExportError, match="being written by another export"):
            await export(client, tmp_path)
        may.set()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(first, 20)
        assert (await export(client, tmp_path)).conversations == 20
