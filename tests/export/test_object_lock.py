"""The lock of an export in an object store: an object that its holder renews, and that expires."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from alli_async import ExportError
from alli_async.export import export
from alli_async.export.storage.lease import Holder, LeaseTimes, is_dead, life
from alli_async.export.storage.object_store import ObjectStore, ObjectTuning
from alli_async.export.storage.opening import open_store
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.export.support import wait_for
from tests.support.buckets import Front, objects, put


def holder(**changes: Any) -> Holder:
    return Holder(**{"token": "other", "host": "elsewhere", "process": 7, "life": None, **changes})


def store_with(dest: str, **times: float) -> ObjectStore:
    """A store whose lease holds for other times."""
    return ObjectStore(dest, tuning=ObjectTuning(lease=LeaseTimes(**times)))


def test_the_lock_of_another_machine_holds_for_two_minutes_after_its_last_renewal(dest: str) -> None:
    put(dest, "_journal/lock", msgspec.json.encode(holder()))
    store = open_store(dest)
    with pytest.raises(ExportError, match=r"\(process 7 on elsewhere\); without .* counts as dead in 1[12]\d s"):
        store.lock().__enter__()
    with store_with(dest, abandoned=0.0).lock():
        held = json.loads(objects(dest)["_journal/lock"])
        assert (held["process"], held["held"]) == (os.getpid(), True)
    assert json.loads(objects(dest)["_journal/lock"])["held"] is False


def test_a_holder_renews_its_lock_and_writes_nothing_once_another_has_taken_it(dest: str, front: Front) -> None:
    store = store_with(dest, renew=0.05)
    with store.lock():
        first = objects(dest)["_journal/lock"]
        wait_for(lambda: objects(dest)["_journal/lock"] != first)
        lost: list[str] = []

        def lose_renewals(method: str, path: str) -> str | None:
            if method == "PUT" and path.endswith("lock"):
                lost.append(path)
                return "lost"
            return None

        front.rule = lose_renewals
        wait_for(lambda: len(lost) >= 2)
        front.rule = lambda *_: None
        store.put_record("one.json", b"1")
        put(dest, "_journal/lock", msgspec.json.encode(holder()))

        def noticed() -> bool:
            try:
                store.put_record("one.json", b"1", replace=True)
            except ExportError:
                return True
            return False

        wait_for(noticed)
        changes: list[Callable[[], object]] = [
            lambda: store.put_record("two.json", b"2"),
            lambda: store.remove("one.json"),
            lambda: store.upload("part.jsonl", io.BytesIO(b"3")),
        ]
        for change in changes:
            with pytest.raises(ExportError, match=r"written by another export \(process 7 on elsewhere\)$"):
                change()
    assert json.loads(objects(dest)["_journal/lock"])["token"] == "other"
    assert sorted(objects(dest)) == ["_journal/lock", "one.json"]
    assert not [each for each in threading.enumerate() if each.name == "alli-async lock"]


def test_after_a_pause_the_holder_checks_its_lock_before_it_writes(dest: str) -> None:
    store = store_with(dest, fresh=-1.0)
    with store.lock():
        store.put_record("one.json", b"1")
        put(dest, "_journal/lock", msgspec.json.encode(holder()))
        with pytest.raises(ExportError, match="another export"):
            store.put_record("two.json", b"2")
    with pytest.raises(ExportError, match="another export"):
        store.remove("one.json")


def test_once_the_lock_is_released_nothing_is_written(dest: str) -> None:
    store = open_store(dest)
    with store.lock():
        store.put_record("one.json", b"1")
    with pytest.raises(ExportError, match="is not held any more"):
        store.remove("one.json")


def test_only_one_of_two_processes_gets_an_abandoned_lock(dest: str, front: Front) -> None:
    put(dest, "_journal/lock", msgspec.json.encode(holder()))

    def rule(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/clock"):
            put(dest, "_journal/lock", msgspec.json.encode(holder(process=8)))

    front.rule = rule
    with pytest.raises(ExportError, match="process 8 on elsewhere"):
        store_with(dest, abandoned=0.0).lock().__enter__()


async def test_a_store_that_does_not_know_conditional_writes_is_refused(
    make_client: ClientFactory, front: Front, dest: str
) -> None:
    front.dropped = {"if-none-match"}
    async with Sandbox(conversations=1) as sandbox:
        with pytest.raises(ExportError, match="the store writes over what is there, though asked not to"):
            await export(make_client(sandbox), dest)
        assert sandbox.count() == 0


def test_a_lock_is_held_although_the_answer_to_its_request_was_lost(dest: str, front: Front) -> None:
    def lose_the_first(method: str, path: str) -> str | None:
        return "lost" if method == "PUT" and sum(asked == "PUT" for asked, _ in front.asked) == 1 else None

    for _ in ("put where none is", "put in place of one that was let go"):
        front.asked.clear()
        front.rule = lose_the_first
        with open_store(dest).lock():
            front.rule = lambda *_: None
            assert json.loads(objects(dest)["_journal/lock"])["held"] is True
        assert json.loads(objects(dest)["_journal/lock"])["held"] is False


def test_an_unreadable_lock_is_refused_and_a_release_that_fails_is_no_error(dest: str, front: Front) -> None:
    put(dest, "_journal/lock", b"flock")
    with pytest.raises(ExportError, match=r"_journal/lock is not a lock of this version; remove it"):
        open_store(dest).lock().__enter__()
    open_store(dest).remove("_journal/lock")
    with open_store(dest).lock():
        front.rule = lambda *_: 403
    front.rule = lambda *_: None
    assert json.loads(objects(dest)["_journal/lock"])["held"] is True


def test_a_process_is_dead_only_when_this_machine_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = life(os.getpid())
    if mine is None:
        pytest.skip("the system does not tell")
    here, _, _ = mine.rpartition(" ")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    its = life(child.pid)
    assert not is_dead(holder(process=os.getpid(), life=mine))
    assert not is_dead(holder(process=child.pid, life=its))
    assert is_dead(holder(process=child.pid, life=f"{here} 1"))  # the number was given to another since
    child.kill()
    while life(child.pid) == its:
        time.sleep(0.01)
    assert is_dead(holder(process=child.pid, life=its))  # not yet waited for
    child.communicate()
    assert is_dead(holder(process=child.pid, life=its))
    assert not is_dead(holder(process=child.pid, life="another-boot pid:[1] 5"))
    assert not is_dead(holder(process=child.pid))

    # A process of another user, which a test that runs as root cannot have.
    def kill(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    assert not is_dead(holder(process=child.pid, life=its))
