"""The command of a night as a process, which can be killed: `tests.support.night COMMAND DEST URL KEY`."""

from __future__ import annotations

import asyncio
import sys

from alli_async import AlliClient, RetryPolicy
from alli_async.export import compact
from tests.support.exports import export_tuned

QUICK = RetryPolicy(base=0.001, cap=0.002, max_attempts=8, quota=100_000)


async def main(command: str, dest: str, url: str, key: str) -> None:
    """Do what the command says."""
    if command in ("compact", "drop deleted"):
        await compact(dest, drop_deleted=command == "drop deleted")
        return
    async with AlliClient(key, base_url=url, retry=QUICK) as client:
        await export_tuned(client, dest, incremental=command == "incremental", refresh=command == "refresh")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
