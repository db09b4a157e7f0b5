"""A script by somebody who knows asyncio well, and tuned it: aiohttp, orjson, 64 requests in flight, one walk.

The list is walked in an order in which rows do not move, the next page is asked for before the one in hand is
worked on, and chats are fetched only where those that came with the list are not all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson

from . import KEY, Job

_IN_FLIGHT = 64


def run(job: Job) -> Callable[[], None]:
    """Get everything."""
    return partial(asyncio.run, _main(job))


async def _main(job: Job) -> None:
    gate = asyncio.Semaphore(_IN_FLIGHT)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(job.url, headers={"API-KEY": KEY}, connector=connector) as session:

        async def fetch(path: str, **query: Any) -> Any:
            async with gate, session.get(path, params=query) as answer:
                return orjson.loads(await answer.read())

        def page(cursor: str | None) -> asyncio.Task[Any]:
            query = {"cursor": cursor} if cursor else {}
            return asyncio.create_task(
                fetch("/webapi/v2/conversations", order="FIRST_CHAT_TIME_ASC", pageSize=50, **query)
            )

        async def complete(conversation: dict[str, Any]) -> None:
            path = f"/webapi/v2/conversations/{quote(conversation['id'])}/chats"
            numbers = range(1, -(-conversation["chatCount"] // 100) + 1)
            pages = await asyncio.gather(*(fetch(path, pageNo=number) for number in numbers))
            conversation["chats"] = [chat for each in pages for chat in each["chats"]]
            job.tally.add(conversation["id"], len(conversation["chats"]))

        async with asyncio.TaskGroup() as group:
            asked: asyncio.Task[Any] | None = page(None)
            while asked:
                got = await asked
                asked = page(got["cursor"]) if got["cursor"] else None
                for conversation in got["conversations"]:
                    if len(conversation["chats"]) < conversation["chatCount"]:
                        group.create_task(complete(conversation))
                    else:
                        job.tally.add(conversation["id"], len(conversation["chats"]))
