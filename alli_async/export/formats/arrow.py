"""Conversations as Arrow tables: from the JSON that the server sent, by pyarrow's own reader."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any

import msgspec
from msgspec import Raw, Struct

from ...errors import ConfigurationError

# In microseconds: the end of the year 9999.
_LATEST = 253_402_300_800_000_000
# What is less counts seconds, what is more milliseconds (see `in_milliseconds`).
_SECONDS_END = 1e11
# What the contract does not let be null.
_NEEDED = {"id", "title", "created_at", "is_end", "chat_count", "sender", "message", "timestamp"}


def load() -> tuple[Any, Any]:
    """Pyarrow and its Parquet module.

    Raises:
        ConfigurationError: They are not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise ConfigurationError("format: parquet needs pyarrow: pip install 'alli-async[parquet]'") from None
    except ImportError as error:
        # Most often there is too little memory for its libraries.
        raise ConfigurationError(f"format: parquet needs pyarrow, which cannot be loaded: {error}") from None
    return pyarrow, parquet


@cache
def schemas() -> tuple[Any, Any]:
    """Of conversations, and of chats."""
    pa, _ = load()
    text, flag, time = pa.string(), pa.bool_(), pa.timestamp("us", tz="UTC")
    texts = pa.list_(text)
    named = pa.list_(pa.struct([("id", text), ("name", text)]))
    user = pa.struct([("user_id", text), ("first_name", text), ("last_name", text)])
    app = pa.struct([("id", text), ("name", text), ("description", text)])
    citation = [(name, text) for name in ("clue_id", "source", "title", "knowledge_base_id")]
    citation += [("page_no", pa.int64()), ("url", text), ("text", text)]
    source = [("knowledge_base_ids", texts), ("folder_ids", texts), ("web_sites", texts)]
    source += [("search_all_shared_document", flag), ("search_all_personal_document", flag)]
    source += [("including_hashtags", texts), ("excluding_hashtags", texts)]
    source += [("including_hashtags_operator", text), ("excluding_hashtags_operator", text)]
    source += [(name, named) for name in ("shared_knowledge_bases", "shared_folders")]
    source += [(name, named) for name in ("personal_knowledge_bases", "personal_folders")]
    conversations = [("id", text), ("title", text), ("created_at", time), ("last_chat_time", time)]
    conversations += [("is_end", flag), ("chat_count", pa.int64()), ("user", user), ("categories", texts)]
    conversations += [("memo", text), ("llm_app", app), ("variables", text), ("run", pa.int32())]
    chats = [("conversation_id", text), ("position", pa.int32()), ("id", text), ("sender", text)]
    chats += [("message", text), ("timestamp", time), ("rating", flag), ("agent_rating", flag)]
    chats += [("source", pa.struct(source)), ("citations", pa.list_(pa.struct(citation))), ("run", pa.int32())]
    return pa.schema(conversations), pa.schema(chats)


def pool() -> Any:
    """What conversions take memory from.

    That of the C library: pyarrow's own gives what is free back to the kernel within milliseconds, and has it
    cleared again for the next batch, which measured as a fifth of an export's CPU time. What takes no pool of its
    own uses pyarrow's still, unless the process was told otherwise (`ARROW_DEFAULT_MEMORY_POOL=system`).
    """
    return load()[0].system_memory_pool()


# What is made here; all else is read.
_MADE = {"conversation_id", "position", "run", "variables"}


@cache
def _wire_schema() -> Any:
    """What is read of a conversation, in the wire's names and numbers."""
    pa, _ = load()
    conversations, chats = schemas()
    chat = pa.struct([(_camel(field.name), _wire(field.type)) for field in chats if field.name not in _MADE])
    fields = [(_camel(field.name), _wire(field.type)) for field in conversations if field.name not in _MADE]
    return pa.schema([*fields, ("chats", pa.list_(chat))])


