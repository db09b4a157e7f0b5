"""Parts of JSON Lines: a conversation with all its chats a line, as the server sent it, compressed as it comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...models import RawTranscript
from ..records import Part, Quarantined
from ..storage.store import PartStore, Store, file_errors
from .compression import open_decompressed
from .shard_writer import CompressedPart, OnePartWriter
from .utf8 import NO_TEXT, is_utf8

SUFFIXES = {"gzip": ".jsonl.gz", "zstd": ".jsonl.zst", "none": ".jsonl"}


class Lines(CompressedPart):
    """A part of lines."""

    def write(self, lines: Sequence[bytes]) -> None:
        """Add lines, which hold no newline themselves."""
        self.add(b"\n".join(lines) + b"\n", len(lines))


def read_lines(store: PartStore, part: Part) -> Iterator[bytes]:
    """The lines of a part, without their newlines."""
    with file_errors("read", part.name), open_decompressed(store, part.name) as file:
        for line in file:
            yield line.rstrip(b"\n")


class JsonLinesWriter(OnePartWriter[Lines]):
    """The part of a shard, as JSON Lines."""

    def __init__(self, store: Store, run: int, shard: str, compression: str, mark: str = "") -> None:
        super().__init__(run, mark + SUFFIXES[compression])
        self._content = Lines(store.sink(self._name(shard)), compression)

    def write(self, transcripts: Sequence[RawTranscript]) -> list[Quarantined]:
        """Write conversations. Returns the conversations that are not UTF-8, which no reader can read."""
        good: list[bytes] = []
        bad: list[RawTranscript] = []
        for transcript in transcripts:
            if is_utf8(transcript.json):
                good.append(transcript.json)
            else:
                bad.append(transcript)
        if good:
            self._content.write(good)
        return [Quarantined(id=each.id, why=NO_TEXT, text=each.json.decode("utf-8", "replace")) for each in bad]
