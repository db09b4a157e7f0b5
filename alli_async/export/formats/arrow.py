"""Conversations as Arrow tables: from the JSON that the server sent, by pyarrow's own reader."""

# pyright: reportAttributeAccessIssue=false
# pyarrow has no types; pyright guesses them, and does not see functions that are made at run time.
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from itertools import chain
from typing import Any

import msgspec
from msgspec import Raw, Struct

from ...errors import ConfigurationError
from .extra import LATEST, SECONDS_END, Extra, ExtraReader, extra_fields
from .fields import CONVERSATION, DELETED_AT, EXTRA, Field, camel_case
from .projection import EVERYTHING, Projection


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


def schemas(projection: Projection = EVERYTHING) -> tuple[Any, Any]:
    """The schemas of conversations and of chats."""
    return _schemas(projection)


@lru_cache(16)
def _schemas(projection: Projection) -> tuple[Any, Any]:
    pa, _ = load()
    conversations = {field.name: _type(field) for field in projection.fields if field.name != "chats"}
    conversations |= {EXTRA: pa.string()} if projection.has_extra else {}
    chats = {"conversation_id": pa.string(), "position": pa.int32()}
    for field in projection.fields:
        if field.name == "chats":
            chats |= {each.name: _type(each) for each in field.fields}
    chats |= {EXTRA: pa.string()} if projection.has_chat_extra else {}
    conversations["run"] = chats["run"] = pa.int32()
    if projection.choice.columns is None:
        conversations[DELETED_AT] = pa.timestamp("us", tz="UTC")
    return pa.schema(conversations), pa.schema(chats)


def _type(field: Field, *, is_wire: bool = False) -> Any:
    """The Arrow type of a field; on the wire, times are numbers and names are other ones."""
    pa, _ = load()
    if field.kind == "object":
        return pa.struct([(_name(each, is_wire), _type(each, is_wire=is_wire)) for each in field.fields])
    if field.kind == "objects":
        return pa.list_(_type(Field(field.name, "object", field.fields), is_wire=is_wire))
    if field.kind == "time":
        return pa.float64() if is_wire else pa.timestamp("us", tz="UTC")
    types = {"flag": pa.bool_(), "whole": pa.int64(), "texts": pa.list_(pa.string())}
    return types.get(field.kind, pa.string())


def _name(field: Field, is_wire: bool) -> str:
    return field.wire_name if is_wire else field.name


def pool() -> Any:
    """The memory pool of conversions.

    That of the C library: pyarrow's own gives what is free back to the kernel within milliseconds, and has it
    cleared again for the next batch, which measured as a fifth of an export's CPU time. What takes no pool of its
    own uses pyarrow's still, unless the process was told otherwise (`ARROW_DEFAULT_MEMORY_POOL=system`).
    """
    return load()[0].system_memory_pool()


@cache
def _wire_schema() -> Any:
    """The fields of a conversation. Its variables are read apart: they may have any fields."""
    pa, _ = load()
    fields = [each for each in CONVERSATION if each.kind != "json"]
    return pa.schema([(each.wire_name, _type(each, is_wire=True)) for each in fields])


def flat_tables(conversations: Sequence[bytes], run: int, projection: Projection = EVERYTHING) -> tuple[Any, Any]:
    """Conversations and chats as Arrow tables, nearly all of it done outside of Python, and of its lock.

    Args:
        conversations: Conversations with their chats, as JSON.
        run: The number of the run.
        projection: The columns.

    Raises:
        ValueError: Something in them is not what the columns take (pyarrow's errors are ValueErrors).
    """
    pa, _ = load()
    texts, stripped = zip(*map(without_variables, conversations), strict=True)
    try:
        found, is_known = _read(stripped, "error"), True
    except pa.ArrowInvalid:
        # Fields that this version does not know, or that no column takes: then this raises, too.
        found, is_known = _read(stripped, "ignore"), False
        texts = tuple(map(_variables_of, texts, stripped))
    columns = {name: found[name].chunk(0) for name in found.column_names}
    columns["variables"] = pa.array(texts, pa.string())
    chats = _chat_columns(columns)
    unclear = [_clean_times(each) for each in (columns, chats)]
    if is_known and not any(unclear):
        sizes = len(conversations), len(chats["id"])
        extras: tuple[Any, Any] = pa.nulls(sizes[0], pa.string()), pa.nulls(sizes[1], pa.string())
    else:
        # The reader of times that are no moments looks into every field.
        extras = _extra_columns(stripped, extra_fields if any(unclear) else _extra.read)
    kinds = zip((columns, chats), extras, schemas(projection), strict=True)
    conversations, flat = (_table(schema, each | {EXTRA: extra}, run) for each, extra, schema in kinds)
    return conversations, flat


def _read(conversations: Sequence[bytes], unexpected: str) -> Any:
    pa, _ = load()
    from pyarrow import json as reader

    data = b"\n".join(conversations)
    return reader.read_json(
        pa.BufferReader(data),
        read_options=reader.ReadOptions(use_threads=False, block_size=len(data) + 1),
        parse_options=reader.ParseOptions(_wire_schema(), unexpected_field_behavior=unexpected),
        memory_pool=pool(),
    )


