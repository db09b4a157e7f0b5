from __future__ import annotations

import contextlib
import errno
import gzip
import json
import time
import zlib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest

from alli_async.sandbox import Fault, Sandbox

from .client import DAILY, ROOT, Client, until

pytestmark = pytest.mark.asyncio


async def title_after(sandbox: Sandbox, client: Client, step: Any) -> str:
    """What the title of a conversation is when setting it has met a fault."""
    sandbox.script("updateConversationTitle", [step])
    path = f"{ROOT}/{sandbox.conversation_ids()[0]}"
    with contextlib.suppress(aiohttp.ClientError):
        await client.send("PUT", f"{path}/title", {"title": "written"})
    title: str = (await client.get(path))["title"]
    return title


@pytest.mark.parametrize(
    "step", ["429", "500", "503", 418, "reset_before", "html", Fault("silence", seconds=0.01)]
)
async def test_these_faults_come_before_any_effect(step: Any) -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        assert await title_after(sandbox, client, step) != "written"


@pytest.mark.parametrize(
    "step", ["reset_after", "truncated", "cut_gzip", "broken_json", "slow", "errors", "empty_chats", "ok"]
)
async def test_these_faults_come_after_the_effect(step: str) -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        assert await title_after(sandbox, client, step) == "written"


@pytest.mark.parametrize("when", ["reset_before", "reset_after"])
async def test_a_reset_has_no_answer_and_is_counted_with_status_0(when: str) -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        sandbox.script("listConversations", [when])
        with pytest.raises(aiohttp.ClientOSError) as caught:
            await client.send("GET", ROOT)
        assert caught.value.errno == errno.ECONNRESET
        assert sandbox.requests == {("listConversations", 0): 1}


async def test_a_truncated_answer_promises_more_than_it_sends() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        sandbox.script("listConversations", ["truncated"])
        with pytest.raises(aiohttp.ClientPayloadError):
            await client.send("GET", ROOT)
        assert sandbox.count(status=200) == 1


async def test_a_cut_gzip_stream_is_framed_well_but_ends_early() -> None:
    async with Sandbox() as sandbox:
        sandbox.script("listConversations", ["cut_gzip"])
        headers = {"API-KEY": sandbox.api_key}
        async with aiohttp.ClientSession(headers=headers, auto_decompress=False) as session:
            async with session.get(sandbox.url + ROOT) as response:
                body = await response.read()
        assert response.headers["Content-Encoding"] == "gzip"
        assert len(body) == int(response.headers["Content-Length"])
        with pytest.raises(EOFError):
            gzip.decompress(body)
        assert zlib.decompressobj(31).decompress(body).startswith(b'{"conversations":[')


async def test_html_and_broken_json_come_with_200() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        sandbox.script("listConversations", ["html", "broken_json", "ok"])
        page = await client.send("GET", ROOT)
        assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert page.body.startswith(b"<!DOCTYPE html>")
        broken = await client.send("GET", ROOT)
        assert (broken.status, broken.headers["Content-Type"]) == (200, "application/json")
        with pytest.raises(json.JSONDecodeError):
            json.loads(broken.body)
        assert (await client.get(ROOT))["conversations"]


@pytest.mark.parametrize(("fault", "rows"), [("errors", 0), ("errors_rows", 10)])
async def test_errors_come_with_200_beside_the_rows_of_a_list_and_a_null_cursor(fault: str, rows: int) -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        right = await client.get(ROOT)
        sandbox.script("listConversations", [fault, "ok", fault])
        page = await client.get(ROOT)
        errors = "internal error. upstream timed out"
        assert page == {"conversations": right["conversations"][:rows], "cursor": None, "errors": errors}
        assert await client.get(ROOT) == right
        second = await client.get(ROOT, cursor=right["cursor"], pageSize=5)
        whole = await client.get(ROOT, cursor=right["cursor"], pageSize=5)
        assert second["conversations"] == whole["conversations"][:rows]
        assert sandbox.count(status=200) == sandbox.count() == 5


