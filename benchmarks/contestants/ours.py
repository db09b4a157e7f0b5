"""This library."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import alli_async
from alli_async import AlliClient

from . import KEY, Job


def structs(job: Job) -> Callable[[], None]:
    """Typed transcripts."""
    return partial(asyncio.run, _structs(job))


def tuned(job: Job) -> Callable[[], None]:
    """Typed transcripts, with freed memory kept by the process, as in the command."""
    alli_async.tune_malloc()
    return structs(job)


def raw(job: Job) -> Callable[[], None]:
    """Transcripts as the server sent them."""
    return partial(asyncio.run, _raw(job))


def raw_on_uvloop(job: Job) -> Callable[[], None]:
    """The same on the faster event loop, as the command does it."""
    import uvloop

    return partial(uvloop.run, _raw(job))


async def _structs(job: Job) -> None:
    async with AlliClient(KEY, base_url=job.url) as alli:
        async for transcript in alli.conversations.transcripts():
            job.tally.add(transcript.id, len(transcript.chats))


async def _raw(job: Job) -> None:
    async with AlliClient(KEY, base_url=job.url) as alli:
        async for transcript in alli.conversations.transcripts(raw=True):
            job.tally.add(transcript.id, transcript.chat_count)
