"""DEST of an export, the key, and how failures are told."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from alli_async.export.storage.opening import open_store
from alli_async.sandbox import Sandbox
from tests.support import ScriptedServer, answer
from tests.support.commands import environment, run, run_beside, terminal


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(conversations=60) as served:
        yield served


def test_a_dash_is_standard_output_with_one_conversation_a_line(sandbox: Sandbox, tmp_path: Path) -> None:
    done = run("export", "-", sandbox=sandbox, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(each["id"] for each in found) == sorted(sandbox.conversation_ids())
    assert all([chat["id"] for chat in each["chats"]] == sandbox.chat_ids(each["id"]) for each in found)
    assert "Exported 60 conversations" in done.stderr
    assert list(tmp_path.iterdir()) == []
    done = run("export", "-", "--quiet", sandbox=sandbox)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "name", ["out.parquet", "out.jsonl.bz2", "out.json", "out.xlsx", "out.ndjson", "out.zip", "OUT.JSON"]
)
def test_a_name_of_a_file_that_is_not_written_is_refused(name: str, sandbox: Sandbox, tmp_path: Path) -> None:
    done = run("export", name, sandbox=sandbox, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "is named like a file" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert sandbox.count() == 0


@pytest.mark.parametrize("name", ["backup.2026-01", "backup", "v1.2", "alli.example.com"])
def test_other_names_are_directories(name: str, sandbox: Sandbox, tmp_path: Path) -> None:
    done = run("export", name, sandbox=sandbox, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / name / "manifest.json").exists()


def test_a_file_that_exists_is_asked_about_or_needs_force(sandbox: Sandbox, tmp_path: Path) -> None:
    dest = tmp_path / "x.jsonl.gz"
    dest.write_bytes(b"mine")
    done = run("export", str(dest), sandbox=sandbox)
    assert (done.returncode, done.stderr.count("\n"), dest.read_bytes()) == (2, 1, b"mine")
    assert "--force replaces it" in done.stderr
    done = run("export", dest.as_uri(), sandbox=sandbox)
    assert (done.returncode, dest.read_bytes()) == (2, b"mine")
    shown = terminal(["export", str(dest)], environment(sandbox), send={b"[y/N]": b"n\n"}, code=1)
    assert b"Nothing was changed" in shown
    assert dest.read_bytes() == b"mine"
    terminal(["export", str(dest)], environment(sandbox), send={b"[y/N]": b"y\n"})
    assert len(gzip.decompress(dest.read_bytes()).splitlines()) == 60
    dest.write_bytes(b"mine")
    assert run("export", str(dest), "--force", sandbox=sandbox).returncode == 0
    assert len(gzip.decompress(dest.read_bytes()).splitlines()) == 60


def test_an_export_of_nothing_can_be_a_failure(sandbox: Sandbox, tmp_path: Path) -> None:
    arguments = ("export", str(tmp_path / "x"), "--user-id", "nobody")
    assert run(*arguments, sandbox=sandbox).returncode == 0
    done = run(*arguments, "--fail-if-empty", sandbox=sandbox)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--fail-if-empty" in done.stderr


# --- the key ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_key_file_may_be_of_any_editor(encoding: str, sandbox: Sandbox, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(f"{sandbox.api_key}\r\n".encode(encoding))
    env = environment(None, ALLI_BASE_URL=sandbox.url, ALLI_API_KEY_FILE=str(key))
    done = run("conversations", "--limit", "1", env=env)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe\xff"])
def test_a_key_file_without_a_key_is_refused_in_one_line(content: bytes | None, tmp_path: Path) -> None:
    key = tmp_path / "key"
    if content is not None:
        key.write_bytes(content)
    done = run("conversations", "--api-key-file", str(key), env=environment(None))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--api-key-file" in done.stderr


def test_an_option_beats_the_environment_and_a_key_there_beats_a_file_there(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text(sandbox.api_key)
    bad.write_text("wrong")
    env = environment(sandbox, ALLI_API_KEY_FILE=str(bad))
    assert run("conversations", "--limit", "1", env=env).returncode == 0
    env = environment(None, ALLI_BASE_URL=sandbox.url, ALLI_API_KEY="wrong")
    assert run("conversations", "--limit", "1", "--api-key-file", str(good), env=env).returncode == 0


# --- failures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (403, 7001, "check the key"),
        (403, 7004, "the plan of the project"),
        (400, 7003, "check the ids and the values of the options"),
        (404, None, "check the id"),
    ],
)
async def test_an_error_has_the_code_of_alli_and_says_what_to_do(
    status: int, code: int | None, advice: str
) -> None:
    body = {"type": "APIError", "message": "No."} | ({} if code is None else {"code": code})
    async with ScriptedServer(answer(status, body)) as server:
        returned, out, err = await run_beside("conversations", "get", "x", url=server.url)
        assert (returned, out, err.count("\n")) == (1, "", 1)
        assert f"{status}/{code}: No." in err if code else f"{status}: No." in err
        assert advice in err
        returned, out, err = await run_beside("conversations", "get", "x", "--json", url=server.url)
    told = json.loads(err)["error"]
    assert (returned, out, told["status"], told["code"], told["exit_code"]) == (1, "", status, code, 1)
    assert (told["message"].startswith(str(status)), advice in told["advice"]) == (True, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("export", "x", "--json", "--bogus"), "No such option"),
        (("export", "x", "--json"), "no key: set ALLI_API_KEY"),
        (("conversations", "--json", "--base-url", "http://a.example"), "give --allow-http"),
        (("conversations", "--json", "--base-url", "ftp://a.example"), "--base-url: expected https://"),
        (("conversations", "--json"), "ALLI_BASE_URL: expected https://"),
    ],
)
def test_wrong_usage_is_json_where_json_was_asked_for(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    keyless = arguments[:2] == ("export", "x")
    env = environment(None) if keyless else environment(None, ALLI_API_KEY="k", ALLI_BASE_URL="ftp://b.example")
    done = run(*arguments, env=env, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    told = json.loads(done.stderr)["error"]
    assert said in told["message"]
    assert "allow_http" not in done.stderr


async def test_a_base_url_may_hold_the_path_of_the_api() -> None:
    async with ScriptedServer(answer(200, {"conversations": [], "cursor": None})) as server:
        code, _, _ = await run_beside("conversations", url=f"{server.url}/webapi/v2/")
    assert code == 0
    assert server.requests[0].target.startswith("/webapi/v2/conversations?")


async def test_a_message_says_the_status_once() -> None:
    async with ScriptedServer(answer(404, b"404: Not Found")) as server:
        _, _, err = await run_beside("conversations", url=server.url)
    assert "NotFoundError: 404: Not Found [" in err


def test_a_destination_that_another_export_holds_is_code_4(sandbox: Sandbox, tmp_path: Path) -> None:
    dest = tmp_path / "x"
    dest.mkdir()
    with open_store(str(dest)).lock():
        done = run("export", str(dest), sandbox=sandbox)
        told = run("export", str(dest), "--json", sandbox=sandbox)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert "another export" in done.stderr
    assert (told.returncode, json.loads(told.stderr)["error"]["kind"]) == (4, "LockedError")


@pytest.mark.parametrize("option", ["--incremental", "--refresh"])
def test_what_needs_an_earlier_run_is_refused_for_standard_output(option: str, sandbox: Sandbox) -> None:
    done = run("export", "-", option, sandbox=sandbox)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{option} needs a directory" in done.stderr
    assert sandbox.count() == 0
