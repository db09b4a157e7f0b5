from __future__ import annotations

from typing import Any

import pytest

from alli_async.sandbox import Churn, Sandbox

from .client import DAILY, ROOT, Client, ids

pytestmark = pytest.mark.asyncio


async def test_a_new_chat_is_the_latest_and_moves_its_conversation_to_the_front() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        rows = await client.walk()
        moved = rows[40]
        (chat_id,) = sandbox.add_chats(conversation_id=moved["id"])
        after = await client.walk()
        assert ids(after)[0] == moved["id"]
        assert after[0]["lastChatTime"] > rows[0]["lastChatTime"]
        assert after[0]["chats"][-1]["id"] == chat_id == sandbox.chat_ids(moved["id"])[-1]
        assert after[0]["chats"][-1]["timestamp"] == after[0]["lastChatTime"]
        assert after[0]["chatCount"] == moved["chatCount"] + 1
        assert (await client.chats(moved["id"]))[-1]["id"] == chat_id
        assert sorted(ids(after)) == sorted(ids(rows))


@pytest.mark.parametrize("listed_before", [True, False])
async def test_the_first_chat_of_a_conversation_takes_it_out_of_the_nulls(listed_before: bool) -> None:
    async with Sandbox(conversations=300) as sandbox, Client(sandbox) as client:
        empty = next(one for one in sandbox.conversation_ids() if not sandbox.chat_ids(one))
        orders = ("LAST_CHAT_TIME_ASC", "FIRST_CHAT_TIME_ASC")
        if listed_before:
            assert [(await client.walk(order=order))[-1]["lastChatTime"] for order in orders] == [None, None]
        sandbox.add_chats(2, empty)
        for order in orders:
            rows = await client.walk(order=order)
            assert [row["id"] for row in rows if row["lastChatTime"] is not None][-1] == empty
            assert sorted(ids(rows)) == sorted(sandbox.conversation_ids())
        first, last = (chat["timestamp"] for chat in await client.chats(empty))
        assert first < last
        window = {"firstChatStartedAt": repr(first), "firstChatEndAt": repr(first)}
        assert ids(await client.walk(**window)) == [empty]


@pytest.mark.parametrize("listed_before", [True, False])
async def test_a_new_conversation_begins_now_with_one_chat(listed_before: bool) -> None:
    async with Sandbox(conversations=70) as sandbox, Client(sandbox) as client:
        if listed_before:
            await client.walk()
        older, newest = sandbox.add_conversations(2)
        rows = await client.walk()
        assert ids(rows)[:2] == [newest, older]
        assert len(rows) == 72
        assert rows[0]["createdAt"] == rows[0]["lastChatTime"] == rows[0]["chats"][0]["timestamp"]
        assert ids(await client.walk(order="FIRST_CHAT_TIME_DESC"))[:2] == [newest, older]
        days = {"startDate": "2026-01-01", "endDate": "2026-01-01"}
        answer = await client.write("GET", DAILY, days)
        assert answer["result"]["dailyTotalCount"] == [{"date": "2026-01-01", "activeCount": 2}]


async def test_kept_chat_times_stay_when_chats_are_deleted() -> None:
    async with Sandbox(chat_times="kept") as sandbox, Client(sandbox) as client:
        before = next(row for row in await client.walk() if 3 <= row["chatCount"] <= 20)
        count = before["chatCount"]
        gone = sandbox.delete_chats(count - 1, before["id"])
        after = await client.get(f"{ROOT}/{before['id']}")
        assert len({*gone}) == count - 1
        assert after["chatCount"] == len(after["chats"]) == 1
        assert after["lastChatTime"] == before["lastChatTime"]
        assert len(sandbox.delete_chats(5, before["id"])) == 1
        assert sandbox.chat_ids(before["id"]) == []
        assert before["id"] in await client.page(startedAt=repr(before["lastChatTime"]))


@pytest.mark.parametrize("listed_before", [True, False])
async def test_chat_times_follow_the_chats_that_remain(listed_before: bool) -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        orders = ("FIRST_CHAT_TIME_ASC", "LAST_CHAT_TIME_ASC")
        if listed_before:
            for order in orders:
                await client.walk(order=order)
        row = next(row for row in await client.walk() if 4 <= row["chatCount"] <= 20 and are_apart(row["chats"]))
        chats = await client.chats(row["id"])
        path = f"{ROOT}/{row['id']}"
        await client.write("DELETE", f"{path}/chats/{chats[-1]['id']}")
        assert sandbox.delete_chats(2, row["id"], first=True) == ids(chats[:2])
        assert (await client.get(path))["lastChatTime"] == chats[-2]["timestamp"]
        exact = {"firstChatStartedAt": repr(chats[2]["timestamp"]), "firstChatEndAt": repr(chats[2]["timestamp"])}
        assert row["id"] in await client.page(**exact)
        for order in orders:
            found = [await client.chats(row["id"]) for row in await client.walk(order=order)]
            keys = [chats[0 if order.startswith("FIRST") else -1]["timestamp"] for chats in found if chats]
            assert keys == sorted(keys)


