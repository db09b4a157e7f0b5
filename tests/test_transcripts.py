"""The stream of transcripts: everything, once, whole, in bounded memory, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from alli_async import (
    AlliClient,
    AlliError,
    ConfigurationError,
    IncompleteError,
    NotFoundError,
    RawTranscript,
    ResponseTooLargeError,
    RetryPolicy,
    ServerError,
    Transcript,
)
from alli_async._bulk import transcripts, trust, walks
from alli_async.sandbox import Churn, Sandbox
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer, chat, conversation
from tests.test_operations import MODES, mode_name
from tests.test_pages import replying

STUBBORN = RetryPolicy(base=0.001, cap=0.002, max_attempts=12, quota=100_000)


def ids_of(result: Transcript | RawTranscript) -> list[str]:
    if isinstance(result, RawTranscript):
        return [each["id"] for each in json.loads(result.json)["chats"]]
    return [each.id for each in result.chats]


def left_behind(before: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    ours = ("alli_async/_bulk", "alli_async/_transport")
    return {task for task in asyncio.all_tasks() - before if any(place in repr(task) for place in ours)}


async def nothing_left(before: set[asyncio.Task[Any]]) -> None:
    """Wait for the work to end, which it does by itself, and soon."""
    gc.collect()
    async with asyncio.timeout(10):
        while left_behind(before):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("raw", [False, True], ids=["structs", "raw"])
@pytest.mark.parametrize("mode", MODES, ids=mode_name)
async def test_every_conversation_comes_once_with_every_chat_in_each_mode(
    make_client: ClientFactory, mode: dict[str, Any], raw: bool
) -> None:
    async with Sandbox(conversations=400, seed=5, **mode) as sandbox:
        client = make_client(sandbox).with_options(retry=STUBBORN)
        stream: Any = client.conversations.transcripts(raw=raw)  # type: ignore[call-overload]
        found = {}
        async for each in stream:
            assert each.id not in found
            found[each.id] = ids_of(each)
        assert found == {each: sandbox.chat_ids(each) for each in sandbox.conversation_ids()}
        assert stream.stats.conversations == 400
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
        stream: Any = api.transcripts(ordered=True, raw=raw)  # type: ignore[call-overload]
        assert [each.id async for each in stream] == expected


@pytest.mark.parametrize("embed_order", ["oldest_first", "newest_first"])
async def test_chats_are_fetched_only_where_the_embedded_ones_are_not_all(
    make_client: ClientFactory, embed_order: Any
) -> None:
    async with Sandbox(conversations=500, embed=20, embed_order=embed_order) as sandbox:
        stream = make_client(sandbox).conversations.transcripts()
        found = [each async for each in stream]
        long = [len(each.chats) for each in found if len(each.chats) > 20]
        # The newest twenty, which came with the list, are the last page where they reach that far.
        pages = sum(-(-(chats - 20) // 100) for chats in long)
        assert pages < sum(-(-chats // 100) for chats in long)
        assert sandbox.count("listConversationChats") == pages
        assert 10 <= sandbox.count("listConversations") <= 22


@pytest.mark.parametrize("conversations", [0, 1, 2, 50, 51, 60, 100, 101, 149, 150])
async def test_a_small_job_pays_at_most_three_requests_for_its_proof(
    make_client: ClientFactory, conversations: int
) -> None:
    async with Sandbox(conversations=conversations, embed="all") as sandbox:
        found = [each async for each in make_client(sandbox).conversations.transcripts()]
        assert len(found) == conversations
        walk = max(1, -(-conversations // 50))
        assert walk <= sandbox.count() <= walk + 3


async def test_filters_select_and_what_they_select_is_whole(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=300) as sandbox:
        api = make_client(sandbox).conversations
        active = {each.id async for each in api.list(active_only=True)}
        found = {each.id async for each in api.transcripts(active_only=True)}
        assert found == active != set(sandbox.conversation_ids())


@pytest.mark.parametrize("cursor", ["offset", "keyset"])
async def test_no_conversation_is_lost_while_chats_arrive(make_client: ClientFactory, cursor: Any) -> None:
    async with Sandbox(conversations=1500, cursor=cursor, churn=Churn(new_chats=3)) as sandbox:
        before = {each: set(sandbox.chat_ids(each)) for each in sandbox.conversation_ids()}
        found: dict[str, set[str]] = {}
        async for each in make_client(sandbox).conversations.transcripts():
            assert each.id not in found
            found[each.id] = set(ids_of(each))
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
            found[each.id] = set(ids_of(each))
        assert before.keys() <= found.keys()
        assert all(chats <= found[each] for each, chats in before.items())
        # What was taken on the word of a count that proves to be a lie is given again.
        assert not again or mode["chat_count"] == "user"


# --- the word of chat_count -------------------------------------------------------------------------------


def listing(conversations: list[dict[str, Any]], totals: dict[str, int], fresh: dict[str, int]) -> Any:
    """A server with one page of conversations a fifty, these totals of chats, and these fresh counts."""

    def reply(path: str, query: dict[str, str]) -> bytes:
        parts = path.split("/")
        if path.endswith("/chats"):
            some = [chat(n) for n in range(totals[parts[-2]])]
            return answer(200, {"chats": some, "pageNo": 1, "totalCount": len(some)})
        if parts[-1] != "conversations":
            return answer(200, conversation(id=parts[-1], chatCount=fresh[parts[-1]]))
        start = int(query.get("cursor", "0"))
        cursor = str(start + 50) if start + 50 < len(conversations) else None
        return answer(200, {"conversations": conversations[start : start + 50], "cursor": cursor})

    return replying(reply)


def embedded(number: int, chats: int, count: int | None = None) -> dict[str, Any]:
    return conversation(
        id=f"c{number}", chats=[chat(n) for n in range(chats)], chatCount=chats if count is None else count
    )


@pytest.mark.parametrize("raw", [False, True], ids=["structs", "raw"])
async def test_a_count_that_lies_from_the_start_is_never_believed(make_client: ClientFactory, raw: bool) -> None:
    conversations = [embedded(n, 5) for n in range(120)]
    server = listing(conversations, {f"c{n}": 30 for n in range(120)}, {f"c{n}": 5 for n in range(120)})
    async with ScriptedServer(server) as served:
        stream: Any = make_client(served).conversations.transcripts(raw=raw)  # type: ignore[call-overload]
        sizes = [len(ids_of(each)) async for each in stream]
        assert sizes == [30] * 120


async def test_a_count_that_has_only_moved_along_is_still_believed(make_client: ClientFactory) -> None:
    conversations = [embedded(0, 2, count=4), *[embedded(n, 5) for n in range(1, 120)]]
    totals = {"c0": 6} | {f"c{n}": 5 for n in range(1, 120)}
    async with ScriptedServer(listing(conversations, totals, {"c0": 6})) as served:
        found = {each.id: len(each.chats) async for each in make_client(served).conversations.transcripts()}
        assert found == totals
        assert len(served.requests) < 12


async def test_what_was_taken_on_a_word_that_is_broken_later_is_given_again_whole(
    make_client: ClientFactory,
) -> None:
    conversations = [embedded(n, 5) for n in range(150)]
    conversations[149] = embedded(149, 3, count=5)
    totals = {f"c{n}": 5 for n in range(150)} | {"c3": 9, "c149": 8}
    fresh = {f"c{n}": 5 for n in range(150)}
    async with ScriptedServer(listing(conversations, totals, fresh)) as served:
        found: dict[str, list[int]] = {}
        stream = make_client(served).conversations.transcripts()
        async for each in stream:
            found.setdefault(each.id, []).append(len(each.chats))
            assert (each.id in stream.again) == (len(found[each.id]) > 1)
        assert {each: sizes[-1] for each, sizes in found.items()} == totals
        assert found["c3"] == [5, 9]
        assert sum(map(len, found.values())) == 151
        assert (stream.stats.conversations, stream.stats.chats) == (150, sum(totals.values()))


async def test_a_count_that_moves_while_it_is_asked_for_proves_nothing(make_client: ClientFactory) -> None:
    conversations = [embedded(n, 5) for n in range(150)]
    conversations[149] = embedded(149, 3, count=5)
    inner = listing(conversations, {f"c{n}": 5 for n in range(150)}, {})
    chats = itertools.count(8)

    async def one_more_at_each_look(exchange: Any) -> None:
        target = exchange.request.target
        if target.endswith("/c149"):
            await exchange.send(answer(200, conversation(id="c149", chatCount=next(chats))))
        elif "/c149/" in target:
            some = [chat(n) for n in range(next(chats))]
            await exchange.send(answer(200, {"chats": some, "pageNo": 1, "totalCount": len(some)}))
        else:
            await inner(exchange)

    async with ScriptedServer(one_more_at_each_look) as served:
        stream = make_client(served).conversations.transcripts()
        found = [(each.id, len(each.chats)) async for each in stream]
        assert sorted(found) == sorted([*((f"c{n}", 5) for n in range(149)), ("c149", 8)])
        assert not stream.again
        assert len(served.requests) < 20


async def test_on_a_busy_account_every_conversation_still_comes_once(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=1000, churn=Churn(new_chats=40)) as sandbox:
        before = {each: set(sandbox.chat_ids(each)) for each in sandbox.conversation_ids()}
        found = [(each.id, set(ids_of(each))) async for each in make_client(sandbox).conversations.transcripts()]
        assert len(found) == 1000
        assert all(before[each] <= chats for each, chats in found)


async def test_more_embedded_chats_than_the_count_break_its_word_at_once(make_client: ClientFactory) -> None:
    conversations = [embedded(n, 5, count=3) for n in range(60)]
    server = listing(conversations, {f"c{n}": 7 for n in range(60)}, {})
    async with ScriptedServer(server) as served:
        found = [len(each.chats) async for each in make_client(served).conversations.transcripts()]
        assert found == [7] * 60


async def test_too_many_taken_on_a_broken_word_are_an_error_and_not_a_silence(
    make_client: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcripts, "CountTrust", lambda: trust.CountTrust(keep=10))
    conversations = [embedded(n, 5) for n in range(150)]
    conversations[149] = embedded(149, 3, count=5)
    totals = {f"c{n}": 5 for n in range(150)} | {"c149": 8}
    async with ScriptedServer(listing(conversations, totals, {f"c{n}": 5 for n in range(150)})) as served:
        with pytest.raises(IncompleteError, match="may lack chats"):
            async for _ in make_client(served).conversations.transcripts():
                pass


# --- chats that came with the list -------------------------------------------------------------------------


def chats_of(total: int, embedded_chats: list[dict[str, Any]], count: int, page_size: int = 100) -> Any:
    """A server of eight like conversations, of so many chats each, in pages."""
    rows = [conversation(id=f"c{n}", chats=embedded_chats, chatCount=count) for n in range(8)]
    sent = [chat(n) for n in range(total)]

    def reply(path: str, query: dict[str, str]) -> bytes:
        if path.endswith("/chats"):
            number = int(query["pageNo"])
            some = sent[(number - 1) * page_size : number * page_size]
            return answer(200, {"chats": some, "pageNo": number, "totalCount": total})
        if not path.endswith("conversations"):
            return answer(200, conversation(id=path.rpartition("/")[2], chatCount=count))
        return answer(200, {"conversations": rows, "cursor": None})

    return replying(reply)


NEWEST = [chat(n) for n in range(100, 120)]


@pytest.mark.parametrize("raw", [False, True], ids=["structs", "raw"])
@pytest.mark.parametrize(
    ("total", "embedded_chats", "pages"),
    [
        pytest.param(120, NEWEST, 1, id="they go on where the page ends"),
        pytest.param(120, NEWEST[::-1], 1, id="newest first"),
        pytest.param(115, [chat(n) for n in range(95, 115)], 1, id="they overlap the page"),
        pytest.param(220, [chat(n) for n in range(200, 220)], 2, id="they go on after two pages"),
        pytest.param(250, [chat(n) for n in range(230, 250)], 3, id="they do not reach back to a page's end"),
        pytest.param(120, [chat(n) for n in range(20)], 2, id="they are the oldest"),
        pytest.param(120, [chat(0), *NEWEST[1:]], 2, id="one of them stands elsewhere"),
        pytest.param(120, [NEWEST[1], *NEWEST[1:]], 2, id="one of them came twice"),
        pytest.param(115, [chat(n) for n in (95, 97, 96, *range(98, 115))], 2, id="the overlap is out of order"),
        pytest.param(
            120, [chat(n, timestamp=5 + n) for n in range(100, 120)], 2, id="they are older than the page"
        ),
        pytest.param(119, NEWEST, 2, id="one was deleted since"),
        pytest.param(121, NEWEST, 2, id="one was added since"),
        pytest.param(120, [], 2, id="there are none"),
    ],
)
async def test_embedded_chats_make_the_last_page_only_where_they_join_without_a_seam(
    make_client: ClientFactory, total: int, embedded_chats: list[dict[str, Any]], pages: int, raw: bool
) -> None:
    async with ScriptedServer(chats_of(total, embedded_chats, total)) as served:
        stream: Any = make_client(served).conversations.transcripts(raw=raw)  # type: ignore[call-overload]
        found = [ids_of(each) async for each in stream]
        assert found == [[f"chat-{n}" for n in range(total)]] * 8
        asked = [request.target for request in served.requests if "/chats" in request.target]
        assert len(asked) == 8 * pages


@pytest.mark.parametrize("page_size", [7, 40, 100, 1000])
@pytest.mark.parametrize("count", [0, 30, 333, 1_000_000_000])
async def test_a_count_or_a_size_of_page_that_is_not_what_was_expected_costs_no_chat(
    make_client: ClientFactory, page_size: int, count: int
) -> None:
    async with ScriptedServer(chats_of(333, [chat(n) for n in range(313, 333)], count, page_size)) as served:
        found = [ids_of(each) async for each in make_client(served).conversations.transcripts()]
        assert found == [[f"chat-{n}" for n in range(333)]] * 8
        assert len(served.requests) < 8 * (333 // page_size + 70)


@pytest.mark.parametrize("mode", [{}, {"cursor": "keyset"}, {"nulls": "first"}], ids=mode_name)
async def test_pages_too_large_to_be_taken_are_asked_for_again_smaller(
    make_client: ClientFactory, mode: dict[str, Any]
) -> None:
    async with Sandbox(conversations=600, embed="all", **mode) as sandbox:
        page = await make_client(sandbox).conversations.list(page_size=50)
        client = make_client(sandbox, max_response_bytes=len(page.raw) * 2 // 3)
        found = {each.id: ids_of(each) async for each in client.conversations.transcripts(raw=True)}
        assert found == {each: sandbox.chat_ids(each) for each in sandbox.conversation_ids()}


async def test_a_conversation_too_large_to_be_taken_is_an_error(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=60, embed="all") as sandbox:
        with pytest.raises(ResponseTooLargeError, match="max_response_bytes"):
            async for _ in make_client(sandbox, max_response_bytes=2000).conversations.transcripts():
                pass
        assert sandbox.count() < 15


# --- rows that come again ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_row_that_is_pushed_onto_the_next_page_comes_once(
    make_client: ClientFactory, ordered: bool
) -> None:
    rows = [embedded(n, 1) for n in range(50)] + [embedded(n, 1) for n in range(47, 130)]
    async with ScriptedServer(listing(rows, {f"c{n}": 1 for n in range(130)}, {})) as served:
        found = [each.id async for each in make_client(served).conversations.transcripts(ordered=ordered)]
        assert sorted(found) == sorted(f"c{n}" for n in range(130))


async def test_rows_that_moved_in_a_list_too_long_to_remember_are_an_error_and_not_a_silence(
    make_client: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walks, "_REMEMBERED_IDS", 60)
    rows = [embedded(n, 1) for n in range(50)] + [embedded(n, 1) for n in range(47, 130)]
    async with ScriptedServer(listing(rows, {f"c{n}": 1 for n in range(130)}, {})) as served:
        with pytest.raises(IncompleteError, match="more than 60"):
            async for _ in make_client(served).conversations.transcripts(ordered=True):
                pass


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


async def test_skip_also_holds_when_a_broken_word_is_looked_after(make_client: ClientFactory) -> None:
    conversations = [embedded(n, 5) for n in range(100)]
    conversations[99] = embedded(99, 3, count=5)
    inner = listing(conversations, {f"c{n}": 5 for n in range(100)} | {"c99": 8}, {"c99": 5})

    async def send(exchange: Any) -> None:
        target = exchange.request.target
        gone = target.endswith(("/c3", "/c4"))
        fresh = target.rpartition("/")[2]
        if gone:
            await exchange.send(answer(404))
        elif fresh.startswith("c") and fresh[1:].isdigit():
            await exchange.send(answer(200, conversation(id=fresh, chatCount=5)))
        else:
            await inner(exchange)

    async with ScriptedServer(send) as served:
        stream = make_client(served).conversations.transcripts(on_error="skip")
        assert len([each async for each in stream]) == 100
        assert {each.id for each in stream.skipped} == {"c3", "c4"}
    async with ScriptedServer(send) as served:
        with pytest.raises(NotFoundError):
            async for _ in make_client(served).conversations.transcripts():
                pass


async def test_an_error_of_the_list_is_raised_even_with_skip_and_carries_the_cursor(
    make_client: ClientFactory,
) -> None:
    async with Sandbox(conversations=200) as sandbox:
        sandbox.script("listConversations", ["ok", "ok", *["500"] * 4])
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
        await nothing_left(before)
        assert client._connection.throttle.in_flight == 0
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
        await nothing_left(before)


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


# --- raw --------------------------------------------------------------------------------------------------


async def test_raw_is_what_the_server_sent_but_for_the_chats(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=150) as sandbox:
        client = make_client(sandbox)
        sent = {}
        async for page in client.conversations.list(order="FIRST_CHAT_TIME_ASC").pages():
            for each in json.loads(page.raw)["conversations"]:
                sent[each["id"]] = each
        chats: dict[str, list[Any]] = {}
        for each in sent:
            pages = [json.loads(page.raw)["chats"] async for page in client.conversations.list_chats(each).pages()]
            chats[each] = [one for page in pages for one in page]
        async for each in client.conversations.transcripts(raw=True):
            assert json.loads(each.json) == {**sent[each.id], "chats": chats[each.id]}
            assert list(json.loads(each.json)) == list(sent[each.id])
            assert each.chat_count == len(chats[each.id])
            assert b"\n" not in each.json


async def test_raw_keeps_numbers_and_escapes_to_the_letter_and_holds_no_newline(
    make_client: ClientFactory,
) -> None:
    body = b"""{"conversations": [
      {"id": "c0", "title": "\\u00e9\\/ \\n", "createdAt": 1704067200123.4500, "isEnd": false,
       "big": 123456789012345678901234567890, "chats": [{"id":"a","timestamp":2}, {"id":"b","timestamp":1}],
       "chatCount": 2}
    ], "cursor": null}"""
    pages = b'{"pageNo": 1, "chats": [\r\n {"id":"b","timestamp":1.50},{"id":"a","timestamp":2}], "totalCount": 2}'

    async with ScriptedServer(answer(200, body), answer(200, pages)) as served:
        (found,) = [each async for each in make_client(served).conversations.transcripts(raw=True)]
        assert b"\n" not in found.json
        assert b"\r" not in found.json
        assert b'"\\u00e9\\/ \\n"' in found.json
        assert b"1704067200123.4500" in found.json
        assert b"123456789012345678901234567890" in found.json
        assert b'{"id":"b","timestamp":1.50},{"id":"a","timestamp":2}' in found.json


async def test_a_lone_surrogate_in_one_message_does_not_cost_its_page(make_client: ClientFactory) -> None:
    conversations = [embedded(n, 1) for n in range(5)]
    conversations[2]["chats"] = [chat(0, message="@")]
    body = json.dumps({"conversations": conversations, "cursor": None}).replace('"@"', r'"a\ud800b"').encode()

    async def send(exchange: Any) -> None:
        if "/chats" in exchange.request.target:
            await exchange.send(answer(200, {"chats": [chat(0)], "pageNo": 1, "totalCount": 1}))
        else:
            await exchange.send(answer(200, body))

    async with ScriptedServer(send) as served:
        api = make_client(served).conversations
        found = {each.id: each.conversation.chats[0].message async for each in api.transcripts()}
        assert found["c2"] == "a�b"
        assert len(found) == 5
        assert len([each async for each in api.transcripts(raw=True)]) == 5


async def test_a_page_that_is_not_what_the_contract_says_names_the_record(make_client: ClientFactory) -> None:
    conversations = [embedded(n, 1) for n in range(5)]
    conversations[3]["chats"][0]["timestamp"] = "noon"
    async with ScriptedServer(answer(200, {"conversations": conversations, "cursor": None})) as served:
        with pytest.raises(AlliError, match=r"\$\.conversations\[3\]\.chats\[0\]\.timestamp"):
            async for _ in make_client(served).conversations.transcripts(raw=True):
                pass
