"""For callers that are not async: one event loop in a thread, and one client, for all threads of the program.

with sync_client() as (alli, call):
    conversation = call(alli.conversations.get, "…")
    for conversation in each(call, alli.conversations.list()): ...
"""

from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from anyio.from_thread import start_blocking_portal

from alli_async import AlliClient

T = TypeVar("T")
Call = Callable[..., Any]


@contextmanager
def sync_client(**options: Any) -> Iterator[tuple[AlliClient, Call]]:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(AlliClient(**options)) as alli:

        def call(function: Callable[..., Awaitable[T]], *arguments: Any, **options: Any) -> T:
            async def within() -> T:
                return await function(*arguments, **options)

            return portal.call(within)

        yield alli, call


def each(call: Call, items: AsyncIterable[T]) -> Iterator[T]:
    """The items of a list or a stream; leaving the loop ends the work behind it."""
    iterator = aiter(items)
    end = object()

    async def following() -> Any:
        return await anext(iterator, end)

    async def close() -> None:
        if hasattr(iterator, "aclose"):
            await iterator.aclose()

    try:
        while (item := call(following)) is not end:
            yield item
    finally:
        call(close)
