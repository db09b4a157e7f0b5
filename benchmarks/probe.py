"""The measure of the server: how fast it answers a client that does nothing else."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.request
from base64 import b64encode
from itertools import cycle
from typing import Any
from urllib.parse import quote

from .rawhttp import RawClient

_CONNECTIONS = 16
_SECONDS = 1.0


async def _probe(url: str, conversations: int, kind: str) -> dict[str, Any]:
    """Answers a second, their size, and the server's CPU time for each."""
    async with RawClient(url) as client:
        targets = cycle(await _targets(client, conversations, kind))
        size = 0
        before = await _usage(url)
        ends = (began := time.perf_counter()) + _SECONDS

        async def ask() -> None:
            nonlocal size
            while time.perf_counter() < ends:
                body = await client.fetch(next(targets))
                size += len(body)

        await asyncio.gather(*(ask() for _ in range(_CONNECTIONS)))
        seconds = time.perf_counter() - began
        after = await _usage(url)
    answers = after["answers"] - before["answers"]
    return {
        "kind": kind,
        "kb": size / answers / 1000,
        "answers_per_second": answers / seconds,
        "server_cpu_us": (after["cpu_seconds"] - before["cpu_seconds"]) / answers * 1e6,
    }


async def _targets(client: RawClient, conversations: int, kind: str) -> list[str]:
    """Requests like those of a whole job, in its proportions when they are mixed."""
    lists, chats = [], []
    path = "/webapi/v2/conversations"
    for offset in range(0, min(conversations, 10_000), 50):
        cursor = b64encode(b"offset:%d" % offset).decode()
        lists.append(f"{path}?order=FIRST_CHAT_TIME_ASC&pageSize=50&cursor={quote(cursor)}")
        for each in json.loads(await client.fetch(lists[-1]))["conversations"]:
            pages = -(-each["chatCount"] // 100) if each["chatCount"] > 20 else 0
            chats += [f"{path}/{quote(each['id'])}/chats?pageNo={number}" for number in range(1, pages + 1)]
    return {"list": lists, "chats": chats, "mixed": lists + chats}[kind]


async def _usage(url: str) -> Any:
    def ask() -> Any:
        with urllib.request.urlopen(f"{url}/_bench/usage") as answer:
            return json.load(answer)

    return await asyncio.to_thread(ask)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_probe(sys.argv[1], int(sys.argv[2]), sys.argv[3]))))
