"""Pages of lists and of chats that are not as large, as stable or as new as was asked for."""

from __future__ import annotations

from base64 import b64encode
from itertools import product
from typing import Any

import pytest

from alli_async.sandbox import Sandbox

from .client import ROOT, Client, ids

pytestmark = pytest.mark.asyncio

ORDERS = ("LAST_CHAT_TIME_DESC", "LAST_CHAT_TIME_ASC", "FIRST_CHAT_TIME_DESC", "FIRST_CHAT_TIME_ASC")
CURSORS = ("offset", "relay", "opaque", "keyset")


def offset(number: int) -> str:
    return b64encode(f"offset:{number}".encode()).decode()


async def first_times(client: Client, sandbox: Sandbox) -> dict[str, Any]:
    times = {}
    for conversation_id in sandbox.conversation_ids():
        chats = (await client.get(f"{ROOT}/{conversation_id}/chats"))["chats"]
        times[conversation_id] = chats[0]["timestamp"] if chats else None
    return times


@pytest.mark.parametrize(("order", "nulls"), [*product(ORDERS, ("first", "last"))])
async def test_shuffled_ties_change_places_at_each_request_and_nothing_else_does(order: str, nulls: Any) -> None:
    options: dict[str, Any] = {"conversations": 300, "nulls": nulls}
    async with (
        Sandbox(**options) as plain,
        Sandbox(**options, ties="shuffled") as sandbox,
        Client(plain) as one,
        Client(sandbox) as client,
    ):
        right = await one.walk(order=order)
        times = {row["id"]: row["lastChatTime"] for row in right}
        if order.startswith("FIRST"):
            times = await first_times(one, plain)
        # Page by page: in a walk rows of one instant come twice or never.
        for start in range(0, 300, 50):
            page = await client.get(ROOT, order=order, cursor=offset(start))
            wanted = [times[row["id"]] for row in right[start : start + 50]]
            assert [times[row["id"]] for row in page["conversations"]] == wanted
        last_group = offset(300 - 5 if nulls == "last" else 0)
        pages = {tuple(await client.page(order=order, cursor=last_group, pageSize=5)) for _ in range(8)}
        assert len(pages) > 1
        empty = {one for one, time in times.items() if time is None}
        assert {row for page in pages for row in page} <= empty


async def test_a_walk_over_shuffled_ties_loses_rows_and_repeats_others() -> None:
    async with Sandbox(conversations=1500, crowd=960, ties="shuffled") as sandbox, Client(sandbox) as client:
        rows = ids(await client.walk(order="FIRST_CHAT_TIME_ASC"))
        assert len(rows) == 1500
        assert len({*rows}) < 1400


async def test_one_page_of_shuffled_ties_is_whole_whatever_the_filters() -> None:
    async with Sandbox(conversations=64, ties="shuffled") as sandbox, Client(sandbox) as client:
        found = [ids(await client.walk(activeOnly="true")) for _ in range(4)]
        assert {tuple(sorted(page)) for page in found} == {tuple(sorted(found[0]))}
        assert await client.page(searchTerm="nothing at all") == []


@pytest.mark.parametrize("order", ORDERS)
async def test_an_ignored_order_is_the_default_one(order: str) -> None:
    async with Sandbox(order="ignored") as sandbox, Client(sandbox) as client:
        assert await client.walk(order=order) == await client.walk(order="LAST_CHAT_TIME_DESC")
        times = [row["lastChatTime"] for row in await client.walk(order=order) if row["lastChatTime"]]
        assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("cursor", CURSORS)
async def test_a_capped_page_holds_no_more_rows_and_leads_on_to_the_next(cursor: Any) -> None:
    async with Sandbox(cursor=cursor, page_cap=8) as sandbox, Client(sandbox) as client:
        assert len(await client.page()) == 8
        assert len(await client.page(pageSize=3)) == 3
        assert sorted(ids(await client.walk())) == sorted(sandbox.conversation_ids())


