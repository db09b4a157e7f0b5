"""TIME as people type it: the right moment, or a refusal with examples."""

from __future__ import annotations

import json
import re
import signal
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click
import pytest

from alli_async.cli.moments import TimeType, parse
from alli_async.sandbox import Sandbox
from tests.export.support import wait_for
from tests.support.commands import begun, environment, run

NOW = datetime(2026, 3, 30, 10, 15, 30, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2026-01-31", "2026-01-31T00:00:00+01:00", "2026-01-31T23:59:59.999000+01:00"),
        ("20260131", "2026-01-31T00:00:00+01:00", "2026-01-31T23:59:59.999000+01:00"),
        # A day on which the clocks change has 23 hours.
        ("2026-03-29", "2026-03-29T00:00:00+01:00", "2026-03-29T23:59:59.999000+02:00"),
        ("today", "2026-03-30T00:00:00+02:00", "2026-03-30T23:59:59.999000+02:00"),
        ("Yesterday", "2026-03-29T00:00:00+01:00", "2026-03-29T23:59:59.999000+02:00"),
        ("2026-01-31T09:30", "2026-01-31T09:30:00+01:00", "2026-01-31T09:30:00+01:00"),
        ("2026-01-31 09:30:15", "2026-01-31T09:30:15+01:00", "2026-01-31T09:30:15+01:00"),
        ("2026-01-31T09:30z", "2026-01-31T09:30:00+00:00", "2026-01-31T09:30:00+00:00"),
        ("2026-01-31T09:30+09:00", "2026-01-31T09:30:00+09:00", "2026-01-31T09:30:00+09:00"),
        ("now", "2026-03-30T10:15:30+00:00", "2026-03-30T10:15:30+00:00"),
        ("7d", "2026-03-23T10:15:30+00:00", "2026-03-23T10:15:30+00:00"),
        ("12h", "2026-03-29T22:15:30+00:00", "2026-03-29T22:15:30+00:00"),
        ("30m", "2026-03-30T09:45:30+00:00", "2026-03-30T09:45:30+00:00"),
        ("@1740787200", "2025-03-01T00:00:00+00:00", "2025-03-01T00:00:00+00:00"),
        ("@1740787200000", "2025-03-01T00:00:00+00:00", "2025-03-01T00:00:00+00:00"),
        ("@1740787200.5", "2025-03-01T00:00:00.500000+00:00", "2025-03-01T00:00:00.500000+00:00"),
    ],
)
def test_a_time_means_what_people_mean_by_it(text: str, start: str, end: str) -> None:
    assert parse(text, now=NOW, zone=BERLIN)[0] == datetime.fromisoformat(start)
    assert parse(text, now=NOW, zone=BERLIN, is_end=True)[0] == datetime.fromisoformat(end)


@pytest.mark.parametrize(("text", "is_assumed"), [("2026-01-31", True), ("2026-01-31T09:30", True), ("7d", False)])
def test_it_is_known_whether_the_zone_of_the_machine_was_assumed(text: str, is_assumed: bool) -> None:
    assert parse(text, now=NOW, zone=BERLIN)[1] is is_assumed


REFUSED = (
    "2026", "1740787200", "1740787200000", "2024010210", "20240102110", "20260230", "tomorrow", "7", "7y", "-7d",
    "1e13", "@1e13", "@", "@-5", "", " ", "2026-1-5", "999999999d", "@9999999999999999",
)  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
@pytest.mark.parametrize("is_end", [False, True])
def test_anything_else_is_refused_with_examples(text: str, is_end: bool) -> None:
    with pytest.raises(click.BadParameter, match=r"is not a time.*Examples: 2026-01-31, "):
        TimeType(is_end=is_end).convert(text, None, None)


def test_a_bare_number_is_refused_with_what_to_write() -> None:
    done = run("export", "x", "--since", "1740787200", env=environment(None, ALLI_API_KEY="k"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "'--since'" in done.stderr
    assert "write @1740787200" in done.stderr


def test_until_a_date_includes_that_day_and_the_dry_run_says_what_was_meant(tmp_path: Path) -> None:
    # The conversations begin within eighty minutes; at this machine, midnight is in the midst of them.
    with Sandbox(conversations=120) as sandbox:
        env = environment(sandbox, TZ="TST-23:30")
        planned = run("export", str(tmp_path / "x"), "--until", "2024-01-01", "--dry-run", env=env)
        assert planned.returncode == 0, planned.stderr
        meant = "--until 2024-01-01 means 2024-01-01 23:59:59.999+23:30 (the time zone of this machine)"
        assert meant in planned.stdout
        before, after = (
            [json.loads(line) for line in run("export", "-", *span, env=env).stdout.splitlines()]
            for span in (("--until", "2024-01-01"), ("--since", "2024-01-02"))
        )
        everything = len(run("export", "-", env=env).stdout.splitlines())
    midnight = datetime(2024, 1, 1, 0, 30, tzinfo=UTC).timestamp() * 1000
    assert before
    assert after
    assert all(each["chats"][0]["timestamp"] < midnight for each in before)
    assert all(each["chats"][0]["timestamp"] >= midnight for each in after)
    with_chats = len(before) + len(after)
    assert with_chats <= everything == 120


@pytest.mark.parametrize(
    "arguments",
    [
        ("--since", "7d", "--incremental"),
        ("--until", "Yesterday", "--incremental"),
        ("--since", "12h", "--refresh"),
    ],
)
def test_a_time_that_is_another_one_at_each_run_is_refused_where_an_export_is_to_go_on(
    arguments: tuple[str, str, str], tmp_path: Path
) -> None:
    option, text, goes_on = arguments
    done = run("export", "x", *arguments, "--sandbox", "5", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"{option} {text} means another time at each run, and {goes_on} goes on with one export" in done.stderr
    assert list(tmp_path.iterdir()) == []
    fixed = run("export", "x", "--since", "2024-01-01", "--incremental", "--sandbox", "5", "-q", cwd=tmp_path)
    assert (fixed.returncode, fixed.stderr) == (0, "")


def test_an_export_since_a_time_ago_that_was_killed_tells_the_time_that_goes_on_with_it(tmp_path: Path) -> None:
    dest = tmp_path / "x"
    with Sandbox(conversations=600, latency=0.05) as sandbox:
        process = begun("export", str(dest), "--since", "99999d", "--max-concurrency", "2", sandbox=sandbox)
        wait_for(lambda: list(dest.glob("_journal/run-*-plan.json")))
        process.kill()
        process.communicate(timeout=30)
    with Sandbox(conversations=600) as sandbox:
        again = run("export", str(dest), "--since", "99999d", sandbox=sandbox)
        said = re.search(r"; to go on with the export that is there, give (--since) (\S+)\n", again.stderr)
        assert (again.returncode, said is not None) == (2, True), again.stderr
        assert said is not None
        done = run("export", str(dest), *said.groups(), sandbox=sandbox)
    assert done.returncode == 0, done.stderr


def test_an_export_since_a_time_ago_goes_on_by_the_command_that_its_last_line_names(tmp_path: Path) -> None:
    dest = tmp_path / "x"
    with Sandbox(conversations=600, latency=0.05) as sandbox:
        process = begun("export", str(dest), "--since", "99999d", "--max-concurrency", "2", sandbox=sandbox)
        wait_for(lambda: list(dest.rglob("*.partial")))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        said = re.search(r"; the same command with (--since) (\S+) goes on\n", errors)
        assert said, errors
    with Sandbox(conversations=600) as sandbox:
        done = run("export", str(dest), *said.groups(), sandbox=sandbox)
    assert done.returncode == 0, done.stderr
