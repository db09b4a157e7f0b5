"""What an export says of its progress."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path

import pytest

from alli_async import StreamStats
from alli_async.cli.progress import Progress
from alli_async.export import ExportProgress
from alli_async.sandbox import Sandbox
from tests.support.commands import environment, run, terminal


@pytest.mark.parametrize(
    ("stats", "said"),
    [
        (
            ExportProgress(conversations=1000, resumed=500, expected=5500, chats=1, requests=1),
            "0:05  1,500 of about 5,500 conversations, 1 chat, 200/s, 1 request, about 0:20 left",
        ),
        (
            ExportProgress(conversations=1000, expected=2_000_000, requests=20, retries=3),
            (
                "0:05  1,000 of about 2,000,000 conversations, 0 chats, 200/s, 20 requests, 3 retried, "
                "about 2:46:35 left"
            ),
        ),
        (
            ExportProgress(conversations=7, expected=5, chats=1, requests=1),
            "0:05  7 of about 7 conversations, 1 chat, 1/s, 1 request",
        ),
        (StreamStats(conversations=1, requests=2), "0:05  1 conversation, 0 chats, 0/s, 2 requests"),
    ],
)
def test_a_line_tells_what_is_done_and_left_by_the_pace_so_far(stats: StreamStats, said: str) -> None:
    progress = Progress(lambda: None)
    progress.began = time.monotonic() - 5
    progress.update(stats)
    assert progress.line() == said


def test_one_conversation_of_many_is_counted_among_conversations() -> None:
    progress = Progress(lambda: None)
    progress.update(ExportProgress(conversations=1, expected=2921, chats=11))
    assert progress.counts() == "1 of about 2,921 conversations, 11 chats"


def test_a_line_tells_what_is_waited_for() -> None:
    progress = Progress(lambda: "waiting 0:30 for the rate limit")
    progress.update(StreamStats(conversations=1))
    assert progress.line().endswith("; waiting 0:30 for the rate limit")


def test_a_short_export_into_a_pipe_says_nothing_but_its_summary(tmp_path: Path) -> None:
    done = run("export", str(tmp_path / "x"), "--sandbox", "60")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Exported 60 conversations" in done.stdout


def test_a_quiet_export_says_nothing(tmp_path: Path) -> None:
    done = run("export", str(tmp_path / "x"), "--sandbox", "60", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_outage_is_told_of_with_its_cause_when_it_begins(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = environment(None, ALLI_BASE_URL=f"http://127.0.0.1:{port}", ALLI_API_KEY="k")
    done = run("export", str(tmp_path / "x"), "--retry-for", "6s", env=env)
    assert done.returncode == 1
    waits = [line for line in done.stderr.splitlines() if "; waiting: nothing was served for 0:0" in line]
    assert waits
    assert f"(no connection: cannot connect to 127.0.0.1:{port}: Connection refused)" in waits[0]
    assert done.stderr.splitlines()[-1].startswith("alli-async: AlliConnectionError: ")


def test_a_terminal_without_cursor_movement_gets_plain_lines(tmp_path: Path) -> None:
    with Sandbox(conversations=120) as sandbox:
        shown = terminal(["export", str(tmp_path / "a")], environment(sandbox, TERM="dumb"))
    assert b"\x1b" not in shown
    assert b"Exported 120 conversations" in shown


def test_a_pipe_gets_no_bar_even_where_colour_is_forced(tmp_path: Path) -> None:
    done = run(
        "export", str(tmp_path / "x"), "--sandbox", "60", env=environment(None, FORCE_COLOR="1", TERM="xterm")
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_log_goes_to_standard_error_and_to_a_file(tmp_path: Path) -> None:
    with Sandbox(conversations=60) as sandbox:
        sandbox.script("listConversations", [503])
        log = tmp_path / "log"
        done = run("export", str(tmp_path / "x"), "-v", "--log-file", str(log), sandbox=sandbox)
    assert done.returncode == 0
    assert re.search(r"INFO .*listConversations", done.stderr)
    assert "DEBUG" not in done.stderr
    assert re.search(r"DEBUG .*listConversations", log.read_text("utf-8"))
    assert sandbox.api_key not in done.stderr + log.read_text("utf-8")


def test_a_log_file_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    log = tmp_path / "no" / "log"
    done = run("conversations", "--log-file", str(log), env=environment(None, ALLI_API_KEY="k"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--log-file" in done.stderr
