"""Three FastAPI apps for uvicorn: a route over this library, the same by hand, and the recipe."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import aiohttp
import msgspec
from fastapi import FastAPI

from alli_async import AlliClient, Conversation

_decoder = msgspec.json.Decoder(Conversation)


@asynccontextmanager
async def _client(app: FastAPI) -> AsyncIterator[None]:
    async with AlliClient(max_concurrency=512) as app.state.alli:
        yield


@asynccontextmanager
async def _session(app: FastAPI) -> AsyncIterator[None]:
    headers = {"API-KEY": os.environ["ALLI_API_KEY"]}
    connector = aiohttp.TCPConnector(limit=512)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as app.state.session:
        yield


ours, bare = FastAPI(lifespan=_client), FastAPI(lifespan=_session)
_URL = f"{os.environ['ALLI_BASE_URL']}/webapi/v2/conversations/"


@ours.get("/conversations/{conversation_id}")
async def over_the_library(conversation_id: str) -> Conversation:
    alli: AlliClient = ours.state.alli
    return await alli.conversations.get(conversation_id)


@bare.get("/conversations/{conversation_id}")
async def over_aiohttp(conversation_id: str) -> Conversation:
    async with bare.state.session.get(_URL + quote(conversation_id, safe="")) as answer:
        answer.raise_for_status()
        return _decoder.decode(await answer.read())


def watched() -> FastAPI:
    """The recipe, which also tells how many tasks it has."""
    from tests.recipes.fastapi_app import app

    @app.get("/_tasks")
    async def tasks() -> int:
        return len(asyncio.all_tasks())

    return app
