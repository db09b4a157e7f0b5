"""Scopes: parts of a task that are ended from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from alli_async._aio.scopes import Scope, TimedScope, Timeouts

Begin = Callable[[float], Scope]


def of_timeouts(seconds: float) -> Scope:
    return Timeouts(seconds).begin()


def timed(seconds: float) -> Scope:
    return TimedScope(asyncio.get_running_loop().time() + seconds)


async def is_ended(scope: Scope, work: float) -> bool:
    """Whether a scope is ended before the work in it is done."""
    with scope:
        await asyncio.sleep(work)
        return False
    return True


@pytest.mark.parametrize("begin", [of_timeouts, timed])
async def test_a_scope_is_ended_when_its_time_is_over_and_not_before(begin: Begin) -> None:
    assert await is_ended(begin(0.01), 30)
    assert not await is_ended(begin(30), 0.01)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("begin", [of_timeouts, timed])
async def test_a_cancellation_from_outside_is_not_swallowed(begin: Begin) -> None:
    async def both_at_once() -> None:
        scope = begin(30)
        with scope:
            scope.end()
            task.cancel()
            await asyncio.sleep(30)

    task = asyncio.create_task(both_at_once())
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("begin", [of_timeouts, timed])
async def test_an_error_that_follows_the_end_of_a_scope_is_raised(begin: Begin) -> None:
    async def failing(scope: Scope) -> None:
        with scope:
            scope.end()
            try:
                await asyncio.sleep(30)
            finally:
                raise KeyError

    with pytest.raises(KeyError):
        await failing(begin(30))


async def test_timeouts_that_begin_while_others_run_end_each_in_time() -> None:
    timeouts = Timeouts(0.1)
    loop = asyncio.get_running_loop()

    async def ended_after(delay: float) -> float:
        await asyncio.sleep(delay)
        began = loop.time()
        assert await is_ended(timeouts.begin(), 30)
        return loop.time() - began

    async with asyncio.timeout(20):
        # The first is done long before its time: the timer that it set serves the others.
        assert not await is_ended(timeouts.begin(), 0)
        seconds = await asyncio.gather(*(ended_after(number / 100) for number in range(12)))
    assert min(seconds) > 0.09
    assert timeouts.stop_if_idle()


async def test_a_running_timeout_keeps_its_timer() -> None:
    timeouts = Timeouts(0.02)
    scope = timeouts.begin()
    assert not timeouts.stop_if_idle()
    async with asyncio.timeout(20):
        assert await is_ended(scope, 30)
    assert timeouts.stop_if_idle()
