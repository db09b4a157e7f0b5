"""Alli in taskiq's workers: an update of many, a wait for an answer, and an incremental export each night.

Run it: `taskiq worker taskiq_worker:broker --wait-tasks-timeout 20`, `taskiq scheduler taskiq_worker:scheduler`.
"""

import asyncio
import os
from typing import Annotated

from taskiq import Context, SimpleRetryMiddleware, TaskiqDepends, TaskiqEvents, TaskiqScheduler, TaskiqState
from taskiq.schedule_sources import LabelScheduleSource
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from alli_async import AlliClient, ClientStateError, Conversation, ConversationUpdate
from alli_async.export import export

REDIS = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
DESTINATION = os.environ.get("ALLI_EXPORT", "alli-export")

broker = (
    RedisStreamBroker(REDIS)
    .with_result_backend(RedisAsyncResultBackend[object](REDIS, result_ex_time=3600))
    # What the end of a worker cuts short goes back into the queue; an export goes on where it was.
    .with_middlewares(SimpleRetryMiddleware(100, default_retry_label=True, types_of_exceptions=[ClientStateError]))
)
scheduler = TaskiqScheduler(broker, [LabelScheduleSource(broker)])


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_client(state: TaskiqState) -> None:
    state.alli = AlliClient()
    state.long = set()


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def close_client(state: TaskiqState) -> None:
    await state.alli.aclose()  # whatever still runs ends with a ClientStateError
    await asyncio.gather(*state.long)


def alli_client(context: Annotated[Context, TaskiqDepends()]) -> AlliClient:
    client: AlliClient = context.state.alli
    return client


Alli = Annotated[AlliClient, TaskiqDepends(alli_client)]


@broker.task
async def categorize(conversation_ids: list[str], category_ids: list[str], alli: Alli) -> int:
    update = ConversationUpdate(category_ids=category_ids)
    await alli.conversations.bulk_update(update, conversation_ids=conversation_ids)
    return len(conversation_ids)


@broker.task
async def answered(conversation_id: str, alli: Alli) -> Conversation:
    await alli.conversations.wait_until_idle(conversation_id, timeout=600)
    return await alli.conversations.get(conversation_id)


@broker.task(schedule=[{"cron": "0 2 * * *"}])
async def nightly(alli: Alli, context: Annotated[Context, TaskiqDepends()]) -> int:
    context.state.long.add(asyncio.current_task())
    report = await export(alli, DESTINATION, incremental=True)
    return report.conversations
