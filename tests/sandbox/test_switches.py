"""Every answer to what the wire leaves open, as a client sees it."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from alli_async.sandbox import Churn, Sandbox

from .client import ROOT, Client, ids

pytestmark = pytest.mark.asyncio

ORDERS = ("LAST_CHAT_TIME_DESC", "LAST_CHAT_TIME_ASC", "FIRST_CHAT_TIME_DESC", "FIRST_CHAT_TIME_ASC")


@pytest.mark.parametrize(("cursor", "nulls", "order"), [*product(("offset", "keyset"), ("first", "last"), ORDERS)])
async def test_a_walk_meets_each_conversation_once_in_every_mode(cursor: Any, nulls: Any, order: str) -> None:
    async with Sandbox(conversations=230, cursor=cursor, nulls=nulls) as sandbox, Client(sandbox) as client:
        rows = await client.walk(order=order, pageSize=17)
        assert sorted(ids(rows)) == sorted(sandbox.conversation_ids())
        without = [row["lastChatTime"] is None for row in rows]
        assert any(without)
        assert without == sorted(without, reverse=nulls == "first")
        assert ids(rows) == await expected(client, sandbox, rows, order, nulls)


async def expected(client: Client, sandbox: Sandbox, rows: list[Any], order: str, nulls: str) -> list[str]:
    """What the rows should be, sorted by hand."""
    index = {one: place for place, one in enumerate(sandbox.conversation_ids())}
    by: dict[str, float | None] = {row["id"]: row["lastChatTime"] for row in rows}
    if order.startswith("FIRST"):
        for row in rows:
            chats = (await client.get(f"{ROOT}/{row['id']}/chats"))["chats"]
            by[row["id"]] = chats[0]["timestamp"] if chats else None
    down = order.endswith("DESC")
    timed = sorted((one for one in by if by[one] is not None), key=lambda one: (by[one], index[one]), reverse=down)
    empty = sorted((one for one in by if by[one] is None), key=index.__getitem__, reverse=down)
    return empty + timed if nulls == "first" else timed + empty


@pytest.mark.parametrize("order", ORDERS)
async def test_a_keyset_walk_through_a_filtered_list_is_whole(order: str) -> None:
    async with Sandbox(conversations=400, cursor="keyset") as sandbox, Client(sandbox) as client:
        wanted = [row["id"] for row in await client.walk(order=order) if not row["isEnd"]]
        assert ids(await client.walk(order=order, activeOnly="true", pageSize=13)) == wanted


@pytest.mark.parametrize(("unit", "cursor"), [*product(("ms", "s"), ("offset", "keyset"))])
@pytest.mark.parametrize(("bounds", "inside"), [("closed", True), ("open", False)])
async def test_bounds_are_part_of_a_window_or_not(unit: Any, cursor: Any, bounds: Any, inside: bool) -> None:
    async with (
        Sandbox(conversations=300, unit=unit, cursor=cursor, bounds=bounds) as sandbox,
        Client(sandbox) as client,
    ):
        rows = [row for row in await client.walk(order="LAST_CHAT_TIME_ASC") if row["chats"]]
        start, end = rows[10]["lastChatTime"], rows[20]["lastChatTime"]
        wanted = ids(rows[10:21] if inside else rows[11:20])
        window = {"startedAt": repr(start), "endAt": repr(end)}
        assert ids(await client.walk(order="LAST_CHAT_TIME_ASC", pageSize=3, **window)) == wanted
        assert sorted(ids(await client.walk(order="FIRST_CHAT_TIME_DESC", **window))) == sorted(wanted)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("bounds", "inside"), [("closed", True), ("open", False)])
async def test_a_window_on_first_chat_time_selects_a_whole_instant_or_none_of_it(
    order: str, bounds: Any, inside: bool
) -> None:
    async with Sandbox(conversations=128, bounds=bounds) as sandbox, Client(sandbox) as client:
        together = sandbox.conversation_ids()[64:]  # one group that began at one instant
        filled = [one for one in together if sandbox.chat_ids(one)]
        at = (await client.get(f"{ROOT}/{filled[0]}/chats"))["chats"][0]["timestamp"]
        window = {"firstChatStartedAt": repr(at), "firstChatEndAt": repr(at)}
        found = ids(await client.walk(order=order, **window))
        assert sorted(found) == (sorted(filled) if inside else [])


@pytest.mark.parametrize("bounds", ["closed", "open"])
async def test_windows_on_both_times_select_what_lies_in_both(bounds: Any) -> None:
    async with Sandbox(conversations=300, bounds=bounds) as sandbox, Client(sandbox) as client:
        by_first = await client.walk(order="FIRST_CHAT_TIME_ASC")
        lasts = sorted(row["lastChatTime"] for row in by_first if row["chats"])
        first = {}
        for row in by_first[40:44]:
            first[row["id"]] = (await client.get(f"{ROOT}/{row['id']}/chats"))["chats"][0]["timestamp"]
        low, high = min(first.values()), max(first.values())
        window = {"firstChatStartedAt": repr(low - 0.25), "firstChatEndAt": repr(high + 0.25)}
        whole = {"startedAt": repr(lasts[0] - 1), "endAt": repr(lasts[-1] + 1)}
        assert {*first} <= {*ids(await client.walk(**window, **whole))} == {*ids(await client.walk(**window))}
        one = next(row for row in by_first if row["id"] in first)
        exact = {"startedAt": repr(one["lastChatTime"]), "endAt": repr(one["lastChatTime"])}
        assert ids(await client.walk(**window, **exact)) == ([one["id"]] if bounds == "closed" else [])
        none = {"startedAt": repr(lasts[-1] + 1)}
        assert await client.walk(**window, **none) == await client.walk(**window, endAt="1") == []


async def test_a_conversation_without_chats_is_in_no_window() -> None:
    async with Sandbox(conversations=300) as sandbox, Client(sandbox) as client:
        filled = {one for one in sandbox.conversation_ids() if sandbox.chat_ids(one)}
        for name in ("startedAt", "firstChatStartedAt"):
            assert {*ids(await client.walk(**{name: "0"}))} == filled
            assert {*ids(await client.walk(**{name: "0"}, order="FIRST_CHAT_TIME_ASC"))} == filled


async def test_seconds_are_milliseconds_over_a_thousand() -> None:
    async with Sandbox(unit="ms") as one, Sandbox(unit="s") as other, Client(one) as ms, Client(other) as s:
        for left, right in zip(await ms.walk(), await s.walk(), strict=True):
            assert left["id"] == right["id"]
            assert left["createdAt"] / 1000 == right["createdAt"]
            assert [chat["timestamp"] / 1000 for chat in left["chats"]] == [
                chat["timestamp"] for chat in right["chats"]
            ]


@pytest.mark.parametrize("embed", [20, 3, 0, "all"])
@pytest.mark.parametrize("embed_order", ["oldest_first", "newest_first"])
async def test_embedded_chats_are_the_most_recent_ones(embed: Any, embed_order: Any) -> None:
    async with (
        Sandbox(conversations=60, embed=embed, embed_order=embed_order) as sandbox,
        Client(sandbox) as client,
    ):
        rows = await client.walk()
        assert any(row["chatCount"] > 20 for row in rows)
        for row in rows:
            every = sandbox.chat_ids(row["id"])
            newest = every if embed == "all" else every[len(every) - min(embed, len(every)) :]
            assert ids(row["chats"]) == (newest if embed_order == "oldest_first" else newest[::-1])
        assert await client.get(f"{ROOT}/{rows[0]['id']}") == rows[0]


@pytest.mark.parametrize("changed", [False, True])
async def test_chat_count_may_count_only_the_users_chats(changed: bool) -> None:
    async with Sandbox(chat_count="user") as sandbox, Client(sandbox) as client:
        if changed:
            sandbox.add_chats(50)
            sandbox.delete_chats(50)
        for row in await client.walk():
            chats = await client.chats(row["id"])
            assert row["chatCount"] == sum(1 for chat in chats if chat["sender"] == "USER")


async def test_first_chat_filters_may_be_ignored() -> None:
    async with Sandbox(first_chat_filters="ignored") as sandbox, Client(sandbox) as client:
        assert len(await client.walk(firstChatStartedAt="99999999999999")) == 100
        assert (await client.send("GET", f"{ROOT}?firstChatStartedAt=x")).status == 400


async def test_first_chat_orders_may_be_refused() -> None:
    async with Sandbox(first_chat_orders="refused") as sandbox, Client(sandbox) as client:
        answer = await client.send("GET", f"{ROOT}?order=FIRST_CHAT_TIME_ASC")
        assert (answer.status, answer.json["code"]) == (400, 7003)
        assert len(await client.walk(order="LAST_CHAT_TIME_ASC")) == 100


async def test_answers_are_compressed_for_clients_that_accept_it_when_told_to() -> None:
    async with (
        Sandbox(compress=True) as sandbox,
        Client(sandbox) as client,
        Sandbox() as plain,
        Client(plain) as other,
    ):
        packed = await client.send("GET", ROOT, headers={"Accept-Encoding": "gzip"})
        assert packed.headers["Content-Encoding"] == "gzip"
        refused = await client.send("GET", ROOT, headers={"Accept-Encoding": "identity"})
        unpacked = await other.send("GET", ROOT, headers={"Accept-Encoding": "gzip"})
        assert "Content-Encoding" not in refused.headers
        assert "Content-Encoding" not in unpacked.headers
        assert packed.body == refused.body == unpacked.body


async def test_a_plain_walk_in_the_default_order_loses_rows_when_chats_arrive_a_first_chat_walk_none() -> None:
    options: dict[str, Any] = {"conversations": 1500, "churn": Churn(new_chats=3)}
    async with Sandbox(**options) as sandbox, Client(sandbox) as client:
        assert len({*ids(await client.walk())}) < 1500
        assert len({*ids(await client.walk(order="FIRST_CHAT_TIME_ASC"))}) == 1500


async def test_a_keyset_walk_descending_by_last_chat_loses_what_jumps_ahead_of_it() -> None:
    options: dict[str, Any] = {"conversations": 1500, "churn": Churn(new_chats=3), "cursor": "keyset"}
    async with Sandbox(**options) as sandbox, Client(sandbox) as client:
        found = ids(await client.walk())
        assert len(found) == len({*found}) < 1500
