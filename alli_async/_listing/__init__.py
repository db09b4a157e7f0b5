r"""Reading lists of conversations: every row once, on every server that the wire leaves room for.

The concepts:

- `Filters` (`filters`): the checked filters of a list, and what each means for a reader.
- `Page`, `PageReader` (`page_reader`): one page. A row that cannot be decoded keeps its place as a `BadRow`. A
  page that the server cannot make is asked for in smaller ones, once another page has shown that the server is
  well.
- `OffsetCursors` (`cursors`): makes cursors like the server's own, where these are offsets.
- `Walk` (`walks`): one cursor over one list. It asks for each page from one row before its cursor, and so proves
  that no row lies between two pages; it steps over rows that cannot be had.
- `ServerProfile`, `Span`, `Survey` (`survey`): how this server behaves, found out with a few requests: the unit of
  time, the kind of cursor, whether order and windows are kept, and the span of first chat times.
- `Planner`, `Partition` (`planner`, `scale`): cuts the span into partitions, cuts dense ones further; pure.
- `PartitionReader` (`partition_reader`): reads one partition. Rows that two partitions show belong to the one on
  the right. Where the order is not stable it reads windows of one page each, which need no order.
- `Closing` (`closing`): what is left when all partitions were read: rows that moved meanwhile, rows that are new,
  and conversations without chats, which are in no window of time.
- `LastChatReader` (`last_chat`): reads by last chat, where a filter or the server leaves nothing else.
- `ListReader` (`reader`): chooses between these and reads a whole list.
- `SeenIds` (`seen`): a set of ids in eight bytes for each.
- `daily`: the server's counts of days, by which the planner guesses where rows are.
- `pages`: a request for one page, the server's unit of time, and the public `list()`, which gives the server's
  pages as they are and proves nothing.

How data flows:

    session -> PageReader -> Walk -> PartitionReader -> give(rows)  the stream's dispatcher, or a shard's parts
                   ^          ^            ^        \-> report(BadRow)
                   |          |            |
                filters   survey ->  planner (partitions, cuts)  ->  Closing

`_transcripts.stream` reads a whole list through `ListReader`. An export plans its shards with `cut_span`, reads
each shard with a `PartitionReader` of its own, in this process or on a worker, and the last one with `Closing`.

What is proved, and how:

- Within a partition: every page begins with the last row of the page before. Otherwise rows have left, and the
  walk goes back to a row it knows; or have come in, and the partition is looked at again; or have no stable order,
  and the partition is read in single pages.
- Between partitions: rows only move towards later first chats (a first chat is deleted) or to the end. When all
  partitions were read, the row at the index of all that was counted must be the last one counted. If it is not,
  each partition must still have as many rows, or is read again.
- Where cursors are not offsets nothing can be counted. Then everything is read again until nothing new comes.
- What cannot be proved (more rows at one instant than fit a page, in an order that changes) is reported.

What is not proved: if rows leave a partition after it was read, and as many others move into it before the reading
ends, the count is the same. It takes a deletion of a conversation and of another one's first chat within seconds.
"""
