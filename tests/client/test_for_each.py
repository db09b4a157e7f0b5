from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from alli_async import (
    AlliClient,
    AlliError,
    ClientStateError,
    ConfigurationError,
    Conversation,
    ItemResult,
    NotFoundError,
    PermissionDeniedError,
)
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer, silence


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(conversations=120, seed=3) as served:
        yield served


async def test_each_item_has_a_result_in_the_order_of_the_items(
    sandbox: Sandbox, make_client: ClientFactory
) -> None:
    alli = make_client(sandbox)
    ids = sandbox.conversation_ids()

    async def title(conversation_id: str) -> Conversation:
        return await alli.conversations.set_title(conversation_id, f"Title of {conversation_id}")

    results = [each async for each in alli.conversations.for_each(ids, title)]
    assert [each.item for each in results] == ids
    assert [each.value.title for each in results] == [f"Title of {each}" for each in ids]
    assert all(each.error is None for each in results)
    assert [(await alli.conversations.get(each)).title for each in ids[:3]] == [f"Title of {i}" for i in ids[:3]]


async def test_no_more_calls_are_in_flight_than_asked_for_and_results_wait_in_bounded_number() -> None:
    running = most = begun = 0

    async def call(number: int) -> int:
        nonlocal running, most, begun
        running, begun = running + 1, begun + 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return number

    async with AlliClient("key", base_url="http://127.0.0.1:9") as alli:
        given = 0
        async for result in alli.conversations.for_each(range(100), call, concurrency=4):
            given += 1
            assert result.value == result.item == given - 1
            assert begun - given <= 2 * 4 + 2
            if given == 5:  # a consumer that is slow for once
                await asyncio.sleep(0.1)
        assert given == begun == 100
        assert most == 4


async def test_a_slow_item_holds_up_the_results_and_not_the_calls_behind_it() -> None:
    slow = asyncio.Event()
    done: list[int] = []

    async def call(number: int) -> None:
        if number == 0:
            await slow.wait()
        done.append(number)
        if len(done) == 7:
            slow.set()

    async with AlliClient("key", base_url="http://127.0.0.1:9") as alli:
        results = [each.item async for each in alli.conversations.for_each(range(20), call, concurrency=4)]
    assert results == list(range(20))
    assert done.index(0) >= 7


async def test_an_error_is_raised_after_the_results_of_all_calls_that_succeeded(
    sandbox: Sandbox, make_client: ClientFactory
) -> None:
    alli = make_client(sandbox)
    ids = sandbox.conversation_ids()[:60]
    ids.insert(20, "bm9ib2R5")
    called: list[str] = []
    succeeded: list[str] = []

    async def delete_first(conversation_id: str) -> None:
        called.append(conversation_id)
        await alli.conversations.set_title(conversation_id, "new")
        succeeded.append(conversation_id)

    given: list[str] = []
    with pytest.raises(NotFoundError):
        async for result in alli.conversations.for_each(ids, delete_first, concurrency=8):
            given.append(result.item)
    assert given == [each for each in ids if each in set(succeeded)]
    assert len(called) < 40  # nothing was begun after the error

    left = [each for each in ids if each not in set(given) and each != "bm9ib2R5"]
    again = [each.item async for each in alli.conversations.for_each(left, delete_first)]
    assert again == left
    assert sorted(succeeded) == sorted(set(ids) - {"bm9ib2R5"})


async def test_skip_goes_on_past_a_failed_item_and_its_result_has_the_error(
    sandbox: Sandbox, make_client: ClientFactory
) -> None:
    alli = make_client(sandbox)
    first, second = sandbox.conversation_ids()[:2]
    items = [first, "bm9ib2R5", "", second]
    results = [each async for each in alli.conversations.for_each(items, alli.conversations.get, on_error="skip")]
    assert [type(each.error) for each in results] == [
        type(None),
        NotFoundError,
        ConfigurationError,  # an id that cannot be a segment of a path
        type(None),
    ]
    assert results[3].value.id == second
    with pytest.raises(NotFoundError):
        _ = results[1].value


async def test_skip_raises_a_fault_of_the_function_itself_once_the_others_are_given() -> None:
    async def call(number: int) -> int:
        await asyncio.sleep(0)
        return 10 // (number - 3)

    given: list[int] = []
    async with AlliClient("key", base_url="http://127.0.0.1:9") as alli:
        with pytest.raises(ZeroDivisionError):
            async for result in alli.conversations.for_each(range(1000), call, concurrency=3, on_error="skip"):
                given.append(result.item)
    assert given[:3] == [0, 1, 2]
    assert 3 not in given
    assert len(given) < 20


async def test_skip_raises_an_outage_and_what_was_not_given_is_left(make_client: ClientFactory) -> None:
    async with ScriptedServer(default=answer(503, {"error": "down"})) as server:
        alli = make_client(server, deadline=2)
        with pytest.raises(AlliError) as caught:
            async for result in alli.conversations.for_each(
                ["YQ=="] * 1000, alli.conversations.get, on_error="skip"
            ):
                assert result.error is not None
    assert caught.value.is_outage


