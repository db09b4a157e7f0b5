"""A FastAPI app over Alli: one client for all requests, with the identity and the deadline of each.

Run it: `uvicorn fastapi_app:app --timeout-graceful-shutdown 10`, or
`gunicorn fastapi_app:app --worker-class uvicorn_worker.UvicornWorker --workers 2 --preload`.
The key comes from `ALLI_API_KEY`, the server from `ALLI_REGION` or `ALLI_BASE_URL`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil
from typing import Annotated

from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse

from alli_async import AlliClient, AlliError, Chat, Conversation, RawTranscript, TranscriptStream


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, AlliClient]]:
    async with AlliClient(timeout=10) as alli:
        yield {"alli": alli}


app = FastAPI(lifespan=lifespan)


def alli_client(
    request: Request,
    x_user_email: Annotated[str | None, Header()] = None,
    x_deadline: Annotated[float, Header(gt=0, le=60, description="Seconds that the answer may take")] = 10,
) -> AlliClient:
    client: AlliClient = request.state.alli
    return client.with_options(user_email=x_user_email, deadline=x_deadline)


Alli = Annotated[AlliClient, Depends(alli_client)]


@app.exception_handler(AlliError)
async def on_alli_error(request: Request, error: AlliError) -> JSONResponse:
    headers = {} if error.retry_after is None else {"Retry-After": str(ceil(error.retry_after))}
    return JSONResponse({"detail": error.message, "request_id": error.request_id}, error.http_status, headers)


@app.get("/conversations/{conversation_id}")
async def get_conversation(conversation_id: str, alli: Alli) -> Conversation:
    return await alli.conversations.get(conversation_id)


@app.get("/conversations/{conversation_id}/chats")
async def get_chats(conversation_id: str, alli: Alli) -> list[Chat]:
    return [chat async for chat in alli.conversations.list_chats(conversation_id)]


@app.get("/conversations/{conversation_id}/events", response_class=StreamingResponse)
async def watch_chats(conversation_id: str, alli: Alli) -> StreamingResponse:
    await alli.conversations.is_running(conversation_id)  # what is wrong with the id is said before the stream
    chats = alli.conversations.watch(conversation_id, timeout=600)
    events = (f"id: {chat.id}\ndata: {chat.to_json()}\n\n" async for chat in chats)
    return StreamingResponse(events, media_type="text/event-stream")


@app.get("/transcripts", response_class=StreamingResponse)
async def get_transcripts(alli: Alli, user_id: Annotated[list[str] | None, Query()] = None) -> StreamingResponse:
    stream = alli.conversations.transcripts(raw=True, user_ids=user_id)  # refuses a filter that cannot be right
    return StreamingResponse(json_lines(stream), media_type="application/x-ndjson")


async def json_lines(stream: TranscriptStream[RawTranscript]) -> AsyncIterator[bytes]:
    async with stream:  # a client that leaves ends the work; an error ends the answer without its last chunk
        async for transcript in stream:
            yield transcript.json + b"\n"
