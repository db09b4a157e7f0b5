"""What happens to an export's directory while an export writes into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alli_async import Handler, Middleware, Request, Response


def when_committed(dest: Path, count: int, action: Callable[[], object]) -> Middleware:
    """A middleware that does something once, before the first request after so many shards were committed."""
    done = False

    async def look(request: Request, call_next: Handler) -> Response:
        nonlocal done
        journal = dest / "_journal"
        is_planned = (journal / "run-00001-plan.json").exists()
        if not done and is_planned and len(list(journal.glob("run-00001-shard-*"))) >= count:
            done = True
            action()
        return await call_next(request)

    return look


@contextmanager
def unfinishable(dest: Path, number: int) -> Iterator[None]:
    """A directory in which a run can write everything but the record that ends it."""
    # A record that is there is never replaced, and no file has this name.
    in_the_way = dest / "_journal" / f"run-{number:05}-complete.json"
    in_the_way.mkdir()
    try:
        yield
    finally:
        in_the_way.rmdir()
