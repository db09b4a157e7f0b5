"""The readers, through the public API only, and what each of them gave."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alli_async import AlliClient
from alli_async.export import export

# Seconds that one reading may take, on a busy machine too.
LONGEST_SECONDS = 60.0

_ID = re.compile(rb'"id":\s*("(?:[^"\\]|\\.)*")')


@dataclass
class GivenChat:
    """A chat as a reader gave it; `citations` is their number."""

    id: str
    message: str
    timestamp: float
    citations: int

    @property
    def content(self) -> tuple[str, float, int]:
        """What must be as the server holds it."""
        return self.message, self.timestamp, self.citations


@dataclass
class Given:
    """A conversation as a reader gave it; `chats` is None if the reader gives none, or they cannot be decoded."""

    id: str
    chats: list[GivenChat] | None = None


@dataclass
class Reading:
    """What one reading gave, and what it said of the rest.

    Attributes:
        given: Conversations in the order in which they were given.
        again: Ids that the reader says it gave a second time.
        reported: Ids that the reader says are missing; None for a row that could not be listed.
        quarantined: Number of rows that could not be decoded.
        error: What it raised.
        has_hung: Whether it did not end in time.
        requests: Number of requests that the server received.
    """

    given: list[Given] = field(default_factory=list)
    again: set[str] = field(default_factory=set)
    reported: list[str | None] = field(default_factory=list)
    quarantined: int = 0
    error: Exception | None = None
    has_hung: bool = False
    requests: int = 0


async def read(kind: str, client: AlliClient, filters: dict[str, Any], dest: Path) -> Reading:
    """Read once. Exports go to `dest`; a destination that holds an export gets an incremental run."""
    reading = Reading()
    try:
        async with asyncio.timeout(LONGEST_SECONDS) as limit:
            if kind in {"export", "incremental"}:
                await _export(client, filters, dest, reading)
            elif kind == "list":
                async for row in client.conversations.list(**filters):
                    reading.given.append(Given(row.id))
            else:
                await _stream(kind, client, filters, reading)
    except Exception as error:  # noqa: BLE001 - the judge decides
        reading.has_hung = limit.expired()
        reading.error = error
    return reading


async def _stream(kind: str, client: AlliClient, filters: dict[str, Any], reading: Reading) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "stream": {},
        "raw": {"raw": True},
        "ordered": {"ordered": True},
        "skip": {"on_error": "skip"},
    }
    stream: Any = client.conversations.transcripts(**kinds[kind], **filters)
    try:
        async for each in _items(stream):
            reading.given.append(_of_line(each.json) if kind == "raw" else _of_struct(each))
    finally:
        reading.again = set(stream.again)
        reading.reported = [each.id for each in stream.skipped]


async def _items(stream: Any) -> AsyncIterator[Any]:
    async with stream:
        async for each in stream:
            yield each


async def _export(client: AlliClient, filters: dict[str, Any], dest: Path, reading: Reading) -> None:
    before = {path: path.read_bytes() for path in _parts(dest)}
    report = await export(client, dest, compression="none", incremental=bool(before) or _was_run(dest), **filters)
    reading.reported = [each.id for each in report.skipped]
    reading.quarantined = report.quarantined
    for path in _parts(dest):
        data = path.read_bytes()
        if path in before:
            assert data == before[path], f"{path.name} of an earlier run was changed"
        else:
            reading.given += [_of_line(line) for line in data.splitlines()]


def _parts(dest: Path) -> list[Path]:
    return sorted((dest / "conversations").glob("[!.]*.jsonl"))


def _was_run(dest: Path) -> bool:
    return (dest / "manifest.json").exists()


def _of_struct(transcript: Any) -> Given:
    chats = [
        GivenChat(each.id, each.message, each.timestamp, len(each.citations or ())) for each in transcript.chats
    ]
    return Given(transcript.conversation.id, chats)


def _of_line(line: bytes) -> Given:
    try:
        row = json.loads(line)
    except RecursionError:  # a row that was nested too deeply, and passed through as it was
        found = _ID.search(line)
        return Given(json.loads(found[1]) if found else "")
    chats = [
        GivenChat(each["id"], each["message"], each["timestamp"], len(each["citations"] or ()))
        for each in row["chats"]
    ]
    return Given(row["id"], chats)
