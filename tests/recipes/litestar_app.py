"""A Litestar app over Alli: Litestar knows msgspec, so the models are its own kind.

Run it: `uvicorn litestar_app:app --timeout-graceful-shutdown 10`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil
from typing import Annotated

from litestar import Litestar, Request, Response, get
from litestar.datastructures import State
from litestar.params import Parameter
from litestar.response import Stream

from alli_async import AlliClient, AlliError, Conversation


@asynccontextmanager
async def alli_client(app: Litestar) -> AsyncIterator[None]:
    async with AlliClient(timeout=10) as app.state.alli:
        yield


async def provide_alli(
    state: State, user_email: Annotated[str | None, Parameter(header="X-User-Email")] = None
) -> AlliClient:
    alli: AlliClient = state.alli
    return alli.with_options(user_email=user_email, deadline=10)


def on_alli_error(request: Request[object, object, State], error: AlliError) -> Response[dict[str, str]]:
    headers = {} if error.retry_after is None else {"Retry-After": str(ceil(error.retry_after))}
    return Response({"detail": error.message}, status_code=error.http_status, headers=headers)


@get("/conversations/{conversation_id:str}")
async def get_conversation(conversation_id: str, alli: AlliClient) -> Conversation:
    return await alli.conversations.get(conversation_id)


@get("/transcripts")
async def get_transcripts(alli: AlliClient) -> Stream:
    async def lines() -> AsyncIterator[bytes]:
        async with alli.conversations.transcripts(raw=True) as stream:  # a client that leaves ends the work
            async for transcript in stream:
                yield transcript.json + b"\n"

    return Stream(lines(), media_type="application/x-ndjson")


app = Litestar(
    [get_conversation, get_transcripts],
    lifespan=[alli_client],
    dependencies={"alli": provide_alli},
    exception_handlers={AlliError: on_alli_error},
)
