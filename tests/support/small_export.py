"""A program that exports on a cluster: `python -m tests.support.small_export DEST SCHEDULER`."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

from alli_async import AlliClient
from tests.support.exports import SMALL_ONE_AT_A_TIME, export_tuned

# Workers leave an export soon after its process was killed.
TUNING = replace(SMALL_ONE_AT_A_TIME, forgotten=3.0)


async def main(dest: str, scheduler: str) -> None:
    async with AlliClient() as client:
        await export_tuned(client, dest, TUNING, cluster=scheduler)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
