r"""Reading lists of conversations: every row once, however a server behaves within the wire's contract.

The concepts:

- `Filters` (`filters`): the checked filters of a list, and what each means for a reader.
- `Page`, `PageReader` (`page_reader`): one page, whose entries (`ListEntry`) are rows or, in place of rows that
  cannot be decoded, `BadRow`s. A page that the server cannot make is requested as smaller ones, once another page
  has shown that the server is well.
- `OffsetCursors` (`cursors`): makes cursors like the server's own, where these are offsets.
- `TimeBounds` (`bounds`): the user's time bounds. It drops rows that only the wider filter of a request selected.
- `Walk` (`walks`): one cursor over one list. With offset cursors it asks for each page from one row before its
  cursor, and so proves that no row lies between two pages. `SingleRows` (`single_rows`) fetches rows one by one
  for it, and steps over rows that cannot be read.
- `ServerProfile`, `Span`, `Survey` (`survey`): how this server behaves, found out with a few requests: the unit of
  time, the kind of cursor, whether order and windows are kept, and the span of first chat times.
- `Planner`, `Partition` (`planner`, `scale`): cuts the span into partitions, and dense partitions further; pure.
- `PartitionReader` (`partition_reader`): reads one partition. Rows that two partitions show belong to the one on
  the right. Where the order is not stable it reads windows of one page each, which need no order.
- `Closing` (`closing`): reads what is left when all partitions were read: rows that moved meanwhile, new rows, and
  conversations without chats, which are in no window of time.
- `QuietPasses` (`quiet`): when a list was read again often enough, where one pass proves nothing.
- `LastChatReader` (`last_chat`): reads by last chat, where a filter or the server leaves no other way.
- `ListReader` (`reader`): chooses between these ways and reads a whole list.
- `EmittedRows` (`reader`): which rows were emitted, so that no two partitions emit the same one. A partition's
  reader sees it as `ClaimedRows`, the closing as `TrackedRows`.
- `SeenIds` (`seen`): a set of ids that takes eight bytes for each.
- `daily`: the server's counts of days, by which the planner estimates where rows are.
- `pages`: a request for one page (`fetch_conversations`), the server's unit of time, and the public `list()`,
  which yields the server's pages as they are and proves nothing.

How data flows (`PageReader` calls `pages.fetch_conversations`):

    session -> PageReader -> Walk -> PartitionReader -> emit(rows)  the stream's dispatcher, or a shard's parts
                   ^          ^            ^        \-> report(BadRow)
                   |          |            |
                filters   survey ->  planner (partitions, cuts)  ->  Closing

`_transcripts.stream` reads a whole list through `ListReader`. An export plans its shards with `cut_span`, reads
each shard with a `PartitionReader` of its own, in this process or on a worker, and the last one with `Closing`.

What is proved, and how:

- Within a partition: every page begins with the last row of the page before. Otherwise rows have left, and the
  walk goes back to a row that it knows; or rows have come in, and all partitions are read again at the end; or
  rows have no stable order, and the partition is read in single pages.
- Between partitions: rows only move towards later first chats (a first chat is deleted) or to the end. When all
  partitions were read, the row at the index that is the count of all their rows must be the last row of the last
  partition. If it is not, all partitions are read again, and the end after them.
- Where cursors are not offsets no row has an index. Then everything is read again until no new row comes.
- What cannot be proved (more rows at one instant than fit a page, in an order that changes) is reported.

What is not proved: if rows leave a partition after it was read, and as many others move into it before the reading
ends, the count is the same. It takes a deletion of a conversation and of another one's first chat within seconds.
"""
