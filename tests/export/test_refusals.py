"""What a destination refuses, and what refuses it: one clear line, and a state from which the next run goes on."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alli_async import ConfigurationError, ExportError
from alli_async.export import export
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.export.support import COMMAND, chats_by_id, environment, manifest, run, serving, wait_for

COUNT = 900


@pytest.fixture(scope="module")
def sandbox() -> Iterator[dict[str, str]]:
    with serving("--conversations", str(COUNT)) as exports:
        yield exports


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, 250 kB large."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=250k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a file system can only be mounted by root")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True, capture_output=True)


def test_a_full_disk_is_one_line_and_with_room_again_the_next_run_goes_on(
    sandbox: dict[str, str], small_disk: Path
) -> None:
    dest = small_disk / "all"
    done = run(sandbox, "export", str(dest))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("alli-async: ExportError: cannot write ")
    assert "No space left on device" in done.stderr
    assert not list(dest.rglob("*.partial"))
    remount(small_disk, "size=20m")
    done = run(sandbox, "export", str(dest))
    assert done.returncode == 0, done.stderr
    assert len(chats_by_id(dest)) == manifest(dest)["conversations"] == COUNT


def test_a_read_only_destination_is_one_line_before_anything_is_asked(
    sandbox: dict[str, str], small_disk: Path
) -> None:
    remount(small_disk, "ro,size=250k")
    done = run(sandbox, "export", str(small_disk / "all"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "Read-only file system" in done.stderr


def test_a_file_that_may_not_grow_is_an_error_like_another(sandbox: dict[str, str], tmp_path: Path) -> None:
    limited = ("bash", "-c", 'ulimit -f 100; exec "$@"', "-")
    done = run(sandbox, "export", str(tmp_path / "all"), prefix=limited, measured=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "File too large" in done.stderr
    done = run(sandbox, "export", str(tmp_path / "all"))
    assert done.returncode == 0, done.stderr
    assert len(chats_by_id(tmp_path / "all")) == COUNT


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("name", ["conversations", "conversations/.run-00001-shard-00000.jsonl.gz.partial"])
def test_an_fsync_that_fails_is_one_line_and_the_part_is_not_taken_for_written(
    sandbox: dict[str, str], tmp_path: Path, name: str
) -> None:
    dest = tmp_path / "all"
    prefix = (
        "strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-P", str(dest / name),
        "-e", "inject=fsync:error=EIO:when=1",
    )  # fmt: skip
    done = run(sandbox, "export", str(dest), prefix=prefix)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "Input/output error" in done.stderr
    assert not (dest / "_journal" / "run-00001-shard-00000.json").exists()
    done = run(sandbox, "export", str(dest))
    assert done.returncode == 0, done.stderr
    assert len(chats_by_id(dest)) == manifest(dest)["conversations"] == COUNT


def test_a_directory_that_may_not_be_written_is_one_line(sandbox: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    as_nobody = ("setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
    tried = subprocess.run([*as_nobody, "true"], capture_output=True, check=False)
    if os.getuid() == 0 and (tried.returncode or subprocess.run([*as_nobody, *COMMAND, "--version"], check=False,
                                                              capture_output=True).returncode):  # fmt: skip
        pytest.skip("root may write everywhere, and nobody else can run this")
    prefix = as_nobody if os.getuid() == 0 else ()
    done = run(sandbox, "export", str(tmp_path / "closed" / "all"), prefix=prefix, measured=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "Permission denied" in done.stderr


def test_two_exports_do_not_write_to_one_destination(tmp_path: Path) -> None:
    dest = tmp_path / "all"
    with serving("--conversations", "500") as server:
        first = subprocess.Popen(
            [*COMMAND, "export", str(dest)],
            env=environment(server),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        lock = dest / "_journal" / "lock"
        wait_for(lambda: lock.exists() and lock.read_bytes())
        # It stands still, however fast it is.
        first.send_signal(signal.SIGSTOP)
        try:
            second = run(server, "export", str(dest))
        finally:
            first.send_signal(signal.SIGCONT)
        assert (second.returncode, second.stderr.count("\n")) == (4, 1), second.stderr
        assert f"is being written by another export (process {first.pid})" in second.stderr
        first.communicate(timeout=50)
    assert first.returncode == 0
    assert len(chats_by_id(dest)) == 500


async def test_another_filter_or_span_or_format_is_refused_and_both_are_shown(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=20) as sandbox:
        client = make_client(sandbox)
        await export(client, tmp_path, active_only=True, since=1e12)
        asked = sandbox.count()
        others: list[dict[str, Any]] = [
            {},
            {"active_only": True},
            {"active_only": True, "since": 2e12},
            {"active_only": True, "since": 1e12, "compression": "none"},
            {"active_only": True, "since": 1e12, "format": "parquet"},
        ]
        for other in others:
            with pytest.raises(ConfigurationError) as raised:
                await export(client, tmp_path, **other)
            assert "jsonl, gzip, activeOnly=true firstChatStartedAt=1000000000000" in str(raised.value)
            assert "asked for was: " in str(raised.value)
            only_times = other.keys() == {"active_only", "since"} or other == {"active_only": True}
            advice = "; to go on with the export that is there, give first_chat_started_at 1000000000000"
            assert str(raised.value).endswith(advice) is only_times
        assert sandbox.count() == asked
        same = await export(client, tmp_path, active_only=True, first_chat_started_at=1e12)
        assert same.finished_before


async def test_another_project_and_a_part_that_changed_are_refused(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=20) as sandbox, Sandbox(conversations=20, seed=9) as other:
        client = make_client(sandbox)
        await export(client, tmp_path)
        with pytest.raises(ExportError, match="of another project"):
            await export(make_client(other), tmp_path)
        part = next((tmp_path / "conversations").iterdir())
        data = part.read_bytes()
        part.write_bytes(data[:-1])
        with pytest.raises(ExportError, match=rf"{part.name} has .* bytes, not"):
            await export(client, tmp_path)
        part.unlink()
        with pytest.raises(ExportError, match=rf"{part.name} is gone"):
            await export(client, tmp_path)
        part.write_bytes(data)
        assert (await export(client, tmp_path)).finished_before


async def test_files_of_others_are_not_mixed_with_parts_and_leftovers_go(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    (tmp_path / "conversations").mkdir()
    (tmp_path / "conversations" / "mine.jsonl").write_text("{}\n")
    async with Sandbox(conversations=20) as sandbox:
        client = make_client(sandbox)
        with pytest.raises(ExportError, match=r"holds conversations/mine.jsonl, which is not this export's"):
            await export(client, tmp_path)
        (tmp_path / "conversations" / "mine.jsonl").unlink()
        await export(client, tmp_path)
        left = tmp_path / "conversations" / "run-00001-shard-00000-0123abcd.jsonl.gz"
        left.write_text("of another attempt, by a process that was killed before it could say so")
        (tmp_path / "conversations" / ".run-00001-shard-00008.jsonl.gz.partial").write_text("half")
        (tmp_path / "conversations" / "notes.txt").write_text("mine")
        await export(client, tmp_path)
        assert sorted(each.name for each in (tmp_path / "conversations").iterdir()) == [
            "notes.txt",
            "run-00001-shard-00000.jsonl.gz",
        ]


async def test_the_lock_of_a_killed_process_is_no_more(make_client: ClientFactory, tmp_path: Path) -> None:
    async with Sandbox(conversations=5) as sandbox:
        client = make_client(sandbox)
        await export(client, tmp_path)
        with (tmp_path / "_journal" / "lock").open("r+b") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(ExportError, match="another export"):
                await export(client, tmp_path)
        assert (await export(client, tmp_path)).finished_before


async def test_no_key_and_no_id_is_in_a_name_and_no_key_in_a_file(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=400) as sandbox:
        await export(make_client(sandbox), tmp_path, compression="none")
        names = " ".join(str(path) for path in tmp_path.rglob("*"))
        assert not any(each in names for each in sandbox.conversation_ids())
        for path in tmp_path.rglob("*"):
            assert path.is_dir() or sandbox.api_key.encode() not in path.read_bytes(), path