@pytest.mark.parametrize("fault", ["errors", "errors_rows"])
async def test_errors_come_beside_the_right_answer_of_other_operations(fault: str) -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        path = f"{ROOT}/{sandbox.conversation_ids()[0]}"
        right = [await client.get(path), await client.get(f"{path}/chats")]
        sandbox.script("*", [fault] * 5)
        errors = {"errors": "internal error. upstream timed out"}
        assert [await client.get(path), await client.get(f"{path}/chats")] == [each | errors for each in right]
        assert await client.write("POST", f"{path}/stop") == errors
        days = {"startDate": "2024-01-01", "endDate": "2024-01-02"}
        assert (await client.write("GET", DAILY, days)).items() > errors.items()
        assert (await client.send("GET", f"{ROOT}/x")).json == {"error": "Conversation not found"}


async def test_a_page_of_chats_may_be_empty_once() -> None:
    async with Sandbox(conversations=2000) as sandbox, Client(sandbox) as client:
        long = max(sandbox.conversation_ids(), key=lambda one: len(sandbox.chat_ids(one)))
        path = f"{ROOT}/{long}/chats"
        right = await client.get(path, pageNo=2)
        sandbox.script("*", ["empty_chats", "ok", "empty_chats"])
        assert await client.get(path, pageNo=2) == {"chats": [], "pageNo": 2, "totalCount": 0}
        assert await client.get(path, pageNo=2) == right
        assert (await client.get(ROOT))["conversations"]


async def test_a_slow_answer_comes_a_byte_at_a_time_and_is_right() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        right = await client.get(ROOT)
        sandbox.script("listConversations", ["slow"])
        began = time.monotonic()
        assert await client.get(ROOT) == right
        assert 0.4 < time.monotonic() - began < 5


async def test_a_client_that_leaves_a_slow_answer_leaves_nothing_behind() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        sandbox.script("listConversations", ["slow"])
        with pytest.raises(TimeoutError):
            await client.send("GET", ROOT, timeout=aiohttp.ClientTimeout(total=0.05))
        await until(lambda: sandbox.in_flight == 0)


async def test_silence_ends_when_the_client_goes_away() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        sandbox.script("*", ["silence"])
        with pytest.raises(TimeoutError):
            await client.send("GET", ROOT, timeout=aiohttp.ClientTimeout(total=0.05))
        await until(lambda: sandbox.in_flight == 0)
        assert sandbox.requests == {("listConversations", 0): 1}


async def test_a_reset_of_a_connection_that_the_client_has_left_is_no_error() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        sandbox.script("*", [Fault("reset_before", seconds=0.1)])
        with pytest.raises(TimeoutError):
            await client.send("GET", ROOT, timeout=aiohttp.ClientTimeout(total=0.02))
        await until(lambda: sandbox.in_flight == 0)
        assert sandbox.requests == {("listConversations", 0): 1}


async def test_a_write_takes_effect_though_its_client_has_left() -> None:
    async with Sandbox(latency=0.1) as sandbox, Client(sandbox) as client:
        path = f"{ROOT}/{sandbox.conversation_ids()[0]}"
        with pytest.raises(TimeoutError):
            await client.send("PUT", f"{path}/title", {"title": "x"}, timeout=aiohttp.ClientTimeout(total=0.02))
        await until(lambda: sandbox.in_flight == 0)
        assert (await client.get(path))["title"] == "x"


async def test_silence_may_end_with_the_connection_closed() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        sandbox.script("*", [Fault("silence", seconds=0.05)])
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await client.send("GET", ROOT)


