"""A server of precomputed conversations, in a process of its own: `python -m benchmarks.server CONVERSATIONS`.

Not a faithful backend (the sandbox is), but one that is not what is measured: a bare protocol on uvloop, bytes
that were made beforehand, and a latency that holds for every answer. It prints its address, and ends when its
standard input does. Under /_bench it tells what it holds and what it has done.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from base64 import b64decode, b64encode
from datetime import UTC, date, datetime, timedelta
from urllib.parse import unquote

from .data import PAGE, Dataset, index_of

_LIST = "/webapi/v2/conversations"
_FIELDS = ("FIRST", "LAST")
_BOUNDS = {"FIRST": ("firstChatStartedAt", "firstChatEndAt"), "LAST": ("startedAt", "endAt")}
_HEAD = b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_REASONS = {200: b"OK", 400: b"Bad Request", 404: b"Not Found"}


class _RefusedError(Exception):
    """The answer is an error."""


class Service:
    """The answers, and how long each takes at least."""

    def __init__(self, data: Dataset) -> None:
        self.data = data
        self.latency = 0.0
        self._answers = 0

    def answer(self, target: str, body: bytes) -> tuple[int, bytes]:
        """Status and body."""
        path, _, query = target.partition("?")
        try:
            if path.startswith("/_bench/"):
                return 200, json.dumps(self._control(path[8:], _pairs(query))).encode()
            self._answers += 1
            if path == _LIST:
                return 200, self._list(_pairs(query))
            if path.startswith(_LIST + "/"):
                return 200, self._conversation(path[len(_LIST) + 1 :], query)
            if path == "/webapi/conversation_daily_count":
                return 200, self._daily_counts(json.loads(body))
        except (ValueError, KeyError, IndexError, _RefusedError) as error:
            return 400, json.dumps({"type": "APIError", "code": 7003, "message": repr(error)}).encode()
        return 404, b'{"type":"APIError","code":7003,"message":"no such thing here"}'

    def _list(self, query: dict[str, str]) -> bytes:
        data = self.data
        by, _, way = query.get("order", "LAST_CHAT_TIME_DESC").partition("_CHAT_TIME_")
        if by not in _FIELDS or way not in ("ASC", "DESC"):
            raise _RefusedError("order")
        if any(bound in query for other in _FIELDS if other != by for bound in _BOUNDS[other]):
            raise _RefusedError("a window must be on the time that is ordered by")
        start, end = (float(query[bound]) if bound in query else None for bound in _BOUNDS[by])
        low, high, timed = data.window(by, start, end)
        cursor = query.get("cursor")
        begin = low + (int(b64decode(cursor)[7:]) if cursor else 0)
        stop = min(high, begin + int(query.get("pageSize", PAGE)))
        rows = range(begin, stop)
        if way == "DESC":  # rows without a time come last either way
            last = low + min(high, timed) - 1
            items = [data.item(data.index(by, last - row if row <= last else row)) for row in rows]
        else:
            items = [data.item(data.index(by, row)) for row in rows]
        following = b'"%b"' % b64encode(b"offset:%d" % (stop - low)) if stop < high else b"null"
        return b'{"conversations":[%b],"cursor":%b}' % (b",".join(items), following)

    def _conversation(self, rest: str, query: str) -> bytes:
        segment, _, what = rest.partition("/")
        index = index_of(unquote(segment), self.data.conversations)
        if index < 0 or what not in ("", "chats"):
            raise _RefusedError("no such conversation")
        if not what:
            return self.data.item(index)
        number, pages = int(_pairs(query).get("pageNo", 1)), self.data.chat_pages(index)
        if number <= len(pages):
            return pages[number - 1]
        return b'{"chats":[],"pageNo":%d,"totalCount":%d}' % (number, self.data.count(index))

    def _daily_counts(self, asked: dict[str, str]) -> bytes:
        """Conversations that began on each day: near enough to those active on it."""
        day, last = date.fromisoformat(asked["startDate"]), date.fromisoformat(asked["endDate"])
        counts = []
        while day <= last:
            start = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000
            low, high, _ = self.data.window("FIRST", start, start + 86_400_000 - 0.125)
            counts.append({"date": day.isoformat(), "activeCount": high - low})
            day += timedelta(days=1)
        result = {"dailyTotalCount": counts, "state": "done", "campaignCount": 0}
        return json.dumps({"result": result, "errors": None}).encode()

    def _control(self, what: str, query: dict[str, str]) -> object:
        if what == "latency":
            self.latency = float(query["seconds"])
        elif what == "windows":
            return self.data.first_chat_times(int(query["parts"]))
        return {
            "conversations": self.data.conversations,
            "with_chats": self.data.with_chats,
            "chats": self.data.chats,
            "least_requests": self.data.least_requests,
            "answers": self._answers,
            "cpu_seconds": time.process_time(),
        }


class _Connection(asyncio.Protocol):
    def __init__(self, service: Service, loop: asyncio.AbstractEventLoop) -> None:
        self._service = service
        self._loop = loop
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head, body = self._buffer[:end], b""
            stop = end + 4
            if (at := head.lower().find(b"\r\ncontent-length:")) >= 0:
                stop += int(head[at + 17 :].split(b"\r\n", 1)[0])
                if len(self._buffer) < stop:
                    return
                body = self._buffer[end + 4 : stop]
            self._buffer = self._buffer[stop:]
            self._respond(head.split(b" ", 2)[1].decode("ascii"), body)

    def _respond(self, target: str, body: bytes) -> None:
        due = self._loop.time() + self._service.latency
        status, content = self._service.answer(target, body)
        answer = (_HEAD % (status, _REASONS[status], len(content)), content)
        if self._service.latency and not target.startswith("/_bench/"):
            self._loop.call_at(due, self._write, answer)
        else:
            self._write(answer)

    def _write(self, answer: tuple[bytes, bytes]) -> None:
        if not self._transport.is_closing():
            self._transport.writelines(answer)


def _pairs(query: str) -> dict[str, str]:
    pairs = {}
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        pairs[name] = unquote(value) if "%" in value else value
    return pairs


async def _serve(conversations: int) -> None:
    # Once a large block was freed, glibc keeps the memory of answers instead of faulting it in for each anew.
    block = bytes(31 << 20)
    del block
    loop = asyncio.get_running_loop()
    service = Service(Dataset(conversations))
    server = await loop.create_server(lambda: _Connection(service, loop), "127.0.0.1", 0, backlog=1024)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    await ended.wait()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(int(sys.argv[1])))
