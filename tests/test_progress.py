"""What an export shows where there is no terminal."""

from __future__ import annotations

import pytest

from alli_async import StreamStats
from alli_async.cli import progress


def test_lines_come_now_and_then_and_not_for_every_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.showing(None) as show:
        for _ in range(120):
            now += 0.1
            show(StreamStats(conversations=1234, chats=5678, requests=90, retries=1))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        f"1,234 conversations, 5,678 chats, 90 requests (1 retried), {seconds} s" for seconds in (5, 10)
    ]
