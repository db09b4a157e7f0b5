"""Models as Pydantic types, and as request bodies and responses of FastAPI."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from alli_async import (
    Conversation,
    ConversationPage,
    ConversationState,
    ConversationUpdate,
    DailyCounts,
    Transcript,
    models,
)
from alli_async._model import Model
from tests.support.examples import FULL, PAGE, TRANSCRIPT, WIRE
from tests.support.late import late

httpx = late("httpx")

ADAPTER = TypeAdapter(Conversation)


class Job(BaseModel):
    conversation: Conversation
    transcripts: list[Transcript] = []
    update: ConversationUpdate | None = None


def test_input_takes_names_of_python_and_of_the_wire_and_instances() -> None:
    assert ADAPTER.validate_python(FULL) is FULL
    mixed = {**FULL.to_dict(), "chats": WIRE["chats"], "something": "unknown"}
    for given in (FULL.to_dict(), WIRE, mixed):
        assert ADAPTER.validate_python(given) == FULL
        assert ADAPTER.validate_json(msgspec.json.encode(given)) == FULL
    assert TypeAdapter(ConversationPage).validate_python(PAGE.to_dict()) == PAGE
    assert TypeAdapter(DailyCounts).validate_python({"dailyTotalCount": []}) == DailyCounts()


def test_what_may_be_missing_is_its_default_and_what_may_not_is_an_error_with_its_place() -> None:
    few = {name: WIRE[name] for name in ("id", "title", "createdAt", "isEnd", "chats", "chatCount")}
    assert ADAPTER.validate_python(few) == msgspec.convert(few, Conversation)
    with pytest.raises(ValidationError) as raised:
        ADAPTER.validate_python({**few, "chats": [{**WIRE["chats"][0], "id": 7}]})
    assert [error["loc"][-3:] for error in raised.value.errors()] == [("chats", 0, "id")]


def test_output_has_names_of_python_whether_by_alias_or_not() -> None:
    for by_alias in (False, True):
        assert ADAPTER.dump_python(FULL, by_alias=by_alias) == FULL.to_dict()
        assert json.loads(ADAPTER.dump_json(FULL, by_alias=by_alias)) == json.loads(FULL.to_json())
    assert TypeAdapter(list[Transcript]).dump_python([TRANSCRIPT]) == [TRANSCRIPT.to_dict()]
    assert TypeAdapter(ConversationPage).dump_python(PAGE) == PAGE.to_dict()
    assert "user" not in ADAPTER.dump_python(FULL, exclude={"user"})
    assert "rating" not in ADAPTER.dump_python(FULL, exclude_none=True)["chats"][0]


def test_a_number_stays_the_number_that_was_sent() -> None:
    for number in (1704067200123, 1704067200123.5):
        found = ADAPTER.validate_python({**WIRE, "createdAt": number})
        assert json.loads(ADAPTER.dump_json(found))["created_at"] == number
        assert type(found.created_at) is type(number)


def test_a_pydantic_model_that_holds_models_reads_back_what_it_writes() -> None:
    update = ConversationUpdate(state=ConversationState.EO, title=None)
    job = Job(conversation=FULL, transcripts=[TRANSCRIPT], update=update)
    assert Job.model_validate_json(job.model_dump_json()) == job
    assert json.loads(job.model_dump_json())["update"] == {"state": "eo", "title": None}


@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_every_model_has_a_schema_with_names_of_python(mode: Any) -> None:
    found = [each for name in models.__all__ if isinstance(each := getattr(models, name), type)]
    for kind in found:
        if issubclass(kind, Model):
            schema = TypeAdapter(kind).json_schema(mode=mode)
            assert (schema["title"], schema["type"]) == (kind.__name__, "object")
            assert list(schema["properties"]) == list(kind.__struct_fields__)


def test_schemas_say_what_is_required_and_that_times_are_numbers() -> None:
    given, shown = (ADAPTER.json_schema(mode=mode) for mode in ("validation", "serialization"))
    assert given["required"] == ["id", "title", "created_at", "is_end", "chats", "chat_count"]
    assert shown["required"] == list(shown["properties"])
    assert shown["properties"]["created_at"] == {"title": "Created At", "type": "number"}
    assert shown["properties"]["last_chat_time"]["anyOf"] == [{"type": "number"}, {"type": "null"}]
    assert "required" not in TypeAdapter(ConversationUpdate).json_schema()


def app() -> Any:
    from fastapi import FastAPI

    made = FastAPI()

    @made.get("/typed")
    async def typed() -> Conversation:
        return FULL

    @made.get("/untyped")
    async def untyped():  # type: ignore[no-untyped-def]
        return FULL

    @made.get("/transcripts")
    async def transcripts() -> list[Transcript]:
        return [TRANSCRIPT]

    @made.patch("/update")
    async def update(change: ConversationUpdate) -> ConversationUpdate:
        return change

    return made


async def test_fastapi_takes_models_as_bodies_and_gives_them_as_responses() -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app()), base_url="http://app") as http:
        for path in ("/typed", "/untyped"):
            assert (await http.get(path)).json() == json.loads(FULL.to_json())
        assert (await http.get("/transcripts")).json() == [json.loads(TRANSCRIPT.to_json())]
        assert (await http.patch("/update", json={"categoryIds": [], "title": None})).json() == {
            "category_ids": [],
            "title": None,
        }
        refused = await http.patch("/update", json={"state": "nonsense"})
        assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", "state"])


def test_fastapi_describes_models_in_its_openapi_document() -> None:
    document = app().openapi()
    response = document["paths"]["/typed"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert response == {"$ref": "#/components/schemas/Conversation"}
    schemas = document["components"]["schemas"]
    assert schemas["Conversation"]["properties"]["chats"]["items"] == {"$ref": "#/components/schemas/Chat"}
    assert schemas["Transcript"]["required"] == ["conversation", "chats"]
    body = document["paths"]["/update"]["patch"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/ConversationUpdate"}


def test_pydantic_is_imported_only_when_it_asks() -> None:
    code = "import sys; from alli_async import Conversation, AlliClient; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "False"
