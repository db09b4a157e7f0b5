r"""Whole conversations: the rows of a list, each with all its chats.

The concepts:

- `Chats`, `all_chats`, `walk_chats` (`chats`): the pages of a conversation's chats, fetched at once, and proved to
  add up: equal totals, no chat twice, and every chat that came embedded with the conversation. Pages that are
  older than the list are joined with the embedded chats where these follow the pages.
- `Codec`, `StructCodec`, `RawCodec` (`codec`): how conversations and chats are decoded, and how a transcript is
  joined: from structs, or from the bytes that the server sent.
- `EmbeddedCheck` (`embedded`): whether the chats that come embedded with a conversation can be used in place of a
  request. The first conversations that are fetched both ways must agree in ids, count and content. One later
  disagreement ends that trust, and each conversation that relied on it is fetched again (`Correction`).
- `ChatFetcher` (`fetcher`): fetches the chats of a conversation, and compares them with the embedded ones.
- `Engine` (`engine`): the tasks behind a stream, as drawn below.
- `TranscriptStream` (`stream`): the iterator that a user gets.
- `watching`: new chats of one conversation, for `watch`, `is_running` and `wait_until_idle`.

How data flows through a stream:

    ListReader -> pages (4) -> dispatcher -> jobs (256) -> workers -> out (4) -> the consumer
                                     \________ complete already _________/

The reader of the list runs ahead as far as the channels allow, whatever the size of the list: four pages wait in
the channel, each of up to 16 partition readers and the dispatcher can hold one more, and 256 conversations wait
for their chats. The dispatcher sends on conversations whose embedded chats are all their chats, and queues the
others. Each of `concurrency` workers fetches the chats of one
conversation at a time. One task owns all of these tasks, so nothing is ever yielded from inside a task group;
closing the stream cancels that task.

In an ordered stream the dispatcher puts out a future for each conversation whose chats are still to be fetched.

What happens when something is wrong:

- A conversation that is gone (404, asked twice) was deleted meanwhile, and is left out.
- A conversation whose chats cannot be fetched, or a row that cannot be listed, ends the stream; with
  `on_error="skip"` it is noted in `skipped`, and the stream goes on.
- Any other error ends the stream, once all other work has ended.

An export uses the same stream for each of its shards, with another source of rows (`Source`).
"""
