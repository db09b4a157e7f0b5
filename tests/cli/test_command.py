"""The alli-async command, as its users meet it: a process, its output, its exit code."""

from __future__ import annotations

import gzip
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from alli_async import IncompleteError, Region, Skipped, __version__
from alli_async.cli import durations, exporting, reports
from alli_async.config import MAX_RESPONSE_BYTES
from alli_async.sandbox import Sandbox
from tests.export.support import wait_for
from tests.support.commands import COMMAND, begun, environment, run, run_process, terminal


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(conversations=120) as served:
        yield served


def test_export_from_the_embedded_sandbox_ends_in_a_summary(tmp_path: Path) -> None:
    done = run("export", "backup", "--sandbox", "300", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.match(r"Exported 300 conversations with [\d,]+ chats in \d+\.\d s \([\d,]+/s\)\.\n", done.stdout)
    assert "2 in backup/conversations, run 1 (full)" in done.stdout
    parts = sorted((tmp_path / "backup/conversations").iterdir())
    assert sum(len(gzip.decompress(part.read_bytes()).splitlines()) for part in parts) == 300
    assert re.fullmatch(r"(\d+ of about \d+ conversations, .*\n)*", done.stderr)  # where it takes seconds
    # Another port, the same conversations: it is the same export, and done.
    again = run("export", "backup", "--sandbox", "300", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("Complete already: 300 conversations")
    assert "--incremental" in again.stdout
    snapshot = json.loads((tmp_path / "backup/manifest.json").read_text())["snapshot"]
    as_of = f"  as of     {snapshot[:19].replace('T', ' ')} UTC\n"
    assert snapshot.endswith("+00:00")
    assert as_of in done.stdout
    assert as_of in again.stdout


def test_export_reads_the_environment_filters_and_reports_in_json(sandbox: Sandbox, tmp_path: Path) -> None:
    done = run(
        "export", str(tmp_path / "out.jsonl"), "--json", "--active-only", "--no-background-running",
        "--started-at", "2024-01-01T00:00Z", "--first-chat-end-at", "@10000000000000", "--max-concurrency", "4",
        sandbox=sandbox,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["conversations"] == len((tmp_path / "out.jsonl").read_text("utf-8").splitlines()) > 10
    query = next(dict(each.query) for each in sandbox.received if "startedAt" in dict(each.query))
    assert (query["activeOnly"], query["backgroundRunning"]) == ("true", "false")
    # Bounds are asked for a second wider, and kept by the reader.
    assert (query["startedAt"], query["firstChatEndAt"]) == ("1704067199000", "10000000001000")


def test_a_key_comes_from_a_file(sandbox: Sandbox, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(sandbox.api_key + "\n")
    arguments = ("conversations", "--limit", "3", "--base-url", sandbox.url, "--api-key-file", str(key))
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 3
    key.write_bytes(b"\xff")
    done = run(*arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--api-key-file" in done.stderr


def test_a_key_comes_from_a_prompt_on_a_terminal_and_is_not_echoed(sandbox: Sandbox) -> None:
    output = terminal(
        ["conversations", "--limit", "1", "--base-url", sandbox.url],
        environment(),
        send={b"API key": sandbox.api_key.encode() + b"\n"},
    )
    assert b"last chat" in output
    assert sandbox.api_key.encode() not in output


@pytest.mark.parametrize("key", [b"\x03", b"\x04"], ids=["Ctrl-C", "Ctrl-D"])
def test_a_prompt_that_is_left_ends_the_command(sandbox: Sandbox, key: bytes) -> None:
    shown = terminal(["conversations", "--base-url", sandbox.url], environment(), send={b"API key": key}, code=130)
    assert b"interrupted" in shown
    assert sandbox.count() == 0


def test_the_command_runs_without_the_speed_extra(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "uvloop.py").write_text("raise ImportError")
    done = run_process("conversations", "--limit", "2", env=environment(sandbox, PYTHONPATH=str(tmp_path)))
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2), done.stderr


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (5e6, "5.0 MB"), (2.5e12, "2500.0 GB")],
)
def test_sizes_are_shown_in_what_people_read(count: float, shown: str) -> None:
    assert durations.size_text(count) == shown


def test_conversations_chats_and_daily_print_one_record_a_line(sandbox: Sandbox) -> None:
    listed = [json.loads(line) for line in run("conversations", sandbox=sandbox).stdout.splitlines()]
    assert len(listed) == 120
    one = next(each["id"] for each in listed if each["chatCount"] > 3)
    chats = [json.loads(line) for line in run("chats", one, sandbox=sandbox).stdout.splitlines()]
    assert [chat["id"] for chat in chats] == sandbox.chat_ids(one)
    daily = run("daily", "2024-01-01", "2024-01-03", sandbox=sandbox)
    assert re.fullmatch(r"(2024-01-0[123]\t\d+\n){3}", daily.stdout), daily


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("export",), 2, "Missing argument 'DEST'"),
        (("export", "x", "--bogus"), 2, "No such option"),
        (("export", "x"), 2, "no key: set ALLI_API_KEY"),
        (("export", "x", "--started-at", "20240102103000"), 2, "write @20240102103000"),
        (("export", "x", "--started-at", "tomorrow"), 2, "Examples: 2026-01-31, "),
        (("export", "x", "--region", "eu"), 2, "'us', 'ja'"),
        (("export", "x", "--sandbox", "5", "--started-at", "@5", "--end-at", "@4"), 2, "lies after --end-at"),
        (("export", "x", "--sandbox", "5", "--incremental", "--started-at", "@5"), 2, "--incremental: "),
        (("export", "x", "--since", "@5", "--first-chat-started-at", "@5"), 2, "--since is the same as --first"),
        (("export", "x", "--since", "2024-01-02", "--until", "2024-01-01"), 2, "--since lies after"),
        (("export", "x.jsonl", "--format", "parquet"), 2, "is a file; Parquet, --incremental, --refresh,"),
        (("export", "x.tsv", "--sandbox", "5"), 2, "x.tsv is named like a file, but only"),
        (("export", "x", "--format", "xlsx"), 2, "'jsonl', 'parquet', 'csv'"),
        (("export", "x.csv", "--format", "jsonl"), 2, "--format: jsonl does not fit x.csv, whose name says csv"),
        (("export", "x", "--sandbox", "5", "--columns", "titel"), 2, "--columns: there is no field "),
        (("export", "x", "--sandbox", "5", "--redact", "phone"), 2, "--redact: there is no field 'phone'"),
        (("export", "x", "--redact", "user.user_id:hash"), 2, "user.user_id:hash needs --redact-key-file"),
        (("export", "x", "--redact", "user:md5"), 2, "--redact user:md5: expected FIELD or FIELD:hash"),
        (("export", "x", "--redact", "user", "--redact-key-file", "k"), 2, "nothing is hashed"),
        (("export", "x", "--redact", "user,user"), 2, "--redact: user is named twice"),
        (("compact", "nowhere"), 2, "does not exist"),
        (("compact", "."), 1, "no complete export"),
        (("chats", "..", "--base-url", "http://127.0.0.1:9"), 2, "no key"),
        (("sandbox", "--fault", "503"), 2, "503=0.05"),
        (("sandbox", "--fault", "boom=1"), 2, "boom"),
        (("sandbox", "--embed", "some"), 2, "some"),
        (("sandbox", "--host", "203.0.113.1"), 1, "cannot listen on 203.0.113.1:0"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line_and_code_2(
    arguments: tuple[str, ...], code: int, said: str, tmp_path: Path
) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("alli-async: ")
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_an_export_with_retry_for_waits_for_a_server_that_is_not_up_yet(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    later = Sandbox(conversations=50, port=port)
    key = later.api_key
    env = environment(None, ALLI_BASE_URL=f"http://127.0.0.1:{port}", ALLI_API_KEY=key)
    arguments = ["export", str(tmp_path / "x"), "--json", "--retry-for", "100"]
    process = subprocess.Popen([*COMMAND, *arguments], env=env, stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(2)  # the command's start, and a few attempts
        with later:
            out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0
    assert json.loads(out)["conversations"] == 50


def test_an_export_without_retry_for_fails_soon_where_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = run(
        "export",
        str(tmp_path / "x"),
        env=environment(None, ALLI_BASE_URL=f"http://127.0.0.1:{port}", ALLI_API_KEY="k"),
    )
    assert done.returncode == 1
    assert "4 attempts" in done.stderr


def test_an_error_is_one_line_and_code_1_without_a_traceback_or_the_key(sandbox: Sandbox, tmp_path: Path) -> None:
    wrong = environment(sandbox, ALLI_API_KEY="a-wrong-canary")
    done = run("export", str(tmp_path / "x"), env=wrong)
    assert done.returncode == 1
    assert done.stderr.startswith("alli-async: AuthenticationError: 403/7001: ")
    assert done.stderr.count("\n") == 1
    assert "canary" not in done.stderr + done.stdout
    (tmp_path / "file").write_text("")
    done = run("export", str(tmp_path / "file" / "x"), "--sandbox", "5")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Not a directory" in done.stderr


def test_skipped_conversations_are_said_and_make_the_code_3(tmp_path: Path) -> None:
    with Sandbox(conversations=60, embed=0) as sandbox:
        sandbox.script("listConversationChats", [404])
        done = run("export", str(tmp_path), sandbox=sandbox)
    assert done.returncode == 3
    assert "Exported 59 conversations" in done.stdout
    assert "  skipped   " in done.stdout


def test_what_was_skipped_is_named_by_its_id_or_by_when_its_first_chat_was() -> None:
    error = IncompleteError("500: Internal server error")
    assert reports.skipped_text(Skipped("c1", error)) == "c1: 500: Internal server error"
    assert reports.skipped_text(Skipped(None, error, (1704067200000.0, 1704067201500.25))) == (
        "a conversation that could not be listed, with a first chat between 2024-01-01T00:00:00.000Z and "
        "2024-01-01T00:00:01.500Z: 500: Internal server error"
    )
    assert reports.skipped_text(Skipped(None, error)) == (
        "a conversation that could not be listed: 500: Internal server error"
    )


def test_a_reader_that_goes_away_is_no_failure(sandbox: Sandbox) -> None:
    piped = subprocess.run(
        ["/bin/bash", "-c", f"set -o pipefail; {sys.executable} -m alli_async conversations | head -n 1"],
        capture_output=True,
        env=environment(sandbox),
        timeout=170,
        check=False,
    )
    assert (piped.returncode, piped.stderr) == (0, b"")


STOPPED = (
    r"alli-async: (interrupted|terminated)(; what is written stays in \S+ \([\d,]+( of about [\d,]+)? "
    r"conversations, [\d,]+ chats\); the same command goes on)?\n"
)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_an_export_cleanly(number: signal.Signals, code: int, tmp_path: Path) -> None:
    with Sandbox(conversations=5000, latency=0.05) as sandbox:
        process = begun("export", str(tmp_path / "out"), sandbox=sandbox)
        wait_for(lambda: sandbox.count() > 5)
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert re.fullmatch(STOPPED, errors)
    assert output == ""
    # What was committed is there; nothing half is.
    assert not list((tmp_path / "out").rglob("*.partial"))
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_comes_twice_ends_an_export_as_cleanly(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    with Sandbox(conversations=5000, latency=0.05) as sandbox:
        process = begun("export", str(tmp_path / "out"), sandbox=sandbox)
        wait_for(lambda: list((tmp_path / "out").rglob("*.partial")))  # threads are there, then
        process.send_signal(number)
        time.sleep(0.001)
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (code, "")
    assert re.fullmatch(STOPPED, errors)
    assert not list((tmp_path / "out").rglob("*.partial"))


CLEANS_UP_FOR_LONG = """
import asyncio, sys
from alli_async.cli.runtime import asynchronous

@asynchronous
async def command():
    try:
        print("begun", flush=True)
        await asyncio.sleep(60)
    finally:
        print("cleaning up", flush=True)
        await asyncio.sleep(60)

command()
"""


def test_a_signal_that_comes_again_later_ends_what_takes_too_long() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CLEANS_UP_FOR_LONG], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "cleaning up\n"
        time.sleep(1.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "alli-async: interrupted\n")


def test_the_pace_of_an_export_that_goes_on_counts_what_it_did_itself(tmp_path: Path) -> None:
    with Sandbox(conversations=5000, latency=0.05) as sandbox:
        process = subprocess.Popen(
            [*COMMAND, "export", str(tmp_path)],
            env=environment(sandbox),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(lambda: len(list((tmp_path / "_journal").glob("run-*-shard-*"))) >= 4)
        process.kill()
        process.wait()
        done = run("export", str(tmp_path), sandbox=sandbox)
    assert done.returncode == 0, done.stderr
    first = r"Exported 5,000 .* in ([\d.]+) s \(([\d,]+)/s\)\. ([\d,]+) of them were there already\.\n"
    seconds, pace, there = (
        float(each.replace(",", ""))
        for each in re.match(first, done.stdout).groups()  # type: ignore[union-attr]
    )
    assert there > 1000
    # Not all of it is as new as the command: it says since when more can have come.
    assert re.search(r"\n  as of     .* UTC\n  what is new since then comes with --incremental\n$", done.stdout)
    assert (5000 - there) / (seconds + 0.06) - 1 <= pace <= (5000 - there) / (seconds - 0.06) + 1


SIGNALLED_AT_AN_IMPORT = """
import os, signal, sys
from alli_async.cli import main

# Whoever runs the tests in the background may have told them to ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "alli_async.cli.app":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
main()
"""


def test_an_interrupt_while_the_command_is_loaded_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED_AT_AN_IMPORT],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "alli-async: interrupted\n")


def test_the_options_offer_the_regions_and_the_limit_of_the_library() -> None:
    options = {option.name: option for option in exporting.export_command.params}
    regions = options["region"].type
    assert isinstance(regions, click.Choice)
    assert [*regions.choices] == [region.value for region in Region]
    megabytes = options["max_response_mb"].default
    assert isinstance(megabytes, float)
    assert megabytes * 2**20 == MAX_RESPONSE_BYTES


def test_other_commands_do_not_load_the_sandbox() -> None:
    code = "import sys, alli_async.cli.app as app; app.run(sys.argv[1:]); print(*sys.modules)"
    command = [sys.executable, "-c", code, "export", "nowhere", "--dry-run", "--base-url", "http://127.0.0.1:9"]
    env = environment(None, ALLI_API_KEY="k")
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=170, check=True)
    assert "alli_async.export.job" in done.stdout.split()
    assert {"alli_async.sandbox.server", "aiohttp.web"}.isdisjoint(done.stdout.split())


def test_the_sandbox_command_serves_what_it_says_until_it_is_interrupted() -> None:
    process = begun("sandbox", "--conversations", "7", "--churn", "1", "--embed", "all", "--unit", "s")
    assert process.stdout is not None
    printed = [process.stdout.readline() for _ in range(2)]
    exported = dict(line.removeprefix("export ").strip().split("=", 1) for line in printed)
    done = run("conversations", env=environment() | exported)
    assert len(done.stdout.splitlines()) == 7, done.stderr
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "7 conversations" in errors


def test_on_a_terminal_there_is_a_bar_and_elsewhere_lines(tmp_path: Path) -> None:
    with Sandbox(conversations=1500, latency=0.02) as sandbox:
        shown = terminal(["export", str(tmp_path / "a")], environment(sandbox, TERM="xterm"))
    text = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", shown).decode()
    assert "exporting" in text
    assert re.search(r"[\d,]+ of about 1,\d\d\d conversations, [\d,]+ chats\s+[\d,]+/s, [\d,]+ requests", text)
    assert re.search(r"exporting .*\d+%", text)
    assert "Exported 1,500 conversations" in text


def test_the_version_and_the_help_are_there() -> None:
    assert run("--version").stdout == f"alli-async, version {__version__}\n"
    shown = run("--help").stdout
    assert all(name in shown for name in ("export", "compact", "conversations", "chats", "daily", "sandbox"))
    assert "--api-key" not in run("export", "--help").stdout.replace("--api-key-file", "")


@pytest.mark.parametrize("group", [(), ("chats",)])
def test_a_group_without_a_command_shows_its_help_as_wrong_usage(group: tuple[str, ...]) -> None:
    shown = run(*group, "--help")
    done = run(*group)
    assert (shown.returncode, done.returncode, done.stdout) == (0, 2, "")
    assert done.stderr == shown.stdout
    assert done.stderr.count("\n") > 10


def test_without_its_extra_the_command_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise ImportError('no', name='click')")
    done = run_process("--version", env=environment(None, PYTHONPATH=str(tmp_path)))
    assert done.returncode == 1
    assert done.stderr == "alli-async: the command needs click: pip install 'alli-async[cli]'\n"
