"""The export: everything, once a line, as it was sent; there whole or not at all."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import stat
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from alli_async import ConfigurationError, ExportError, IncompleteError, ServerError, StreamStats
from alli_async.export import ExportReport, export
from alli_async.export.formats.jsonl import Lines, read_lines
from alli_async.export.records import Part
from alli_async.export.storage.directory import DirectoryStore, FileSink
from alli_async.export.tuning import Tuning
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.export.support import embedded, listing
from tests.support import ScriptedServer
from tests.support.exports import export_tuned


def lines(path: str | Path) -> list[dict[str, Any]]:
    data = Path(path).read_bytes()
    text = gzip.decompress(data) if str(path).endswith(".gz") else data
    assert text.endswith(b"\n") or not text
    return [json.loads(line) for line in text.splitlines()]


def mode_of(path: str | Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("isal", [True, False])
async def test_every_conversation_is_a_line_with_all_its_chats_and_unknown_fields(
    make_client: ClientFactory, tmp_path: Path, compression: Any, isal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isal:
        monkeypatch.setitem(sys.modules, "isal", None)
    async with Sandbox(conversations=250) as sandbox:
        seen: list[int] = []

        def progress(stats: StreamStats) -> None:
            seen.append(stats.conversations)

        report = await export(
            make_client(sandbox), tmp_path / "backup", compression=compression, on_progress=progress
        )
        suffix = ".jsonl.gz" if compression == "gzip" else ".jsonl"
        assert report.path == str(tmp_path / "backup")
        parts = list((tmp_path / "backup" / "conversations").iterdir())
        assert [part.name for part in parts] == [
            f"run-00001-shard-00000{suffix}",
            *[part.name for part in parts[1:]],
        ]
        found = {each["id"]: each for part in parts for each in lines(part)}
        assert {each: [chat["id"] for chat in record["chats"]] for each, record in found.items()} == {
            each: sandbox.chat_ids(each) for each in sandbox.conversation_ids()
        }
        known = set(found[sandbox.conversation_ids()[0]])
        assert any(set(record) != known for record in found.values())
        assert (report.conversations, report.chats) == (250, sum(len(each["chats"]) for each in found.values()))
        assert report.bytes == sum(part.stat().st_size for part in parts)
        assert report.parts == len(parts)
        assert report.requests == sandbox.count()
        assert report.uncompressed_bytes > 1_000_000
        assert seen[-1] == 250
        for path in (tmp_path / "backup", *(tmp_path / "backup").rglob("*")):
            assert mode_of(path) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz"])
async def test_a_destination_named_like_a_file_is_one(
    make_client: ClientFactory, tmp_path: Path, name: str
) -> None:
    async with Sandbox(conversations=30) as sandbox:
        report = await export(make_client(sandbox), tmp_path / name, active_only=True)
        assert report.path == str(tmp_path / name)
        assert 0 < len(lines(report.path)) < 30


async def test_an_export_of_nothing_is_an_empty_file(make_client: ClientFactory, tmp_path: Path) -> None:
    async with Sandbox(conversations=0) as sandbox:
        report = await export(make_client(sandbox), tmp_path / "none.jsonl.gz")
        assert lines(report.path) == []
        assert report.conversations == 0
        report = await export(make_client(sandbox), tmp_path / "none")
        assert (report.conversations, report.parts) == (0, 0)


async def test_an_export_that_fails_leaves_the_earlier_one_as_it_was(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=150) as sandbox:
        client = make_client(sandbox)
        report = await export(client, tmp_path / "all.jsonl.gz")
        before = Path(report.path).read_bytes()
        sandbox.script("listConversations", ["ok", "ok", *["500"] * 100])
        with pytest.raises(ServerError):
            await export(client, tmp_path / "all.jsonl.gz")
        assert Path(report.path).read_bytes() == before
        assert len(list(Path(report.path).parent.iterdir())) == 1
        sandbox.script("listConversations", [])
        sandbox.add_conversations(5)
        assert (await export(client, tmp_path / "all.jsonl.gz")).conversations == 155
        assert len(lines(report.path)) == 155


LATE_LIE = {f"c{n}": 5 for n in range(150)} | {"c3": 9, "c149": 8}


def lying_late() -> Any:
    """A server whose last conversation of a hundred and fifty shows that its counts cannot be believed."""
    conversations = [*(embedded(n, 5) for n in range(149)), embedded(149, 3, count=5)]
    return listing(conversations, LATE_LIE, dict.fromkeys(LATE_LIE, 5))


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz", "all.jsonl.zst"])
async def test_a_file_holds_each_conversation_once_and_whole_whenever_its_count_proves_wrong(
    make_client: ClientFactory, tmp_path: Path, name: str
) -> None:
    async with ScriptedServer(lying_late()) as served:
        report = await export_tuned(make_client(served), tmp_path / name, Tuning(copied_lines=7))
    store = DirectoryStore(tmp_path)
    written = list(read_lines(store, Part(name=name, rows=150, bytes=report.bytes, sha256="")))
    found = [(each["id"], len(each["chats"])) for each in map(json.loads, written)]
    assert len(found) == 150
    assert dict(found) == LATE_LIE
    assert (report.conversations, report.chats) == (150, sum(LATE_LIE.values()))
    assert report.bytes == (tmp_path / name).stat().st_size
    assert report.uncompressed_bytes == sum(len(line) + 1 for line in written)
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("call", range(4))
async def test_a_disk_that_fails_while_a_file_is_written_once_more_leaves_nothing(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    left = [None] * call
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        if not left:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        left.pop()
        fsync(descriptor)

    # What a disk answers that fails; nothing else is made up.
    monkeypatch.setattr(os, "fsync", failing)
    async with ScriptedServer(lying_late()) as served:
        with pytest.raises(ExportError, match="Input/output error"):
            await export(make_client(served), tmp_path / "all.jsonl")
    # The last of them is asked for once the file is there, under its name and whole.
    assert [each.name for each in tmp_path.iterdir()] == (["all.jsonl"] if call == 3 else [])


async def test_a_leftover_is_replaced_and_a_planted_link_is_not_followed(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".all.jsonl.partial").symlink_to(victim)
    (tmp_path / ".first-all.jsonl").symlink_to(victim)
    async with Sandbox(conversations=10) as sandbox:
        report = await export(make_client(sandbox), tmp_path / "all.jsonl")
        assert len(lines(report.path)) == 10
    assert victim.read_text() == "mine"
    assert not Path(report.path).is_symlink()
    assert {each.name for each in tmp_path.iterdir()} == {"victim", "all.jsonl"}


async def test_a_destination_that_cannot_be_written_is_known_before_anything_is_asked(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    async with Sandbox(conversations=10) as sandbox:
        with pytest.raises(ExportError, match=r"cannot write .*file/_journal.*: Not a directory") as raised:
            await export(make_client(sandbox), tmp_path / "file")
        assert raised.value.__cause__ is None
        assert sandbox.count() == 0


async def test_a_full_disk_is_one_clear_error_and_nothing_half_is_left(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A small file system needs root to mount; the kernel's answer is what is made up here, nothing else.
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    async with Sandbox(conversations=10) as sandbox:
        with pytest.raises(ExportError, match="No space left on device"):
            await export(make_client(sandbox), tmp_path / "all.jsonl")
    assert list(tmp_path.iterdir()) == []


async def test_wrong_arguments_are_refused_before_anything_is_written(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=1) as sandbox:
        with pytest.raises(ConfigurationError, match="compression"):
            await export(make_client(sandbox), tmp_path, compression="zip")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match='format: expected "jsonl" or "parquet" or "csv", got None'):
            await export(make_client(sandbox), tmp_path, format=None)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="on_error"):
            await export(make_client(sandbox), tmp_path, on_error="log")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match=r"a\.jsonl is a file"):
            await export(make_client(sandbox), tmp_path / "a.jsonl", incremental=True)
        with pytest.raises(ConfigurationError, match=r"until: the same as first_chat_end_at"):
            await export(make_client(sandbox), tmp_path, until=5, first_chat_end_at=5)
        assert not list(tmp_path.iterdir())


async def test_a_conversation_that_cannot_be_made_whole_ends_the_export_or_is_reported(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async def lies(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        if bad in request.path and request.path.endswith("/chats"):
            response.body = response.body.replace(b'"totalCount":', b'"totalCount":1')
        return response

    async with Sandbox(conversations=60, embed=0) as sandbox:
        whole = next(each for each in sandbox.conversation_ids() if sandbox.chat_ids(each))
        bad = whole.replace("=", "%3D")
        client = make_client(sandbox, middlewares=[lies])
        with pytest.raises(IncompleteError):
            await export(client, tmp_path / "all.jsonl")
        report = await export(client, tmp_path / "all.jsonl", on_error="skip")
        assert [each.id for each in report.skipped] == [whole]
        assert report.conversations == 59 == len(lines(report.path))
        with pytest.raises(IncompleteError):
            await export(client, tmp_path / "all", on_error="raise")
        report = await export(client, tmp_path / "all")
        assert [each.id for each in report.skipped] == [whole]
        assert report.conversations == 59
        manifest = json.loads((tmp_path / "all" / "manifest.json").read_text())
        assert [each["id"] for each in manifest["incomplete"]] == [whole]
        assert "do not add up" in manifest["incomplete"][0]["why"]


def test_gzip_is_a_whole_gzip_whoever_makes_it(tmp_path: Path) -> None:
    writer = Lines(FileSink(tmp_path / "a.jsonl.gz", tmp_path), "gzip")
    writer.write([b"{}", b"[]"])
    part = writer.commit("a.jsonl.gz")
    writer.discard()
    written = (tmp_path / "a.jsonl.gz").read_bytes()
    assert zlib.decompress(written, wbits=31) == b"{}\n[]\n"
    assert (writer.bytes_in, part.bytes, part.rows) == (6, len(written), 2)
    assert part.sha256 == hashlib.sha256(written).hexdigest()


def test_a_report_is_plain_data() -> None:
    assert "path" in ExportReport.__struct_fields__
