"""Formats: how conversations become files, and how the files are read again.

One shard of an export is written by one `ShardWriter`: `write` takes batches of conversations as the server sent
them and gives back those that cannot be written, `finish` flushes, `commit` makes the files parts of the shard.
The writer writes to a sink of the store and never knows where that is.

Modules:
    writers: Which writer writes a format, and whether its libraries are installed.
    shard_writer: The `ShardWriter` protocol, and the sink that counts and hashes what it passes on.
    jsonl: JSON Lines, a conversation with all its chats a line, the server's bytes unchanged.
    parquet: Parquet, flat datasets of conversations and chats.
    arrow: JSON to Arrow tables, with pyarrow's own reader; the schema of the Parquet files.
    compression: Compressors by name.
    utf8: Whether bytes that msgspec skipped are text.

All calls block and are meant for a worker thread.
"""
