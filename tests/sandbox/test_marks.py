"""Single conversations with other fields or with errors, and actions at a chosen moment."""

from __future__ import annotations

import json
from typing import Any

import pytest

from alli_async.sandbox import Sandbox

from .client import ROOT, Client, ids

pytestmark = pytest.mark.asyncio


async def test_overridden_fields_are_shown_in_lists_and_by_get() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        rows = await client.walk()
        right = rows[7]
        fields: dict[str, Any] = {
            "createdAt": 1e300,
            "id": "no/id",
            "lastChatTime": None,
            "more": [1, {"a": "가"}],
        }
        sandbox.override(right["id"], fields)
        shown = {**right, **fields}
        assert await client.walk() == [*rows[:7], shown, *rows[8:]]
        path = f"{ROOT}/{right['id']}"
        assert await client.get(path) == shown
        assert ids((await client.get(f"{path}/chats"))["chats"]) == sandbox.chat_ids(right["id"])[:100]
        assert right["id"] in sandbox.conversation_ids()
        sandbox.override(right["id"], {"title": "x"})
        assert await client.get(path) == {**right, "title": "x"}
        sandbox.override(right["id"], None)
        assert await client.walk() == rows
        sandbox.override(right["id"], None)


async def test_bytes_are_put_in_as_raw_json() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        conversation_id = sandbox.conversation_ids()[0]
        deep = b"[" * 50_000 + b"]" * 50_000
        sandbox.override(conversation_id, {"createdAt": b"1E400", "variables": deep, "title": b'"\\ud800"'})
        body = (await client.send("GET", f"{ROOT}/{conversation_id}")).body
        assert b'"createdAt":1E400' in body
        assert b'"title":"\\ud800"' in body
        assert deep in body
        sandbox.override(conversation_id, {"createdAt": b"not JSON"})
        with pytest.raises(json.JSONDecodeError):
            await client.get(f"{ROOT}/{conversation_id}")


async def test_an_answer_may_have_many_megabytes() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        conversation_id = sandbox.conversation_ids()[0]
        sandbox.override(conversation_id, {"title": "x" * 40_000_000})
        assert len((await client.get(f"{ROOT}/{conversation_id}"))["title"]) == 40_000_000
        assert max(len(row["title"]) for row in await client.walk()) == 40_000_000


async def test_an_override_that_is_no_json_is_refused() -> None:
    sandbox = Sandbox()
    conversation_id = sandbox.conversation_ids()[0]
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, object(), {1j: 2}):
        with pytest.raises(ValueError, match=r"memo (is nested too deeply|cannot be written as JSON)"):
            sandbox.override(conversation_id, {"memo": value})
    with pytest.raises(KeyError):
        sandbox.override("x", {})
    while deep:  # piece by piece: to free it at once would need a deep stack
        deep = deep[0]


@pytest.mark.parametrize("order", ["LAST_CHAT_TIME_DESC", "FIRST_CHAT_TIME_ASC"])
async def test_a_poisoned_row_fails_every_page_that_holds_it_and_nothing_else(order: str) -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        whole = ids(await client.walk(order=order))
        sandbox.poison(whole[12])
        failed = await client.send("GET", ROOT, params={"order": order})
        assert (failed.status, failed.json["type"], failed.json["code"]) == (500, "APIError", 7000)
        first = await client.get(ROOT, order=order, pageSize=12)
        assert ids(first["conversations"]) == whole[:12]
        bad = await client.send("GET", ROOT, params={"order": order, "pageSize": "1", "cursor": first["cursor"]})
        assert bad.status == 500
        assert (await client.get(f"{ROOT}/{whole[12]}"))["id"] == whole[12]
        assert await client.chats(whole[12])
        sandbox.poison(whole[12], None)
        assert ids(await client.walk(order=order)) == whole


async def test_a_conversation_may_be_poisoned_everywhere() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        conversation_id = sandbox.conversation_ids()[0]
        sandbox.poison(conversation_id, 503, everywhere=True)
        path = f"{ROOT}/{conversation_id}"
        for where in (path, f"{path}/chats", f"{path}/running"):
            answer = await client.send("GET", where)
            assert (answer.status, answer.json["code"]) == (503, 7000)
        sandbox.poison(conversation_id)
        assert (await client.get(path))["id"] == conversation_id
        assert (await client.get(f"{ROOT}/{sandbox.conversation_ids()[1]}"))["id"]


async def test_poison_is_an_error_of_a_conversation_that_exists() -> None:
    sandbox = Sandbox()
    with pytest.raises(KeyError):
        sandbox.poison("x")
    for status in (200, 600, "500"):
        wrong: Any = status
        with pytest.raises(ValueError, match="status must be an integer from 400 to 599 or None"):
            sandbox.poison(sandbox.conversation_ids()[0], wrong)


async def test_an_action_runs_after_the_page_it_was_scheduled_for() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        order = {"order": "FIRST_CHAT_TIME_ASC", "pageSize": 10}
        whole = ids(await client.walk(**order))
        sandbox.after_pages(2, lambda: sandbox.delete_conversations(1, whole[0]))
        sandbox.after_pages(2, lambda: sandbox.delete_conversations(1, whole[15]))
        sandbox.script("listConversations", ["ok", 500])
        assert await client.page(**order) == whole[:10]
        assert (await client.send("GET", ROOT)).status == 500
        assert (await client.send("GET", f"{ROOT}?order=x")).status == 400
        page = await client.get(ROOT, **order)
        assert ids(page["conversations"]) == whole[:10]
        assert await client.page(**order, cursor=page["cursor"]) == [*whole[11:15], *whole[16:22]]
        assert len(sandbox.conversation_ids()) == 98


async def test_an_action_may_schedule_another_one() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        seen: list[int] = []

        def act() -> None:
            seen.append(sandbox.count())
            sandbox.add_chats()
            sandbox.after_pages(2, act)

        sandbox.after_pages(1, act)
        for _ in range(5):
            await client.page()
        assert seen == [0, 2, 4]


async def test_an_action_after_requests_counts_all_of_them() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        seen: list[Any] = []
        sandbox.after_requests(1, lambda: seen.append(("first", sandbox.count())))
        sandbox.after_requests(4, lambda: seen.append(("fourth", sandbox.count())))
        sandbox.script("*", [503])
        for path in (ROOT, f"{ROOT}/x", "/nowhere", ROOT, ROOT):
            await client.send("GET", path)
        assert seen == [("first", 1), ("fourth", 4)]


async def test_an_action_cannot_be_scheduled_for_what_has_been() -> None:
    sandbox = Sandbox()
    for schedule in (sandbox.after_pages, sandbox.after_requests):
        with pytest.raises(ValueError, match="n must be an integer of at least 1, not 0"):
            schedule(0, list)


async def test_after_pages_works_for_a_sandbox_in_a_thread() -> None:
    with Sandbox() as sandbox:
        sandbox.after_pages(1, lambda: sandbox.add_conversations(1))
        async with Client(sandbox) as client:
            await client.page()
        assert len(sandbox.conversation_ids()) == 101
