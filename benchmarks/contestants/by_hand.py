"""What somebody would write who knows the server: the windows are given, nothing is checked, nothing retried.

Over bare connections this is the floor: no client that does the same job can be much faster. Over aiohttp it is
the least that a client on aiohttp takes.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from msgspec import Raw, Struct

from ..data import CHATS_PER_PAGE, EMBEDDED, PAGE
from ..rawhttp import RawClient
from . import KEY, Job

Fetch = Callable[[str], Awaitable[bytes]]

_LIST = "/webapi/v2/conversations"


class _Row(Struct, rename="camel", gc=False):
    id: str
    chat_count: int
    chats: Raw


class _Rows(Struct, gc=False):
    conversations: list[_Row]


class _Chats(Struct, rename="camel", gc=False):
    chats: list[Raw]
    total_count: int


_rows = msgspec.json.Decoder(_Rows).decode
_chats = msgspec.json.Decoder(_Chats).decode


def raw_protocol(job: Job) -> Callable[[], None]:
    """The floor."""

    async def main() -> None:
        async with RawClient(job.url) as client:
            await _Harvest(job, client.fetch).run()

    return partial(asyncio.run, main())


def aiohttp_loop(job: Job) -> Callable[[], None]:
    """The same over aiohttp."""
    return _over_aiohttp(job, _rows, _chats)


def aiohttp_structs(job: Job) -> Callable[[], None]:
    """The same over aiohttp, with everything decoded into the structs of this library."""
    from alli_async import ChatPage, ConversationPage

    return _over_aiohttp(job, msgspec.json.Decoder(ConversationPage).decode, msgspec.json.Decoder(ChatPage).decode)


def _over_aiohttp(job: Job, rows: Callable[[bytes], Any], chats: Callable[[bytes], Any]) -> Callable[[], None]:
    async def main() -> None:
        async with aiohttp.ClientSession(job.url, headers={"API-KEY": KEY}) as session:

            async def fetch(target: str) -> bytes:
                async with session.get(target) as answer:
                    return await answer.read()

            await _Harvest(job, fetch, rows, chats).run()

    return partial(asyncio.run, main())


class _Harvest:
    """One walk a window, and as many pages of chats at a time as are wanted."""

    def __init__(
        self,
        job: Job,
        fetch: Fetch,
        rows: Callable[[bytes], Any] = _rows,
        chats: Callable[[bytes], Any] = _chats,
    ) -> None:
        self._job = job
        self._rows = rows
        self._chats = chats
        self._fetch = fetch
        self._seen: set[str] = set()
        self._gate = asyncio.Semaphore(64)

    async def run(self) -> None:
        """Get everything into the tally."""
        ascending = {"order": "FIRST_CHAT_TIME_ASC"}
        # What has no chats is in no window; that it comes last, and where, is known here too.
        without_chats = quote(b64encode(b"offset:%d" % self._job.timed))
        async with asyncio.TaskGroup() as group:
            for start, end in pairwise(self._job.bounds):
                window = {"firstChatStartedAt": repr(start), "firstChatEndAt": repr(end)}
                group.create_task(self._walk(group, ascending | window))
            group.create_task(self._walk(group, ascending, without_chats))

    async def _walk(self, group: asyncio.TaskGroup, query: dict[str, str], cursor: str = "") -> None:
        target = f"{_LIST}?{urlencode(query | {'pageSize': str(PAGE)})}"
        asked: asyncio.Future[bytes] = asyncio.ensure_future(self._fetch(f"{target}&cursor={cursor}"))
        while True:
            body = await asked
            cursor_at = body.rindex(b'"cursor":') + 9
            following = body[cursor_at:-1].strip(b'"').decode()
            if more := following != "null":
                asked = asyncio.ensure_future(self._fetch(f"{target}&cursor={quote(following)}"))
            for row in self._rows(body).conversations:
                if row.id in self._seen:
                    continue
                self._seen.add(row.id)
                if row.chat_count > EMBEDDED:
                    group.create_task(self._long(row))
                else:
                    self._job.tally.add(row.id, row.chat_count)
            if not more:
                return

    async def _long(self, row: Any) -> None:
        """The pages of chats up to those that are embedded."""
        pages = -(-(row.chat_count - EMBEDDED) // CHATS_PER_PAGE)
        got = await asyncio.gather(*(self._page(row.id, number) for number in range(1, pages + 1)))
        chats = sum(got)
        self._job.tally.add(row.id, min(row.chat_count, chats + EMBEDDED))

    async def _page(self, conversation_id: str, number: int) -> int:
        async with self._gate:
            body = await self._fetch(f"{_LIST}/{quote(conversation_id)}/chats?pageNo={number}")
        return len(self._chats(body).chats)
