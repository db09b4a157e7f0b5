"""Alli in SAQ's workers: an update of many, a wait for an answer, and an incremental export each night.

Run it: `saq saq_worker.settings`. What the end of a worker cuts short goes back into the queue.
"""

import os
from typing import Any

from saq import CronJob, Queue
from saq.types import Context

from alli_async import AlliClient, ConversationUpdate
from alli_async.export import export

DESTINATION = os.environ.get("ALLI_EXPORT", "alli-export")
# Exports once a night; a sixth field would be seconds.
SCHEDULE = os.environ.get("ALLI_EXPORT_SCHEDULE", "0 2 * * *")

queue = Queue.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"), name="alli")


class AlliContext(Context):
    alli: AlliClient


async def startup(ctx: AlliContext) -> None:
    ctx["alli"] = AlliClient()


async def shutdown(ctx: AlliContext) -> None:
    await ctx["alli"].aclose()


async def categorize(ctx: AlliContext, *, conversation_ids: list[str], category_ids: list[str]) -> int:
    update = ConversationUpdate(category_ids=category_ids)
    await ctx["alli"].conversations.bulk_update(update, conversation_ids=conversation_ids)
    return len(conversation_ids)


async def answered(ctx: AlliContext, *, conversation_id: str) -> dict[str, Any]:
    await ctx["alli"].conversations.wait_until_idle(conversation_id, timeout=600)
    return (await ctx["alli"].conversations.get(conversation_id)).to_dict()


async def nightly(ctx: AlliContext) -> int:
    report = await export(ctx["alli"], DESTINATION, incremental=True)
    return report.conversations


settings = {
    "queue": queue,
    "functions": [categorize, answered, nightly],
    "cron_jobs": [CronJob(nightly, cron=SCHEDULE, timeout=6 * 3600, heartbeat=0, retries=100)],
    "startup": startup,
    "shutdown": shutdown,
    "shutdown_grace_period_s": 5,
    "cancellation_hard_deadline_s": 10,
}
