"""Who does the job: each a way to get every conversation with every chat out of the same server.

A contestant is a function of a job: it gets ready (imports what it needs) and gives the function that is to be
timed, which adds every conversation it got to the job's tally. Its module is imported in the process that runs
it, and in no other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import msgspec

from ..data import index_of

KEY = "the-key"


class Tally:
    """What a contestant got: counted at once, so that it need not be kept."""

    def __init__(self, conversations: int) -> None:
        self._total = conversations
        self._seen = bytearray(conversations)
        self.conversations = 0
        self.chats = 0

    def add(self, conversation_id: str, chats: int) -> None:
        """Count a conversation with so many chats."""
        self.conversations += 1
        self.chats += chats
        index = index_of(conversation_id, self._total)
        if index >= 0:
            self._seen[index] = 1

    @property
    def missing(self) -> int:
        """Conversations that were not got."""
        return self._seen.count(0)

    @property
    def repeated(self) -> int:
        """Conversations that were got again, or that there are not."""
        return self.conversations - self._seen.count(1)


class Job(msgspec.Struct):
    """What to get, from where.

    Attributes:
        url: The server's address.
        conversations: How many it holds.
        bounds: The span of first chats, cut into parts of about equal size: told to those who may know it.
        timed: How many conversations have chats: told to the same.
        folder: Where what was made for the contestant is.
        tally: What it got.
    """

    url: str
    conversations: int
    bounds: list[float]
    timed: int
    folder: str = ""
    tally: Tally = msgspec.field(default_factory=lambda: Tally(0))

    def __post_init__(self) -> None:
        self.tally = Tally(self.conversations)


class Contestant(NamedTuple):
    """Where a contestant is, what it is called, and which packages it needs."""

    module: str
    function: str
    label: str
    needs: tuple[str, ...] = ()


CONTESTANTS = {
    "structs": Contestant("ours", "structs", "alli_async, structs"),
    "raw": Contestant("ours", "raw", "alli_async, raw"),
    "uvloop": Contestant("ours", "raw_on_uvloop", "alli_async, raw, uvloop", ("uvloop",)),
    "floor": Contestant("by_hand", "raw_protocol", "floor: raw protocol, 8 windows"),
    "loop": Contestant("by_hand", "aiohttp_loop", "aiohttp + msgspec.Raw by hand, 8 windows"),
    "structs_loop": Contestant("by_hand", "aiohttp_structs", "aiohttp + msgspec structs by hand, 8 windows"),
    "tuned": Contestant("ours", "tuned", "alli_async, structs, tune_malloc()"),
    "script": Contestant("script", "run", "aiohttp + orjson script, 64 in flight", ("orjson",)),
    "generated": Contestant(
        "generated", "run", "generated httpx client, 16 at once", ("openapi_python_client", "httpx")
    ),
    "dlt": Contestant("dlt_source", "run", "dlt rest_api to JSONL", ("dlt",)),
    "dlt_duckdb": Contestant("dlt_source", "to_duckdb", "dlt rest_api to DuckDB", ("dlt", "duckdb")),
    "dlt_ours": Contestant("dlt_source", "ours_to_duckdb", "dlt alli_source to DuckDB", ("dlt", "duckdb")),
}


def chosen(only: Sequence[str], default: Iterable[str]) -> list[str]:
    """Those that were asked for, or the default, once it is clear that they can run.

    Raises:
        SystemExit: One is unknown, or a package it needs is not installed.
    """
    if unknown := set(only) - set(CONTESTANTS):
        sys.exit(f"benchmarks: no contestant {', '.join(sorted(unknown))}; there are {', '.join(CONTESTANTS)}")
    names = list(only or default)
    needed = {need for name in names for need in CONTESTANTS[name].needs}
    if lacking := sorted(need for need in needed if find_spec(need) is None):
        sys.exit(
            f"benchmarks: not installed: {', '.join(lacking)}; pip install --group bench, "
            "or choose contestants with --only"
        )
    return names


def load(name: str, job: Job) -> Callable[[], None]:
    """What is to be timed, with all its imports done."""
    contestant = CONTESTANTS[name]
    ready: Callable[[], None] = getattr(import_module(f".{contestant.module}", __name__), contestant.function)(job)
    return ready
