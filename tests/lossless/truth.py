"""What the sandbox holds at each point of a trial, read from its data and not through its lists."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from alli_async.sandbox import Sandbox
from alli_async.sandbox.lists import Lists
from alli_async.sandbox.operations import Call
from alli_async.sandbox.params import ListQuery, Pairs, list_query

_ALL_ROWS = 1 << 40


class HeldChat(msgspec.Struct):
    """A chat as the server holds it."""

    id: str
    message: str
    timestamp: float
    citations: list[msgspec.Raw] | None = None

    @property
    def content(self) -> tuple[str, float, int]:
        """What a reader must give: the message, the time and the number of citations."""
        return self.message, self.timestamp, len(self.citations or ())


_decode_chats = msgspec.json.Decoder(list[HeldChat]).decode


@dataclass(eq=False)
class Truth:
    """What stood and matched the filters over a span of time.

    Attributes:
        start: Ids of the chats by conversation at the start.
        end: The same at the end.
        steady: Conversations that matched at every point from start to end.
        possible: Conversations that matched at some point.
        ever: All chats that were there at some point, by conversation.
        gained: Conversations that got a chat.
        shrunk: Number of chats that each conversation lost.
    """

    start: dict[str, list[str]] = field(default_factory=dict)
    end: dict[str, list[str]] = field(default_factory=dict)
    steady: set[str] = field(default_factory=set)
    possible: set[str] = field(default_factory=set)
    ever: dict[str, dict[str, HeldChat]] = field(default_factory=dict)
    gained: set[str] = field(default_factory=set)
    shrunk: dict[str, int] = field(default_factory=dict)

    def include(self, whole: Truth) -> None:
        """Let what stood in a longer span, which began earlier, count as what was there at some point."""
        self.possible |= whole.possible
        for each, chats in whole.ever.items():
            known = self.ever[each] = {**chats, **self.ever.get(each, {})}
            self.shrunk[each] = len(known) - len(self.start.get(each, ()))


class Witness:
    """Sees all that a sandbox holds, and notes it in the truths that are open.

    Chats that are added are sent now by the clock of the Date header too, as incremental exports assume.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._store = sandbox._store
        self._store._now_ms = max(self._store._now_ms, time.time() * 1000)
        self._renderer = sandbox._service._operations._renderer
        self._open: list[Truth] = []
        self.filter_by(())

    def filter_by(self, pairs: Pairs) -> None:
        """Set the filters of the reader, as the query that it sends."""
        sandbox = self.sandbox
        plain = replace(
            sandbox.options,
            cursor="keyset",
            ties="stable",
            order="honoured",
            first_chat_orders="honoured",
            ragged=False,
            page_cap=None,
            heavy_page=None,
        )
        # Whether a bound is included is the server's to say, so a row that stands at a bound may be given.
        exact = replace(plain, first_chat_filters="honoured", filter_numbers="any", bounds="closed")
        self._views = [(Lists(self._store, way), list_query(pairs, way).filters) for way in (plain, exact)]

    def watch(self) -> Truth:
        """Begin a truth."""
        held = self._held()
        truth = Truth(start=held, ever={each: self._chats(each) for each in held})
        truth.steady, truth.possible = self._matching()
        self._open.append(truth)
        return truth

    def close(self, truth: Truth) -> None:
        """End a truth."""
        truth.end = self._held()
        self._open.remove(truth)

    def note(self, touched: Iterable[str]) -> None:
        """Note a change of some conversations."""
        steady, possible = self._matching()
        held = {each: self._chats(each) for each in touched if self._store.find(each) is not None}
        for truth in self._open:
            truth.steady &= steady
            truth.possible |= possible
            for each, chats in held.items():
                known = truth.ever.setdefault(each, {})
                if chats.keys() - known.keys():
                    truth.gained.add(each)
                known |= chats
                truth.shrunk[each] = len(known) - len(chats)

    def row(self, conversation_id: str) -> dict[str, Any]:
        """A conversation as the server would show it."""
        call = Call((conversation_id,), (), b"")
        row: dict[str, Any] = msgspec.json.decode(self.sandbox._service._operations.run("getConversation", call))
        return row

    def times(self, by: str) -> dict[str, float | None]:
        """The first or last chat time of every conversation."""
        time_of = self._store.time_of("first" if by == "first" else "last")
        return {self._id(index): time_of(index) for index in self._store.indices()}

    def running(self, ids: Iterable[str]) -> None:
        """Mark conversations as running."""
        for each in ids:
            self.sandbox.running(each)

    def delete_last_chat(self, conversation_id: str) -> None:
        """Delete the newest chat of a conversation."""
        index = self._index(conversation_id)
        self._store.delete_chat(index, self._store.timeline(index).sequences[-1])

    def count(self, conversation_id: str) -> int:
        """Number of the chats of a conversation."""
        return len(self._store.timeline(self._index(conversation_id)).sequences)

    def _matching(self) -> tuple[set[str], set[str]]:
        """Ids that match by the letter of the filters and by the server's habits; and ids that match by either."""
        server, exact = (self._listed(lists, filters) for lists, filters in self._views)
        return server & exact, server | exact

    def _listed(self, lists: Lists, filters: Any) -> set[str]:
        order = "FIRST_CHAT_TIME_ASC"
        query = ListQuery(filters=filters, cursor=None, variables=None, page_size=_ALL_ROWS, order=order)
        return {self._id(index) for index in lists.page(query)[0]}

    def _held(self) -> dict[str, list[str]]:
        return {each: self.sandbox.chat_ids(each) for each in self.sandbox.conversation_ids()}

    def _chats(self, conversation_id: str) -> dict[str, HeldChat]:
        index = self._index(conversation_id)
        row = self._store.row(index)._replace(ratings={})
        made = self._renderer.chats(row, row.timeline.sequences)
        return {chat.id: chat for chat in _decode_chats(b"[%b]" % made)}

    def _id(self, index: int) -> str:
        return self._store.data.conversation_id(index)

    def _index(self, conversation_id: str) -> int:
        index = self._store.find(conversation_id)
        assert index is not None
        return index


def crowded(times: dict[str, float | None], most: int) -> set[str]:
    """Conversations that share their time with more conversations than `most` in all."""
    groups: dict[float | None, list[str]] = {}
    for each, moment in times.items():
        groups.setdefault(moment, []).append(each)
    return {each for group in groups.values() if len(group) > most for each in group}


def pairs_of(filters: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """Filters as the query that the contract defines."""
    pairs: list[tuple[str, str]] = []
    for name, value in filters.items():
        head, *rest = name.split("_")
        wire = head + "".join(part.capitalize() for part in rest)
        if isinstance(value, list):
            pairs += [(wire, each) for each in value]
        elif isinstance(value, bool):
            pairs.append((wire, "true" if value else "false"))
        else:
            pairs.append((wire, value if isinstance(value, str) else repr(value)))
    return pairs
