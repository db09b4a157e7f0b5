"""Alli in Celery's workers: each process has one event loop and one client, which all of its tasks share.

Run it: `REMAP_SIGTERM=SIGQUIT celery --app celery_worker worker` (a SIGTERM then waits for tasks no longer than
`worker_soft_shutdown_timeout`, and what it cuts short goes back into the queue), and
`celery --app celery_worker beat`.
"""

import os
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import wraps
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal
from celery import Celery
from celery.schedules import crontab
from celery.signals import worker_process_init, worker_process_shutdown

from alli_async import AlliClient, ConversationUpdate
from alli_async.export import export

REDIS = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
DESTINATION = os.environ.get("ALLI_EXPORT", "alli-export")

app = Celery("alli", broker=REDIS, backend=REDIS)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_soft_shutdown_timeout=5,
    broker_transport_options={"visibility_timeout": 6 * 3600},
    beat_schedule={"nightly": {"task": "nightly", "schedule": crontab(hour="2", minute="0")}},
)
process = ExitStack()
portal: BlockingPortal
alli: AlliClient


@worker_process_init.connect
def open_client(**_: Any) -> None:
    global portal, alli
    portal = process.enter_context(start_blocking_portal())
    alli = process.enter_context(portal.wrap_async_context_manager(AlliClient()))


@worker_process_shutdown.connect
def close_client(**_: Any) -> None:
    process.close()


def task(function: Callable[..., Awaitable[Any]]) -> Any:
    """A task that runs in the loop of its process."""

    @wraps(function)
    def in_loop(*args: Any) -> Any:
        return portal.call(function, *args)

    return app.task(in_loop, name=function.__name__)


@task
async def categorize(conversation_ids: list[str], category_ids: list[str]) -> int:
    update = ConversationUpdate(category_ids=category_ids)
    await alli.conversations.bulk_update(update, conversation_ids=conversation_ids)
    return len(conversation_ids)


@task
async def answered(conversation_id: str) -> dict[str, Any]:
    await alli.conversations.wait_until_idle(conversation_id, timeout=600)
    return (await alli.conversations.get(conversation_id)).to_dict()


@task
async def nightly() -> int:
    report = await export(alli, DESTINATION, incremental=True)
    return report.conversations
