"""One page of a list: whatever cannot be decoded or fetched is isolated down to its row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from alli_async import (
    AlliError,
    DecodeError,
    Order,
    ResponseTooLargeError,
    RetryPolicy,
    ServerError,
    TranscriptStream,
)
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer, conversation
from tests.support.replies import replying
from tests.support.streams import read_ids
from tests.support.tiers import one_in

TWICE = RetryPolicy(base=0.001, cap=0.002, max_attempts=2, quota=100_000)
CURSORS = ["offset", "relay", "keyset", "opaque"]


async def skipping(stream: TranscriptStream[Any]) -> list[str]:
    return [each.id async for each in stream]


async def in_order(client: Any) -> list[str]:
    return [each.id async for each in client.conversations.list(order=Order.FIRST_CHAT_TIME_ASC)]


# --- pages that the server cannot make ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cursor", "heavy_page", "ordered"),
    [
        (cursor, heavy_page, (row + column) % 2 == 1)
        for row, cursor in enumerate(CURSORS)
        for column, heavy_page in enumerate((49, 10))
    ],
)
async def test_a_page_that_is_only_served_smaller_is_asked_for_smaller(
    make_client: ClientFactory, cursor: Any, heavy_page: int, ordered: bool
) -> None:
    async with Sandbox(conversations=300, embed="all", heavy_page=heavy_page, cursor=cursor) as sandbox:
        found = await read_ids(make_client(sandbox, retry=TWICE), ordered=ordered)
        assert sorted(found) == sorted(sandbox.conversation_ids())
        # The size that works is kept: each page fails once at most.
        assert sandbox.count("listConversations", 504) < 12


@pytest.mark.parametrize("mode", [{}, {"cursor": "keyset"}, {"nulls": "first"}], ids=["offset", "keyset", "nulls"])
async def test_pages_too_large_to_be_taken_are_asked_for_smaller(
    make_client: ClientFactory, mode: dict[str, Any]
) -> None:
    async with Sandbox(conversations=600, embed="all", **mode) as sandbox:
        page = await make_client(sandbox).conversations.list(page_size=50)
        client = make_client(sandbox, max_response_bytes=len(page.raw) * 2 // 3)
        assert sorted(await read_ids(client)) == sorted(sandbox.conversation_ids())


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_server_that_is_down_is_raised_and_no_row_is_blamed(
    make_client: ClientFactory, status: int
) -> None:
    async with Sandbox(conversations=300, embed="all") as sandbox:
        sandbox.script("listConversations", ["ok", "ok", *[status] * 400])
        stream = make_client(sandbox, retry=TWICE).conversations.transcripts(raw=True, on_error="skip")
        with pytest.raises(ServerError) as raised:
            await skipping(stream)
        assert raised.value.status == status
        assert not stream.skipped
        assert sandbox.count() < 60


# --- rows that the server cannot show ----------------------------------------------------------------------

PLACES = {
    "the very first": [0],
    "in the middle": [420],
    "two in a row": [420, 421],
    "the last of a page": [49],
    "the first of a page": [50],
    "one in each half": [100, 700],
}


# Behind a keyset nothing leads past the first row of a page, nor past any row in order: that is raised.
@pytest.mark.parametrize(
    ("cursor", "where", "ordered"),
    one_in(
        3,
        [
            *(("offset", where, at % 2 == 1) for at, where in enumerate(PLACES)),
            *(("relay", where, at % 2 == 0) for at, where in enumerate(PLACES)),
            *(("keyset", where, False) for where in PLACES if "first" not in where),
        ],
    ),
)
async def test_a_row_that_makes_its_pages_fail_is_skipped_and_costs_no_other(
    make_client: ClientFactory, cursor: Any, where: str, ordered: bool
) -> None:
    async with Sandbox(conversations=900, embed="all", cursor=cursor) as sandbox:
        listed = [each async for each in make_client(sandbox).conversations.list(order=Order.FIRST_CHAT_TIME_ASC)]
        times = {each.id: min([chat.timestamp for chat in each.chats], default=0.0) for each in listed}
        ids = [each.id for each in listed]
        bad = {ids[place] for place in PLACES[where]}
        for each in bad:
            sandbox.poison(each)
        stream = make_client(sandbox, retry=TWICE).conversations.transcripts(
            raw=True, ordered=ordered, on_error="skip"
        )
        found = await skipping(stream)
        lost = set(ids) - set(found)
        assert len(found) == len(set(found))
        assert bad <= lost
        assert stream.skipped
        # Where no cursor leads past the row, what begins within seconds of it is lost with it, and told.
        assert lost == bad or cursor == "keyset"
        spans = [each.span for each in stream.skipped if each.span is not None]
        assert lost == bad or all(any(a - 2000 <= times[one] <= b + 2000 for a, b in spans) for one in lost)
        assert all(each.id is None and isinstance(each.error, ServerError) for each in stream.skipped)
        assert sandbox.count() < 500


async def test_a_row_that_makes_its_pages_fail_costs_seconds_and_not_minutes(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=40, embed="all") as sandbox:
        ids = await in_order(make_client(sandbox))
        sandbox.poison(ids[12])
        stream = make_client(sandbox, retry=RetryPolicy()).conversations.transcripts(raw=True, on_error="skip")
        found = await skipping(stream)
        assert sorted(found) == sorted({*ids} - {ids[12]})
        assert stream.stats.seconds_waited < 8


@pytest.mark.parametrize("failures", [2, 3])
async def test_a_page_that_fails_by_chance_makes_later_pages_no_smaller(
    make_client: ClientFactory, failures: int
) -> None:
    async with Sandbox(conversations=900, embed="all") as sandbox:
        # Some requests go before, so that the server is known to be well.
        sandbox.script("listConversations", [*["ok"] * 6, *[500] * failures])
        client = make_client(sandbox, retry=RetryPolicy(base=0.01))
        assert sorted(await read_ids(client)) == sorted(sandbox.conversation_ids())
        sizes = [dict(each.query)["pageSize"] for each in sandbox.received if "pageSize" in dict(each.query)]
        assert sizes.count("10") <= 2


async def test_a_row_that_makes_its_pages_fail_is_raised_unless_it_may_be_skipped(
    make_client: ClientFactory,
) -> None:
    async with Sandbox(conversations=400, embed="all") as sandbox:
        sandbox.poison(sandbox.conversation_ids()[100])
        with pytest.raises(ServerError):
            await read_ids(make_client(sandbox, retry=TWICE))


@pytest.mark.parametrize(
    "cursor",
    [
        "offset",
        "keyset",
    ],
)
async def test_the_last_row_of_a_list_is_skipped_where_it_cannot_be_shown(
    make_client: ClientFactory, cursor: Any
) -> None:
    async with Sandbox(conversations=400, embed="all", cursor=cursor) as sandbox:
        ids = await in_order(make_client(sandbox))
        sandbox.poison(ids[-1])
        stream = make_client(sandbox, retry=TWICE).conversations.transcripts(raw=True, on_error="skip")
        found = await skipping(stream)
        assert sorted(found) == sorted(ids[:-1])
        assert len(stream.skipped) == 1


async def test_the_span_of_a_skipped_row_holds_it(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=900, embed="all") as sandbox:
        listed = [each async for each in make_client(sandbox).conversations.list(order=Order.FIRST_CHAT_TIME_ASC)]
        bad = listed[420]
        sandbox.poison(bad.id)
        stream = make_client(sandbox, retry=TWICE).conversations.transcripts(raw=True, on_error="skip")
        await skipping(stream)
        (skipped,) = stream.skipped
        assert skipped.id is None
        assert skipped.span is not None
        low, high = skipped.span
        assert low - 1000 <= bad.created_at <= high + 60_000


# --- rows that cannot be decoded ---------------------------------------------------------------------------

DEEP = b"[" * 100_000 + b"]" * 100_000
FIELDS: dict[str, dict[str, Any]] = {
    "variables nested 100,000 deep": {"variables": b'{"a":' + DEEP + b"}"},
    "createdAt is a word": {"createdAt": "noon"},
    "chats is a number": {"chats": 7},
    "chatCount is a list": {"chatCount": []},
}


@pytest.mark.parametrize(
    ("what", "place", "raw"),
    [
        (what, place, (row + column) % 2 == 1)
        for row, what in enumerate(FIELDS)
        for column, place in enumerate((0, 57, 299))
    ],
)
async def test_a_row_that_cannot_be_decoded_is_skipped_by_its_id_and_costs_no_other(
    make_client: ClientFactory, what: str, place: int, raw: bool
) -> None:
    async with Sandbox(conversations=300, embed="all") as sandbox:
        ids = await in_order(make_client(sandbox))
        sandbox.override(ids[place], FIELDS[what])
        stream: Any = make_client(sandbox).conversations.transcripts(raw=raw, on_error="skip")
        found = await skipping(stream)
        assert sorted(found) == sorted({*ids} - {ids[place]})
        # Of a page that cannot be parsed at all, the row is found by asking for it alone, and has no id.
        assert {each.id for each in stream.skipped} == {None if "nested" in what else ids[place]}
        assert isinstance(stream.skipped[0].error, AlliError)


@pytest.mark.parametrize("bad_id", ["", "..", ".", "a\x1bb", 7], ids=["empty", "..", ".", "ESC", "a number"])
@pytest.mark.parametrize("raw", [False, True], ids=["structs", "raw"])
async def test_an_id_that_cannot_stand_in_a_path_costs_no_other_row(
    make_client: ClientFactory, bad_id: Any, raw: bool
) -> None:
    async with Sandbox(conversations=300) as sandbox:
        ids = sandbox.conversation_ids()
        long = next(each for each in ids if len(sandbox.chat_ids(each)) > 20)
        sandbox.override(long, {"id": bad_id})
        stream: Any = make_client(sandbox).conversations.transcripts(raw=raw, on_error="skip")
        found = await skipping(stream)
        assert sorted(each for each in found if each != bad_id) == sorted({*ids} - {long})
        assert len(stream.skipped) + found.count(bad_id) == 1


@pytest.mark.parametrize("ordered", [False, True], ids=["", "ordered"])
async def test_a_row_beyond_max_response_bytes_is_skipped_and_costs_no_other(
    make_client: ClientFactory, ordered: bool
) -> None:
    async with Sandbox(conversations=300, embed="all") as sandbox:
        ids = await in_order(make_client(sandbox))
        page = await make_client(sandbox).conversations.list(page_size=50)
        sandbox.override(ids[120], {"memo": "x" * len(page.raw) * 4})
        client = make_client(sandbox, max_response_bytes=len(page.raw) * 3)
        stream = client.conversations.transcripts(raw=True, ordered=ordered, on_error="skip")
        found = await skipping(stream)
        assert sorted(found) == sorted({*ids} - {ids[120]})
        assert [type(each.error) for each in stream.skipped] == [ResponseTooLargeError]


async def test_a_limit_that_not_even_one_row_keeps_to_is_an_error_soon(make_client: ClientFactory) -> None:
    async with Sandbox(conversations=60, embed="all") as sandbox:
        with pytest.raises(ResponseTooLargeError, match="max_response_bytes"):
            await read_ids(make_client(sandbox, max_response_bytes=200))
        # About sixty of them look for a time from which on the list can be had.
        assert sandbox.count() < 100


def page_of(rows: Sequence[Any]) -> bytes:
    return answer(200, {"conversations": rows, "cursor": None})


async def test_a_row_without_a_readable_id_is_told_by_its_own_text(make_client: ClientFactory) -> None:
    rows = [conversation(id="c0"), {"id": None, "title": "lost"}, conversation(id="c2")]
    chats = answer(200, {"chats": [], "pageNo": 1, "totalCount": 0})

    def reply(path: str, query: dict[str, str]) -> bytes:
        if path.endswith("/chats"):
            return chats
        return page_of(rows) if path.endswith("conversations") else answer(200, conversation(id="c0"))

    async with ScriptedServer(replying(reply)) as server:
        stream = make_client(server).conversations.transcripts(on_error="skip")
        assert await skipping(stream) == ["c0", "c2"]
        (skipped,) = stream.skipped
        assert skipped.id is None
        with pytest.raises(DecodeError, match=r"\$\.conversations\[\d\]"):
            await skipping(make_client(server).conversations.transcripts())


async def test_a_page_that_is_no_page_at_all_is_an_error(make_client: ClientFactory) -> None:
    for body in (b'{"conversations": 7}', b"[]", json.dumps({"cursor": None}).encode()):
        async with ScriptedServer(answer(200, body)) as server:
            with pytest.raises(DecodeError):
                await read_ids(make_client(server))
