"""Arguments of an export that cannot be right: refused before anything is sent or written."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from alli_async import ClientStateError, ConfigurationError
from alli_async.export import compact, export, plan_export, verify
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory

OTHER_FILES = ["all.parquet", "all.PARQUET", "all.zip", "all.jsonl.bz2", "all.XLSX", "s3://bucket/all.parquet"]
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"on_progress": 5}, "on_progress: expected a function, got 5"),
    ({"cluster": 5}, "cluster: expected a distributed.Client or an address, got 5"),
    ({"cluster": "tcp://127.0.0.1:9"}, "cluster: no scheduler at tcp://127.0.0.1:9"),
    ({"columns": 5}, "columns: expected a list of names, got 5"),
    ({"redact": 5}, "redact: expected a list of names, got 5"),
    ({"redact": "user"}, "redact: expected a list of names, got 'user'"),
    ({"since": 10**400}, "first_chat_started_at: expected a datetime with a time zone, or a number, got 1000"),
    ({"incremental": True, "refresh": True}, "refresh: "),
]
MISFITS = [
    ("all.jsonl", "gzip", "none"),
    ("all.jsonl.gz", "none", "gzip"),
    ("all.csv", "zstd", "none"),
    ("all.csv.gz", "zstd", "gzip"),
]


@pytest.mark.parametrize("name", OTHER_FILES)
async def test_a_name_of_a_file_that_no_export_writes_is_refused(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    async with Sandbox(conversations=1) as sandbox:
        for call in (export, plan_export):
            with pytest.raises(ConfigurationError, match=r"is named like a file, but only \.jsonl, "):
                await call(make_client(sandbox), name)
        with pytest.raises(ConfigurationError, match="is named like a file"):
            await export(make_client(sandbox), name, format="parquet")
        assert sandbox.count() == 0
    assert list(tmp_path.iterdir()) == []


async def test_a_name_with_a_slash_at_its_end_and_a_directory_that_is_there_are_directories(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    (tmp_path / "old.jsonl").mkdir()
    async with Sandbox(conversations=3) as sandbox:
        client = make_client(sandbox)
        for dest in (f"{tmp_path}/all.parquet/", f"{tmp_path}/all.jsonl/", tmp_path / "old.jsonl"):
            assert (await export(client, dest)).conversations == 3
            assert (Path(dest) / "manifest.json").exists()


async def test_the_ending_of_a_single_file_counts_in_any_case(make_client: ClientFactory, tmp_path: Path) -> None:
    async with Sandbox(conversations=3) as sandbox:
        for name in ("All.JSONL", "All.Jsonl.GZ", "All.CSV"):
            await export(make_client(sandbox), tmp_path / name)
    lines = (tmp_path / "All.JSONL").read_bytes().splitlines()
    assert len([json.loads(line) for line in lines]) == 3
    assert sorted(gzip.decompress((tmp_path / "All.Jsonl.GZ").read_bytes()).splitlines()) == sorted(lines)
    assert b"conversation_id" in (tmp_path / "All.CSV").read_bytes().splitlines()[0]


@pytest.mark.parametrize(("name", "compression", "named"), MISFITS)
async def test_a_compression_that_does_not_fit_the_name_of_a_file_is_refused(
    make_client: ClientFactory, tmp_path: Path, name: str, compression: Any, named: str
) -> None:
    async with Sandbox(conversations=1) as sandbox:
        client = make_client(sandbox)
        for call in (export, plan_export):
            with pytest.raises(ConfigurationError, match=f"^compression: {compression} does not fit .* {named}$"):
                await call(client, tmp_path / name, compression=compression)
        assert (sandbox.count(), list(tmp_path.iterdir())) == (0, [])
        named_too: Any = named
        assert (await export(client, tmp_path / name, compression=named_too)).conversations == 1


@pytest.mark.parametrize(("options", "message"), WRONG)
async def test_an_option_that_cannot_be_right_is_refused_before_anything_is_written(
    make_client: ClientFactory, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    async with Sandbox(conversations=1) as sandbox:
        with pytest.raises(ConfigurationError) as raised:
            await export(make_client(sandbox), tmp_path / "all", **options)
        assert str(raised.value).startswith(message)
        assert (sandbox.count(), list(tmp_path.iterdir())) == (0, [])


@pytest.mark.parametrize("dest", ["", None, 5, b"all", "a\0b"])
async def test_a_destination_that_is_no_path_is_refused(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dest: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    async with Sandbox(conversations=1) as sandbox:
        calls = [export(make_client(sandbox), dest), verify(dest), compact(dest)]
        if dest is not None:  # a preview needs no destination
            calls.append(plan_export(make_client(sandbox), dest))
        for call in calls:
            with pytest.raises(ConfigurationError, match=r"^dest: expected a path, or an address like s3://"):
                await call
        assert (sandbox.count(), list(tmp_path.iterdir())) == (0, [])


async def test_a_closed_client_exports_and_plans_nothing(make_client: ClientFactory, tmp_path: Path) -> None:
    async with Sandbox(conversations=1) as sandbox:
        client = make_client(sandbox)
        await client.aclose()
        for call in (export, plan_export):
            with pytest.raises(ClientStateError, match="the client is closed"):
                await call(client, tmp_path / "all")
    assert list(tmp_path.iterdir()) == []
