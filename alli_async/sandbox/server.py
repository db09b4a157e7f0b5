"""HTTP around the operations: keys, limits, faults, counters."""

from __future__ import annotations

import asyncio
import threading
from urllib.parse import parse_qsl

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict

from . import delivery
from .countdown import Countdown
from .delivery import Answer
from .errors import Refusal, bad_key, documented, not_allowed, not_found
from .faults import OK, Fault, FaultPlan
from .limits import TokenBucket, retry_after
from .operations import Call, Operations, route
from .options import Options
from .traffic import Received, Traffic
from .wrong_bodies import wrong_body

UNKNOWN = "unknown"
_HTML = "<!DOCTYPE html><html><head><title>Gateway</title></head><body>잠시만 기다려 주세요…</body></html>"
_NO_ANSWER = 0
_OK_STATUS = 200


class _Arrived:
    """A request with its body and its operation."""

    def __init__(self, request: web.BaseRequest, body: bytes) -> None:
        path, _, query = request.raw_path.partition("?")
        self.request = request
        self.routed = route(path)
        methods, self.ids = self.routed or ({}, ())
        operation = methods.get(request.method, UNKNOWN)
        pairs = parse_qsl(query, keep_blank_values=True)
        self.received = Received(operation, request.method, path, pairs, request.headers, body)


class Service:
    """Answers requests: a handler of an aiohttp server.

    Attributes:
        traffic: The requests received, and counters of the answers.
        after_request: Actions that run after a number of answers.
    """

    def __init__(
        self, operations: Operations, options: Options, plan: FaultPlan, api_key: str, lock: threading.RLock
    ) -> None:
        self.traffic = Traffic()
        self.after_request = Countdown()
        self._operations = operations
        self._options = options
        self._plan = plan
        self._api_key = api_key
        self._bearer = f"Bearer {api_key}"
        self._lock = lock
        self._bucket: TokenBucket | None = None
        self._admitted = 0
        self._answers = 0
        self.open()

    def open(self) -> None:
        """Prepare for requests in the running event loop, which may be a new one."""
        self._closing = asyncio.Event()
        if (rate := self._options.rate_limit) is not None:
            self._bucket = TokenBucket(rate, self._options.burst or max(1.0, rate))

    def close(self) -> None:
        """End the requests that wait in a silence."""
        self._closing.set()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        self.traffic.enter()
        try:
            # request.read() would refuse the body of a large bulk update; the stream does not.
            arrived = _Arrived(request, await request.content.read())
            return await self._admit(arrived)
        except (ConnectionError, HttpProcessingError, web.RequestPayloadError):
            return web.Response(status=400)  # the client left before its whole body arrived
        finally:
            self.traffic.leave()

    async def _admit(self, arrived: _Arrived) -> web.StreamResponse:
        self.traffic.received.append(arrived.received)
        if wait := self._over_limit():
            await asyncio.sleep(self._options.latency)
            return await self._send(arrived, OK, self._error(429, wait))
        self._admitted += 1
        try:
            fault = self._plan.next(arrived.received.operation, arrived.ids)
            await asyncio.sleep(self._options.latency)
            return await self._meet(arrived, fault)
        finally:
            self._admitted -= 1

    def _over_limit(self) -> float:
        """Seconds until the request may be tried again; 0.0 when it is within the limits."""
        limit = self._options.max_in_flight
        if limit is not None and self._admitted >= limit:
            return 1.0
        return 0.0 if self._bucket is None else self._bucket.take()

    async def _meet(self, arrived: _Arrived, fault: Fault) -> web.StreamResponse:
        """Answer a request in the way of its fault."""
        if fault.name == "silence":
            self._count(arrived, _NO_ANSWER)
            return await delivery.silence(arrived.request, self._closing, fault.seconds)
        if fault.seconds is not None:
            await asyncio.sleep(fault.seconds)
        if fault.name == "reset_before":
            return self._reset(arrived)
        answer = self._instead(fault) or self._perform(arrived)
        if answer.status == _OK_STATUS:
            body = wrong_body(fault.name, arrived.received.operation, answer.body)
            answer = answer._replace(body=body)
        if fault.name == "reset_after":
            return self._reset(arrived)
        return await self._send(arrived, fault, answer)

    async def _send(self, arrived: _Arrived, fault: Fault, answer: Answer) -> web.StreamResponse:
        """Send an answer, complete or damaged by its fault."""
        answer.headers.update(fault.headers or {})
        if fault.retry_after is not None:
            answer.headers["Retry-After"] = fault.retry_after
        self._count(arrived, answer.status)
        match fault.name:
            case "truncated":
                return await delivery.truncated(arrived.request, answer)
            case "slow":
                return await delivery.slow(arrived.request, answer)
            case "broken_json":
                answer = answer.halved()
            case "cut_gzip":
                answer = answer.compressed().halved()
            case _ if self._options.compress and "gzip" in arrived.request.headers.get("Accept-Encoding", ""):
                answer = answer.compressed()
        return delivery.whole(answer)

    def _instead(self, fault: Fault) -> Answer | None:
        """The answer of a fault that replaces the operation; None if the operation is performed."""
        if fault.name == "html":
            return self._answer(200, _HTML.encode(), "text/html; charset=utf-8")
        status = int(fault.name) if fault.name.isdigit() else fault.status
        if status is None:
            return None
        if fault.body is None and status >= 400:
            return self._error(status)
        return self._answer(status, fault.body or b"")

    def _perform(self, arrived: _Arrived) -> Answer:
        """The right answer."""
        try:
            if arrived.routed is None:
                raise not_found("Path")
            methods, ids = arrived.routed
            operation, _, _, query, headers, body = arrived.received
            if operation == UNKNOWN:
                raise not_allowed(methods)
            if headers.get("API-KEY") != self._api_key and headers.get("Authorization") != self._bearer:
                raise bad_key()
            with self._lock:
                return self._answer(200, self._operations.run(operation, Call(ids, query, body)))
        except Refusal as refusal:
            answer = self._answer(refusal.status, refusal.body)
            answer.headers.update(refusal.headers)
            return answer

    def _error(self, status: int, wait: float = 1.0) -> Answer:
        """A documented error; 429 and 503 have a Retry-After header in the form that the options choose."""
        answer = self._answer(status, documented(status).body)
        if status in {429, 503} and (after := retry_after(wait, self._options.retry_after)):
            answer.headers["Retry-After"] = after
        return answer

    def _answer(self, status: int, body: bytes, content_type: str = "application/json") -> Answer:
        self._answers += 1
        headers = CIMultiDict({"Content-Type": content_type, "X-Request-Id": f"sandbox-{self._answers:08d}"})
        return Answer(status, headers, body)

    def _reset(self, arrived: _Arrived) -> web.StreamResponse:
        self._count(arrived, _NO_ANSWER)
        return delivery.reset(arrived.request)

    def _count(self, arrived: _Arrived, status: int) -> None:
        # Count before the answer is sent, so that a client that has the answer finds it counted.
        with self._lock:
            self.traffic.requests[arrived.received.operation, status] += 1
            self.after_request.tick()
