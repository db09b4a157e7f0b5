"""One key, and the answers through which a log, an error or a span could show it."""

from __future__ import annotations

import html
import json
from typing import Any
from urllib.parse import quote

from alli_async import ConversationsAPI, RetryPolicy

from . import answer, hang_up, reset, servers, silence
from .servers import fact

# As it might look, with all that some encoding escapes: visible ASCII, quotes and backslashes included.
CANARY = "canary+/key'\\<0123&456789>==\""
TWICE = RetryPolicy(max_attempts=2, base=0)


SECRET = [
    fact("FIN", hang_up),
    fact("RST", reset),
    fact("silence", silence),
    fact("an answer cut in its head", servers.CUT_HEAD),
    fact("an answer cut in its body", servers.CUT_BODY),
    fact("another protocol", servers.NO_HTTP),
    fact("a page of a proxy", servers.HTML),
    fact("JSON of another shape", answer(200, [])),
    fact("too large an answer", answer(200, bytes(2_000_000))),
    *(fact(str(status), answer(status)) for status in (301, 400, 401, 403, 404, 429, 500, 503)),
]
CUT = CANARY[:20]
ECHOED = [
    fact("an error's message", answer(403, {"error": f"bad key {CANARY}"})),
    fact("a documented error", answer(403, {"type": "APIError", "code": 7001, "message": CANARY})),
    fact("errors in an object", answer(422, {"errors": {CANARY: [CANARY]}})),
    fact("an error that calls itself a success", answer(200, {"error": CANARY})),
    fact("a message that is cut", answer(403, {"error": "x" * 485 + CANARY})),
    fact("a page that is cut", answer(500, b"x" * 105 + CANARY.encode())),
    fact("a page", answer(502, f"<html>API-KEY: {html.escape(CANARY)}".encode())),
    fact("a page that calls itself a success", answer(200, f"<html>API-KEY: {CANARY}".encode())),
    fact("JSON that is cut", answer(200, json.dumps({"key": CANARY})[:20].encode())),
    fact("JSON with escaped slashes", answer(500, b"!" + json.dumps(CANARY).replace("/", r"\/").encode())),
    fact("JSON in JSON", answer(500, b"!" + json.dumps(json.dumps(CANARY)).encode())),
    fact("a location", answer(302, headers=[("Location", f"/?key={CANARY}")])),
    fact("a quoted location", answer(302, headers=[("Location", f"/?key={quote(CANARY, safe='')}")])),
    fact("a request id", answer(500, headers=[("X-Request-Id", CANARY)])),
    fact("a Retry-After", answer(503, headers=[("Retry-After", CANARY)])),
    fact("a reason phrase", f"HTTP/1.1 500 {CANARY}\r\nContent-Length: 0\r\n\r\n".encode()),
    fact("a line that is no HTTP", f"SSH {CANARY}\r\n\r\n".encode()),
    fact("a header that is none", f"HTTP/1.1 200 X\r\nX: \0{CANARY}\r\n\r\n".encode()),
    fact("a line without end", f"HTTP/1.1 200 {CANARY * 400}\r\n\r\n".encode()),
    fact("too large an answer with the key all over", answer(200, CANARY.encode() * 40_000)),
    fact("a cookie", answer(400, headers=[("Set-Cookie", f"key={CANARY}")])),
]


def holds_key(text: str) -> bool:
    """Whether there is so much of the key that it could be known by it, as it is or in a repr."""
    return "canary+/" in text or "canary%2" in text or "canary+\\" in text or "0123&4" in text or "56789>" in text


async def walk(api: ConversationsAPI) -> list[Any]:
    return [each async for each in api.list()]
