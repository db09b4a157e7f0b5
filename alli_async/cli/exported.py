"""One conversation out of an export: its latest version, whatever the format."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
import msgspec

from .._aio.threads import in_thread
from ..errors import AlliError
from .terminal import visible

if TYPE_CHECKING:
    from ..export.storage.store import Store


# Columns that an export makes, and the wire does not have.
_MADE = frozenset({"conversation_id", "position", "run", "extra", "deleted_at"})


_CSV = "is of CSV, which does not hold whole conversations"


class _Head(msgspec.Struct):
    id: str


async def find(source: str, conversation_id: str) -> bytes:
    """The conversation, with all its chats, as a line of JSON.

    Args:
        source: A directory or an object store that holds an export, or one file of JSON Lines.
        conversation_id: The conversation's id.

    Raises:
        click.UsageError: The export does not have it, or there is no export.
    """
    try:
        line = await in_thread(_find, source, conversation_id)
    except (click.ClickException, AlliError, OSError, ImportError):
        raise
    except Exception as error:  # noqa: BLE001 - each format and compression has exceptions of its own
        raise click.ClickException(
            f"--from: {visible(source)} cannot be read, and may be damaged; alli-async verify tells more "
            f"({type(error).__name__}: {visible(str(error), keep_newlines=False)})"
        ) from None
    if line is None:
        raise click.UsageError(f"--from: {visible(source)} holds no conversation {conversation_id!r}")
    return line


def _find(source: str, conversation_id: str) -> bytes | None:
    path = Path(source)
    if "://" not in source and path.is_file():
        if ".csv" in path.suffixes:
            raise click.UsageError(f"--from: {visible(source)} {_CSV}")
        with path.open("rb") as file:
            return _in_lines(_lines(file, path.name), conversation_id)
    if "://" not in source and not (path / "conversations").is_dir():
        what = "is no export: it has no folder conversations" if path.exists() else "does not exist"
        raise click.UsageError(f"--from: {visible(source)} {what}")
    from ..export.storage.opening import open_store

    store = open_store(source)
    # A later run holds the later version of a conversation, and its parts stand behind those of earlier ones.
    names = sorted(store.names("conversations"), reverse=True)
    if any(".csv" in name for name in names):
        raise click.UsageError(f"--from: {visible(source)} {_CSV}")
    for name in names:
        line = _in_part(store, f"conversations/{name}" if "/" not in name else name, conversation_id)
        if line is not None:
            return line
    return None


def _in_part(store: Store, name: str, conversation_id: str) -> bytes | None:
    if name.endswith(".parquet"):
        return _in_parquet(store, name, conversation_id)
    if ".jsonl" not in name:
        return None
    with store.open(name) as file:
        return _in_lines(_lines(file, name), conversation_id)


def _lines(file: IO[bytes], name: str) -> Iterator[bytes]:
    if name.lower().endswith(".gz"):
        import gzip

        return iter(gzip.GzipFile(fileobj=file))
    if name.lower().endswith(".zst"):
        from ..export.formats.compression import zstd_module

        return iter(zstd_module().open(file))
    return iter(file)


def _in_lines(lines: Iterator[bytes], conversation_id: str) -> bytes | None:
    # The id may stand in other lines too, in a message for instance: a line is decoded before it counts.
    wanted = conversation_id.encode()
    head = msgspec.json.Decoder(_Head)
    found = None
    for line in lines:
        if wanted in line and head.decode(line).id == conversation_id:
            found = line.rstrip(b"\n")
    return found


def _in_parquet(store: Store, name: str, conversation_id: str) -> bytes | None:
    import pyarrow.parquet as pq

    def rows(part: str, column: str) -> list[dict[str, Any]]:
        with store.open(part) as file:
            found: list[dict[str, Any]] = pq.read_table(file, filters=[(column, "=", conversation_id)]).to_pylist()
        return found

    found = rows(name, "id")
    if not found:
        return None
    chats = rows(name.replace("conversations/", "chats/", 1), "conversation_id")
    record = found[-1] | {"chats": sorted(chats, key=lambda chat: chat["position"])}
    return msgspec.json.encode(_wire(record))


def _wire(value: Any) -> Any:
    """A row of Parquet as the wire has it: in camel case, with times in milliseconds."""
    if isinstance(value, dict):
        named = {_camel(name): _wire(each) for name, each in value.items() if name not in _MADE}
        if isinstance(named.get("variables"), str):
            named["variables"] = msgspec.json.decode(named["variables"])
        return named
    if isinstance(value, list):
        return [_wire(each) for each in value]
    return value.timestamp() * 1000 if isinstance(value, datetime) else value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
