"""Servers and answers that a polite server never gives, and what the tables call."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import pytest

from alli_async import ConversationsAPI, RetryPolicy
from tests.support import Answer, Exchange, ScriptedServer, answer, conversation, cut

ROOT = Path(__file__).parent.parent.parent

OK = answer(200, conversation())
ONCE = RetryPolicy(max_attempts=1)
BODY = OK.partition(b"\r\n\r\n")[2]
HTML = answer(200, b"<!DOCTYPE html><html>busy</html>")

Call = Callable[[ConversationsAPI], Awaitable[Any]]


def fact(name: str, *row: Any) -> Any:
    """A row of a table, under the name that a failure is reported by."""
    return pytest.param(*row, id=name)


def get(api: ConversationsAPI) -> Awaitable[Any]:
    return api.get("a")


def put(api: ConversationsAPI) -> Awaitable[Any]:
    return api.set_title("a", "x")


def patch(api: ConversationsAPI) -> Awaitable[Any]:
    return api.update("a", title="x")


def post(api: ConversationsAPI) -> Awaitable[Any]:
    return api.stop("a")


def delete(api: ConversationsAPI) -> Awaitable[Any]:
    return api.delete_chat("a", "b")


def raw(head: bytes, body: bytes = b"") -> bytes:
    """An answer byte by byte: lines, without the carriage returns, and a body."""
    return head.replace(b"\n", b"\r\n") + b"\r\n\r\n" + body


def closing(data: bytes) -> Answer:
    """The bytes, then FIN."""
    return cut(data, len(data))


def chunk(data: bytes) -> bytes:
    """A chunk of a chunked body; the last is empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


CHUNKED = b"HTTP/1.1 200 X\nTransfer-Encoding: chunked"
CUT_HEAD = cut(OK, 40)
CUT_BODY = cut(OK, len(OK) - 5)
CUT_CHUNK = closing(raw(CHUNKED, chunk(BODY)[:20]))
NO_LAST_CHUNK = closing(raw(CHUNKED, chunk(BODY)))
CUT_GZIP = answer(200, gzip.compress(BODY)[:-30], headers=[("Content-Encoding", "gzip")])
NO_GZIP = answer(200, BODY, headers=[("Content-Encoding", "gzip")])
NO_HTTP = b"SSH-2.0-OpenSSH_9.9\r\n\r\n"


class LateServer(ScriptedServer):
    """Refuses connections until it is opened."""

    async def __aenter__(self) -> Self:
        self._tasks = set()
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        return self

    async def open_up(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._socket)


async def flood(exchange: Exchange, head: bytes, piece: bytes, pieces: int) -> None:
    """A head, and the same piece as often as the client takes it, up to so many times."""
    await exchange.send(head)
    for _ in range(pieces):
        await exchange.send(piece)


async def python(script: str, *arguments: str, **environ: str) -> tuple[int, str, str]:
    """Exit status, output and complaints of a program in a process of its own, which sees these settings only."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "default", "-c", script, *arguments),
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("ALLI_")} | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(50):
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, out.decode(), err.decode()
