"""Where an export can be written: file systems that lack something, other machines, permission bits."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from alli_async import ConfigurationError, ExportError, LockedError
from alli_async.export import compact, export
from alli_async.export.storage import files, locking
from alli_async.export.storage.directory import DirectoryStore
from alli_async.export.storage.lease import Holder, Lease, LeaseTimes, life
from alli_async.export.storage.lease_files import DirectoryLeaseFile
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.export.support import chats_by_id, manifest, run, serving, truth, wait_for
from tests.support.buckets import fetched


def refusing_directories(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Make fsync of a directory fail, as CIFS and some FUSE file systems do, which a test cannot mount."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def without_file_locks(monkeypatch: pytest.MonkeyPatch, number: int = errno.ENOLCK) -> None:
    """Make flock fail, as NFS without a lock service does, which a test cannot mount."""

    def flock(descriptor: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


def held_by(path: Path, **changes: Any) -> None:
    """Put another process's lease into a destination."""
    holder = Holder(**{"token": "other", "host": "elsewhere", "process": 7, "life": None, **changes})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(holder))


def is_refused(change: Callable[[], object]) -> bool:
    """Whether a change is refused because another export has taken over."""
    try:
        change()
    except LockedError:
        return True
    return False


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS])
async def test_where_directories_cannot_be_flushed_an_export_is_whole_and_says_so_once(
    make_client: ClientFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    files.warn_once.cache_clear()
    refusing_directories(monkeypatch, number)
    async with Sandbox(conversations=60) as sandbox:
        await export(make_client(sandbox), tmp_path / "a" / "b")
        await export(make_client(sandbox), tmp_path / "all.jsonl")
        assert chats_by_id(tmp_path / "a" / "b") == truth(sandbox)
    assert [each.getMessage() for each in caplog.records if "fsync" in each.getMessage()] == [
        (
            "/: a file system of the export cannot flush directories to disk (fsync); after a power failure the "
            "newest files may be missing, and the next run writes them again"
        )
    ]


async def test_a_disk_that_fails_to_flush_a_directory_ends_the_export(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing_directories(monkeypatch, errno.EIO)
    async with Sandbox(conversations=5) as sandbox:
        with pytest.raises(ExportError, match=r"^cannot write .*: Input/output error$"):
            await export(make_client(sandbox), tmp_path / "all")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
async def test_without_file_locks_an_export_holds_its_directory_by_a_lease(
    make_client: ClientFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    without_file_locks(monkeypatch, number)
    async with Sandbox(conversations=60) as sandbox:
        for _ in range(2):
            await export(make_client(sandbox), tmp_path, incremental=True)
        await compact(tmp_path)
        assert chats_by_id(tmp_path) == truth(sandbox)
        with DirectoryStore(tmp_path).lock(), pytest.raises(LockedError, match=rf"\(process {os.getpid()} on "):
            await export(make_client(sandbox), tmp_path, incremental=True)
    assert sum("no file locks" in each.getMessage() for each in caplog.records) == 1
    assert manifest(tmp_path)["complete"] is True


def test_the_lease_of_another_machine_holds_for_two_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_file_locks(monkeypatch)
    path = tmp_path / "_journal" / "lease-00004"
    held_by(path)
    store = DirectoryStore(tmp_path)
    with pytest.raises(LockedError, match=r"\(process 7 on elsewhere\); without .* counts as dead in 1[12]\d s"):
        store.lock().__enter__()
    then = path.stat().st_mtime - 121
    os.utime(path, (then, then))
    with store.lock():
        store.put_record("one.json", b"1")
        assert [each.name for each in (tmp_path / "_journal").glob("lease-*")] == ["lease-00005"]
    assert json.loads((tmp_path / "_journal" / "lease-00005").read_bytes())["held"] is False
    with DirectoryStore(tmp_path).lock():
        pass


def test_the_lease_of_a_killed_process_of_this_machine_is_free_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_file_locks(monkeypatch)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert child.stdin is not None
    its = life(child.pid)
    if its is None:
        pytest.skip("the system does not tell")
    held_by(tmp_path / "_journal" / "lease-00001", process=child.pid, life=its, host="here")
    with pytest.raises(LockedError):
        DirectoryStore(tmp_path).lock().__enter__()
    child.kill()
    child.wait(30)
    child.stdin.close()
    with DirectoryStore(tmp_path).lock():
        pass


def test_a_lease_whose_holder_was_killed_while_it_created_it_expires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_file_locks(monkeypatch)
    path = tmp_path / "_journal" / "lease-00001"
    path.parent.mkdir()
    path.touch()
    with pytest.raises(LockedError, match="an unknown host"):
        DirectoryStore(tmp_path).lock().__enter__()
    os.utime(path, (1.0, 1.0))
    with DirectoryStore(tmp_path).lock():
        pass


def test_a_holder_whose_lease_was_taken_over_writes_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_file_locks(monkeypatch)
    store = DirectoryStore(tmp_path, lease_times=LeaseTimes(renew=0.05))
    with store.lock():
        mine = tmp_path / "_journal" / "lease-00001"
        first = mine.read_bytes()
        wait_for(lambda: mine.read_bytes() != first)
        sink = store.sink("conversations/part.jsonl")
        held_by(tmp_path / "_journal" / "lease-00002")
        # The thread that renews the lease sees it.
        wait_for(lambda: is_refused(lambda: store.remove("one.json")))
        for change in (
            lambda: store.put_record("one.json", b"1"),
            lambda: store.remove("one.json"),
            lambda: sink.commit("conversations/part.jsonl"),
        ):
            with pytest.raises(LockedError, match=r"written by another export \(process 7 on elsewhere\)$"):
                change()
        sink.discard()
    assert not list(tmp_path.glob("*/*.jsonl"))


def test_after_a_pause_the_holder_checks_its_lease_before_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_file_locks(monkeypatch)
    store = DirectoryStore(tmp_path, lease_times=LeaseTimes(fresh=-1.0))
    with store.lock():
        store.put_record("one.json", b"1")
        held_by(tmp_path / "_journal" / "lease-00002")
        with pytest.raises(LockedError, match="another export"):
            store.put_record("two.json", b"2")
    assert not (tmp_path / "two.json").exists()


def test_only_one_of_two_processes_gets_an_abandoned_lease(tmp_path: Path) -> None:
    folder = tmp_path / "_journal"
    held_by(folder / "lease-00001")
    os.utime(folder / "lease-00001", (1.0, 1.0))

    class OvertakenLeaseFile(DirectoryLeaseFile):
        """Another process takes the lease after this one has seen that it was abandoned."""

        def age(self, version: int) -> float:
            found = super().age(version)
            held_by(folder / "lease-00002", process=8)
            return found

    with pytest.raises(LockedError, match="process 8 on elsewhere"):
        Lease(OvertakenLeaseFile(tmp_path, 0o600), str(tmp_path)).acquire()


def test_on_windows_a_directory_is_locked_by_msvcrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked: set[int] = set()

    def lock_bytes(descriptor: int, how: int, count: int) -> None:
        place = os.fstat(descriptor).st_ino
        assert (how, count, os.lseek(descriptor, 0, os.SEEK_CUR)) == (2, 1, 1 << 30)
        if place in locked:
            raise PermissionError(13, "Permission denied")
        locked.add(place)

    # What Windows has and lacks; no test runs there.
    msvcrt = types.SimpleNamespace(locking=lock_bytes, LK_NBLCK=2)
    monkeypatch.setitem(sys.modules, "msvcrt", msvcrt)
    monkeypatch.setattr(locking, "sys", types.SimpleNamespace(platform="win32"))
    monkeypatch.setattr(files, "sys", types.SimpleNamespace(platform="win32"))
    for name in ("pread", "pwrite", "O_NOFOLLOW", "O_CLOEXEC"):
        monkeypatch.delattr(os, name)
    with DirectoryStore(tmp_path).lock():
        DirectoryStore(tmp_path).put_record("one.json", b"1")
        with pytest.raises(LockedError, match=rf"\(process {os.getpid()}\)$"):
            DirectoryStore(tmp_path).lock().__enter__()


@pytest.mark.parametrize(
    ("mode", "file", "folder"), [(None, 0o600, 0o700), (0o640, 0o640, 0o750), (0o666, 0o666, 0o777)]
)
async def test_files_have_the_permission_bits_that_were_asked_for_whatever_the_umask(
    make_client: ClientFactory, tmp_path: Path, mode: int | None, file: int, folder: int
) -> None:
    before = os.umask(0o027)
    try:
        async with Sandbox(conversations=60) as sandbox:
            how: dict[str, Any] = {} if mode is None else {"mode": mode}
            await export(make_client(sandbox), tmp_path / "all", **how)
            await export(make_client(sandbox), tmp_path / "one" / "all.jsonl.gz", **how)
            sandbox.add_conversations(3)
            await export(make_client(sandbox), tmp_path / "all", incremental=True, **how)
            await compact(tmp_path / "all")
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (folder if path.is_dir() else file), path


@pytest.mark.parametrize("mode", [0o400, 0o1600, -1, True, "600", 0o060])
async def test_permission_bits_that_cannot_be_right_are_refused_before_anything_is_sent(
    make_client: ClientFactory, tmp_path: Path, mode: Any
) -> None:
    async with Sandbox(conversations=1) as sandbox:
        with pytest.raises(ConfigurationError, match=r"^mode: expected permission bits .*, like 0o640, got "):
            await export(make_client(sandbox), tmp_path / "all", mode=mode)
        assert sandbox.count() == 0
    assert not list(tmp_path.iterdir())


async def test_permission_bits_in_an_object_store_are_refused(make_client: ClientFactory, dest: str) -> None:
    async with Sandbox(conversations=1) as sandbox:
        with pytest.raises(ConfigurationError, match="mode: an object store has its own permissions"):
            await export(make_client(sandbox), dest, mode=0o640)
        assert sandbox.count() == 0


async def test_without_a_temporary_directory_an_object_store_is_written_from_memory(
    make_client: ClientFactory,
    dest: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # A machine on which no directory can be written, which a test that runs as root cannot have.
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", list)
    monkeypatch.setattr(tempfile, "tempdir", None)
    async with Sandbox(conversations=60) as sandbox:
        await export(make_client(sandbox), dest)
        await compact(dest)
        assert chats_by_id(fetched(dest, tmp_path)) == truth(sandbox)
    assert sum("no temporary directory" in each.getMessage() for each in caplog.records) == 1


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        ("ulimit -n 20", "(too many open files|Too many open files)"),
        (f"ulimit -v {90 << 10}", "(out of memory|no more threads)"),
    ],
)
def test_a_machine_out_of_descriptors_or_memory_ends_the_command_in_one_line_and_it_resumes(
    tmp_path: Path, limit: str, why: str
) -> None:
    with serving("--conversations", "120") as exports:
        ended = run(
            exports,
            "export",
            str(tmp_path / "all"),
            prefix=("bash", "-c", f'{limit}; exec "$0" "$@"'),
            measured=False,
        )
        assert "Traceback" not in ended.stderr
        if ended.returncode == 0:
            pytest.skip("this machine needs less")
        if ended.returncode < 0 and "-v" in limit:
            pytest.skip("a library ended the process itself: it had no memory to tell of it")
        assert ended.returncode == 1
        assert re.search(why, ended.stderr.splitlines()[-1])
        assert run(exports, "export", str(tmp_path / "all")).returncode == 0
    assert len(chats_by_id(tmp_path / "all")) == 120
