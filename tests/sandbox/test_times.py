"""What time filters accept, and the times of conversations without chats and of old rows."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from alli_async.sandbox import Sandbox

from .client import ROOT, Client, ids

pytestmark = pytest.mark.asyncio

ORDERS = ("LAST_CHAT_TIME_DESC", "LAST_CHAT_TIME_ASC", "FIRST_CHAT_TIME_DESC", "FIRST_CHAT_TIME_ASC")
NAMES = ("startedAt", "endAt", "firstChatStartedAt", "firstChatEndAt")


async def first_times(client: Client, rows: list[Any], *, fallback: bool = False) -> dict[str, Any]:
    times = {}
    for row in rows:
        chats = (await client.get(f"{ROOT}/{row['id']}/chats"))["chats"]
        times[row["id"]] = chats[0]["timestamp"] if chats else row["createdAt"] if fallback else None
    return times


@pytest.mark.parametrize("name", NAMES)
async def test_a_filter_may_have_to_be_a_whole_number(name: str) -> None:
    async with Sandbox(filter_numbers="whole") as sandbox, Client(sandbox) as client:
        for text in ("1704067200000", "0", "-5"):
            assert (await client.send("GET", ROOT, params={name: text})).status == 200
        for text in ("1704067200000.5", "1704067200000.0", "1e12", "x", ""):
            answer = await client.send("GET", ROOT, params={name: text})
            assert (answer.status, answer.json["code"]) == (400, 7003)
            assert name in answer.json["message"]


@pytest.mark.parametrize(("unit", "bounds"), [*product(("ms", "s"), ("closed", "open"))])
async def test_a_filter_may_be_cut_down_to_whole_seconds(unit: Any, bounds: Any) -> None:
    second = 1000 if unit == "ms" else 1
    async with (
        Sandbox(unit=unit, bounds=bounds, filter_numbers="seconds") as sandbox,
        Sandbox(unit=unit, bounds=bounds) as plain,
        Client(sandbox) as client,
        Client(plain) as other,
    ):
        for row in [row for row in await client.walk() if row["lastChatTime"]][10:16]:
            at = row["lastChatTime"]
            cut = at // second * second
            for name in ("startedAt", "endAt"):
                assert await client.page(**{name: repr(at)}) == await other.page(**{name: repr(cut)})
            assert row["id"] in await client.page(startedAt=repr(at), order="LAST_CHAT_TIME_ASC")
            if at != cut:
                assert row["id"] not in await client.page(endAt=repr(at))
        first = {"firstChatStartedAt": repr(second * 1_704_067_200 + 0.75 * second)}
        exact = {"firstChatStartedAt": repr(float(second * 1_704_067_200))}
        assert await client.page(**first) == await other.page(**exact)


@pytest.mark.parametrize(
    ("cursor", "nulls"), [*product(("offset", "keyset", "relay", "opaque"), ("first", "last"))]
)
async def test_without_chats_the_creation_may_count_as_the_first_chat(cursor: Any, nulls: Any) -> None:
    async with (
        Sandbox(conversations=160, cursor=cursor, nulls=nulls, first_chat_fallback=True) as sandbox,
        Client(sandbox) as client,
    ):
        rows = await client.walk()
        times = await first_times(client, rows, fallback=True)
        index = {one: place for place, one in enumerate(sandbox.conversation_ids())}
        wanted = sorted(times, key=lambda one: (times[one], index[one]))
        ascending = await client.walk(order="FIRST_CHAT_TIME_ASC", pageSize=13)
        assert ids(ascending) == wanted
        assert ids(await client.walk(order="FIRST_CHAT_TIME_DESC", pageSize=13)) == wanted[::-1]
        without = [row for row in ascending if not row["chats"]]
        assert without
        assert {row["lastChatTime"] for row in without} == {None}
        low, high = times[wanted[40]], times[wanted[120]]
        window = {"firstChatStartedAt": repr(low), "firstChatEndAt": repr(high)}
        inside = [one for one in wanted if low <= times[one] <= high]
        for order in ORDERS:
            found = ids(await client.walk(order=order, pageSize=13, **window))
            assert sorted(found) == sorted(inside)
            empty = [one for one in found if one in {row["id"] for row in without}]
            if order.startswith("LAST"):
                assert (found[: len(empty)] if nulls == "first" else found[-len(empty) :]) == empty
        assert not {*ids(await client.walk(startedAt="0"))} & {row["id"] for row in without}


@pytest.mark.parametrize("listed_before", [True, False])
async def test_with_the_fallback_a_conversation_that_loses_its_chats_moves_to_its_creation(
    listed_before: bool,
) -> None:
    async with Sandbox(first_chat_fallback=True) as sandbox, Client(sandbox) as client:
        if listed_before:
            await client.walk(order="FIRST_CHAT_TIME_ASC")
        moved, filled = sandbox.conversation_ids()[3], sandbox.add_conversations()[0]
        sandbox.delete_chats(5000, moved)
        sandbox.delete_chats(1, filled)
        rows = await client.walk(order="FIRST_CHAT_TIME_ASC")
        assert len(rows) == 101
        times = await first_times(client, rows, fallback=True)
        assert [times[one] for one in ids(rows)] == sorted(times.values())
        sandbox.add_chats(1, moved)
        assert ids(await client.walk(order="FIRST_CHAT_TIME_DESC"))[0] == moved


@pytest.mark.parametrize(
    ("cursor", "nulls"), [*product(("offset", "keyset", "relay", "opaque"), ("first", "last"))]
)
async def test_old_rows_have_chats_and_no_last_chat_time(cursor: Any, nulls: Any) -> None:
    async with (
        Sandbox(conversations=160, cursor=cursor, nulls=nulls, null_last_chat=0.3) as sandbox,
        Sandbox(conversations=160, nulls=nulls) as plain,
        Client(sandbox) as client,
        Client(plain) as other,
    ):
        right = {row["id"]: row for row in await other.walk()}
        rows = await client.walk(pageSize=13)
        old = [row for row in rows if row["lastChatTime"] is None and row["chats"]]
        assert 25 < len(old) < 70
        assert [{**row, "lastChatTime": right[row["id"]]["lastChatTime"]} for row in old] == [
            right[row["id"]] for row in old
        ]
        for order in ORDERS:
            found = await client.walk(order=order, pageSize=13)
            window = await client.walk(order=order, pageSize=13, firstChatStartedAt="0")
            assert sorted(ids(found)) == sorted(right)
            assert {*ids(window)} == {one for one in right if right[one]["chats"]}
            if order.startswith("FIRST"):
                assert found == rows_in(await other.walk(order=order), found)
            else:
                without = [row["lastChatTime"] is None for row in found]
                assert without == sorted(without, reverse=nulls == "first")
                without = [row["lastChatTime"] is None for row in window]
                assert without == sorted(without, reverse=nulls == "first")
        assert not {*ids(await client.walk(startedAt="0"))} & {*ids(old)}
        assert await client.get(f"{ROOT}/{old[0]['id']}") == old[0]


def rows_in(order: list[Any], rows: list[Any]) -> list[Any]:
    """The rows in the order of other ones."""
    by_id = {row["id"]: row for row in rows}
    return [by_id[row["id"]] for row in order]


@pytest.mark.parametrize("listed_before", [True, False])
async def test_a_new_chat_gives_an_old_row_its_last_chat_time_a_deletion_does_not(listed_before: bool) -> None:
    async with Sandbox(null_last_chat=1) as sandbox, Client(sandbox) as client:
        if listed_before:
            await client.walk()
        one, other = [each for each in sandbox.conversation_ids()[:9] if len(sandbox.chat_ids(each)) > 2][:2]
        sandbox.add_chats(1, one)
        sandbox.delete_chats(1, other)
        rows = await client.walk()
        assert ids(rows)[0] == one
        assert [row["id"] for row in rows if row["lastChatTime"] is not None] == [one]
