"""A client that openapi-python-client makes of the OpenAPI document, with a loop around it: 16 at once."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from . import KEY, Job

_DOCUMENT = Path(__file__).parents[2] / "tests" / "data" / "alli-openapi.json"
_NAME = "generated_alli"
_AT_ONCE = 16


def generate(folder: str) -> None:
    """Make the client, as a package in a folder."""
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
    where = ["--path", str(_DOCUMENT), "--output-path", str(Path(folder) / _NAME)]
    made = subprocess.run(command + where, capture_output=True, text=True, check=False)
    if made.returncode:
        raise RuntimeError(f"openapi-python-client failed:\n{made.stdout}{made.stderr}")


def _imported(folder: str) -> tuple[Any, Any, Any, Any]:
    sys.path.insert(0, folder)
    names = ("api.default.list_conversations", "api.default.list_conversation_chats", "client")
    lists, chats, client = (importlib.import_module(f"{_NAME}.{name}") for name in names)
    orders = importlib.import_module(f"{_NAME}.models.list_conversations_order")
    # It takes an enum inside an allOf for a bag of parameters.
    order = orders.ListConversationsOrder.from_dict({"order": "FIRST_CHAT_TIME_ASC"})
    return lists, chats, client.AuthenticatedClient, order


def run(job: Job) -> Callable[[], None]:
    """Get everything."""
    return partial(asyncio.run, _main(job, *_imported(job.folder)))


async def _main(job: Job, lists: Any, chats: Any, client_type: Any, order: Any) -> None:
    gate = asyncio.Semaphore(_AT_ONCE)
    client = client_type(
        base_url=job.url, token=KEY, prefix="", auth_header_name="API-KEY", raise_on_unexpected_status=True
    )
    async with client, asyncio.TaskGroup() as group:

        async def page(conversation_id: str, number: int) -> list[Any]:
            async with gate:
                found: list[Any] = (await chats.asyncio(conversation_id, client=client, page_no=number)).chats
                return found

        async def complete(conversation: Any) -> None:
            numbers = range(1, -(-conversation.chat_count // 100) + 1)
            pages = await asyncio.gather(*(page(conversation.id, number) for number in numbers))
            job.tally.add(conversation.id, sum(map(len, pages)))

        more: dict[str, str] = {}
        while True:
            got = await lists.asyncio(client=client, page_size=50, order=order, **more)
            for conversation in got.conversations:
                if len(conversation.chats) < conversation.chat_count:
                    group.create_task(complete(conversation))
                else:
                    job.tally.add(conversation.id, len(conversation.chats))
            if got.cursor is None:
                return
            more = {"cursor": got.cursor}
