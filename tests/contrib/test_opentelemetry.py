"""OpenTelemetry: a span for every operation, its attempts as events, and metrics, by the SDK itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from alli_async import AlliTimeoutError, Call, NotFoundError, ServerError
from alli_async.contrib.opentelemetry import OpenTelemetryMiddleware
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.support import ScriptedServer, answer, conversation, hang_up, silence

OK = answer(200, conversation(), headers=[("X-Request-Id", "r-ok")])
BUSY = answer(503, headers=[("X-Request-Id", "r-busy")])


@dataclass
class Telemetry:
    """The SDK with exporters in memory."""

    exporter: InMemorySpanExporter
    tracers: TracerProvider
    reader: InMemoryMetricReader
    meters: MeterProvider

    @property
    def middleware(self) -> OpenTelemetryMiddleware:
        return OpenTelemetryMiddleware(self.tracers, self.meters)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def points(self, name: str) -> dict[Any, Any]:
        """The data points of a metric by their attributes."""
        data = self.reader.get_metrics_data()
        assert data is not None
        metrics = [each for of in data.resource_metrics for scope in of.scope_metrics for each in scope.metrics]
        found = [each.data.data_points for each in metrics if each.name == f"alli.client.{name}"]
        return {frozenset((point.attributes or {}).items()): point for points in found for point in points}


@pytest.fixture
def telemetry() -> Telemetry:
    exporter, tracers, reader = InMemorySpanExporter(), TracerProvider(), InMemoryMetricReader()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    return Telemetry(exporter, tracers, reader, MeterProvider([reader]))


def attributes(**given: Any) -> frozenset[tuple[str, Any]]:
    names = {"operation": "alli.operation", "status": "http.response.status_code", "kind": "error.type"}
    return frozenset((names[name], value) for name, value in given.items())


async def test_a_span_is_named_by_its_operation_and_describes_the_request(
    make_client: ClientFactory, telemetry: Telemetry
) -> None:
    async with ScriptedServer(OK) as server:
        await make_client(server, call_middlewares=[telemetry.middleware]).conversations.get("a")
    (span,) = telemetry.spans
    assert (span.name, span.kind, span.status.status_code) == (
        "getConversation",
        SpanKind.CLIENT,
        StatusCode.UNSET,
    )
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": int(server.url.rpartition(":")[2]),
        "url.full": f"{server.url}/webapi/v2/conversations/a",
        "alli.request_id": "r-ok",
    }
    assert [event.name for event in span.events] == ["alli.attempt"]


async def test_each_attempt_is_an_event_with_its_status_wait_cause_and_request_id(
    make_client: ClientFactory, telemetry: Telemetry
) -> None:
    async with ScriptedServer(BUSY, hang_up, OK) as server:
        await make_client(server, call_middlewares=[telemetry.middleware]).conversations.get("a")
    (span,) = telemetry.spans
    events = [dict(event.attributes or {}) for event in span.events]
    waits = [event.pop("alli.attempt.wait") for event in events]
    assert events == [
        {
            "alli.attempt.number": 1,
            "http.response.status_code": 503,
            "error.type": "503",
            "alli.request_id": "r-busy",
        },
        {"alli.attempt.number": 2, "error.type": "AlliConnectionError"},
        {"alli.attempt.number": 3, "http.response.status_code": 200},
    ]
    assert all(isinstance(wait, float) and wait >= 0 for wait in waits)
    assert span.attributes is not None
    assert (span.attributes["http.request.resend_count"], span.attributes["alli.request_id"]) == (2, "r-ok")
    assert span.start_time is not None
    times = [span.start_time, *[event.timestamp for event in span.events]]
    assert times == sorted(times)


async def test_a_failed_operation_says_of_what_kind_its_error_is(
    make_client: ClientFactory, telemetry: Telemetry
) -> None:
    async with ScriptedServer(answer(404, {"message": "no such text"})) as server:
        with pytest.raises(NotFoundError):
            await make_client(server, call_middlewares=[telemetry.middleware]).conversations.get("a")
    (span,) = telemetry.spans
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "NotFoundError")
    assert span.attributes is not None
    assert (span.attributes["error.type"], span.attributes["alli.outcome"]) == ("404", "rejected")


async def test_an_operation_without_an_answer_and_a_cancelled_one_end_their_spans(
    make_client: ClientFactory, telemetry: Telemetry
) -> None:
    async with ScriptedServer(silence) as server:
        client = make_client(server, call_middlewares=[telemetry.middleware])
        with pytest.raises(AlliTimeoutError):
            await client.with_options(deadline=0.1).conversations.get("a")
        task = asyncio.create_task(client.conversations.get("b"))
        while len(server.requests) < 2:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    kinds = [(span.attributes or {})["error.type"] for span in telemetry.spans]
    assert kinds == ["AlliTimeoutError", "CancelledError"]
    assert "http.response.status_code" not in (telemetry.spans[0].attributes or {})


async def test_the_context_goes_to_the_server_with_every_attempt(
    make_client: ClientFactory, telemetry: Telemetry
) -> None:
    async with ScriptedServer(BUSY, OK) as server:
        with telemetry.tracers.get_tracer("app").start_as_current_span("a request of the app") as parent:
            await make_client(server, call_middlewares=[telemetry.middleware]).conversations.get("a")
        sent = [request.header("traceparent") for request in server.requests]
    span = telemetry.spans[0]
    assert span.context is not None
    expected = ["00", f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"]
    assert [str(each).split("-")[:3] for each in sent] == [expected, expected]
    assert span.parent is not None
    assert span.parent.span_id == parent.get_span_context().span_id


async def test_spans_made_during_the_operation_are_its_children_and_later_ones_are_not(
    make_client: ClientFactory, telemetry: Telemetry
) -> None:
    tracer = telemetry.tracers.get_tracer("app")

    async def inner(request: Any, call_next: Callable[[Any], Any]) -> Any:
        with tracer.start_as_current_span("inner"):
            return await call_next(request)

    async with ScriptedServer(OK) as server:
        client = make_client(server, call_middlewares=[telemetry.middleware], middlewares=[inner])
        await client.conversations.get("a")
    with tracer.start_as_current_span("later"):
        pass
    found = {span.name: span for span in telemetry.spans}
    parent, operation = found["inner"].parent, found["getConversation"].context
    assert parent is not None
    assert operation is not None
    assert parent.span_id == operation.span_id
    assert found["later"].parent is None


async def test_metrics_count_durations_attempts_waits_and_refusals(
    make_client: ClientFactory, telemetry: Telemetry
) -> None:
    async with ScriptedServer(BUSY, OK, answer(404)) as server:
        # A middleware for each of two clients: they share the instruments of the provider.
        await make_client(server, call_middlewares=[telemetry.middleware]).conversations.get("a")
        with pytest.raises(NotFoundError):
            await make_client(server, call_middlewares=[telemetry.middleware]).conversations.get("b")
    durations = telemetry.points("operation.duration")
    right = attributes(operation="getConversation", status=200)
    wrong = attributes(operation="getConversation", status=404, kind="404")
    assert {key: point.count for key, point in durations.items()} == {right: 1, wrong: 1}
    busy = attributes(operation="getConversation", status=503, kind="503")
    assert {key: point.value for key, point in telemetry.points("attempts").items()} == {
        right: 1,
        wrong: 1,
        busy: 1,
    }
    assert {key: point.value for key, point in telemetry.points("refusals").items()} == {busy: 1}
    (wait,) = telemetry.points("wait").values()
    assert 0 < wait.value <= sum(point.sum for point in durations.values())


async def test_metrics_have_no_value_for_each_path_of_a_request(
    make_client: ClientFactory, telemetry: Telemetry
) -> None:
    async with ScriptedServer(answer(200, {})) as server:
        client = make_client(server, call_middlewares=[telemetry.middleware])
        for number in range(3):
            await client.request("GET", f"/webapi/v2/things/{number}")
        await client.request("GET", "/webapi/v2/things/4", operation="getThing")
    assert [span.name for span in telemetry.spans][2:] == ["GET /webapi/v2/things/2", "getThing"]
    counts = {key: point.value for key, point in telemetry.points("attempts").items()}
    assert counts == {attributes(operation="GET", status=200): 3, attributes(operation="getThing", status=200): 1}


async def test_no_key_identity_query_or_text_is_in_spans_or_metrics(
    make_client: ClientFactory, telemetry: Telemetry
) -> None:
    secrets = [
        "the-key",
        "agent@example.com",
        "user@example.com",
        "own-user",
        "a search",
        "new title",
        "private",
    ]
    with Sandbox(conversations=5) as sandbox:
        sandbox.put({"id": "mine", "title": "private"}, chats=["private"])
        client = make_client(
            sandbox,
            call_middlewares=[telemetry.middleware],
            agent_email=secrets[1],
            user_email=secrets[2],
            own_user_id=secrets[3],
        )
        await client.conversations.list(search_term="a search", user_ids=["private"])
        await client.conversations.set_title("mine", "new title")
        await client.conversations.transcript("mine")
        echo = answer(500, {"message": "private the-key"}, headers=[("X-Request-Id", "the-key")])
    async with ScriptedServer(echo) as server:
        broken = make_client(server, call_middlewares=[telemetry.middleware])
        with pytest.raises(ServerError):
            await broken.conversations.get("a")
    assert len(telemetry.spans) >= 5
    data = telemetry.reader.get_metrics_data()
    told = "".join(span.to_json() for span in telemetry.spans) + (data.to_json() if data else "")
    for secret in [*secrets, sandbox.api_key]:
        assert secret not in told, secret


async def test_a_stream_has_a_span_for_each_of_its_requests(
    make_client: ClientFactory, telemetry: Telemetry
) -> None:
    with Sandbox(conversations=120) as sandbox:
        client = make_client(sandbox, call_middlewares=[telemetry.middleware])
        assert len([each async for each in client.conversations.transcripts()]) == 120
        assert len(telemetry.spans) == sandbox.count()


async def test_without_a_recording_span_calls_go_on_and_metrics_count(make_client: ClientFactory) -> None:
    reader = InMemoryMetricReader()
    unsampled = Telemetry(
        InMemorySpanExporter(), TracerProvider(sampler=ALWAYS_OFF), reader, MeterProvider([reader])
    )
    async with ScriptedServer(OK) as server:
        for middleware in (unsampled.middleware, OpenTelemetryMiddleware()):
            await make_client(server, call_middlewares=[middleware]).conversations.get("a")
        flags = str(server.requests[0].header("traceparent")).rpartition("-")[2]
        assert int(flags, 16) & 1 == 0  # not sampled
    assert not unsampled.spans
    assert len(unsampled.points("attempts")) == 1


async def test_a_faked_operation_has_a_span_without_attempts(
    make_client: ClientFactory, telemetry: Telemetry
) -> None:
    async def fake(call: Call, call_next: Any) -> Any:
        return "fake"

    async with ScriptedServer(OK) as server:
        client = make_client(server, call_middlewares=[telemetry.middleware, fake])
        result: Any = await client.conversations.get("a")
        assert result == "fake"
    (span,) = telemetry.spans
    assert not span.events
    assert "http.response.status_code" not in (span.attributes or {})
