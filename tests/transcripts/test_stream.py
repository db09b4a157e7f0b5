"""The stream of transcripts: everything, once, whole, in bounded memory, and nothing left behind."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from alli_async import AlliClient, ConfigurationError, NotFoundError, ServerError
from alli_async.sandbox import Churn, Sandbox
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer
from tests.support.chats import embedded, listing
from tests.support.modes import MODES, STUBBORN, mode_name
from tests.support.streams import (
    chat_ids,
    chats_in,
    left_behind,
    missing,
    read_chats,
    wait_until_nothing_is_left,
)


@pytest.mark.parametrize("raw", [False, True], ids=["structs", "raw"])
@pytest.mark.parametrize("mode", MODES, ids=mode_name)
async def test_every_conversation_comes_once_with_every_chat_in_each_mode(
    make_client: ClientFactory, mode: dict[str, Any], raw: bool
) -> None:
    async with Sandbox(conversations=200, seed=5, **mode) as sandbox:
        client = make_client(sandbox).with_options(retry=STUBBORN)
        stream: Any = client.conversations.transcripts(raw=raw)
        found = {}
        async for each in stream:
            assert each.id not in found
            found[each.id] = chat_ids(each)
        assert found == {each: sandbox.chat_ids(each) for each in sandbox.conversation_ids()}
        assert stream.stats.conversations == 200
        assert stream.stats.chats == sum(map(len, found.values()))
        assert stream.stats.in_flight == 0
        assert stream.stats.requests == sandbox.count()
        assert not stream.skipped


@pytest.mark.parametrize("raw", [False, True], ids=["structs", "raw"])
@pytest.mark.parametrize("mode", [{"embed": 0}, {"nulls": "first"}, {"chat_count": "user"}], ids=mode_name)
async def test_ordered_is_by_first_chat_time_whatever_is_done_first(
    make_client: ClientFactory, mode: dict[str, Any], raw: bool
) -> None:
    async with Sandbox(conversations=300, **mode) as sandbox:
        api = make_client(sandbox).conversations
        expected = [each.id async for each in api.list(order="FIRST_CHAT_TIME_ASC")]
        stream: Any = api.transcripts(ordered=True, raw=raw)
        assert [each.id async for each in stream] == expected


async def test_filters_select_and_what_they_select_is_whole(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=300) as sandbox:
        api = make_client(sandbox).conversations
        active = {each.id async for each in api.list(active_only=True)}
        found = {each.id async for each in api.transcripts(active_only=True)}
        assert found == active != set(sandbox.conversation_ids())


@pytest.mark.parametrize("cursor", ["offset", "keyset"])
async def test_no_conversation_is_lost_while_chats_arrive(make_client: ClientFactory, cursor: Any) -> None:
    async with Sandbox(conversations=800, cursor=cursor, churn=Churn(new_chats=3)) as sandbox:
        before = {each: set(sandbox.chat_ids(each)) for each in sandbox.conversation_ids()}
        found: dict[str, set[str]] = {}
        async for each in make_client(sandbox).conversations.transcripts():
            assert each.id not in found
            found[each.id] = set(chat_ids(each))
        with_chats = {each for each, chats in before.items() if chats}
        assert with_chats <= found.keys()
        assert all(before[each] <= found[each] for each in with_chats)


SWITCHES: dict[str, Sequence[Any]] = {
    "cursor": ("offset", "keyset"),
    "bounds": ("closed", "open"),
    "nulls": ("last", "first"),
    "unit": ("ms", "s"),
    "embed": (20, 0, "all"),
    "embed_order": ("oldest_first", "newest_first"),
    "chat_count": ("total", "user"),
    "first_chat_filters": ("honoured", "ignored"),
    "first_chat_orders": ("honoured", "refused"),
    "crowd": (0, 300),
    "churn": (None, Churn(new_chats=2)),
}


def triples(options: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Rows in which every three settings of three switches meet at least once."""
    draw = random.Random(1)
    names = list(options)
    left = {
        frozenset(zip(three, values, strict=True))
        for three in itertools.combinations(names, 3)
        for values in itertools.product(*(range(len(options[name])) for name in three))
    }
    rows = []
    while left:
        candidates = [{name: draw.randrange(len(options[name])) for name in names} for _ in range(60)]
        best = max(candidates, key=lambda row: sum(each <= row.items() for each in left))
        met = {each for each in left if each <= best.items()}
        left -= met
        if met:
            rows.append({name: options[name][value] for name, value in best.items()})
    return rows


CROSSED = triples(SWITCHES)


