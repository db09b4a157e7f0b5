"""What this library costs a call over a bare aiohttp get, read and decode; and what the pieces cost.

Blocks of calls, one after the other on one connection, the ways interleaved; medians of the blocks. The wall
clock holds the server and the kernel as well, so that the CPU time of the client is the better measure.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import aiohttp
import msgspec
from opentelemetry import propagate
from opentelemetry.context import attach, detach
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, set_span_in_context
from yarl import URL

import alli_async
from alli_async import AlliClient, ChatPage, Conversation, ConversationPage
from alli_async._transport import wire
from alli_async._transport.limiter import RateLimiter
from alli_async.contrib.opentelemetry import OpenTelemetryMiddleware

from .backend import Backend
from .contestants import KEY
from .report import Options, Result, Table, bars, median

_CONVERSATIONS = 1000
_PATH = "/webapi/v2/conversations"
Call = Callable[[], Awaitable[Any]]


def run(options: Options) -> Result:
    """Measure in a process of its own, against a server in another."""
    blocks, calls = (3, 20) if options.quick else (25, 100)
    with Backend(_CONVERSATIONS) as backend:
        values = backend.child("percall", backend.url, str(options.runs or blocks), str(calls), timeout=600)
    tables = [
        _calls_table(values, f"medians of {options.runs or blocks} blocks of {calls}"),
        _pieces_table(values),
        Table(
            "Call middlewares, CPU µs a call over none", ("middleware", "µs"), list(values["middlewares"].items())
        ),
    ]
    over = values["calls"]["one conversation"]["over"]
    bar = [
        ("one conversation: ours over get, read and decode, CPU µs", over, 40, False),
        *(
            (f"call middleware: {name}, CPU µs", values["middlewares"][name], most, False)
            for name, most in _MOST.items()
        ),
    ]
    return Result([*tables, bars("A call", bar)], values, _drawing(values))


def _calls_table(values: Any, how: str) -> Table:
    rows = []
    for what, ways in values["calls"].items():
        for way, label in _WAYS.items():
            row: list[Any] = [what, label, ways["kb"]]
            for clock in ("cpu", "wall"):
                row += [ways[way][clock], "" if way == "bare" else ways[way][clock] - ways["bare"][clock]]
            rows.append(row)
    head = ("answer", "way", "KB", "CPU µs", "over bare", "wall µs", "over bare")
    return Table(f"A call, µs; {how}", head, rows)


def _pieces_table(values: Any) -> Table:
    return Table("Pieces of a call, CPU µs", ("piece", "µs"), list(values["pieces"].items()))


# The most that call middlewares may cost a call, in CPU µs.
_MOST = {"a call middleware that does nothing": 2, "OpenTelemetry": 60}
_WAYS = {"bare": "aiohttp get and read", "decoded": "the same, decoded", "ours": "alli_async"}


async def _measure(url: str, blocks: int, calls: int) -> dict[str, Any]:
    async with aiohttp.ClientSession(headers={"API-KEY": KEY}) as http, AlliClient(KEY, base_url=url) as alli:
        middle, long = await _examples(alli)
        found: dict[str, Any] = {}
        targets: tuple[tuple[str, str, Any, Call], ...] = (
            (
                "one conversation",
                wire.conversation_path(middle),
                Conversation,
                lambda: alli.conversations.get(middle),
            ),
            ("a page of 50 conversations", f"{_PATH}?pageSize=50", ConversationPage, alli.conversations.list),
            (
                "a page of 90 chats",
                wire.conversation_path(long, "chats"),
                ChatPage,
                lambda: alli.conversations.list_chats(long),
            ),
        )
        for what, target, kind, ours in targets:
            found[what] = await _ways(http, f"{url}{target}", kind, ours, blocks, calls)
        body = {what: await _read(http, f"{url}{target}") for what, target, _, _ in targets}
        pieces = await _pieces(body, blocks, calls)
        middlewares = await _middlewares(alli, middle, blocks, calls)
    return {"calls": found, "pieces": pieces, "middlewares": middlewares}


async def _examples(alli: AlliClient) -> tuple[str, str]:
    """A conversation of middling size, and one whose only page of chats is nearly full."""
    middle = long = ""
    async for each in alli.conversations.list():
        if each.chat_count == 8:
            middle = each.id
        elif 85 < each.chat_count <= 95:
            long = each.id
        if middle and long:
            break
    return middle, long


async def _read(http: aiohttp.ClientSession, url: str) -> bytes:
    async with http.get(URL(url, encoded=True)) as answer:
        return await answer.read()


async def _ways(
    http: aiohttp.ClientSession, url: str, kind: type, ours: Call, blocks: int, calls: int
) -> dict[str, Any]:
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(kind).decode

    async def decoded() -> Any:
        return decode(await _read(http, url))

    ways: dict[str, Call] = {"bare": lambda: _read(http, url), "decoded": decoded, "ours": ours}
    blocks_of: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(blocks):
        for way, call in ways.items():
            blocks_of[way].append(await _block(call, calls))
    result: dict[str, Any] = {"kb": len(await _read(http, url)) / 1000}
    # Pairs of neighbouring blocks: the speed of the machine changes less within a pair than between pairs.
    pairs = zip(blocks_of["ours"], blocks_of["decoded"], strict=True)
    result["over"] = median(ours[0] - theirs[0] for ours, theirs in pairs)
    for way, each in blocks_of.items():
        result[way] = {"cpu": median(cpu for cpu, _ in each), "wall": median(wall for _, wall in each)}
    return result


async def _block(call: Call, calls: int) -> tuple[float, float]:
    """CPU and wall µs a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(calls):
        await call()
    return (time.process_time() - cpu) / calls * 1e6, (time.perf_counter() - wall) / calls * 1e6


