"""A Django project in one file, on ASGI, over Alli.

Run it: `uvicorn django_app:application --timeout-graceful-shutdown 10`.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from math import ceil
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import path

from alli_async import AlliClient, AlliError

client = AlliClient(timeout=10)  # made anywhere, it belongs to the event loop that uses it first


def with_alli(view: Callable[..., Awaitable[HttpResponseBase]]) -> Callable[..., Awaitable[HttpResponseBase]]:
    """Give a view a client with the identity and the deadline of its request, and answer for Alli's errors."""

    @wraps(view)
    async def answered(request: HttpRequest, **parts: str) -> HttpResponseBase:
        alli = client.with_options(user_email=request.headers.get("X-User-Email"), deadline=10)
        try:
            return await view(alli, **parts)
        except AlliError as error:
            headers = {} if error.retry_after is None else {"Retry-After": str(ceil(error.retry_after))}
            return JsonResponse({"detail": error.message}, status=error.http_status, headers=headers)

    return answered


@with_alli
async def conversation(alli: AlliClient, conversation_id: str) -> HttpResponse:
    found = await alli.conversations.get(conversation_id)
    return HttpResponse(found.to_json(), content_type="application/json")


@with_alli
async def transcripts(alli: AlliClient) -> StreamingHttpResponse:
    async def lines() -> AsyncIterator[bytes]:
        async with alli.conversations.transcripts(raw=True) as stream:  # a client that leaves ends the work
            async for transcript in stream:
                yield transcript.json + b"\n"

    return StreamingHttpResponse(lines(), content_type="application/x-ndjson")


urlpatterns = [path("conversations/<str:conversation_id>", conversation), path("transcripts", transcripts)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", "x"))
django.setup()
django_application = get_asgi_application()


async def application(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """Django's application, and the end of the client with that of the server, of which Django tells nothing."""
    if scope["type"] != "lifespan":
        await django_application(scope, receive, send)
        return
    async with client:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})
