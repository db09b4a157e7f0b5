from __future__ import annotations

from typing import Any

import pytest

from alli_async.sandbox import Sandbox

from .client import DAILY, ROOT, Client

pytestmark = pytest.mark.asyncio

BULK = f"{ROOT}/bulk_update"


@pytest.mark.parametrize(
    "headers", [{}, {"API-KEY": "wrong"}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic {key}"}]
)
async def test_without_the_right_key_every_operation_answers_403_7001(headers: dict[str, str]) -> None:
    async with Sandbox() as sandbox:
        sent = {name: value.format(key=sandbox.api_key) for name, value in headers.items()}
        async with Client(sandbox, sent) as client:
            for method, path in (
                ("GET", ROOT),
                ("POST", BULK),
                ("GET", DAILY),
                ("DELETE", f"{ROOT}/x/chats/y"),
            ):
                answer = await client.send(method, path)
                assert (answer.status, answer.json["code"], answer.json["type"]) == (403, 7001, "APIError")


async def test_the_key_may_come_as_a_bearer_token() -> None:
    async with (
        Sandbox() as sandbox,
        Client(sandbox, {"Authorization": f"Bearer {sandbox.api_key}"}) as client,
    ):
        assert (await client.send("GET", ROOT)).status == 200


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b'{"title": "\\ud800"}', b'{"title":"\xff"}', b"[" * 9999]
)
async def test_a_body_that_is_no_json_object_answers_403_7002(body: bytes) -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        path = f"{ROOT}/{sandbox.conversation_ids()[0]}"
        for method, place in (("PATCH", path), ("PUT", f"{path}/title"), ("POST", BULK), ("GET", DAILY)):
            answer = await client.send(method, place, body)
            assert (answer.status, answer.json["code"]) == (403, 7002)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("order=OLDEST", "order"),
        ("order=", "order"),
        ("pageSize=0", "pageSize"),
        ("pageSize=51", "pageSize"),
        ("pageSize=", "pageSize"),
        ("pageSize=%EF%BC%95", "pageSize"),
        (f"pageSize={'9' * 5000}", "pageSize"),
        ("startedAt=yesterday", "startedAt"),
        ("endAt=nan", "endAt"),
        ("firstChatStartedAt=", "firstChatStartedAt"),
        ("firstChatEndAt=inf", "firstChatEndAt"),
        ("activeOnly=1", "activeOnly"),
        ("backgroundRunning=True", "backgroundRunning"),
        ("cursor=", "cursor"),
        ("cursor=%FF", "cursor"),
        ("cursor=b2Zmc2V0Oi0x", "cursor"),  # offset:-1
        ("cursor=b2Zmc2V0Og==", "cursor"),  # offset:
        ("cursor=YWZ0ZXI6MTox", "cursor"),  # after:1:1
        ("order=FIRST_CHAT_TIME_ASC&order=FIRST_CHAT_TIME_ASC", "order"),
        ("variables=a&variables=b", "variables"),
    ],
)
async def test_a_wrong_parameter_answers_400_7003_and_is_named(query: str, named: str) -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        answer = await client.send("GET", f"{ROOT}?{query}")
        assert (answer.status, answer.json["code"]) == (400, 7003)
        assert named in answer.json["message"]


async def test_a_keyset_server_refuses_cursors_that_are_offsets() -> None:
    async with Sandbox(cursor="keyset") as sandbox, Client(sandbox) as client:
        for cursor in ("b2Zmc2V0OjE=", "YWZ0ZXI6eDp5"):
            assert (await client.send("GET", f"{ROOT}?cursor={cursor}")).status == 400


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5", ""])
async def test_a_wrong_page_number_answers_400(number: str) -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        answer = await client.send("GET", f"{ROOT}/{sandbox.conversation_ids()[0]}/chats?pageNo={number}")
        assert (answer.status, answer.json["code"]) == (400, 7003)
        assert "pageNo" in answer.json["message"]


