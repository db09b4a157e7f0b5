"""What a stream of transcripts gave, held against what the sandbox holds."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

from alli_async import AlliClient, RawTranscript, Transcript
from alli_async.sandbox import Sandbox


def chat_ids(result: Transcript | RawTranscript) -> list[str]:
    """The ids of the chats in a transcript, in order."""
    if isinstance(result, RawTranscript):
        return [each["id"] for each in json.loads(result.json)["chats"]]
    return [each.id for each in result.chats]


async def read_ids(client: AlliClient, **options: Any) -> list[str]:
    """The ids of the conversations that a stream gives, in order."""
    options.setdefault("raw", True)
    return [each.id async for each in client.conversations.transcripts(**options)]


async def read_chats(client: AlliClient, **options: Any) -> dict[str, set[str]]:
    """The ids of the chats of each conversation that a stream gives, none of them twice."""
    options.setdefault("raw", True)
    found: dict[str, set[str]] = {}
    async for each in client.conversations.transcripts(**options):
        assert each.id not in found
        found[each.id] = set(chat_ids(each))
    return found


def chats_in(sandbox: Sandbox) -> dict[str, set[str]]:
    """The ids of the chats of each conversation in a sandbox."""
    return {each: set(sandbox.chat_ids(each)) for each in sandbox.conversation_ids()}


def missing(before: dict[str, set[str]], found: dict[str, set[str]], sandbox: Sandbox) -> dict[str, set[str]]:
    """What is in the sandbox since before the stream began, and was not given."""
    now = chats_in(sandbox)
    lacks = {each: (chats & now.get(each, set())) - found.get(each, set()) for each, chats in before.items()}
    return {each: chats for each, chats in lacks.items() if each in now and (chats or each not in found)}


def left_behind(before: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """The tasks of the package that run now and did not before."""
    ours = ("alli_async/_listing", "alli_async/_transcripts", "alli_async/_aio", "alli_async/_transport")
    return {task for task in asyncio.all_tasks() - before if any(place in repr(task) for place in ours)}


async def wait_until_nothing_is_left(before: set[asyncio.Task[Any]]) -> None:
    """Wait for the work to end, which it does by itself, and soon."""
    gc.collect()
    async with asyncio.timeout(10):
        while left_behind(before):
            await asyncio.sleep(0.01)
