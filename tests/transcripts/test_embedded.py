"""Embedded chats are used in place of a request only where they are proved to be what the pages hold."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from alli_async import IncompleteError, ServerError
from alli_async._aio.channel import Channel
from alli_async._listing.filters import Filters
from alli_async._transcripts.codec import RAW_CODEC
from alli_async._transcripts.engine import Engine
from alli_async.sandbox import Churn, Sandbox
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer, chat, conversation
from tests.support.chats import chats_of, embedded, listing
from tests.support.streams import chat_ids


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
        assert pages <= sandbox.count("listConversationChats") <= pages + 2
        assert 10 <= sandbox.count("listConversations") <= 22


@pytest.mark.parametrize("conversations", [0, 1, 2, 50, 51, 60, 100, 101, 149, 150])
async def test_a_small_job_pays_few_requests_for_its_proof(make_client: ClientFactory, conversations: int) -> None:
    async with Sandbox(conversations=conversations, embed="all") as sandbox:
        found = [each async for each in make_client(sandbox).conversations.transcripts()]
        assert len(found) == conversations
        walk = max(1, -(-conversations // 50))
        # Four that prove embedded chats, the other end, and two that prove the pages contiguous.
        assert walk <= sandbox.count() <= walk + 7


# --- counts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [False, True], ids=["structs", "raw"])
async def test_a_count_that_lies_from_the_start_is_never_believed(make_client: ClientFactory, raw: bool) -> None:
    conversations = [embedded(n, 5) for n in range(120)]
    server = listing(conversations, {f"c{n}": 30 for n in range(120)}, {f"c{n}": 5 for n in range(120)})
    async with ScriptedServer(server) as served:
        stream: Any = make_client(served).conversations.transcripts(raw=raw)
        sizes = [len(chat_ids(each)) async for each in stream]
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
        counts = dict(found)
        assert counts.pop("c149") >= 8
        assert len(found) == 150
        assert counts == {f"c{n}": 5 for n in range(149)}
        assert not stream.again
        assert len(served.requests) < 20


async def test_on_a_busy_account_every_conversation_still_comes_once(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=1000, churn=Churn(new_chats=40)) as sandbox:
        before = {each: set(sandbox.chat_ids(each)) for each in sandbox.conversation_ids()}
        found = [(each.id, set(chat_ids(each))) async for each in make_client(sandbox).conversations.transcripts()]
        assert len(found) == 1000
        assert all(before[each] <= chats for each, chats in found)


async def test_more_embedded_chats_than_the_count_break_its_word_at_once(make_client: ClientFactory) -> None:
    conversations = [embedded(n, 5, count=3) for n in range(60)]
    server = listing(conversations, {f"c{n}": 7 for n in range(60)}, {})
    async with ScriptedServer(server) as served:
        found = [len(each.chats) async for each in make_client(served).conversations.transcripts()]
        assert found == [7] * 60


async def test_too_many_taken_on_a_broken_word_are_an_error_and_not_a_silence(
    make_client: ClientFactory,
) -> None:
    conversations = [embedded(n, 5) for n in range(150)]
    conversations[149] = embedded(149, 3, count=5)
    totals = {f"c{n}": 5 for n in range(150)} | {"c149": 8}
    async with ScriptedServer(listing(conversations, totals, {f"c{n}": 5 for n in range(150)})) as served:
        engine = Engine(
            make_client(served).conversations._session,
            RAW_CODEC,
            Filters(),
            workers=4,
            ordered=False,
            skipped=None,
            source=None,
            page_size=50,
            max_used=10,
        )
        with pytest.raises(IncompleteError, match="may lack chats"):
            await engine.run(Channel(1000))


async def test_skip_also_holds_when_a_broken_word_is_looked_after(make_client: ClientFactory) -> None:
    conversations = [embedded(n, 5) for n in range(100)]
    conversations[99] = embedded(99, 3, count=5)
    inner = listing(conversations, {f"c{n}": 5 for n in range(100)} | {"c99": 8}, {"c99": 5})

    async def send(exchange: Any) -> None:
        target = exchange.request.target
        gone = target.endswith(("/c3", "/c4"))
        if gone:
            await exchange.send(answer(500))
        else:
            await inner(exchange)

    async with ScriptedServer(send) as served:
        stream = make_client(served).conversations.transcripts(on_error="skip")
        assert len([each async for each in stream]) == 100
        assert {each.id for each in stream.skipped} == {"c3", "c4"}
    async with ScriptedServer(send) as served:
        with pytest.raises(ServerError):
            async for _ in make_client(served).conversations.transcripts():
                pass


# --- embedded chats in place of the last page ---------------------------------------------------------------

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
        stream: Any = make_client(served).conversations.transcripts(raw=raw)
        found = [chat_ids(each) async for each in stream]
        assert found == [[f"chat-{n}" for n in range(total)]] * 8
        asked = [request.target for request in served.requests if "/chats" in request.target]
        # Two conversations are fetched both ways, and twice more where they disagree.
        assert 8 * pages <= len(asked) <= 8 * pages + 4


@pytest.mark.parametrize("page_size", [7, 40, 100, 1000])
@pytest.mark.parametrize("count", [0, 30, 333, 1_000_000_000])
async def test_a_count_or_a_size_of_page_that_is_not_what_was_expected_costs_no_chat(
    make_client: ClientFactory, page_size: int, count: int
) -> None:
    async with ScriptedServer(chats_of(333, [chat(n) for n in range(313, 333)], count, page_size)) as served:
        found = [chat_ids(each) async for each in make_client(served).conversations.transcripts()]
        assert found == [[f"chat-{n}" for n in range(333)]] * 8
        assert len(served.requests) < 8 * (333 // page_size + 70)


# --- content ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [False, True], ids=["structs", "raw"])
@pytest.mark.parametrize("embed", [20, "all"])
async def test_embedded_chats_that_are_abridged_are_never_used(
    make_client: ClientFactory, embed: Any, raw: bool
) -> None:
    async with Sandbox(conversations=150, embed=embed) as whole:
        stream: Any = make_client(whole).conversations.transcripts()
        expected = {each.id: [one.message for one in each.chats] async for each in stream}
    async with Sandbox(conversations=150, embed=embed, embed_abridged=10) as sandbox:
        stream = make_client(sandbox).conversations.transcripts(raw=raw)
        found = {}
        async for each in stream:
            found[each.id] = messages(each)
        assert found == expected


def messages(transcript: Any) -> list[str]:
    """The texts of the chats in a transcript, in either form."""
    if hasattr(transcript, "json"):
        return [each["message"] for each in json.loads(transcript.json)["chats"]]
    return [each.message for each in transcript.chats]


@pytest.mark.parametrize("raw", [False, True], ids=["structs", "raw"])
async def test_a_text_that_differs_late_gives_what_relied_on_it_again(
    make_client: ClientFactory, raw: bool
) -> None:
    rows = [embedded(n, 5) for n in range(150)]
    rows[3]["chats"][2] = chat(2, message="mess")
    rows[149] = embedded(149, 3, count=5)
    rows[149]["chats"] = [chat(n, message="mess") for n in range(2, 5)]
    async with ScriptedServer(listing(rows, {f"c{n}": 5 for n in range(150)}, {})) as served:
        stream: Any = make_client(served).conversations.transcripts(raw=raw)
        found: dict[str, list[str]] = {}
        async for each in stream:
            found[each.id] = messages(each)
        assert found == {f"c{n}": [f"message {one}" for one in range(5)] for n in range(150)}
        assert stream.again == {"c3"}


async def test_a_chat_that_was_rated_since_the_list_was_asked_for_breaks_no_trust(
    make_client: ClientFactory,
) -> None:
    rows = [embedded(n, 5) for n in range(120)]
    inner = listing(rows, {f"c{n}": 5 for n in range(120)}, {})
    asked = 0

    async def rated(exchange: Any) -> None:
        nonlocal asked
        if "/chats" in exchange.request.target or exchange.request.target.rpartition("/c")[2].isdigit():
            asked += 1
            changed = [chat(n, rating=True) for n in range(5)]
            number = exchange.request.target.split("/c")[-1].partition("/")[0].partition("?")[0]
            if "/chats" in exchange.request.target:
                await exchange.send(answer(200, {"chats": changed, "pageNo": 1, "totalCount": 5}))
            else:
                await exchange.send(answer(200, conversation(id=f"c{number}", chats=changed, chatCount=5)))
        else:
            await inner(exchange)

    async with ScriptedServer(rated) as served:
        assert len([each async for each in make_client(served).conversations.transcripts()]) == 120
        assert asked <= 6


# --- conversations that seem to have no chats -------------------------------------------------------------


@pytest.mark.parametrize("raw", [False, True], ids=["structs", "raw"])
async def test_conversations_that_seem_to_have_no_chats_are_proved_apart(
    make_client: ClientFactory, raw: bool
) -> None:
    rows = [embedded(n, 5) for n in range(60)] + [embedded(n, 0) for n in range(60, 120)]
    totals = {f"c{n}": 5 for n in range(60)} | {f"c{n}": 4 for n in range(60, 120)}
    async with ScriptedServer(listing(rows, totals, {})) as served:
        stream: Any = make_client(served).conversations.transcripts(raw=raw)
        found: dict[str, int] = {}
        async for each in stream:
            found[each.id] = len(chat_ids(each))
        assert found == totals


async def test_a_count_of_0_beside_a_last_chat_time_is_never_believed(make_client: ClientFactory) -> None:
    rows = [embedded(n, 5) for n in range(40)] + [embedded(n, 0) for n in range(40, 60)]
    rows += [{**embedded(60, 0), "lastChatTime": 1704067200000}]
    totals = {f"c{n}": 5 for n in range(40)} | {f"c{n}": 0 for n in range(40, 60)} | {"c60": 1}
    async with ScriptedServer(listing(rows, totals, {})) as served:
        found = [each async for each in make_client(served).conversations.transcripts()]
        assert {each.conversation.id: len(each.chats) for each in found} == totals


async def test_two_requests_prove_that_conversations_have_no_chats(make_client: ClientFactory) -> None:
    rows = [embedded(n, 5) for n in range(60)] + [embedded(n, 0) for n in range(60, 120)]
    totals = {f"c{n}": 5 for n in range(60)} | {f"c{n}": 0 for n in range(60, 120)}
    async with ScriptedServer(listing(rows, totals, {})) as served:
        assert len([each async for each in make_client(served).conversations.transcripts()]) == 120
        assert sum("/chats" in each.target for each in served.requests) == 4