def _chat_columns(columns: dict[str, Any]) -> dict[str, Any]:
    """Take the chats out of the columns of conversations, and make columns of them."""
    pa, _ = load()
    import pyarrow.compute as pc

    lists = columns.pop("chats")
    sizes = pc.list_value_length(lists).to_pylist()
    each_chat = pc.list_flatten(lists, memory_pool=pool())
    chats = dict(zip([each.name for each in each_chat.type], each_chat.flatten(memory_pool=pool()), strict=True))
    chats["conversationId"] = pc.take(columns["id"], pc.list_parent_indices(lists), memory_pool=pool())
    chats["position"] = pa.array(list(chain.from_iterable(range(size or 0) for size in sizes)), pa.int32())
    return chats


def _extra_columns(conversations: Sequence[bytes], read: Callable[[bytes], Extra]) -> tuple[Any, Any]:
    pa, _ = load()
    found = list(map(read, conversations))
    return (
        pa.array([each for each, _ in found], pa.string()),
        pa.array(list(chain.from_iterable(chats for _, chats in found)), pa.string()),
    )


def _table(schema: Any, columns: dict[str, Any], run: int) -> Any:
    pa, _ = load()
    rows = len(columns["id"])
    columns["run"] = pa.repeat(pa.scalar(run, pa.int32()), rows)
    # It is known later; compaction fills it in.
    columns[camel_case(DELETED_AT)] = pa.nulls(rows, pa.timestamp("us", tz="UTC"))
    # The same values under our names; nothing is copied.
    arrays = [_viewed(columns[camel_case(field.name)], field.type) for field in schema]
    table = pa.Table.from_arrays(arrays, schema=schema)
    # The reader takes bytes that are no UTF-8 for text.
    table.validate(full=True)
    return table


def _viewed(column: Any, kind: Any) -> Any:
    """A column under other names; of a struct only the fields that its type has."""
    pa, _ = load()
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        values = _viewed(column.values, kind.value_type)
        return pa.ListArray.from_buffers(
            kind, len(column), column.buffers()[:2], column.null_count, column.offset, [values]
        )
    if not pa.types.is_struct(kind) or column.type.num_fields == kind.num_fields:
        return column.view(kind)
    arrays = [_viewed(_struct_field(column, field.name), field.type) for field in kind]
    return pa.StructArray.from_arrays(arrays, fields=list(kind), mask=column.is_null())


def _struct_field(column: Any, name: str) -> Any:
    """A field of a struct column, null where the struct is."""
    import pyarrow.compute as pc

    return pc.struct_field(column, camel_case(name))


def _clean_times(columns: dict[str, Any]) -> bool:
    """Make moments of the wire's numbers, milliseconds or seconds, in place.

    Returns:
        Whether there were numbers that are no moment before the year 10000; their moments are null.
    """
    pa, _ = load()
    import pyarrow.compute as pc

    unclear = False
    for name, numbers in columns.items():
        if not pa.types.is_floating(numbers.type):
            continue
        factor = pc.if_else(pc.less(pc.abs(numbers), SECONDS_END), 1e6, 1e3)
        micros = pc.round(pc.multiply(numbers, factor))
        if numbers.null_count < len(numbers) and not pc.max(pc.abs(micros)).as_py() < LATEST:
            unclear = True
            micros = pc.if_else(pc.less(pc.abs(micros), LATEST), micros, None)
        columns[name] = pc.cast(micros, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    return unclear


_NULL = Raw(b"null")
_members = msgspec.json.Decoder(dict[str, Raw]).decode


class _Variables(Struct, gc=False):
    variables: Raw = _NULL


_decode_variables = msgspec.json.Decoder(_Variables).decode


def variables(conversation: bytes) -> str | None:
    """The JSON of a conversation's variables; None where there are none."""
    return _text(_decode_variables(conversation).variables)


def _variables_of(text: str | None, conversation: bytes) -> str | None:
    """The variables that were taken out of a conversation, or that are still in it."""
    return variables(conversation) if text is None and b'"variables"' in conversation else text


def without_variables(conversation: bytes) -> tuple[str | None, bytes]:
    """The JSON of a conversation's variables, and the conversation without them where that is cheap.

    They stand behind the chats as a rule, and what stands before need not be looked at then: a key after which
    one object ends, and nothing is left, is a key of the conversation itself.
    """
    at = conversation.rfind(b',"variables":')
    if at > 0:
        try:
            members = _members(b"{" + conversation[at + 1 :])
        except msgspec.MsgspecError:
            return None, conversation
        found = _text(members.pop("variables"))
        return found, conversation[:at] + (b"," + msgspec.json.encode(members)[1:] if members else b"}")
    return None, conversation


def _text(value: Raw) -> str | None:
    text = bytes(value)
    return None if text == b"null" else text.decode()


_extra = ExtraReader()
