"""What is on disk, and what it means: a file that is lost, damaged or unexplained is named, and all is kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alli_async import ExportError
from alli_async.export import compact, export, verify
from alli_async.export.formats.compression import Compression
from tests.conftest import ClientFactory
from tests.export.support import chats_by_id, manifest, records
from tests.support.backend import Backend

DAY = 86_400.0


def content(dest: Path) -> dict[str, bytes]:
    """Every file but the lock."""
    files = [path for path in dest.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(dest)): path.read_bytes() for path in files}


# Every way to go on with a destination.
WAYS: list[dict[str, Any]] = [{}, {"incremental": True}, {"refresh": True}]


async def two_runs(
    backend: Backend, make_client: ClientFactory, dest: Path, compression: Compression = "gzip"
) -> None:
    """A full run in several shards, and an incremental one."""
    backend.add(700, at=time.time() - DAY, step=60)
    client = make_client(backend)
    await export(client, dest, compression=compression)
    backend.add(3)
    await export(client, dest, incremental=True, compression=compression)


async def with_all_files(backend: Backend, make_client: ClientFactory, dest: Path) -> None:
    """A full, an incremental and a refreshing run, with an undecodable record and a conversation that is gone."""
    ids = backend.add(80, at=time.time() - DAY, step=60)

    def spoil(row: dict[str, Any]) -> None:
        if row.get("id") == ids[5]:
            row["chatCount"] = "many"

    backend.spoiled = spoil
    client = make_client(backend)
    await export(client, dest)
    backend.add(3)
    await export(client, dest, incremental=True)
    del backend.talks[ids[7]]
    await export(client, dest, refresh=True)


async def test_every_single_file_that_is_lost_is_named_and_nothing_is_removed(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Backend() as backend:
        whole = tmp_path / "whole"
        await two_runs(backend, make_client, whole)
        client = make_client(backend)
        names = [name for name in content(whole) if name.startswith(("_journal/", "conversations/"))]
        assert len(names) >= 9
        for name in names:
            dest = tmp_path / "copy"
            shutil.copytree(whole, dest)
            (dest / name).unlink()
            before = content(dest)
            report = await verify(dest)
            last = name == "_journal/run-00002-complete.json"
            if last:
                # As if the run had been killed just before its end: the next run ends it.
                assert (await export(client, dest)).run == 2
                assert manifest(dest)["conversations"] == 703
            else:
                assert not report.ok, name
                assert name in report.missing or name == "_journal/run-00002-plan.json", (name, report)
                for more in WAYS:
                    with pytest.raises(ExportError, match=r"nothing was changed|not this export's"):
                        await export(client, dest, **more)
                with pytest.raises(ExportError):
                    await compact(dest)
                assert content(dest) == before, name
            shutil.rmtree(dest)


def flip(path: Path, place: float = 0.4) -> None:
    data = bytearray(path.read_bytes())
    data[min(int(len(data) * place), len(data) - 3)] ^= 4
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit at the beginning": lambda path: flip(path, 0.0),
    "a flipped bit": flip,
    "a flipped bit at the end": lambda path: flip(path, 1.0),
    "a cut end": truncate,
    "no content": lambda path: path.write_bytes(b""),
    "zeros of the same length": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "more at the end": lambda path: path.write_bytes(path.read_bytes() * 2),
    "gone": Path.unlink,
}


async def test_every_damage_to_every_single_file_is_found_by_verify_and_names_the_file(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Backend() as backend:
        await with_all_files(backend, make_client, tmp_path)
        files = content(tmp_path)
        assert {"manifest.json", "quarantine.jsonl", "deleted.jsonl"} < files.keys()
        for name, good in files.items():
            path = tmp_path / name
            for what, damage in DAMAGES.items():
                damage(path)
                report = await verify(tmp_path)
                told = report.missing if what == "gone" else report.damaged
                # Without the end of its last run, or its plan, an export is unfinished.
                is_end = what == "gone" and name.startswith("_journal/run-00003-")
                assert not report.ok, (name, what)
                assert name in told or is_end, (name, what, report)
                if name.startswith("_journal/") and not is_end:
                    with pytest.raises(ExportError, match=r"nothing was changed|not a record|not this export's"):
                        await export(make_client(backend), tmp_path, incremental=True)
                path.write_bytes(good)
        assert (await verify(tmp_path)).ok
        assert content(tmp_path) == files


async def test_files_that_are_swapped_doubled_or_planted_are_found(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Backend() as backend:
        await two_runs(backend, make_client, tmp_path)
        files = content(tmp_path)
        for folder, planted in (
            ("conversations/", "conversations/run-00001-shard-00099.jsonl.gz"),
            ("_journal/run-00001-shard", "_journal/run-00001-shard-00099.json"),
        ):
            one, other = sorted(name for name in files if name.startswith(folder))[:2]
            for changed in (
                {one: files[other], other: files[one]},
                {one: files[other]},
                {planted: files[one]},
            ):
                for name, data in changed.items():
                    (tmp_path / name).write_bytes(data)
                report = await verify(tmp_path)
                assert {*report.damaged, *report.unexplained} & changed.keys(), (changed.keys(), report)
                with pytest.raises(ExportError, match=r"nothing was changed"):
                    await export(make_client(backend), tmp_path)
                for name in changed:
                    (tmp_path / name).write_bytes(files[name]) if name in files else (tmp_path / name).unlink()
        assert (await verify(tmp_path)).ok


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
async def test_a_flipped_bit_in_a_part_is_not_written_on_and_the_original_stays(
    make_client: ClientFactory, tmp_path: Path, compression: Compression
) -> None:
    async with Backend() as backend:
        await two_runs(backend, make_client, tmp_path, compression)
        path = max((tmp_path / "conversations").glob("run-00001-*"), key=lambda each: each.stat().st_size)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        before = {name: each for name, each in content(tmp_path).items() if "run-00003" not in name}
        with pytest.raises(ExportError, match=rf"{path.name} is damaged: its SHA-256 is another"):
            await compact(tmp_path)
        assert {name: each for name, each in content(tmp_path).items() if "run-00003" not in name} == before
        # What has nothing to do reads what it calls complete.
        with pytest.raises(ExportError, match=rf"{path.name} is damaged"):
            await export(make_client(backend), tmp_path, compression=compression)


@pytest.mark.parametrize(
    "name",
    [
        "conversations/run-00007-shard-00000.jsonl.gz",
        "conversations/run-00001-shard-00077.jsonl.gz",
        "conversations/copied.jsonl",
        "chats/run-00009-shard-00000.parquet",
    ],
)
async def test_a_finished_name_that_no_record_explains_is_told_and_never_removed(
    make_client: ClientFactory, tmp_path: Path, name: str
) -> None:
    async with Backend() as backend:
        await two_runs(backend, make_client, tmp_path)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"the only copy")
        report = await verify(tmp_path)
        assert (report.ok, report.unexplained, report.missing, report.damaged) == (False, [name], [], [])
        for more in WAYS:
            with pytest.raises(ExportError, match=f"{Path(name).name} is explained by no record"):
                await export(make_client(backend), tmp_path, **more)
        with pytest.raises(ExportError, match="is explained by no record"):
            await compact(tmp_path)
        assert (tmp_path / name).read_bytes() == b"the only copy"


async def test_files_of_other_names_beside_the_parts_are_left_alone(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Backend() as backend:
        await two_runs(backend, make_client, tmp_path)
        mine = [tmp_path / "conversations" / name for name in ("notes.txt", ".mine.partial", ".DS_Store")]
        for path in mine:
            path.write_text("mine")
        await export(make_client(backend), tmp_path, incremental=True)
        await compact(tmp_path)
        assert all(path.read_text() == "mine" for path in mine)


async def test_verify_reads_what_an_export_holds_and_changes_nothing(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Backend() as backend:
        await two_runs(backend, make_client, tmp_path)
        before = content(tmp_path)
        (tmp_path / "_journal" / "lock").unlink()
        report = await verify(tmp_path)
        assert (report.ok, report.conversations, report.chats) == (True, 703, 1406)
        assert report.parts == len(list((tmp_path / "conversations").iterdir()))
        assert content(tmp_path) == before
        assert not (tmp_path / "_journal" / "lock").exists()


async def test_compaction_merges_small_parts_and_keeps_the_history_of_runs(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Backend() as backend:
        await two_runs(backend, make_client, tmp_path)
        client = make_client(backend)
        for _ in range(3):
            backend.add(2)
            await export(client, tmp_path, incremental=True)
        before = chats_by_id(tmp_path)
        history = [(each["run"], each["kind"], each["conversations"]) for each in manifest(tmp_path)["runs"]]
        assert len(list((tmp_path / "conversations").iterdir())) >= 6
        report = await compact(tmp_path)
        assert (report.parts, report.conversations) == (1, 709)
        assert len(list((tmp_path / "conversations").iterdir())) == 1
        assert chats_by_id(tmp_path) == before
        runs = manifest(tmp_path)["runs"]
        assert [(each["run"], each["kind"], each["conversations"]) for each in runs[:-1]] == history
        assert all(each["is_replaced"] for each in runs[:-1])
        assert (await verify(tmp_path)).ok
        assert (await compact(tmp_path)).finished_before
        backend.add(1)
        assert (await export(client, tmp_path, incremental=True)).run == 7
        assert len(records(tmp_path)) == 710


async def test_a_compaction_with_nothing_to_merge_reads_what_it_calls_compact(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Backend() as backend:
        await two_runs(backend, make_client, tmp_path)
        await compact(tmp_path)
        (part,) = (tmp_path / "conversations").iterdir()
        flip(part)
        before = content(tmp_path)
        with pytest.raises(ExportError, match=rf"{part.name} is damaged: its SHA-256 is another"):
            await compact(tmp_path)
        assert content(tmp_path) == before