@pytest.mark.parametrize(("cursor", "order"), [*product(CURSORS, ORDERS)])
async def test_ragged_pages_hold_from_none_to_all_rows_and_add_up_to_the_whole(cursor: Any, order: str) -> None:
    async with (
        Sandbox(conversations=300, cursor=cursor, ragged=True) as sandbox,
        Sandbox(conversations=300) as plain,
        Client(sandbox) as client,
        Client(plain) as other,
    ):
        rows, sizes, cursors = [], [], []
        query: dict[str, Any] = {"order": order, "pageSize": 6}
        while True:
            page = await client.get(ROOT, **query)
            rows += page["conversations"]
            sizes.append(len(page["conversations"]))
            if page["cursor"] is None:
                break
            cursors.append(page["cursor"])
            query["cursor"] = page["cursor"]
        assert {*sizes} == {0, 1, 2, 3, 4, 5, 6}
        assert len({*cursors}) == len(cursors)
        assert ids(rows) == ids(await other.walk(order=order))


async def test_ragged_pages_are_the_same_for_the_same_seed() -> None:
    seen = []
    for seed in (1, 1, 2):
        async with Sandbox(seed=seed, ragged=True) as sandbox, Client(sandbox) as client:
            seen.append([len(await client.page()) for _ in range(20)])
    assert seen[0] == seen[1] != seen[2]


async def test_an_empty_list_is_not_ragged() -> None:
    async with Sandbox(conversations=0, ragged=True) as sandbox, Client(sandbox) as client:
        for _ in range(20):
            assert await client.get(ROOT) == {"conversations": [], "cursor": None}


async def test_a_heavy_page_is_answered_by_the_gateway() -> None:
    async with Sandbox(heavy_page=10) as sandbox, Client(sandbox) as client:
        for query in ({}, {"pageSize": 11}):
            answer = await client.send("GET", ROOT, params=query)
            assert (answer.status, answer.headers["Content-Type"]) == (504, "text/html")
            assert answer.body.startswith(b"<html>")
        assert len(await client.walk(pageSize=10)) == 100
        conversation_id = sandbox.conversation_ids()[0]
        assert (await client.get(f"{ROOT}/{conversation_id}"))["id"] == conversation_id


async def test_chat_pages_may_lag_behind_the_list() -> None:
    async with Sandbox(conversations=2000, chat_lag=2) as sandbox, Client(sandbox) as client:
        long = max(sandbox.conversation_ids(), key=lambda one: len(sandbox.chat_ids(one)))
        every = sandbox.chat_ids(long)
        assert ids(await client.chats(long)) == every[:-2]
        assert (await client.get(f"{ROOT}/{long}/chats"))["totalCount"] == len(every) - 2
        row = await client.get(f"{ROOT}/{long}")
        assert row["chatCount"] == len(every)
        assert ids(row["chats"]) == every[-20:]
        short = next(one for one in sandbox.conversation_ids() if len(sandbox.chat_ids(one)) == 1)
        assert await client.get(f"{ROOT}/{short}/chats") == {"chats": [], "pageNo": 1, "totalCount": 0}


async def test_embedded_chats_may_be_abridged_while_chat_pages_are_whole() -> None:
    async with Sandbox(embed_abridged=12) as sandbox, Sandbox() as plain, Client(sandbox) as client:
        cut = 0
        async with Client(plain) as other:
            whole = await other.walk()
        for row, right in zip(await client.walk(), whole, strict=True):
            assert {**row, "chats": None} == {**right, "chats": None}
            for chat, full in zip(row["chats"], right["chats"], strict=True):
                assert chat == {**full, "message": full["message"][:12], "citations": None}
                cut += len(full["message"]) > 12
        assert cut > 100
        conversation_id = whole[0]["id"]
        assert (await client.get(f"{ROOT}/{conversation_id}"))["chats"] != whole[0]["chats"]
        assert (await client.chats(conversation_id))[-20:] == whole[0]["chats"]


async def test_an_ignored_page_number_gives_the_first_page_of_chats_for_ever() -> None:
    async with Sandbox(conversations=2000, page_no="ignored") as sandbox, Client(sandbox) as client:
        long = max(sandbox.conversation_ids(), key=lambda one: len(sandbox.chat_ids(one)))
        pages = [await client.get(f"{ROOT}/{long}/chats", pageNo=number) for number in (1, 2, 7)]
        assert pages[0] == pages[1] == pages[2]
        assert (len(pages[0]["chats"]), pages[0]["pageNo"]) == (100, 1)
        assert pages[0]["totalCount"] == len(sandbox.chat_ids(long))
