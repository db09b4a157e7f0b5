"""Reading the parts of an export, each of which is first compared with its size and its SHA-256."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO

import msgspec
from msgspec import Struct

from ..errors import ExportError
from ..models import RawTranscript
from .formats.arrow import load as load_pyarrow
from .formats.csv import CsvConversation, read_conversations
from .formats.jsonl import read_lines
from .holdings import Version, pack_versions
from .records import Commit, Part
from .storage.store import PartStore, Store

_PIECE = 1 << 20


class DamagedError(ExportError):
    """A part is not what was written.

    Attributes:
        part: The part's name.
        why: What is wrong with it.
    """

    def __init__(self, part: str, why: str) -> None:
        super().__init__(f"{part} {why}")
        self.part = part
        self.why = why


class VerifiedParts:
    """The parts of a store, opened to be read; each is compared with its size and its SHA-256 first.

    Args:
        store: The destination of the parts.
        parts: The parts, as they were written.
    """

    def __init__(self, store: Store, parts: Iterable[Part]) -> None:
        self._store = store
        self._parts = {part.name: part for part in parts}

    def open(self, name: str) -> IO[bytes]:
        """Open a part.

        Raises:
            DamagedError: The part is not what was written.
        """
        part, file = self._parts[name], self._store.open(name)
        try:
            # The same open file is hashed and read, so nothing can come in between.
            digest, size = hashlib.sha256(), 0
            while piece := file.read(_PIECE):
                digest.update(piece)
                size += len(piece)
            if size != part.bytes:
                raise DamagedError(name, f"has {size:,} bytes, not {part.bytes:,}")
            if digest.hexdigest() != part.sha256:
                raise DamagedError(name, "is damaged: its SHA-256 is another")
            file.seek(0)
        except OSError as error:
            file.close()
            raise DamagedError(name, f"cannot be read: {error.strerror or type(error).__name__}") from None
        except BaseException:
            file.close()
            raise
        return file


def check_part(store: Store, part: Part) -> None:
    """Check that a part is what was written, byte by byte.

    Raises:
        DamagedError: It is not.
    """
    VerifiedParts(store, [part]).open(part.name).close()


class _Line(Struct):
    id: str
    chats: list[msgspec.Raw] = []  # an export may leave them out


_decode_line = msgspec.json.Decoder(_Line).decode


def conversations_in(store: PartStore, part: Part) -> Iterator[RawTranscript | CsvConversation]:
    """The conversations in a part of JSON Lines or CSV."""
    if ".csv" in part.name:
        yield from read_conversations(store, part)
        return
    for line in read_lines(store, part):
        known = _decode_line(line)
        yield RawTranscript(known.id, line, len(known.chats))


def version_of(conversation: RawTranscript | CsvConversation) -> Version:
    """The version of a conversation in a part; its JSON is not known where the part is CSV."""
    if isinstance(conversation, RawTranscript):
        return Version.of(conversation.json, conversation.chat_count)
    return Version(0, conversation.chats)


def versions_of(store: Store, commit: Commit) -> bytes:
    """The packed entries of the conversations in a commit's parts, read from these; see `holdings`.

    Raises:
        DamagedError: A part is not what was written.
    """
    return pack_versions(_versions(store, commit))


def ids_in(store: Store, commit: Commit) -> list[str]:
    """The ids of the conversations in a commit's parts.

    Raises:
        DamagedError: A part is not what was written.
    """
    return list(_versions(store, commit))


def _versions(store: Store, commit: Commit) -> dict[str, Version]:
    if not commit.parts:
        return {}
    parts = VerifiedParts(store, commit.parts)
    found: dict[str, Version] = {}
    try:
        if commit.parts[0].name.endswith(".parquet"):
            return _versions_in_tables(parts, commit.parts)
        for part in commit.parts:
            rows = 0
            for each in conversations_in(parts, part):
                found[each.id] = version_of(each)
                rows += 1 if isinstance(each, RawTranscript) else len(each.rows)
            if rows != part.rows:
                raise DamagedError(part.name, f"has {rows:,} rows, not {part.rows:,}")
    except (ValueError, EOFError) as error:  # of the compression, of JSON, and pyarrow's own
        raise DamagedError(commit.parts[0].name, f"cannot be read: {error}") from None
    return found


def _versions_in_tables(parts: VerifiedParts, names: Sequence[Part]) -> dict[str, Version]:
    _, parquet = load_pyarrow()
    columns = []
    for part, column in zip(names, ("id", "conversation_id"), strict=True):
        with parts.open(part.name) as file:
            columns.append(parquet.read_table(file, columns=[column])[column].to_pylist())
    chats = Counter(columns[1])
    # The tables do not hold the JSON as it came, so the checksums are not known.
    return {each: Version(0, chats[each]) for each in columns[0]}


def _rows_of(conversation: RawTranscript | CsvConversation, check: Callable[[], None]) -> int:
    check()
    return 1 if isinstance(conversation, RawTranscript) else len(conversation.rows)


def rows_in(store: Store, part: Part, *, check: Callable[[], None] = lambda: None) -> int:
    """How many rows a part has, once it is proved to be what was written.

    Args:
        store: The destination of the part.
        part: The part, as it was written.
        check: Called for each conversation; raises when reading is to stop.

    Raises:
        DamagedError: The part is not what was written, or cannot be read.
    """
    parts = VerifiedParts(store, [part])
    try:
        if part.name.endswith(".parquet"):
            _, parquet = load_pyarrow()
            with parts.open(part.name) as file:
                rows: int = parquet.ParquetFile(file).metadata.num_rows
                return rows
        return sum(_rows_of(each, check) for each in conversations_in(parts, part))
    except (ValueError, EOFError) as error:
        raise DamagedError(part.name, f"cannot be read: {error}") from None
