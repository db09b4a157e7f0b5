from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from alli_async.sandbox import Sandbox

from .client import DAILY, ROOT, Client, ids

pytestmark = pytest.mark.asyncio


async def busy(client: Client, chats: int = 3) -> dict[str, Any]:
    """A conversation with at least so many chats."""
    return next(row for row in await client.walk() if row["chatCount"] >= chats)


async def test_a_list_gives_every_conversation_and_the_last_page_has_no_cursor() -> None:
    async with Sandbox(conversations=120) as sandbox, Client(sandbox) as client:
        first = await client.get(ROOT)
        assert len(first["conversations"]) == 50
        assert isinstance(first["cursor"], str)
        assert sorted(ids(await client.walk())) == sorted(sandbox.conversation_ids())
        assert len(await client.walk(pageSize=7)) == 120
        assert await client.page(pageSize=3) == ids(first["conversations"])[:3]


async def test_an_empty_sandbox_lists_nothing() -> None:
    async with Sandbox(conversations=0) as sandbox, Client(sandbox) as client:
        assert await client.get(ROOT) == {"conversations": [], "cursor": None}


@pytest.mark.parametrize("field", ["userIds", "llmAppId", "categoryId", "searchTerm", "activeOnly"])
async def test_a_filter_selects_what_it_says_and_nothing_else(field: str) -> None:
    async with Sandbox(conversations=400) as sandbox, Client(sandbox) as client:
        rows = await client.walk()
        users = sorted({row["user"]["userId"] for row in rows if row["user"]})[:2]
        app = next(row["llmApp"]["id"] for row in rows if row["llmApp"])
        selections: dict[str, tuple[Any, Callable[[Any], bool]]] = {
            "userIds": (users, lambda row: (row["user"] or {}).get("userId") in users),
            "llmAppId": (app, lambda row: (row["llmApp"] or {}).get("id") == app),
            "categoryId": ("billing", lambda row: "billing" in (row["categories"] or [])),
            "searchTerm": ("oRDer", lambda row: "order" in row["title"].lower()),
            "activeOnly": ("true", lambda row: not row["isEnd"]),
        }
        value, matches = selections[field]
        wanted = [row["id"] for row in rows if matches(row)]
        assert 0 < len(wanted) < 400
        assert ids(await client.walk(**{field: value})) == wanted


async def test_a_search_looks_at_the_names_of_users_too() -> None:
    async with Sandbox(conversations=400) as sandbox, Client(sandbox) as client:
        found = await client.walk(searchTerm="さくら")
        assert found
        assert {row["user"]["firstName"] for row in found} == {"さくら"}


async def test_background_running_selects_the_conversations_marked_as_running() -> None:
    async with Sandbox(conversations=60) as sandbox, Client(sandbox) as client:
        marked = sandbox.conversation_ids()[:2]
        for conversation_id in marked:
            sandbox.running(conversation_id)
        assert sorted(await client.page(backgroundRunning="true")) == sorted(marked)
        assert len(await client.walk(backgroundRunning="false")) == 58


@pytest.mark.parametrize("on", ["get", "list"])
async def test_variables_are_chosen_by_one_comma_separated_value(on: str) -> None:
    async with Sandbox(conversations=100) as sandbox, Client(sandbox) as client:
        full = next(row for row in await client.walk() if row["variables"] and "plan" in row["variables"])
        path = f"{ROOT}/{full['id']}" if on == "get" else ROOT
        chosen = await client.get(path, variables="plan,언어,nothing")
        row = (
            chosen
            if on == "get"
            else next(one for one in await client.walk(variables="plan,언어,nothing") if one["id"] == full["id"])
        )
        assert row["variables"] == {k: v for k, v in full["variables"].items() if k in {"plan", "언어"}}


async def test_get_gives_what_the_list_gave() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        for row in (await client.walk())[:10]:
            assert await client.get(f"{ROOT}/{row['id']}") == row


