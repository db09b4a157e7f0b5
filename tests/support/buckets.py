"""An S3 server on loopback, what stands between it and an export, and what is in a bucket."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any, Self
from urllib.request import Request, urlopen

import obstore
from aiohttp import ClientSession, DummyCookieJar, web
from obstore.store import from_url
from yarl import URL

from tests.support.late import late

moto_server = late("moto.server")

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "the-access-key",
    "AWS_SECRET_ACCESS_KEY": "the-secret-key",
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}

# The S3 server's own URL, for who looks into a bucket past what stands before it.
_direct: dict[str, str] = {}

# Of a method and a path, once for each request: None lets it through, "lost" lets it through without an answer,
# a status is the answer in its place, as is a status with what an error says.
Rule = Callable[[str, str], "int | str | tuple[int, str] | None"]


@contextmanager
def s3() -> Iterator[str]:
    """A real S3 server, in a thread; gives its URL."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        _direct["endpoint"] = f"http://{host}:{port}"
        yield _direct["endpoint"]
    finally:
        server.stop()


def make_bucket(url: str, name: str) -> None:
    with urlopen(Request(f"{url}/{name}", method="PUT"), timeout=10) as answer:
        assert answer.status == 200


def objects(address: str) -> dict[str, bytes]:
    """Every object below an address."""
    bucket: Any = from_url(address, endpoint=_direct["endpoint"])
    return {
        each["path"]: bytes(obstore.get(bucket, each["path"]).bytes())
        for page in obstore.list(bucket)
        for each in page
    }


def put(address: str, name: str, data: bytes) -> None:
    bucket: Any = from_url(address, endpoint=_direct["endpoint"])
    obstore.put(bucket, name, data)


def uploads() -> int:
    """How many uploads in pieces were begun in the bucket, and neither completed nor ended."""
    with urlopen(f"{_direct['endpoint']}/bucket?uploads", timeout=10) as answer:
        return int(answer.read().count(b"<Upload>"))


def fetched(address: str, folder: Path) -> Path:
    """A directory with all that is below an address."""
    for name, data in objects(address).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def _released_lock(request: web.Request) -> web.Response:
    """The answer of a store whose lock was released, and can be taken by anyone at any time."""
    if "If-None-Match" in request.headers:
        return web.Response(status=412, text="<Error><Code>PreconditionFailed</Code></Error>")
    headers = {"ETag": '"a"', "Last-Modified": formatdate(usegmt=True)}
    holder = b'{"token": "other", "host": "elsewhere", "process": 7, "life": null, "held": false}'
    return web.Response(headers=headers, body=holder if request.method == "GET" else b"")


class Front:
    """A server before the S3 server, which lets through what a rule does not stop.

    Attributes:
        rule: See `Rule`.
        dropped: Headers, in lower case, that are not passed on.
        is_free_for_all: Whether everyone who asks for the lock of an export is told that it is theirs.
        asked: Methods and paths so far.
    """

    def __init__(self, behind: str) -> None:
        self._behind = behind
        self.reset()

    def reset(self) -> None:
        """Let everything through."""
        self.rule: Rule = lambda *_: None
        self.dropped: set[str] = set()
        self.is_free_for_all = False
        self.asked: list[tuple[str, str]] = []

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)

    def _run(self, started: threading.Event) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(started))

    async def _serve(self, started: threading.Event) -> None:
        self._ended = asyncio.Event()
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        async with ClientSession(cookie_jar=DummyCookieJar(), auto_decompress=False) as self._session:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            started.set()
            await self._ended.wait()
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.raw_path))
        if self.is_free_for_all and request.path.endswith("/_journal/lock"):
            return _released_lock(request)
        verdict = self.rule(request.method, request.raw_path)
        if isinstance(verdict, tuple):
            return web.Response(status=verdict[0], text=f"<Error>{verdict[1]}</Error>")
        if isinstance(verdict, int):
            code = {403: "AccessDenied", 503: "SlowDown"}.get(verdict, "InternalError")
            return web.Response(status=verdict, text=f"<Error><Code>{code}</Code></Error>")
        through = self._session.request(
            request.method,
            URL(f"{self._behind}{request.raw_path}", encoded=True),
            headers={
                name: value
                for name, value in request.headers.items()
                if name.lower() not in ("transfer-encoding", *self.dropped)
            },
            data=io.BytesIO(await request.read()),
            allow_redirects=False,
        )
        async with through as answer:
            body = await answer.read()
            if verdict == "lost":
                return web.Response(status=500, text="<Error><Code>InternalError</Code></Error>")
            dropped = ("Content-Length", "Transfer-Encoding", "Connection", "Server", "Date")
            headers = [(name, value) for name, value in answer.headers.items() if name not in dropped]
            if request.method == "HEAD":
                headers.append(("Content-Length", answer.headers["Content-Length"]))
            return web.Response(status=answer.status, body=body, headers=headers)
