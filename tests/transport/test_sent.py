"""What each operation sends, and what it makes of the answer. Nothing about sockets is proven here."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from typing import Any

import pytest
from aioresponses import aioresponses

from alli_async import (
    UNSET,
    AlliClient,
    APIError,
    BadRequestError,
    ConfigurationError,
    Conversation,
    ConversationState,
    ConversationUpdate,
    Feedback,
    FeedbackReason,
)
from tests.support import chat, conversation

pytestmark = pytest.mark.wire

BASE = "https://backend.alli.ai/webapi/v2/conversations"
UPDATE = ConversationUpdate(title="x")


@pytest.fixture
def wire(alli_responses: aioresponses) -> aioresponses:
    return alli_responses


def sent(wire: aioresponses) -> tuple[str, str, Any]:
    """Method, whole URL and body of the one request that was sent."""
    ((method, url),) = wire.requests
    (call,) = wire.requests[method, url]
    data = call.kwargs["data"]
    return method, str(url), None if data is None else json.loads(data)


async def test_get(wire: aioresponses) -> None:
    wire.get(re.compile(".*"), payload=conversation(variables={"a": 1}))
    async with AlliClient("k") as alli:
        found = await alli.conversations.get("a/b==", variables=["a"])
    assert found.variables == {"a": 1}
    assert sent(wire) == ("GET", f"{BASE}/a%2Fb%3D%3D?variables=a", None)


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        ({"state": ConversationState.WU2}, {"state": "wu2"}),
        ({"state": "eo", "assignee": None}, {"state": "eo", "assignee": None}),
        ({"category_ids": [], "title": "é"}, {"categoryIds": [], "title": "é"}),
        ({"category_ids": ("a", "b"), "state": None}, {"categoryIds": ["a", "b"], "state": None}),
    ],
)
async def test_update(wire: aioresponses, changes: dict[str, Any], body: dict[str, Any]) -> None:
    wire.patch(re.compile(".*"), payload=conversation())
    async with AlliClient("k") as alli:
        assert isinstance(await alli.conversations.update("c", **changes), Conversation)
    assert sent(wire) == ("PATCH", f"{BASE}/c", body)


async def test_bulk_update(wire: aioresponses) -> None:
    wire.post(re.compile(".*"), body="")
    async with AlliClient("k") as alli:
        await alli.conversations.bulk_update(
            UPDATE, conversation_ids=["a"], user_ids=["b"], llm_app_ids=["c"], category_ids=["d"]
        )
    ids = {"conversationIds": ["a"], "userIds": ["b"], "llmAppIds": ["c"], "categoryIds": ["d"]}
    assert sent(wire) == ("POST", f"{BASE}/bulk_update", {"conversationInfo": {"title": "x"}, **ids})


async def test_bulk_update_of_everything(wire: aioresponses) -> None:
    wire.post(re.compile(".*"), payload={"errors": None})
    async with AlliClient("k") as alli:
        await alli.conversations.bulk_update(UPDATE, all_conversations=True)
    assert sent(wire) == ("POST", f"{BASE}/bulk_update", {"conversationInfo": {"title": "x"}})


async def test_set_title(wire: aioresponses) -> None:
    wire.put(re.compile(".*"), payload=conversation(title=""))
    async with AlliClient("k") as alli:
        assert (await alli.conversations.set_title("c", "")).title == ""
    assert sent(wire) == ("PUT", f"{BASE}/c/title", {"title": ""})


async def test_list_chats(wire: aioresponses) -> None:
    wire.get(re.compile(".*"), payload={"chats": [chat(1)], "pageNo": 1, "totalCount": 1})
    async with AlliClient("k") as alli:
        page = await alli.conversations.list_chats("c")
    assert page.chats[0].sent == datetime(2024, 1, 1, 0, 0, 0, 1000, tzinfo=UTC)
    assert sent(wire) == ("GET", f"{BASE}/c/chats?pageNo=1", None)


async def test_is_running(wire: aioresponses) -> None:
    wire.get(re.compile(".*"), payload={"isRunning": True})
    async with AlliClient("k") as alli:
        assert await alli.conversations.is_running("c") is True
    assert sent(wire) == ("GET", f"{BASE}/c/running", None)


async def test_stop(wire: aioresponses) -> None:
    wire.post(re.compile(".*"), body="OK")
    async with AlliClient("k") as alli:
        await alli.conversations.stop("c")
    assert sent(wire) == ("POST", f"{BASE}/c/stop", None)


async def test_delete_chat(wire: aioresponses) -> None:
    wire.delete(re.compile(".*"), status=204)
    async with AlliClient("k") as alli:
        await alli.conversations.delete_chat("c", "x?y")
    assert sent(wire) == ("DELETE", f"{BASE}/c/chats/x%3Fy", None)


@pytest.mark.parametrize(
    ("given", "body"),
    [
        ({"rating": False}, {"rating": False}),
        ({"rating": None, "suggested_answer": "a"}, {"rating": None, "suggestedAnswer": "a"}),
        (
            {"selection": [FeedbackReason.INACCURATE, "not_relevant"]},
            {"feedbackSelection": ["inaccurate", "not_relevant"]},
        ),
        ({"selection": None}, {"feedbackSelection": None}),
        ({"selection": []}, {"feedbackSelection": []}),
    ],
)
async def test_send_feedback(wire: aioresponses, given: dict[str, Any], body: dict[str, Any]) -> None:
    wire.post(re.compile(".*"), payload={"conversationId": "c", "chatId": "x"})
    async with AlliClient("k") as alli:
        found = await alli.conversations.send_feedback("c", "x", **given)
    assert found == Feedback(conversation_id="c", chat_id="x")
    assert sent(wire) == ("POST", f"{BASE}/c/chats/x/feedback", body)


@pytest.mark.parametrize(
    ("first", "last"),
    [("2026-01-01", "2026-01-02"), (date(2026, 1, 1), datetime(2026, 1, 2, 23, tzinfo=UTC))],
)
async def test_daily_counts(wire: aioresponses, first: Any, last: Any) -> None:
    days = [{"date": "2026-01-01", "activeCount": 3}]
    result = {"dailyTotalCount": days, "state": "done", "campaignCount": 2}
    wire.get(re.compile(".*"), payload={"result": result, "errors": None})
    async with AlliClient("k") as alli:
        counts = await alli.conversations.daily_counts(first, last)
    assert [(day.date, day.active_count) for day in counts.days] == [("2026-01-01", 3)]
    assert (counts.state, counts.campaign_count) == ("done", 2)
    assert b"dailyTotalCount" in counts.raw
    url = "https://backend.alli.ai/webapi/conversation_daily_count"
    assert sent(wire) == ("GET", url, {"startDate": "2026-01-01", "endDate": "2026-01-02"})


@pytest.mark.parametrize("errors", ["bad range", {"startDate": ["bad range"]}, ["bad range"]])
async def test_daily_counts_that_failed_inside_a_success_are_an_error(wire: aioresponses, errors: Any) -> None:
    wire.get(re.compile(".*"), payload={"result": None, "errors": errors})
    async with AlliClient("k") as alli:
        with pytest.raises(APIError, match="bad range") as raised:
            await alli.conversations.daily_counts("2026-01-01", "2026-01-02")
    assert raised.value.status == 200


async def test_a_parameter_error_inside_a_success_is_a_bad_request(wire: aioresponses) -> None:
    wire.get(re.compile(".*"), payload={"type": "APIError", "code": 7003, "message": "startDate"})
    async with AlliClient("k") as alli:
        with pytest.raises(BadRequestError, match="startDate"):
            await alli.conversations.daily_counts("2026-01-01", "2026-01-02")


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda api: api.get(""), "conversation id"),
        (lambda api: api.get("c", variables=["a,b"]), "variables"),
        (lambda api: api.get("c", variables=[]), "variables"),
        (lambda api: api.update("c"), "nothing is set: give state, assignee, category_ids or title"),
        (lambda api: api.update("c", state="sleepy"), "state: expected one of no, eb"),
        (lambda api: api.update("c", assignee=7), "assignee: expected a text or None, got 7"),
        (lambda api: api.update("c", title=7), "title: expected a text or None, got 7"),
        (lambda api: api.update("c", title="\ud800"), "update: cannot be sent as JSON"),
        (lambda api: api.update("c", category_ids="x"), "category_ids: expected a list of texts, got 'x'"),
        (lambda api: api.update("c", category_ids=[""]), "category_ids"),
        (lambda api: api.update("c", category_ids=7), "category_ids"),
        (lambda api: api.bulk_update(UPDATE), "all_conversations"),
        (lambda api: api.bulk_update(UPDATE, conversation_ids=[]), "conversation_ids: an empty list"),
        (lambda api: api.bulk_update(UPDATE, user_ids="u"), "user_ids"),
        (lambda api: api.bulk_update(UPDATE, user_ids=["u"], all_conversations=True), "does not go with"),
        (lambda api: api.bulk_update(ConversationUpdate(), user_ids=["u"]), "nothing is set"),
        (lambda api: api.bulk_update({"title": "x"}, user_ids=["u"]), "ConversationUpdate"),
        (lambda api: api.set_title("c", None), "title"),
        (lambda api: api.set_title("..", "t"), "conversation id"),
        (lambda api: api.delete_chat("c", "a\nb"), "chat id"),
        (lambda api: api.send_feedback("c", "x"), "nothing is set: give rating, selection or suggested_answer"),
        (lambda api: api.send_feedback("c", "x", rating=7), "rating: expected True, False or None, got 7"),
        (lambda api: api.send_feedback("c", "x", selection=["bad"]), "selection: expected one of"),
        (lambda api: api.send_feedback("c", "x", selection="x"), "selection: expected a list of texts, got 'x'"),
        (
            lambda api: api.send_feedback("c", "x", suggested_answer=7),
            "suggested_answer: expected a text or None, got 7",
        ),
        (lambda api: api.daily_counts("01/02/2026", "2026-01-02"), "start_date"),
        (lambda api: api.daily_counts("2026-01-03", "2026-01-02"), "lies after"),
        (lambda api: api.daily_counts("2026-01-03", None), "end_date"),
        (lambda api: api.wait_until_idle("c", timeout=-1), "timeout"),
        (lambda api: api.wait_until_idle("c", timeout=10**400), "timeout"),
        (lambda api: api.wait_until_idle("c", poll_interval="1"), "poll_interval"),
        (lambda api: api.transcript("."), "conversation id"),
    ],
)
async def test_a_bad_argument_is_refused_by_name_before_anything_is_sent(
    wire: aioresponses, call: Any, named: str
) -> None:
    async with AlliClient("k") as alli:
        with pytest.raises(ConfigurationError, match=named):
            await call(alli.conversations)
    assert not wire.requests


def test_unset_is_not_none() -> None:
    assert ConversationUpdate().title is UNSET
    assert ConversationUpdate(title=None).title is None
