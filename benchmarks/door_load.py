"""Load on a web app: `python -m benchmarks.door_load URL IN_FLIGHT REQUESTS`, with ids on standard input."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator

import aiohttp


async def _ask(session: aiohttp.ClientSession, paths: Iterator[str], url: str) -> None:
    for path in paths:
        async with session.get(f"{url}/conversations/{path}") as answer:
            await answer.read()
            answer.raise_for_status()


async def _load(url: str, in_flight: int, requests: int, ids: list[str]) -> float:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        paths = iter([ids[number % len(ids)] for number in range(requests)])
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(_ask(session, paths, url))
        return time.perf_counter() - began


if __name__ == "__main__":
    import uvloop

    seconds = uvloop.run(_load(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.load(sys.stdin)))
    print(json.dumps(seconds))
