"""Secrets: what OpenTelemetry records of calls, and of what goes wrong in them, does not show the key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from alli_async import AlliClient, AlliError
from tests.support import Answer, ScriptedServer, hang_up, reset, servers, silence
from tests.support.canary import CANARY, ECHOED, SECRET, TWICE, holds_key, walk
from tests.support.servers import OK, Call, fact, get, patch


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """The spans that have ended, of every aiohttp session made meanwhile and of the tests' own tracer."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = AioHttpClientInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    exporter.tracer = provider.get_tracer("tests")  # type: ignore[attr-defined]
    yield exporter
    instrumentor.uninstrument()


def everything_in(span: ReadableSpan) -> str:
    """All that is exported of a span, as it is and as JSON."""
    events = [(event.name, dict(event.attributes or {})) for event in span.events]
    return "\n".join([span.to_json(), repr(span.name), repr(dict(span.attributes or {})), repr(events)])


# Each answer meets one operation of each in turn.
OPERATIONS = [("api_key", get), ("token", patch), ("api_key", walk)]
MET = [
    fact(f"{row.id} to {call.__name__}", *row.values, call, kind)
    for number, row in enumerate([fact("success", OK), *SECRET, *ECHOED])
    for kind, call in [OPERATIONS[number % len(OPERATIONS)]]
]


@pytest.mark.parametrize(("stimulus", "call", "kind"), MET)
async def test_no_span_shows_the_key_not_even_one_that_the_server_echoes(
    stimulus: Answer, call: Call, kind: str, spans: Any
) -> None:
    options: dict[str, Any] = {kind: CANARY, "max_response_bytes": 1_000_000, "retry": TWICE}
    async with ScriptedServer(stimulus) as server:
        async with AlliClient(base_url=server.url, timeout=0.5, **options) as client:
            try:
                with spans.tracer.start_as_current_span("a call of the user's"):
                    await call(client.conversations)
            except AlliError:
                assert stimulus is not OK or call is walk
        *sent, called = spans.get_finished_spans()
        assert CANARY in "".join(value for _, value in server.requests[0].headers)
        assert [span.context.span_id for span in sent] == [traced_to(each) for each in server.requests]
    assert {span.parent.span_id for span in sent} == {called.context.span_id}
    for span in (*sent, called):
        assert not holds_key(everything_in(span))


def traced_to(request: Any) -> int:
    """The span that a request says it belongs to."""
    return int(request.header("traceparent").split("-")[2], 16)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        fact("FIN", hang_up, "the server closed it"),
        fact("RST", reset, "reset"),
        fact("silence", silence, ""),
        fact("another protocol", servers.NO_HTTP, "not HTTP: Bad status line"),
    ],
)
async def test_a_span_says_what_broke_its_request_and_the_calls_what_came_of_it(
    broken: Answer, told: str, spans: Any
) -> None:
    async with ScriptedServer(broken) as server:
        async with AlliClient(CANARY, base_url=server.url, timeout=0.5, retry=TWICE) as client:
            with pytest.raises(AlliError) as raised, spans.tracer.start_as_current_span("a call of the user's"):
                await get(client.conversations)
    *sent, called = spans.get_finished_spans()
    assert len(sent) == 2
    for span in sent:
        (event,) = [event for event in span.events if event.name == "exception"]
        assert told in event.attributes["exception.message"]
    assert str(raised.value) in called.events[0].attributes["exception.message"]
