"""A plain aiohttp client of a sandbox, and the contract that its answers are held against."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import aiohttp
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from yarl import URL

from alli_async.sandbox import Sandbox

ROOT = "/webapi/v2/conversations"
DAILY = "/webapi/conversation_daily_count"
CONTRACT = Path(__file__).parents[1] / "data" / "alli-openapi.json"


class Answer:
    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Sends what it is told to, and never a request twice."""

    def __init__(self, sandbox: Sandbox, headers: dict[str, str] | None = None) -> None:
        self._sandbox = sandbox
        self._headers = {"API-KEY": sandbox.api_key} if headers is None else headers

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(headers=self._headers)
        self._session._retry_connection = False  # aiohttp would resend what a reset has met
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        if body is not None:
            options["data"] = body if isinstance(body, bytes) else json.dumps(body).encode()
        url = URL(self._sandbox.url + path, encoded=True)
        async with self._session.request(method, url, **options) as response:
            return Answer(response, await response.read())

    async def get(self, path: str, **query: Any) -> Any:
        """The JSON of a 200."""
        async with self._session.get(self._sandbox.url + path, params=query or None) as response:
            assert response.status == 200, await response.text()
            return json.loads(await response.read())

    async def write(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a 200."""
        answer = await self.send(method, path, body)
        assert answer.status == 200, answer.body
        return answer.json

    async def page(self, **query: Any) -> list[str]:
        """The ids on one page."""
        return [row["id"] for row in (await self.get(ROOT, **query))["conversations"]]

    async def walk(self, **query: Any) -> list[dict[str, Any]]:
        """All conversations of a list, page by page."""
        rows: list[dict[str, Any]] = []
        while True:
            page = await self.get(ROOT, **query)
            rows += page["conversations"]
            if page["cursor"] is None:
                return rows
            query["cursor"] = page["cursor"]

    async def chats(self, conversation_id: str) -> list[dict[str, Any]]:
        """All chats of a conversation."""
        rows: list[dict[str, Any]] = []
        number = 1
        while page := (await self.get(f"{ROOT}/{conversation_id}/chats", pageNo=number))["chats"]:
            rows += page
            number += 1
        return rows


async def until(true: Callable[[], bool]) -> None:
    """Wait for what happens on the server's side, for a second at most."""
    async with asyncio.timeout(1):
        while not true():
            await asyncio.sleep(0.01)


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


def validators() -> dict[str, Draft202012Validator]:
    """By operation: what validates the JSON of its 200, where the contract says anything about it."""
    contract = or_null(json.loads(CONTRACT.read_bytes()))
    found = {}
    for path in contract["paths"].values():
        for operation in path.values():
            content = operation["responses"]["200"].get("content")
            if content is not None:
                schema = {**content["application/json"]["schema"], "components": contract["components"]}
                found[operation["operationId"]] = Draft202012Validator(schema)
    return found


def or_null(node: Any) -> Any:
    """The contract with `nullable: true`, which is OpenAPI 3.0, in the words of the 3.1 it calls itself."""
    if isinstance(node, list):
        return [or_null(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: or_null(value) for key, value in node.items() if key != "nullable"}
    return {"anyOf": [made, {"type": "null"}]} if node.get("nullable") is True else made