@pytest.mark.slow
@pytest.mark.parametrize("mode", CROSSED, ids=range(len(CROSSED)))
async def test_nothing_is_lost_and_nothing_comes_twice_however_the_switches_stand_together(
    make_client: ClientFactory, mode: dict[str, Any]
) -> None:
    async with Sandbox(conversations=800, seed=2, **mode) as sandbox:
        before = {each: set(sandbox.chat_ids(each)) for each in sandbox.conversation_ids()}
        found: dict[str, set[str]] = {}
        again = 0
        async for each in make_client(sandbox).conversations.transcripts(raw=True):
            again += each.id in found
            found[each.id] = set(chat_ids(each))
        assert before.keys() <= found.keys()
        assert all(chats <= found[each] for each, chats in before.items())
        # What was taken on the word of a count that proves to be a lie is given again.
        assert not again or mode["chat_count"] == "user"


# --- rows that come again ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_row_that_is_pushed_onto_the_next_page_comes_once(
    make_client: ClientFactory, ordered: bool
) -> None:
    rows = [embedded(n, 1) for n in range(50)] + [embedded(n, 1) for n in range(47, 130)]
    async with ScriptedServer(listing(rows, {f"c{n}": 1 for n in range(130)}, {})) as served:
        found = [each.id async for each in make_client(served).conversations.transcripts(ordered=ordered)]
        assert sorted(found) == sorted(f"c{n}" for n in range(130))


@pytest.mark.parametrize("nulls", ["first", "last"])
async def test_ordered_loses_nothing_while_conversations_get_their_first_chat(
    make_client: ClientFactory, nulls: Any
) -> None:
    async with Sandbox(conversations=800, seed=5, nulls=nulls, churn=Churn(new_chats=4)) as sandbox:
        stream = make_client(sandbox).conversations.transcripts(ordered=True, raw=True)
        found = [each.id async for each in stream]
        assert sorted(found) == sorted(sandbox.conversation_ids())


async def test_a_page_of_nothing_but_repeats_is_passed_over(make_client: ClientFactory) -> None:
    rows = [embedded(n, 1) for n in range(50)] * 2 + [embedded(50, 1)]
    async with ScriptedServer(listing(rows, {f"c{n}": 1 for n in range(51)}, {})) as served:
        assert len([each async for each in make_client(served).conversations.transcripts()]) == 51


# --- errors -----------------------------------------------------------------------------------------------


def some_missing(missing: str, total: int = 60) -> Any:
    """Like `listing`, but one conversation's chats are not to be had."""
    conversations = [embedded(n, 0, count=5) for n in range(total)]
    inner = listing(conversations, {f"c{n}": 5 for n in range(total)}, {})

    async def send(exchange: Any) -> None:
        if f"/{missing}/" in exchange.request.target:
            await exchange.send(answer(404))
        else:
            await inner(exchange)

    return send


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("missing", ["c0", "c31"])
async def test_an_error_ends_the_stream_and_its_work(
    make_client: ClientFactory, ordered: bool, missing: str
) -> None:
    async with ScriptedServer(some_missing(missing)) as served:
        client = make_client(served)
        before = asyncio.all_tasks()
        with pytest.raises(NotFoundError) as raised:
            async for _ in client.conversations.transcripts(ordered=ordered):
                pass
        assert raised.value.__context__ is None
        assert not left_behind(before)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("missing", ["c0", "c31"])
async def test_skip_goes_on_and_says_what_it_went_past(
    make_client: ClientFactory, ordered: bool, missing: str
) -> None:
    async with ScriptedServer(some_missing(missing)) as served:
        stream = make_client(served).conversations.transcripts(ordered=ordered, on_error="skip")
        found = [each.id async for each in stream]
        assert set(found) == {f"c{n}" for n in range(60)} - {missing}
        assert [each.id for each in stream.skipped] == [missing]
        assert isinstance(stream.skipped[0].error, NotFoundError)


async def test_an_error_of_the_list_is_raised_even_with_skip_and_carries_the_cursor(
    make_client: ClientFactory,
) -> None:
    async with Sandbox(conversations=600) as sandbox:
        sandbox.script("listConversations", ["ok"] * 8 + ["500"] * 40)
        with pytest.raises(ServerError) as raised:
            async for _ in make_client(sandbox).conversations.transcripts(ordered=True, on_error="skip"):
                pass
        assert raised.value.cursor


async def test_an_error_of_the_callers_own_middleware_comes_out_as_it_is(make_client: ClientFactory) -> None:
    async def fails(request: Any, call_next: Any) -> Any:
        if request.operation == "listConversationChats":
            raise LookupError("mine")
        return await call_next(request)

    async with Sandbox(conversations=100) as sandbox:
        with pytest.raises(LookupError, match="mine"):
            async for _ in make_client(sandbox, middlewares=[fails]).conversations.transcripts():
                pass


