"""The kinds of cursors, and what becomes of a walk with each."""

from __future__ import annotations

from base64 import b64decode, b64encode
from itertools import product
from typing import Any

import pytest

from alli_async.sandbox import Churn, Sandbox

from .client import ROOT, Client, ids

pytestmark = pytest.mark.asyncio

ORDERS = ("LAST_CHAT_TIME_DESC", "LAST_CHAT_TIME_ASC", "FIRST_CHAT_TIME_DESC", "FIRST_CHAT_TIME_ASC")
OFFSETS = ("offset", "relay", "opaque")


def spelled(text: str) -> str:
    return b64encode(text.encode()).decode()


async def refused(client: Client, **query: Any) -> bool:
    answer = await client.send("GET", ROOT, params=query)
    assert answer.status in {200, 400}
    return answer.status == 400 and answer.json["code"] == 7003


@pytest.mark.parametrize(("cursor", "nulls", "order"), [*product(("relay", "opaque"), ("first", "last"), ORDERS)])
async def test_a_walk_with_relay_or_opaque_cursors_is_the_walk_with_offsets(
    cursor: Any, nulls: Any, order: str
) -> None:
    async with (
        Sandbox(conversations=230, nulls=nulls) as plain,
        Sandbox(conversations=230, cursor=cursor, nulls=nulls) as other,
        Client(plain) as one,
        Client(other) as two,
    ):
        assert await two.walk(order=order, pageSize=17) == await one.walk(order=order, pageSize=17)


async def test_a_relay_cursor_names_the_index_of_the_pages_last_row() -> None:
    async with Sandbox(cursor="relay") as sandbox, Client(sandbox) as client:
        first = await client.get(ROOT, pageSize=20)
        assert b64decode(first["cursor"]) == b"arrayconnection:19"
        whole = ids(await client.walk())
        for index in (0, 19, 42):
            cursor = spelled(f"arrayconnection:{index}")
            assert await client.page(cursor=cursor, pageSize=9) == whole[index + 1 : index + 10]
        assert await client.page(cursor=spelled("arrayconnection:-1"), pageSize=9) == whole[:9]
        beyond = await client.get(ROOT, cursor=spelled("arrayconnection:5000"))
        assert beyond == {"conversations": [], "cursor": None}


@pytest.mark.parametrize(
    "text", ["x", "", "arrayconnection:", "arrayconnection:1:2", "offset:5", "arrayconnection:x"]
)
async def test_what_is_no_relay_cursor_is_refused(text: str) -> None:
    async with Sandbox(cursor="relay") as sandbox, Client(sandbox) as client:
        assert await refused(client, cursor=spelled(text))
        assert await refused(client, cursor="é")


async def test_an_opaque_cursor_is_another_text_each_time_and_leads_to_the_same_page() -> None:
    async with Sandbox(cursor="opaque") as sandbox, Client(sandbox) as client:
        cursors = [(await client.get(ROOT))["cursor"] for _ in range(3)]
        assert len({*cursors}) == 3
        pages = [await client.page(cursor=cursor) for cursor in cursors]
        assert pages[0] == pages[1] == pages[2] == ids(await client.walk())[50:]


async def test_an_opaque_cursor_cannot_be_changed_or_made() -> None:
    async with Sandbox(cursor="opaque") as sandbox, Client(sandbox) as client:
        cursor = (await client.get(ROOT))["cursor"]
        raw = b64decode(cursor)
        for place in range(len(raw)):
            changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
            assert await refused(client, cursor=b64encode(changed).decode())
        for wrong in ("", "x", cursor[:-4], f"{cursor} ", cursor * 2, spelled("offset:50")):
            assert await refused(client, cursor=wrong)
        other = (await client.get(ROOT))["cursor"]
        mixed = b64decode(other)[:8] + raw[8:]
        assert await refused(client, cursor=b64encode(mixed).decode())
    async with Sandbox(cursor="opaque", seed=2) as sandbox, Client(sandbox) as client:
        assert await refused(client, cursor=cursor)


@pytest.mark.parametrize("cursor", OFFSETS)
async def test_cursors_that_are_offsets_lose_a_row_for_each_row_that_leaves_before_them(cursor: Any) -> None:
    async with Sandbox(cursor=cursor) as sandbox, Client(sandbox) as client:
        order = {"order": "FIRST_CHAT_TIME_ASC"}
        whole = ids(await client.walk(**order))
        page = await client.get(ROOT, pageSize=10, **order)
        sandbox.delete_conversations(conversation_id=whole[3])
        assert await client.page(cursor=page["cursor"], pageSize=5, **order) == whole[11:16]


async def test_endless_cursors_lead_to_the_first_page_for_ever_with_a_new_text_each_time() -> None:
    async with Sandbox(cursor="endless") as sandbox, Client(sandbox) as client:
        cursors: list[Any] = []
        query: dict[str, Any] = {"pageSize": 30}
        for _ in range(6):
            page = await client.get(ROOT, **query)
            assert ids(page["conversations"]) == await client.page(pageSize=30)
            query["cursor"] = page["cursor"]
            cursors.append(page["cursor"])
        assert len({*cursors}) == 6
        assert None not in cursors
        assert await client.page(pageSize=30, cursor="anything") == await client.page(pageSize=30)


async def test_an_endless_list_that_fits_one_page_has_no_cursor() -> None:
    async with Sandbox(conversations=30, cursor="endless") as sandbox, Client(sandbox) as client:
        assert len(await client.walk()) == 30


@pytest.mark.parametrize("cursor", [*OFFSETS, "keyset"])
async def test_churn_of_every_kind_goes_with_every_cursor(cursor: Any) -> None:
    churn = Churn(
        new_chats=2,
        deleted_chats=2,
        new_conversations=1,
        deleted_first_chats=2,
        deleted_conversations=1,
        ended_conversations=2,
    )
    async with (
        Sandbox(
            conversations=300, cursor=cursor, churn=churn, null_last_chat=0.2, first_chat_fallback=True
        ) as sandbox,
        Client(sandbox) as client,
    ):
        for order in ORDERS:
            assert await client.walk(order=order, pageSize=20)
            await client.walk(order=order, pageSize=20, activeOnly="true", startedAt="0")
        assert len(sandbox.conversation_ids()) == 300