def are_apart(chats: list[Any]) -> bool:
    return len({chat["timestamp"] for chat in chats}) == len(chats)


@pytest.mark.parametrize("listed_before", [True, False])
async def test_a_conversation_that_loses_all_chats_stands_with_those_without(listed_before: bool) -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        orders = ("FIRST_CHAT_TIME_ASC", "LAST_CHAT_TIME_DESC")
        if listed_before:
            for order in orders:
                await client.walk(order=order)
        conversation_id = sandbox.conversation_ids()[5]
        count = len(sandbox.chat_ids(conversation_id))
        assert len(sandbox.delete_chats(count + 3, conversation_id)) == count > 0
        row = await client.get(f"{ROOT}/{conversation_id}")
        assert (row["lastChatTime"], row["chats"], row["chatCount"]) == (None, [], 0)
        for order in orders:
            rows = await client.walk(order=order)
            without = [row["id"] for row in rows if not row["chats"]]
            assert ids(rows)[-len(without) :] == without
            assert conversation_id in without
        for window in ({"startedAt": "0"}, {"firstChatStartedAt": "0"}):
            assert conversation_id not in ids(await client.walk(**window))
        (chat,) = sandbox.add_chats(1, conversation_id)
        assert ids(await client.walk(order="FIRST_CHAT_TIME_DESC"))[0] == conversation_id
        assert sandbox.chat_ids(conversation_id) == [chat]


@pytest.mark.parametrize("listed_before", [True, False])
async def test_a_deleted_conversation_is_unknown_everywhere(listed_before: bool) -> None:
    async with Sandbox(conversations=300) as sandbox, Client(sandbox) as client:
        orders = ("FIRST_CHAT_TIME_ASC", "LAST_CHAT_TIME_DESC")
        if listed_before:
            for order in orders:
                await client.walk(order=order)
        before = sandbox.conversation_ids()
        empty = next(one for one in before if not sandbox.chat_ids(one))
        (began,) = sandbox.add_conversations()
        sandbox.add_chats(1, before[3])
        gone = [one for wanted in (empty, began, before[3]) for one in sandbox.delete_conversations(1, wanted)]
        assert gone == [empty, began, before[3]]
        gone += sandbox.delete_conversations(5)
        left = [one for one in before if one not in gone]
        assert sandbox.conversation_ids() == left
        assert len(left) == 300 - 7
        for order in orders:
            assert sorted(ids(await client.walk(order=order))) == sorted(left)
        await client.write("POST", f"{ROOT}/bulk_update", {"conversationInfo": {"title": "all"}})
        assert {row["title"] for row in await client.walk()} == {"all"}
        for change in (sandbox.delete_conversations, sandbox.end_conversations, sandbox.add_chats):
            with pytest.raises(KeyError):
                change(1, began)
        assert sandbox.add_conversations() not in ([began], [empty])


async def test_requests_for_a_deleted_conversation_are_answered_404() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        conversation_id = sandbox.conversation_ids()[0]
        (chat,) = sandbox.add_chats(1, conversation_id)
        sandbox.running(conversation_id)
        sandbox.delete_conversations(conversation_id=conversation_id)
        assert await client.page(backgroundRunning="true") == []
        path = f"{ROOT}/{conversation_id}"
        for method, where in [
            ("GET", path),
            ("GET", f"{path}/chats"),
            ("GET", f"{path}/running"),
            ("POST", f"{path}/stop"),
            ("DELETE", f"{path}/chats/{chat}"),
        ]:
            assert (await client.send(method, where)).status == 404


async def test_all_conversations_can_be_deleted_and_no_more() -> None:
    async with Sandbox(conversations=70) as sandbox, Client(sandbox) as client:
        assert len({*sandbox.delete_conversations(100)}) == 70
        assert await client.get(ROOT) == {"conversations": [], "cursor": None}
        assert sandbox.conversation_ids() == sandbox.add_chats(2) == sandbox.delete_chats() == []
        (began,) = sandbox.add_conversations()
        assert ids(await client.walk()) == [began]