async def test_an_answer_may_be_held_back() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        sandbox.script("*", [Fault("ok", seconds=0.1)])
        began = time.monotonic()
        assert await client.get(ROOT)
        assert time.monotonic() - began >= 0.099


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_comes_in_the_form_that_was_chosen(status: int) -> None:
    seen = {}
    for form in ("seconds", "date", "none"):
        options: dict[str, Any] = {"retry_after": form}
        async with Sandbox(**options) as sandbox, Client(sandbox) as client:
            sandbox.script("*", [status, 500])
            answer = await client.send("GET", ROOT)
            assert answer.status == status
            seen[form] = answer.headers.get("Retry-After")
            assert "Retry-After" not in (await client.send("GET", ROOT)).headers
    assert seen["seconds"] == "1"
    assert seen["none"] is None
    assert 0 < (parsedate_to_datetime(str(seen["date"])) - datetime.now(UTC)).total_seconds() <= 2


async def test_any_answer_can_be_scripted_to_the_byte() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        sandbox.script(
            "getConversation",
            [
                Fault("status", status=418, body=b"\xff\x00", headers={"Content-Type": "x/y", "X-More": "1"}),
                Fault("429", retry_after="Wed, 99 Foo"),
                Fault("html", retry_after="3"),
                Fault("ok", headers={"X-More": "2"}),
                Fault("status", status=503, retry_after="7"),
                Fault("status", status=302, headers={"Location": "/elsewhere"}),
            ],
        )
        path = f"{ROOT}/{sandbox.conversation_ids()[0]}"
        answers = [await client.send("GET", path, allow_redirects=False) for _ in range(6)]
        assert [answer.status for answer in answers] == [418, 429, 200, 200, 503, 302]
        assert answers[0].body == b"\xff\x00"
        assert (answers[0].headers["Content-Type"], answers[0].headers["X-More"]) == ("x/y", "1")
        assert answers[1].headers["Retry-After"] == "Wed, 99 Foo"
        assert answers[2].headers["Retry-After"] == "3"
        assert answers[3].headers["X-More"] == "2"
        assert answers[4].headers["Retry-After"] == "7"
        assert (answers[5].body, answers[5].headers["Location"]) == (b"", "/elsewhere")


@pytest.mark.parametrize(
    ("status", "shape"),
    [
        (400, {"type": "APIError", "code": 7003}),
        (402, {"type": "APIError", "code": 7004}),
        (404, {"error": "Resource not found"}),
        (429, {"errors": "Too many requests"}),
        (500, {"type": "APIError", "code": 7000}),
        (503, {"type": "APIError", "code": 7000, "message": "Service unavailable"}),
    ],
)
async def test_a_scripted_status_has_the_documented_shape(status: int, shape: dict[str, Any]) -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        sandbox.script("*", [status])
        answer = await client.send("GET", ROOT)
        assert answer.status == status
        assert shape.items() <= answer.json.items()


async def test_a_script_holds_for_its_operation_and_then_ends() -> None:
    async with Sandbox() as sandbox, Client(sandbox) as client:
        sandbox.script("getConversation", [500])
        sandbox.script("*", [503, 503])
        path = f"{ROOT}/{sandbox.conversation_ids()[0]}"
        steps = [ROOT, path, path, ROOT, path]
        assert [(await client.send("GET", step)).status for step in steps] == [503, 500, 503, 200, 200]


async def test_faults_by_probability_are_the_same_every_time() -> None:
    seen = []
    for _ in range(2):
        async with Sandbox(faults={"500": 0.25, "503": 0.25}) as sandbox, Client(sandbox) as client:
            seen.append([(await client.send("GET", f"{ROOT}?pageSize=1")).status for _ in range(80)])
    assert seen[0] == seen[1]
    assert all(10 < seen[0].count(status) < 35 for status in (500, 503))
    assert 25 < seen[0].count(200) < 55


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Fault("nothing"),
        lambda: Fault("status"),
        lambda: Fault("ok", status=200),
        lambda: Fault("status", status=100),
        lambda: Fault("ok", body=b"x"),
        lambda: Sandbox().script("getConversations", ["ok"]),
        lambda: Sandbox().script("*", ["okay"]),
        lambda: Sandbox().script("*", [7]),
    ],
)
async def test_a_fault_that_cannot_be_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"must be|belongs to|is one of"):
        wrong()