async def test_items_may_come_from_an_async_iterable_and_are_taken_only_as_they_are_begun(
    sandbox: Sandbox, make_client: ClientFactory
) -> None:
    alli = make_client(sandbox)
    pages = alli.conversations.list(page_size=50)
    async with alli.conversations.for_each(pages, _chats_of(alli), concurrency=4) as results:
        counts = [(each.item.chat_count, each.value) async for each in results]
    assert len(counts) == 120
    assert all(expected == found for expected, found in counts)

    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    async def refuse(number: int) -> None:
        await asyncio.sleep(0)
        raise PermissionDeniedError("no", status=403)

    source = numbers()
    with pytest.raises(PermissionDeniedError):
        async for _ in alli.conversations.for_each(source, refuse, concurrency=4):
            pytest.fail("no call succeeds")
    assert next(source) == len(taken) - 1 < 10


def _chats_of(alli: AlliClient) -> Any:
    async def count(conversation: Conversation) -> int:
        return len([chat async for chat in alli.conversations.list_chats(conversation.id)])

    return count


async def test_an_error_of_the_items_themselves_comes_after_the_results_of_those_before_it() -> None:
    async def items() -> AsyncIterator[int]:
        yield 1
        yield 2
        raise LookupError("the source broke")

    async def call(number: int) -> int:
        await asyncio.sleep(0.01)
        return number

    given: list[int] = []
    async with AlliClient("key", base_url="http://127.0.0.1:9") as alli:
        with pytest.raises(LookupError, match="the source broke"):
            async for result in alli.conversations.for_each(items(), call):
                given.append(result.value)
    assert given == [1, 2]


async def _left_early(alli: AlliClient, running: set[int]) -> None:
    async def call(number: int) -> None:
        running.add(number)
        try:
            await asyncio.sleep(0 if number == 0 else 3600)
        finally:
            running.discard(number)

    async for result in alli.conversations.for_each(range(100), call, concurrency=8):
        assert result.item == 0
        break


async def test_breaking_out_cancels_the_calls_and_leaves_no_task(capfd: pytest.CaptureFixture[str]) -> None:
    running: set[int] = set()
    before = asyncio.all_tasks()
    async with AlliClient("key", base_url="http://127.0.0.1:9") as alli:
        await _left_early(alli, running)
        gc.collect()
        async with asyncio.timeout(10):
            while running or asyncio.all_tasks() != before:
                await asyncio.sleep(0.01)
    assert capfd.readouterr() == ("", "")


async def test_closing_the_client_ends_the_work_with_a_client_state_error(make_client: ClientFactory) -> None:
    async with ScriptedServer(default=silence) as server:
        alli = make_client(server)
        results = alli.conversations.for_each(["YQ=="] * 100, alli.conversations.get, concurrency=8)

        async def walk() -> None:
            async for _ in results:
                pytest.fail("nothing was answered")

        walking = asyncio.create_task(walk())
        await server.asked()
        await alli.aclose()
        async with asyncio.timeout(10):
            with pytest.raises(ClientStateError):
                await walking


async def test_a_cancelled_consumer_stays_cancelled_and_no_call_is_left(make_client: ClientFactory) -> None:
    async with ScriptedServer(default=silence) as server:
        alli = make_client(server)
        before = asyncio.all_tasks()

        async def walk() -> None:
            async for _ in alli.conversations.for_each(["YQ=="] * 100, alli.conversations.get, concurrency=8):
                pytest.fail("nothing was answered")

        walking = asyncio.create_task(walk())
        await server.asked()
        walking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await walking
        assert not {each for each in asyncio.all_tasks() - before if "_Calls" in repr(each)}
        assert alli.limits.in_flight == 0


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("an-id", print), {}, "items: expected an iterable of items, got str"),
        ((7, print), {}, "items: expected an iterable of items, got int"),
        (([], "get"), {}, "call: expected an async function of one item, got 'get'"),
        (([], print), {"concurrency": 0}, "concurrency: expected a whole number of at least 1, got 0"),
        (([], print), {"on_error": "ignore"}, 'on_error: expected "raise" or "skip", got \'ignore\''),
    ],
)
async def test_what_cannot_be_right_is_refused_at_once(
    arguments: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    async with AlliClient("key", base_url="http://127.0.0.1:9") as alli:
        with pytest.raises(ConfigurationError) as caught:
            alli.conversations.for_each(*arguments, **options)
    assert caught.value.message == message


async def test_nothing_to_do_gives_nothing_and_results_are_walked_once() -> None:
    async with AlliClient("key", base_url="http://127.0.0.1:9") as alli:
        nothing: list[str] = []
        results = alli.conversations.for_each(nothing, alli.conversations.get)
        assert [each async for each in results] == []
        with pytest.raises(ConfigurationError, match="walked once"):
            results.__aiter__()


def test_a_result_says_what_it_is_about() -> None:
    assert ItemResult("a", None, 1).value == 1
