"""Work that holds the event loop is spread over its turns. Turns are counted, not timed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from alli_async._aio.turns import Turns, loop_turns
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory


async def turns_of(turns: Turns, sizes: Sequence[int]) -> list[tuple[int, int]]:
    """The turns of the loop in which pieces of work of these sizes are done, by piece, in the order done."""
    done: list[tuple[int, int]] = []
    turn = 0

    async def work(piece: int, size: int) -> None:
        await turns.take(size)
        done.append((piece, turn))

    tasks = [asyncio.create_task(work(piece, size)) for piece, size in enumerate(sizes)]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        turn += 1
    return done


async def test_work_that_fits_is_done_in_one_turn() -> None:
    assert {turn for _, turn in await turns_of(Turns(100), [40, 40, 20])} == {0}


async def test_a_turn_takes_on_no_more_than_its_size_and_keeps_the_order() -> None:
    done = await turns_of(Turns(100), [40] * 9)
    assert [piece for piece, _ in done] == [*range(9)]
    numbers = [turn for _, turn in done]
    assert max(numbers.count(turn) for turn in numbers) == 2


async def test_work_larger_than_a_turn_has_one_for_itself() -> None:
    numbers = [turn for _, turn in await turns_of(Turns(100), [10, 500, 500, 10])]
    assert len(set(numbers[1:3])) == 2
    assert numbers == sorted(numbers)


async def test_work_that_is_cancelled_while_it_waits_takes_no_room() -> None:
    turns = Turns(100)
    at_once, cancelled, waiting = (asyncio.create_task(turns.take(100)) for _ in range(3))
    await asyncio.sleep(0)
    assert (at_once.done(), cancelled.done()) == (True, False)
    cancelled.cancel()
    async with asyncio.timeout(30):
        await waiting
    assert cancelled.cancelled()


def test_each_event_loop_has_turns_of_its_own() -> None:
    async def turns() -> Turns:
        return loop_turns()

    with asyncio.Runner() as one, asyncio.Runner() as other:
        assert one.run(turns()) is one.run(turns()) is not other.run(turns())


async def test_a_consumer_that_awaits_nothing_itself_leaves_turns_to_other_tasks(
    make_client: ClientFactory,
) -> None:
    with Sandbox(conversations=100, seed=3) as sandbox:
        turn, seen = 0, []

        async def other() -> None:
            nonlocal turn
            while True:
                await asyncio.sleep(0)
                turn += 1

        task = asyncio.create_task(other())
        async for _ in make_client(sandbox).conversations.transcripts():
            seen.append(turn)
            time.sleep(0.003)  # noqa: ASYNC251 - a consumer that computes
        task.cancel()
    assert len(seen) == 100
    longest = max(seen.count(each) for each in seen)
    assert longest <= 5