async def test_conversations_that_end_leave_the_active_ones() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        active = ids(await client.walk(activeOnly="true"))
        assert sandbox.end_conversations(1, active[0]) == [active[0]]
        assert sandbox.end_conversations(1, active[0]) == []
        ended = [active[0], *sandbox.end_conversations(4)]
        assert {*ended} <= {*active}
        assert ids(await client.walk(activeOnly="true")) == [one for one in active if one not in ended]
        row = await client.get(f"{ROOT}/{active[0]}")
        assert (row["isEnd"], "state" in row) == (True, False)
        again = await client.write("PATCH", f"{ROOT}/{active[0]}", {"state": "in"})
        assert again["isEnd"] is False
        assert len(sandbox.end_conversations(1000)) == len(active) - 4
        assert await client.page(activeOnly="true") == []


async def test_the_id_of_a_deleted_chat_is_never_given_again() -> None:
    async with Sandbox() as sandbox:
        conversation_id = sandbox.conversation_ids()[0]
        (added,) = sandbox.add_chats(1, conversation_id)
        sandbox.delete_chats(len(sandbox.chat_ids(conversation_id)), conversation_id)
        assert sandbox.add_chats(1, conversation_id) != [added]


async def test_changes_by_chance_are_the_same_for_the_same_seed() -> None:
    made = []
    for seed in (1, 1, 2):
        sandbox = Sandbox(seed=seed)
        made.append((sandbox.add_chats(20), sandbox.delete_chats(20), sandbox.add_conversations(2)))
    assert made[0] == made[1] != made[2]
    assert len({*made[0][0]}) == len({*made[0][1]}) == 20


async def test_where_nothing_is_nothing_can_change() -> None:
    sandbox = Sandbox(conversations=0)
    assert sandbox.add_chats(2) == sandbox.delete_chats(2) == []
    (began,) = sandbox.add_conversations()
    assert len(sandbox.delete_chats(2)) == 1
    assert sandbox.delete_chats() == []
    assert sandbox.conversation_ids() == [began]


async def test_an_unknown_conversation_cannot_be_changed() -> None:
    sandbox = Sandbox()
    for change in (
        sandbox.add_chats,
        sandbox.delete_chats,
        sandbox.delete_conversations,
        sandbox.end_conversations,
    ):
        with pytest.raises(KeyError):
            change(1, "Q29udmVyc2F0aW9uOjYwMDZiNTM3")
    with pytest.raises(KeyError):
        sandbox.running("x")
    with pytest.raises(KeyError):
        sandbox.chat_ids("x")


async def test_churn_comes_after_each_list_page() -> None:
    churn = Churn(new_chats=2, deleted_chats=1, new_conversations=1)
    async with Sandbox(churn=churn) as sandbox, Client(sandbox) as client:
        first = await client.get(ROOT)
        assert len(sandbox.conversation_ids()) == 101
        fresh = sandbox.conversation_ids()[-1]
        assert fresh not in ids(first["conversations"])
        assert fresh in await client.page()
        assert len(sandbox.conversation_ids()) == 102
        total = sum(len(sandbox.chat_ids(one)) for one in sandbox.conversation_ids())
        untouched = Sandbox()
        before = sum(len(untouched.chat_ids(one)) for one in untouched.conversation_ids())
        assert total == before + 2 * (2 - 1 + 1)


async def test_churn_may_delete_first_chats_and_conversations_and_end_others() -> None:
    churn = Churn(new_chats=0, deleted_first_chats=2, deleted_conversations=3, ended_conversations=4)
    async with Sandbox(churn=churn) as sandbox, Client(sandbox) as client:
        before = {one: sandbox.chat_ids(one) for one in sandbox.conversation_ids()}
        active = {*await client.page(activeOnly="true")}
        after = {one: sandbox.chat_ids(one) for one in sandbox.conversation_ids()}
        assert len(before.keys() - after.keys()) == 3
        assert all(chats == before[one][len(before[one]) - len(chats) :] for one, chats in after.items())
        assert 0 <= sum(len(before[one]) - len(chats) for one, chats in after.items()) <= 2
        later = {*await client.page(activeOnly="true")}
        assert 4 <= len(active - later) <= 7


async def test_a_list_that_was_filtered_before_shows_what_changed_since() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        path = f"{ROOT}/{sandbox.conversation_ids()[0]}"
        assert await client.page(searchTerm="something new") == []
        await client.write("PUT", f"{path}/title", {"title": "Something New"})
        assert await client.page(searchTerm="something new") == [sandbox.conversation_ids()[0]]


async def test_many_different_filters_stay_right() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        seen = [await client.page(searchTerm=f"#{number}") for number in range(12)]
        assert [await client.page(searchTerm=f"#{number}") for number in range(12)] == seen