# --- ending early -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [False, True])
async def test_breaking_out_leaves_no_task_and_no_request_behind(
    make_client: ClientFactory, ordered: bool
) -> None:
    async with Sandbox(conversations=2000, embed=0, latency=0.005) as sandbox:
        client = make_client(sandbox)
        before = asyncio.all_tasks()
        async for _ in client.conversations.transcripts(ordered=ordered):
            break
        await wait_until_nothing_is_left(before)
        assert client.limits.in_flight == 0
        async with asyncio.timeout(10):
            while sandbox.in_flight:  # what was on its way already is served to its end
                await asyncio.sleep(0.01)
        asked = sandbox.count()
        await asyncio.sleep(0.05)
        assert sandbox.count() == asked
        await client.conversations.list()


async def test_leaving_the_context_ends_the_work_at_once(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=2000, embed=0) as sandbox:
        client = make_client(sandbox)
        before = asyncio.all_tasks()
        async with client.conversations.transcripts() as stream:
            async for _ in stream:
                break
        assert not left_behind(before)
        await stream.aclose()


async def test_a_consumer_that_is_cancelled_ends_the_work(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=2000, embed=0) as sandbox:
        client = make_client(sandbox)
        before = asyncio.all_tasks()

        async def consume() -> None:
            async for _ in client.conversations.transcripts():
                await asyncio.sleep(0.001)

        task = asyncio.create_task(consume())
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        # The cancelled frame holds the iterator until the task is let go; `async with` does not wait for that.
        del task
        await wait_until_nothing_is_left(before)


async def test_a_slow_consumer_holds_the_walk_back(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=6000, embed="all") as sandbox:
        stream = make_client(sandbox).conversations.transcripts()
        async with stream:
            async for _ in stream:
                await asyncio.sleep(0.3)
                break
            # A page in each walker's hands, a few between walk and consumer; 120 in all.
            assert sandbox.count("listConversations") <= 40


async def test_no_more_chats_are_fetched_at_a_time_than_concurrency_says(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=200, embed=0, latency=0.002) as sandbox:
        stream = make_client(sandbox).conversations.transcripts(concurrency=2)
        assert len([each async for each in stream]) == 200
        # Two conversations, one page of the list; a long conversation's own pages come together.
        short = max(len(sandbox.chat_ids(each)) for each in sandbox.conversation_ids()) // 100 + 1
        assert sandbox.peak_in_flight <= 2 * short + 1


async def test_a_stream_that_was_never_walked_is_left_without_a_trace(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=10) as sandbox:
        async with make_client(sandbox).conversations.transcripts():
            pass
        assert sandbox.count() == 0


async def test_a_stream_is_walked_once(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=10) as sandbox:
        stream = make_client(sandbox).conversations.transcripts()
        assert len([each async for each in stream]) == 10
        with pytest.raises(ConfigurationError, match="once"):
            stream.__aiter__()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": "4"}, "concurrency"),
        ({"on_error": "log"}, "on_error"),
    ],
)
async def test_an_option_that_cannot_be_right_is_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        AlliClient("k").conversations.transcripts(**options)


# --- conversations that go ---------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [False, True], ids=["structs", "raw"])
@pytest.mark.parametrize("ordered", [False, True], ids=["", "ordered"])
async def test_a_conversation_that_is_deleted_before_its_chats_are_asked_for_is_not_given(
    make_client: ClientFactory, ordered: bool, raw: bool
) -> None:
    async with Sandbox(conversations=120, embed=0) as sandbox:
        gone = sandbox.conversation_ids()[40:43]
        for each in gone:
            sandbox.after_pages(3, lambda each=each: sandbox.delete_conversations(conversation_id=each))  # type: ignore[misc]
        stream: Any = make_client(sandbox).conversations.transcripts(ordered=ordered, raw=raw)
        found = [each.id async for each in stream]
        assert set(found) >= set(sandbox.conversation_ids())
        assert len(found) == len(set(found))
        assert not stream.skipped


@pytest.mark.parametrize("embed", [0, 20, "all"])
async def test_nothing_is_lost_while_conversations_are_deleted(make_client: ClientFactory, embed: Any) -> None:
    churn = Churn(new_chats=2, deleted_conversations=3)
    async with Sandbox(conversations=600, embed=embed, churn=churn) as sandbox:
        before = chats_in(sandbox)
        found = await read_chats(make_client(sandbox))
        assert missing(before, found, sandbox) == {}


@pytest.mark.parametrize("status", [500, 504])
async def test_a_conversation_that_fails_everywhere_is_skipped_and_costs_no_other(
    make_client: ClientFactory, status: int
) -> None:
    async with Sandbox(conversations=120, embed=0) as sandbox:
        bad = next(each for each in sandbox.conversation_ids()[60:] if sandbox.chat_ids(each))
        sandbox.poison(bad, status, everywhere=True)
        stream = make_client(sandbox).conversations.transcripts(raw=True, on_error="skip")
        found = [each.id async for each in stream]
        assert sorted(found) == sorted({*sandbox.conversation_ids()} - {bad})
        assert len(stream.skipped) == 1