@pytest.mark.parametrize(
    ("method", "path", "body", "named"),
    [
        ("PATCH", "{}", {"state": "zz"}, "$.state"),
        ("PATCH", "{}", {"title": 1}, "$.title"),
        ("PATCH", "{}", {"categoryIds": "a"}, "$.categoryIds"),
        ("PUT", "{}/title", {}, "title"),
        ("PUT", "{}/title", {"title": None}, "$.title"),
        ("POST", "bulk_update", {}, "conversationInfo"),
        ("POST", "bulk_update", {"conversationInfo": None}, "$.conversationInfo"),
        ("POST", "bulk_update", {"userIds": [1], "conversationInfo": {}}, "$.userIds"),
        ("POST", "{}/chats/{}/feedback", {"rating": "good"}, "$.rating"),
        ("POST", "{}/chats/{}/feedback", {"feedbackSelection": ["bad"]}, "$.feedbackSelection"),
    ],
)
async def test_a_wrong_field_answers_400_7003_and_is_named(method: str, path: str, body: Any, named: str) -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        one = next(one for one in sandbox.conversation_ids() if sandbox.chat_ids(one))
        where = path.format(one, sandbox.chat_ids(one)[0])
        answer = await client.send(method, f"{ROOT}/{where}", body)
        assert (answer.status, answer.json["code"]) == (400, 7003)
        assert named in answer.json["message"]


@pytest.mark.parametrize("body", [{}, {"startDate": "2024-01-01"}, {"startDate": 1, "endDate": "2024-01-01"}])
async def test_daily_counts_without_two_dates_answer_400(body: Any) -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        assert (await client.send("GET", DAILY, body)).json["code"] == 7003


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("PATCH", ""),
        ("PUT", "/title"),
        ("GET", "/chats"),
        ("GET", "/running"),
        ("POST", "/stop"),
        ("DELETE", "/chats/x"),
        ("POST", "/chats/x/feedback"),
    ],
)
@pytest.mark.parametrize(
    "conversation_id", ["nothing", "%2F", "%FF", "Q29udmVyc2F0aW9uOjYwMDZiNTM3YWJjZA==", "{}", ".."]
)
async def test_an_unknown_conversation_answers_404(method: str, path: str, conversation_id: str) -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        answer = await client.send(method, f"{ROOT}/{conversation_id}{path}", {"title": "x"})
        assert answer.status == 404
        assert answer.json == {"error": "Conversation not found"}


async def test_a_conversation_that_a_larger_sandbox_has_is_unknown() -> None:
    async with Sandbox(conversations=3) as sandbox, Client(sandbox) as client:
        other = Sandbox(conversations=4).conversation_ids()
        statuses = [(await client.send("GET", f"{ROOT}/{one}")).status for one in other]
        assert statuses == [200, 200, 200, 404]


async def test_a_chat_of_another_conversation_answers_404() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        one, other = [one for one in sandbox.conversation_ids() if sandbox.chat_ids(one)][:2]
        wrong = sandbox.chat_ids(other)[0]
        assert (await client.send("DELETE", f"{ROOT}/{one}/chats/{wrong}")).json == {"error": "Chat not found"}
        assert (await client.send("POST", f"{ROOT}/{one}/chats/{wrong}/feedback", {})).status == 404


@pytest.mark.parametrize(
    "path", ["/", "/nothing", f"{ROOT}/", f"{ROOT}//chats", f"{ROOT}/x/other", "/a/b/c/d/e/f/g/h/i"]
)
async def test_an_unknown_path_answers_404(path: str) -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        assert (await client.send("GET", path)).status == 404
        assert sandbox.requests == {("unknown", 404): 1}


async def test_a_wrong_method_answers_405_and_names_the_right_ones() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        answer = await client.send("PUT", f"{ROOT}/{sandbox.conversation_ids()[0]}")
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, PATCH")
        assert (await client.send("DELETE", BULK)).headers["Allow"] == "POST"


async def test_every_answer_has_a_request_id_of_its_own() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        sandbox.script("*", [500, 429, "html", 304])
        answers = [await client.send("GET", path) for path in [ROOT] * 5 + ["/x"]]
        assert len({answer.headers["X-Request-Id"] for answer in answers}) == 6
