"""Three task queues that call the tasks of a recipe, each as its own users do."""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import Any, ClassVar, Protocol

# For a worker that has to start first, on a busy machine.
SECONDS = 90.0


class Queue(Protocol):
    """The caller's side of a task queue."""

    #: The module and the arguments that start a worker.
    worker: ClassVar[tuple[str, ...]]
    #: What its environment must have.
    environment: ClassVar[dict[str, str]]

    async def open(self) -> None:
        """Connect; the environment names the redis-server."""

    async def begin(self, task: str, **arguments: Any) -> Any:
        """Put a task into the queue."""

    async def result(self, begun: Any) -> Any:
        """Wait for the result of a task."""

    async def close(self) -> None:
        """Disconnect."""


def _fresh(name: str) -> Any:
    """A recipe, imported anew: it reads the environment when it is imported."""
    sys.modules.pop(name, None)
    return importlib.import_module(name)


class Taskiq:
    environment: ClassVar[dict[str, str]] = {}
    worker: ClassVar[tuple[str, ...]] = (
        "taskiq",
        "worker",
        "tests.recipes.taskiq_worker:broker",
        "--workers",
        "1",
        "--wait-tasks-timeout",
        "1",
    )

    async def open(self) -> None:
        self.recipe = _fresh("tests.recipes.taskiq_worker")
        await self.recipe.broker.startup()

    async def begin(self, task: str, **arguments: Any) -> Any:
        return await getattr(self.recipe, task).kiq(**arguments)

    async def result(self, begun: Any) -> Any:
        result = await begun.wait_result(timeout=SECONDS)
        result.raise_for_error()
        return result.return_value

    async def close(self) -> None:
        await self.recipe.broker.shutdown()


class Saq:
    environment: ClassVar[dict[str, str]] = {}
    worker: ClassVar[tuple[str, ...]] = ("saq", "tests.recipes.saq_worker.settings")

    async def open(self) -> None:
        self.recipe = _fresh("tests.recipes.saq_worker")
        await self.recipe.queue.connect()

    async def begin(self, task: str, **arguments: Any) -> Any:
        return await self.recipe.queue.enqueue(task, timeout=3600, retries=10, **arguments)

    async def result(self, begun: Any) -> Any:
        # SAQ's sweeper, which runs when a worker starts, aborts a job that was just begun and puts it back.
        async with asyncio.timeout(SECONDS):
            while begun.status != "complete":
                await begun.refresh()
                assert begun.status != "failed", begun.error
                await asyncio.sleep(0.05)
        return begun.result

    async def close(self) -> None:
        await self.recipe.queue.disconnect()


class Celery:
    environment: ClassVar[dict[str, str]] = {"REMAP_SIGTERM": "SIGQUIT"}
    worker: ClassVar[tuple[str, ...]] = (
        "celery",
        "--app",
        "tests.recipes.celery_worker",
        "worker",
        "--concurrency",
        "1",
        "--loglevel",
        "INFO",
    )

    async def open(self) -> None:
        self.recipe = _fresh("tests.recipes.celery_worker")

    async def begin(self, task: str, **arguments: Any) -> Any:
        return await asyncio.to_thread(self.recipe.app.send_task, task, list(arguments.values()))

    async def result(self, begun: Any) -> Any:
        return await asyncio.to_thread(begun.get, timeout=SECONDS)

    async def close(self) -> None:
        self.recipe.app.close()


QUEUES: dict[str, type[Queue]] = {"taskiq": Taskiq, "saq": Saq, "celery": Celery}
