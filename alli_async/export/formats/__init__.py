"""Formats: how conversations become files, and how the files are read again.

One shard of an export is written by one `ShardWriter`: `write` takes batches of conversations as the server sent
them and returns the conversations that cannot be written, `finish` flushes, `commit` renames the files to the
shard's parts.
The writer writes to a sink of the store and never knows where that is.

Modules:
    writers: Which writer writes a format, and whether its libraries are installed.
    shard_writer: The `ShardWriter` protocol, and sinks that count, hash and compress what they pass on.
    fields: The fields of the wire, once, for all formats.
    projection: `columns` and `redact`: what is left of a conversation's JSON before a format sees it.
    jsonl: JSON Lines, a conversation with all its chats a line, the server's bytes unchanged.
    csv: CSV, a chat a row, for spreadsheets.
    parquet: Parquet, flat datasets of conversations and chats.
    arrow: JSON to Arrow tables, with pyarrow's own reader; the schema of the Parquet files.
    extra: What no column holds, for the column `extra`.
    conversion: Arrow tables of a batch in which some conversation may be unreadable.
    compression: Compressors by name.
    utf8: Whether bytes that msgspec skipped are text.

All calls block and are meant for a worker thread.
"""