def flat_tables(records: Sequence[bytes], run: int) -> tuple[Any, Any]:
    """Conversations and chats as Arrow tables, nearly all of it done outside of Python, and of its lock.

    Raises:
        ValueError: Something in them is not what the columns take (pyarrow's errors are ValueErrors).
    """
    pa, _ = load()
    import pyarrow.compute as pc
    from pyarrow import json as reader

    data = b"\n".join(records)
    found = reader.read_json(
        pa.BufferReader(data),
        read_options=reader.ReadOptions(use_threads=False, block_size=len(data) + 1),
        parse_options=reader.ParseOptions(_wire_schema(), unexpected_field_behavior="ignore"),
        memory_pool=pool(),
    )
    columns = {name: found[name].chunk(0) for name in found.column_names}
    lists = columns.pop("chats")
    sizes = pc.list_value_length(lists).to_pylist()
    each_chat = pc.list_flatten(lists, memory_pool=pool())
    conversation_ids = pc.take(columns["id"], pc.list_parent_indices(lists), memory_pool=pool())
    columns["variables"] = pa.array(map(variables, records), pa.string(), size=len(records))
    inside = dict(zip([each.name for each in each_chat.type], each_chat.flatten(memory_pool=pool()), strict=True))
    inside["conversationId"] = conversation_ids
    inside["position"] = pa.array(list(chain.from_iterable(range(size or 0) for size in sizes)), pa.int32())
    conversations, chats = schemas()
    return _table(conversations, columns, len(records), run), _table(chats, inside, len(each_chat), run)


def _table(schema: Any, columns: dict[str, Any], rows: int, run: int) -> Any:
    pa, _ = load()
    arrays = []
    for field in schema:
        if field.name == "run":
            arrays.append(pa.repeat(pa.scalar(run, field.type), rows))
            continue
        column = columns[_camel(field.name)]
        if field.name in _NEEDED and column.null_count:
            raise ValueError(f"{_camel(field.name)}: null or missing")
        # The same values under our names; nothing is copied.
        arrays.append(_moments(column, field.type) if _is_time(field) else column.view(field.type))
    table = pa.Table.from_arrays(arrays, schema=schema)
    # The reader takes bytes that are no UTF-8 for text.
    table.validate(full=True)
    return table


def _is_time(field: Any) -> bool:
    return bool(load()[0].types.is_timestamp(field.type))


def _moments(numbers: Any, kind: Any) -> Any:
    """The wire's numbers, milliseconds or seconds, as moments."""
    pa, _ = load()
    import pyarrow.compute as pc

    if numbers.null_count == len(numbers):
        return pa.nulls(len(numbers), kind)
    factor = pc.if_else(pc.less(pc.abs(numbers), _SECONDS_END), 1e6, 1e3)
    micros = pc.round(pc.multiply(numbers, factor))
    if pc.max(pc.abs(micros)).as_py() >= _LATEST:
        raise ValueError("a time that is no moment before the year 10000")
    return pc.cast(micros, pa.int64()).cast(kind)


_NULL = Raw(b"null")


class _Variables(Struct, gc=False):
    variables: Raw = _NULL


_decode_variables = msgspec.json.Decoder(_Variables).decode


def variables(record: bytes) -> str | None:
    """The JSON of a conversation's variables; None where there are none.

    They stand behind the chats as a rule, and what stands before need not be looked at then: a key after which
    one object ends, and nothing is left, is a key of the conversation itself.
    """
    at = record.rfind(b',"variables":')
    try:
        found = _decode_variables(b"{" + record[at + 1 :] if at > 0 else record).variables
    except msgspec.DecodeError:
        found = _decode_variables(record).variables
    text = bytes(found)
    return None if text == b"null" else text.decode()


def _wire(kind: Any) -> Any:
    """The type of a column in the wire's names and numbers."""
    pa, _ = load()
    if pa.types.is_struct(kind):
        return pa.struct([(_camel(field.name), _wire(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_wire(kind.value_type))
    return pa.float64() if pa.types.is_timestamp(kind) else kind


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
