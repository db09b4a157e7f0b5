"""Threads of an export outlive no task that started them."""

from __future__ import annotations

import asyncio
import threading

import pytest

from alli_async.export.threads import in_thread


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
