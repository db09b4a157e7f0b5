"""Conversations that are being answered: polled until they are idle, and watched for new chats."""

from __future__ import annotations

import asyncio

import anyio

from .._transport import bodies, wire
from .._transport.session import Session
from .._transport.wire import Request
from ..errors import AlliTimeoutError


async def is_running(session: Session, conversation_id: str) -> bool:
    """Whether an answer is being made now."""
    path = wire.conversation_path(conversation_id, "running")
    answer = await session.request(Request("getConversationRunning", "GET", path), bodies.decode_running)
    return answer.is_running


async def wait_idle(session: Session, conversation_id: str, poll_interval: float) -> None:
    """Wait until no answer is being made.

    Raises:
        AlliTimeoutError: It is still running at the session's deadline.
    """
    while await is_running(session, conversation_id):
        await pause(session, conversation_id, poll_interval)


async def pause(session: Session, conversation_id: str, seconds: float) -> None:
    """Sleep between two polls of a conversation that is running, until the session's deadline at most.

    Raises:
        AlliTimeoutError: The deadline comes before the next poll.
    """
    if session.ends_at is not None:
        left = session.ends_at - asyncio.get_running_loop().time()
        if seconds >= left:
            await anyio.sleep(max(left, 0.0))
            raise AlliTimeoutError(f"conversation {conversation_id!a} is still running at the deadline")
    await anyio.sleep(seconds)
