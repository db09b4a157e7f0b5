"""What an export shows where there is no terminal."""

from __future__ import annotations

import pytest

from alli_async import StreamStats
from alli_async.cli import progress
from alli_async.export import ExportProgress


def test_lines_come_now_and_then_and_not_for_every_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.showing() as show:
        for _ in range(120):
            now += 0.1
            show(StreamStats(conversations=1234, chats=5678, requests=90, retries=1))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        f"1,234 conversations, 5,678 chats, 90 requests (1 retried), {seconds} s" for seconds in (5, 10)
    ]


@pytest.mark.parametrize(
    ("stats", "said"),
    [
        (
            ExportProgress(conversations=1000, resumed=500, expected=5500, chats=1, requests=1),
            "1,500 of about 5,500 conversations, 1 chats, 1 requests (0 retried), about 0:21 left, 5 s",
        ),
        (
            ExportProgress(conversations=1000, expected=2_000_000, requests=20, seconds_waited=12.4),
            (
                "1,000 of about 2,000,000 conversations, 0 chats, 20 requests (0 retried), "
                "0.62 s of waits each, about 2:52:20 left, 5 s"
            ),
        ),
        (
            ExportProgress(conversations=7, expected=5, chats=1, requests=1),
            "7 of about 7 conversations, 1 chats, 1 requests (0 retried), 5 s",
        ),
    ],
)
def test_what_is_left_is_told_by_the_pace_so_far(
    stats: ExportProgress, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.showing() as show:
        now = 105.1724
        show(stats)
    assert capsys.readouterr().err == said + "\n"