async def _pieces(bodies: dict[str, bytes], blocks: int, calls: int) -> dict[str, float]:
    limiter = RateLimiter(64)
    logger = logging.getLogger("alli_async")
    path = wire.conversation_path("Q29udmVyc2F0aW9uOjE3MDQwMDAwMDE==")

    async def nothing() -> None:
        pass

    async def throttled() -> None:
        ticket = await limiter.acquire()
        limiter.answered(ticket)
        limiter.release()

    async def timed() -> None:
        async with asyncio.timeout(60):  # noqa: ASYNC100 - what it costs by itself
            pass

    async def built() -> None:
        URL.build(scheme="http", authority="127.0.0.1:8080", path=path, query_string="", encoded=True)

    async def logged() -> None:
        logger.debug("%s %s: %d, %d bytes in %.3f s", "GET", path, 200, 1000, 0.1)

    pieces: dict[str, Call] = {
        "awaiting a coroutine (in all of these)": nothing,
        "limiter: acquire, release, answered": throttled,
        "asyncio.timeout": timed,
        "URL.build(encoded=True)": built,
        "logger.debug, off": logged,
    }
    for what, kind in zip(bodies, (Conversation, ConversationPage, ChatPage), strict=True):
        pieces[f"decode {what}"] = _decoding(msgspec.json.Decoder(kind).decode, bodies[what])
    found: dict[str, list[float]] = {what: [] for what in pieces}
    for _ in range(blocks):
        for what, piece in pieces.items():
            found[what].append((await _block(piece, calls))[0])
    return {what: median(each) for what, each in found.items()}


async def _middlewares(alli: AlliClient, conversation: str, blocks: int, calls: int) -> dict[str, float]:
    """CPU µs a call that call middlewares cost over none, the SDK's included (its exporter does nothing)."""

    async def nothing(call: alli_async.Call, call_next: alli_async.CallHandler) -> Any:
        return await call_next(call)

    tracers, meters = TracerProvider(), MeterProvider([InMemoryMetricReader()])
    tracers.add_span_processor(SimpleSpanProcessor(_NoExporter()))
    added: dict[str, alli_async.CallMiddleware] = {
        "a call middleware that does nothing": nothing,
        "a span, its context and three histograms by hand": _telemetry_by_hand(tracers, meters),
        "OpenTelemetry": OpenTelemetryMiddleware(tracers, meters),
    }
    clients = {name: alli.with_options(call_middlewares=[each]) for name, each in added.items()}
    over: dict[str, list[float]] = {name: [] for name in clients}
    for _ in range(blocks):
        without, _ = await _block(lambda: alli.conversations.get(conversation), calls)
        for name, client in clients.items():
            cpu, _ = await _block(partial(client.conversations.get, conversation), calls)
            over[name].append(cpu - without)
    return {name: median(each) for name, each in over.items()}


def _telemetry_by_hand(tracers: TracerProvider, meters: MeterProvider) -> alli_async.CallMiddleware:
    """The least that telemetry costs with this SDK."""
    tracer, meter = tracers.get_tracer("by hand"), meters.get_meter("by hand")
    histograms = [meter.create_histogram(f"by.hand.{number}") for number in range(3)]

    async def by_hand(call: alli_async.Call, call_next: alli_async.CallHandler) -> Any:
        about: dict[str, str | int] = {"http.request.method": call.method, "server.port": 80}
        span = tracer.start_span(call.operation, kind=SpanKind.CLIENT, attributes=about)
        token = attach(set_span_in_context(span))
        try:
            propagate.inject(call.headers)
            return await call_next(call)
        finally:
            detach(token)
            span.end()
            for each in histograms:
                each.record(0.1, {"operation": call.operation})

    return by_hand


class _NoExporter(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def _decoding(decode: Callable[[bytes], Any], body: bytes) -> Call:
    async def decoding() -> None:
        decode(body)

    return decoding


def _drawing(values: Any) -> Any:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        calls = values["calls"]
        height = 0.8 / len(_WAYS)
        for place, (way, label) in enumerate(_WAYS.items()):
            places = [row + place * height for row in range(len(calls))]
            drawn = axes.barh(places, [ways[way]["cpu"] for ways in calls.values()], height, label=label)
            axes.bar_label(drawn, fmt="%.0f", padding=3, fontsize=8)
        axes.set_yticks([row + height for row in range(len(calls))])
        axes.set_yticklabels(list(calls))
        axes.invert_yaxis()
        axes.margins(x=0.1)
        axes.set_xlabel("CPU µs a call")
        axes.legend()

    return draw


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
