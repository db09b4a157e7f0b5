"""An aiohttp.web app over Alli. Run it: `python aiohttp_app.py 8080`."""

import sys
from collections.abc import AsyncIterator
from math import ceil

from aiohttp import web
from aiohttp.typedefs import Handler

from alli_async import AlliClient, AlliError

ALLI = web.AppKey("alli", AlliClient)
routes = web.RouteTableDef()


async def alli_client(app: web.Application) -> AsyncIterator[None]:
    async with AlliClient(timeout=10) as app[ALLI]:
        yield


def client_of(request: web.Request) -> AlliClient:
    return request.app[ALLI].with_options(user_email=request.headers.get("X-User-Email"), deadline=10)


@web.middleware
async def alli_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except AlliError as error:
        headers = {} if error.retry_after is None else {"Retry-After": str(ceil(error.retry_after))}
        return web.json_response({"detail": error.message}, status=error.http_status, headers=headers)


@routes.get("/conversations/{conversation_id}")
async def get_conversation(request: web.Request) -> web.Response:
    conversation = await client_of(request).conversations.get(request.match_info["conversation_id"])
    return web.Response(text=conversation.to_json(), content_type="application/json")


@routes.get("/transcripts")
async def get_transcripts(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    async with client_of(request).conversations.transcripts(raw=True) as stream:
        try:
            async for transcript in stream:
                if not response.prepared:
                    await response.prepare(request)
                await response.write(transcript.json + b"\n")
        except AlliError:
            if not response.prepared:
                raise
            if request.transport is not None:
                request.transport.abort()  # the lines are not whole, and must not look so
    return response


def make_app() -> web.Application:
    app = web.Application(middlewares=[alli_errors])
    app.cleanup_ctx.append(alli_client)
    app.add_routes(routes)
    return app


if __name__ == "__main__":
    # With handler_cancellation a client that leaves ends the work for it, in streams and in single calls.
    web.run_app(make_app(), host="127.0.0.1", port=int(sys.argv[1]), handler_cancellation=True)
