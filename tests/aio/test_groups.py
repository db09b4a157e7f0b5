"""Groups of tasks: what ends them, what they wait for, and that a cancellation is never swallowed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest

from alli_async._aio.tasks import TaskGroup, cancel_all, concurrently


async def fail(error: Exception, after: Awaitable[object] | None = None) -> None:
    if after is not None:
        await after
    raise error


async def in_group(call: Awaitable[None], *others: Awaitable[None]) -> None:
    async def run(each: Awaitable[None]) -> None:
        await each

    async with TaskGroup() as group:
        for each in (call, *others):
            group.create_task(run(each))


async def at_once(call: Awaitable[None], *others: Awaitable[None]) -> None:
    async def run(each: Awaitable[None]) -> None:
        await each

    await concurrently([run(each) for each in (call, *others)])


@pytest.mark.parametrize("group", [in_group, at_once])
async def test_a_cancellation_wins_over_an_error_of_the_same_moment(group: Callable[..., Awaitable[None]]) -> None:
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    caller = asyncio.ensure_future(group(fail(ValueError("of a task"), turn)))
    await asyncio.sleep(0.01)
    turn.set_result(None)
    await asyncio.sleep(0)  # the task has failed; its group has not heard of it
    caller.cancel()
    await asyncio.wait([caller])
    assert caller.cancelled()


@pytest.mark.parametrize("group", [in_group, at_once])
async def test_a_cancellation_while_others_are_cancelled_for_an_error_is_raised_at_their_end(
    group: Callable[..., Awaitable[None]],
) -> None:
    has_ended = False

    async def end_slowly() -> None:
        nonlocal has_ended
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            has_ended = True

    caller = asyncio.ensure_future(group(end_slowly(), fail(ValueError("of a task"))))
    await asyncio.sleep(0.01)
    for _ in range(3):
        caller.cancel()
        await asyncio.sleep(0)
    assert not caller.done()
    await asyncio.wait([caller])
    assert caller.cancelled()
    assert has_ended


@pytest.mark.parametrize("group", [in_group, at_once])
async def test_the_first_error_comes_by_itself_and_ends_the_other_tasks(
    group: Callable[..., Awaitable[None]],
) -> None:
    with pytest.raises(ValueError, match="of a task") as raised:
        await group(asyncio.sleep(60), fail(ValueError("of a task")))
    assert raised.value.__context__ is None
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_error_of_a_task_interrupts_the_block_and_no_cancellation_is_left() -> None:
    with pytest.raises(ValueError, match="of a task"):
        async with TaskGroup() as group:
            group.create_task(fail(ValueError("of a task")))
            await asyncio.sleep(60)
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
    await asyncio.sleep(0)


async def test_an_error_of_the_block_ends_the_tasks() -> None:
    with pytest.raises(ValueError, match="of the block"):
        async with TaskGroup() as group:
            group.create_task(asyncio.sleep(60))
            raise ValueError("of the block")
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("group", [in_group, at_once])
async def test_a_timeout_around_a_group_that_fails_as_it_passes_is_a_timeout(
    group: Callable[..., Awaitable[None]],
) -> None:
    async def fail_when_cancelled() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("of a task")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await group(fail_when_cancelled())
    with anyio.move_on_after(0.01) as scope:
        await group(fail_when_cancelled())
    assert scope.cancelled_caught
    await asyncio.sleep(0)


async def test_a_group_in_the_cleaning_up_after_a_cancellation_works_as_ever() -> None:
    seen: list[BaseException] = []

    async def clean_up() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            try:
                await in_group(fail(ValueError("of a task")))
            except ValueError as error:
                seen.append(error)

    task = asyncio.create_task(clean_up())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert len(seen) == 1


async def test_tasks_that_are_cancelled_have_ended_afterwards_even_if_the_caller_is_cancelled_again() -> None:
    async def end_slowly() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            raise ValueError("which nobody looks at")

    tasks = [asyncio.create_task(end_slowly()) for _ in range(3)]
    await asyncio.sleep(0)
    caller = asyncio.create_task(cancel_all(*tasks))
    await asyncio.sleep(0.01)
    caller.cancel()
    await asyncio.wait([caller])
    assert caller.cancelled()
    assert all(task.done() for task in tasks)