async def test_chats_come_in_pages_of_a_hundred_ascending_and_none_is_beyond_the_end() -> None:
    async with Sandbox(conversations=2000) as sandbox, Client(sandbox) as client:
        long = max(sandbox.conversation_ids(), key=lambda one: len(sandbox.chat_ids(one)))
        count = len(sandbox.chat_ids(long))
        page = await client.get(f"{ROOT}/{long}/chats")
        assert (len(page["chats"]), page["pageNo"], page["totalCount"]) == (100, 1, count)
        chats = await client.chats(long)
        assert ids(chats) == sandbox.chat_ids(long)
        times = [chat["timestamp"] for chat in chats]
        assert times == sorted(times)
        conversation = await client.get(f"{ROOT}/{long}")
        assert conversation["lastChatTime"] == times[-1]
        assert conversation["createdAt"] <= times[0]
        assert conversation["chats"] == chats[-20:]
        beyond = await client.get(f"{ROOT}/{long}/chats", pageNo=count // 100 + 2)
        assert (beyond["chats"], beyond["totalCount"]) == ([], count)


async def test_what_is_written_is_what_is_read() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        path = f"{ROOT}/{sandbox.conversation_ids()[1]}"
        written = await client.write(
            "PATCH", path, {"state": "ea", "assignee": "김", "categoryIds": ["a"], "title": "T"}
        )
        assert (written["title"], written["categories"], written["isEnd"]) == ("T", ["a"], True)
        assert (written["state"], written["assignee"]) == ("ea", "김")
        assert await client.get(path) == written
        assert (await client.write("PATCH", path, {})) == written
        cleared = await client.write("PATCH", path, dict.fromkeys(("state", "assignee", "categoryIds", "title")))
        assert (cleared["title"], cleared["categories"], cleared["isEnd"]) == ("", None, False)
        assert (cleared["state"], cleared["assignee"]) == (None, None)
        assert (await client.write("PUT", f"{path}/title", {"title": "二"}))["title"] == "二"
        assert [row["title"] for row in await client.walk(searchTerm="二")] == ["二"]


@pytest.mark.parametrize(
    ("state", "ended"), [("eb", True), ("eu", True), ("eo", True), ("in", False), ("lck", False)]
)
async def test_the_states_of_ended_conversations_end_them(state: str, ended: bool) -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        path = f"{ROOT}/{sandbox.conversation_ids()[1]}"
        assert (await client.write("PATCH", path, {"state": state}))["isEnd"] is ended


async def test_a_bulk_update_changes_what_all_its_filters_select() -> None:
    async with Sandbox(conversations=300) as sandbox, Client(sandbox) as client:
        rows = await client.walk()
        app, user = next(
            (r["llmApp"]["id"], r["user"]["userId"]) for r in rows if r["llmApp"] and r["user"] and r["categories"]
        )
        selected = [
            row["id"]
            for row in rows
            if (row["llmApp"] or {}).get("id") == app
            and (row["user"] or {}).get("userId") == user
            and row["categories"]
        ]
        category = next(row["categories"][0] for row in rows if row["id"] == selected[0])
        filters = {
            "userIds": [user],
            "llmAppIds": [app, "x"],
            "categoryIds": [category],
            "conversationIds": [selected[0], "x"],
        }
        await client.write("POST", f"{ROOT}/bulk_update", {**filters, "conversationInfo": {"title": "새 제목"}})
        assert [row["id"] for row in await client.walk() if row["title"] == "새 제목"] == [selected[0]]


async def test_a_bulk_update_without_filters_changes_everything_and_an_empty_one_nothing() -> None:
    async with Sandbox(conversations=60) as sandbox, Client(sandbox) as client:
        none = {"conversationIds": [], "conversationInfo": {"title": "x"}}
        await client.write("POST", f"{ROOT}/bulk_update", none)
        assert all(row["title"] != "x" for row in await client.walk())
        everything = {"conversationIds": None, "conversationInfo": {"title": "x"}}
        await client.write("POST", f"{ROOT}/bulk_update", everything)
        assert all(row["title"] == "x" for row in await client.walk())


async def test_running_is_true_as_often_as_was_said_and_then_false() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        path = f"{ROOT}/{sandbox.conversation_ids()[0]}/running"
        assert await client.get(path) == {"isRunning": False}
        sandbox.running(sandbox.conversation_ids()[0], polls=2)
        assert [(await client.get(path))["isRunning"] for _ in range(4)] == [True, True, False, False]
        sandbox.running(sandbox.conversation_ids()[0], polls=0)
        assert await client.get(path) == {"isRunning": False}


async def test_stop_ends_what_runs_without_end() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        path = f"{ROOT}/{sandbox.conversation_ids()[0]}"
        sandbox.running(sandbox.conversation_ids()[0])
        assert [(await client.get(f"{path}/running"))["isRunning"] for _ in range(3)] == [True] * 3
        await client.write("POST", f"{path}/stop")
        assert await client.get(f"{path}/running") == {"isRunning": False}


async def test_a_deleted_chat_is_gone_and_cannot_be_deleted_again() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        before = await busy(client)
        path = f"{ROOT}/{before['id']}"
        gone = sandbox.chat_ids(before["id"])[1]
        await client.write("DELETE", f"{path}/chats/{quote(gone, safe='')}")
        assert (await client.send("DELETE", f"{path}/chats/{gone}")).status == 404
        page = await client.get(f"{path}/chats")
        assert gone not in ids(page["chats"])
        assert page["totalCount"] == before["chatCount"] - 1 == (await client.get(path))["chatCount"]


@pytest.mark.parametrize("rating", [True, False, None])
async def test_feedback_changes_the_rating_of_the_chat(rating: bool | None) -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        row = await busy(client)
        place = next((n for n, chat in enumerate(row["chats"]) if chat["rating"] is not rating), 0)
        chat = row["chats"][place]
        path = f"{ROOT}/{row['id']}/chats/{chat['id']}/feedback"
        body = {"rating": rating, "feedbackSelection": ["inaccurate"], "suggestedAnswer": "42"}
        assert await client.write("POST", path, body) == {
            "conversationId": row["id"],
            "chatId": chat["id"],
            "rating": rating,
        }
        assert (await client.get(f"{ROOT}/{row['id']}"))["chats"][place] == {**chat, "rating": rating}


async def test_feedback_without_a_rating_leaves_it_as_it_is() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        row = await busy(client)
        path = f"{ROOT}/{row['id']}/chats/{row['chats'][0]['id']}/feedback"
        assert "rating" not in await client.write("POST", path, {"suggestedAnswer": "42"})
        assert await client.get(f"{ROOT}/{row['id']}") == row


@pytest.mark.parametrize("unit", ["ms", "s"])
async def test_daily_counts_count_first_chats_by_utc_day_and_name_empty_days(unit: Any) -> None:
    async with Sandbox(conversations=3000, unit=unit) as sandbox, Client(sandbox) as client:
        rows = await client.walk(order="FIRST_CHAT_TIME_ASC")
        firsts = [(await client.chats(row["id"]))[0]["timestamp"] for row in rows[::100] if row["chats"]]
        answer = await client.write("GET", DAILY, {"startDate": "2023-12-31", "endDate": "2024-01-04"})
        counts = {day["date"]: day["activeCount"] for day in answer["result"]["dailyTotalCount"]}
        assert answer["errors"] is None
        assert list(counts) == [f"2023-12-{31}", "2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"]
        assert counts["2023-12-31"] == counts["2024-01-04"] == 0
        assert sum(counts.values()) == sum(1 for row in rows if row["lastChatTime"] is not None)
        days = Counter(
            datetime.fromtimestamp(t / (1000 if unit == "ms" else 1), UTC).date().isoformat() for t in firsts
        )
        assert all(abs(days[day] * 100 - count) <= 200 for day, count in counts.items())


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2024-02-30", "2024-03-01"),
        ("x", "y"),
        ("2024-02-02", "2024-02-01"),
        ("20240201", "20240202"),
        ("1990-01-01", "2024-01-01"),
    ],
)
async def test_daily_counts_fail_with_200(start: str, end: str) -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        answer = await client.write("GET", DAILY, {"startDate": start, "endDate": end})
        assert answer["errors"]["code"] == 7003
        assert "result" not in answer


