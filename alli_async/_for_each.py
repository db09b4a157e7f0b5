"""One call for each of many items: concurrent, in bounded memory, with a result for each item."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar, cast

from ._aio.channel import Channel
from ._aio.tasks import TaskGroup, wait_done
from ._transport.background import BackgroundResults
from ._transport.lifetime import Lifetime
from .config import checked_whole
from .errors import AlliError, ClientStateError, ConfigurationError

__all__ = ["ItemResult", "ItemResults"]

ItemT = TypeVar("ItemT")
ValueT = TypeVar("ValueT")

# Calls that are begun and not given yet, as a multiple of those in flight: how far others go on past a slow one.
_RESULTS_AHEAD = 2


@dataclass(frozen=True, slots=True)
class ItemResult(Generic[ItemT, ValueT]):
    """What the call for one item gave.

    Attributes:
        item: The item.
        error: Why the call failed; None if it succeeded.
    """

    item: ItemT
    error: AlliError | None
    _value: ValueT | None

    @property
    def value(self) -> ValueT:
        """What the call returned.

        Raises:
            AlliError: The call failed.
        """
        if self.error is not None:
            raise self.error
        return cast("ValueT", self._value)


class ItemResults(BackgroundResults[ItemResult[ItemT, ValueT]], Generic[ItemT, ValueT]):
    """The results of one call for each of many items, in the order of the items.

    An async iterator, to be walked once, and an async context manager, which ends the work when it is left. Calls
    in flight are cancelled then, and may have happened.
    """

    def __init__(
        self,
        lifetime: Lifetime,
        items: Iterable[ItemT] | AsyncIterable[ItemT],
        call: Callable[[ItemT], Awaitable[ValueT]],
        *,
        concurrency: int,
        on_error: Literal["raise", "skip"],
    ) -> None:
        if not isinstance(items, Iterable | AsyncIterable) or isinstance(items, str | bytes):
            raise ConfigurationError(f"items: expected an iterable of items, got {type(items).__name__}")
        if not callable(call):
            raise ConfigurationError(f"call: expected an async function of one item, got {call!r}")
        checked_whole("concurrency", concurrency, least=1)
        if on_error not in ("raise", "skip"):
            raise ConfigurationError(f'on_error: expected "raise" or "skip", got {on_error!r}')
        super().__init__(lifetime, "results are walked once; call for_each again")
        self._calls = _Calls(items, call, concurrency, skips=on_error == "skip")
        self._error: Exception | None = None

    async def next_result(self) -> ItemResult[ItemT, ValueT]:
        """The next result.

        Raises:
            StopAsyncIteration: There is none left, or the work was ended.
            Exception: The first error, once the results of all calls that were begun are given.
        """
        if not self._is_ended:
            task = self._task or self._begin(self._calls.run, self._calls.begun)
            async for call in self._calls.begun:
                await asyncio.wait([call])
                if call.cancelled():
                    break
                result, error = call.result()
                if error is None:
                    return result
                self._error = self._error or error
            await self._finish(task)
        raise StopAsyncIteration

    async def _finish(self, task: asyncio.Task[None]) -> None:
        """Wait for the end of the work, and raise its error if it has one."""
        await wait_done(task)
        if self._is_ended:
            return
        self._is_ended = True
        if self._is_client_closed:
            raise ClientStateError("the client was closed while the results were read", outcome="unknown")
        if self._error is not None:
            raise self._error
        task.result()


class _Calls(Generic[ItemT, ValueT]):
    """Begins calls in the order of the items, a bounded number at a time, until one fails for good.

    Attributes:
        begun: The calls that were begun and whose results were not given yet, in the order of the items.
    """

    def __init__(
        self,
        items: Iterable[ItemT] | AsyncIterable[ItemT],
        call: Callable[[ItemT], Awaitable[ValueT]],
        concurrency: int,
        *,
        skips: bool,
    ) -> None:
        self._items = items
        self._call = call
        self._skips = skips
        self._slots = asyncio.Semaphore(concurrency)
        self._is_failed = False
        self.begun: Channel[asyncio.Task[tuple[ItemResult[ItemT, ValueT], Exception | None]]] = Channel(
            _RESULTS_AHEAD * concurrency
        )

    async def run(self) -> None:
        """Make all calls.

        Raises:
            Exception: The items could not be read to their end.
        """
        try:
            async with TaskGroup() as group:
                error = await self._begin_all(group)
        finally:
            self.begun.close()
        if error is not None:
            raise error

    async def _begin_all(self, group: TaskGroup) -> Exception | None:
        """Begin a call for each item; an error of the items themselves ends no call that is in flight."""
        try:
            async with aclosing(_one_by_one(self._items)) as items:
                # A slot comes first: no item is taken from an iterator and then left.
                while await self._slots.acquire() and not self._is_failed:
                    item = await anext(items)
                    await self.begun.put(group.create_task(self._one(item)))
        except StopAsyncIteration:
            return None
        except Exception as error:  # noqa: BLE001 - whatever the caller's iterator raises
            return error
        return None

    async def _one(self, item: ItemT) -> tuple[ItemResult[ItemT, ValueT], Exception | None]:
        """Make the call for one item.

        Returns:
            The result, and the error if it is one that ends the work.
        """
        try:
            return ItemResult(item, None, await self._call(item)), None
        except AlliError as error:
            result: ItemResult[ItemT, ValueT] = ItemResult(item, error, None)
            is_fatal = not self._skips or error.is_outage or isinstance(error, ClientStateError)
            self._is_failed = self._is_failed or is_fatal
            return result, error if is_fatal else None
        except Exception as error:  # noqa: BLE001 - a fault of the caller's own function
            self._is_failed = True
            return ItemResult(item, None, None), error
        finally:
            self._slots.release()


async def _one_by_one(items: Iterable[ItemT] | AsyncIterable[ItemT]) -> AsyncGenerator[ItemT, None]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
