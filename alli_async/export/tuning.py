"""The numbers that an export runs by: one frozen value, which is passed down and sent to a cluster's workers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """The numbers that an export runs by. A user does not set them.

    Attributes:
        shard_rows: Conversations in a planned shard: enough that the fixed cost of a shard is small, few enough
            that a shard is quickly written again.
        least_shard_rows: The fewest conversations in a planned shard, where a list is cut into more shards only so
            that several can be read at a time.
        planned_shards: Shards that a list is cut into where each has the least number of conversations.
        shards_at_once: The most shards that a process reads at a time.
        shards_at_first: Shards that a process reads at a time to begin with. Where requests wait for each other,
            more shards would only all end later, and fewer would be committed when the process is killed.
        slot_seconds: Seconds between two looks whether requests leave room for one more shard at a time.
        least_concurrency: The fewest conversations of a shard whose chats are fetched at a time.
        dense_rows: Conversations that a shard has given before it may be split.
        piece_rows: Conversations in a shard that a split makes, about.
        rows_ahead: Conversations that must lie ahead of its reader, about, for a shard to be split.
        most_pieces: The most shards that one split makes.
        batch_bytes: Bytes of JSON that are handed to the writing thread at a time: a hop to the thread costs
            60 µs, compressing a megabyte costs milliseconds.
        copied_lines: Lines that are written at a time when a single file is written once more.
        progress_seconds: Seconds between two calls of `on_progress`.
        connect_seconds: Seconds that a Dask scheduler may take to accept a connection.
        wait_for_workers: Seconds that an export without any worker waits for one.
        first_poll: Seconds until the first poll of the workers, which then know how many shards fit at a time.
        poll: Seconds between two polls of the workers.
        polls_for_record: Polls until the record that a worker has written must be visible here: ten seconds,
            which is more than the delay of a shared file system.
        most_losses: Workers that may be lost while they write a shard. One more, and the shard counts as the
            cause.
        watch: Seconds between two looks of a worker whether it is still needed.
        forgotten: Seconds without a poll after which a worker leaves the export. They are more than two questions
            to another worker that does not answer, for each of which the export's process waits a minute.
    """

    shard_rows: int = 1000
    least_shard_rows: int = 300
    planned_shards: int = 16
    shards_at_once: int = 16
    shards_at_first: int = 4
    slot_seconds: float = 0.01
    least_concurrency: int = 16
    dense_rows: int = 3000
    piece_rows: int = 1000
    rows_ahead: int = 1000
    most_pieces: int = 64
    batch_bytes: int = 1 << 20
    copied_lines: int = 64
    progress_seconds: float = 0.1
    connect_seconds: float = 10.0
    wait_for_workers: float = 60.0
    first_poll: float = 0.2
    poll: float = 0.5
    polls_for_record: int = 20
    most_losses: int = 3
    watch: float = 0.5
    forgotten: float = 150.0


DEFAULT_TUNING = Tuning()