async def test_ids_may_be_percent_encoded_or_not_and_are_decoded_once() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        made = sandbox.conversation_ids()[0]
        for spelling in (made, quote(made, safe=""), "".join(f"%{ord(letter):02X}" for letter in made)):
            assert (await client.send("GET", f"{ROOT}/{spelling}")).json["id"] == made
        assert (await client.send("GET", f"{ROOT}/{quote(quote(made, safe=''), safe='')}")).status == 404


async def test_unicode_citations_sources_and_unknown_fields_are_to_be_found() -> None:
    async with Sandbox(conversations=300) as sandbox, Client(sandbox) as client:
        rows = await client.walk()
        chats = [chat for row in rows for chat in row["chats"]]
        assert {"USER", "BOT", "AGENT"} == {chat["sender"] for chat in chats}
        assert {True, False, None} == {chat["rating"] for chat in chats}
        assert any(chat.get("source") for chat in chats)
        assert any("source" not in chat for chat in chats)
        assert any("source" in chat and chat["source"] is None for chat in chats)
        citations = [one for chat in chats for one in chat["citations"] or ()]
        assert {None, True, False} == {None if "url" not in one else one["url"] is None for one in citations}
        assert any(row["user"] is None for row in rows)
        assert any(row["llmApp"] is None for row in rows)
        assert any((row["user"] or {}).get("userId", "").startswith("base64:") for row in rows)
        assert {type(row["categories"]) for row in rows} == {type(row["variables"]) for row in rows} - {dict} | {
            list
        }
        assert any("channel" in row for row in rows)
        text = "".join(chat["message"] for chat in chats)
        assert all(piece in text for piece in ("환불", "契約", "שלום", "مرحبا", "👩‍👩‍👧‍👦", "𝔘"))
