"""Every answer of the sandbox, held against the contract."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from alli_async.sandbox import Churn, Sandbox
from alli_async.sandbox.operations import OPERATIONS
from tests.support.late import late

from .client import CONTRACT, DAILY, ROOT, Client, or_null, validators

schemathesis = late("schemathesis")
checks = late("schemathesis.checks")
openapi_checks = late("schemathesis.specs.openapi.checks")

VALIDATORS = validators()
MODES: list[dict[str, Any]] = [
    {},
    {"cursor": "keyset", "unit": "s", "nulls": "first", "bounds": "open"},
    {"embed": 0, "chat_count": "user", "compress": True},
    {"embed": "all", "embed_order": "newest_first"},
    {"first_chat_filters": "ignored", "first_chat_orders": "refused"},
    {"churn": Churn(new_chats=5, deleted_chats=5, new_conversations=2)},
    {"cursor": "relay", "ties": "shuffled", "page_cap": 30, "filter_numbers": "whole"},
    {"cursor": "opaque", "ragged": True, "null_last_chat": 0.3, "first_chat_fallback": True},
    {"embed_abridged": 10, "chat_lag": 3, "page_no": "ignored", "order": "ignored"},
    {"churn": Churn(deleted_first_chats=5, deleted_conversations=1, ended_conversations=5), "chat_times": "kept"},
]


def check(operation: str, answer: Any) -> None:
    errors = [f"{error.json_path}: {error.message[:200]}" for error in VALIDATORS[operation].iter_errors(answer)]
    assert errors == []


@pytest.mark.asyncio
@pytest.mark.parametrize("options", MODES, ids=lambda options: ",".join(options) or "plain")
async def test_every_answer_is_as_the_contract_says(options: dict[str, Any]) -> None:
    async with Sandbox(conversations=70, **options) as sandbox, Client(sandbox) as client:
        cursor: dict[str, str] = {}
        while True:
            page = await client.get(ROOT, **cursor)
            check("listConversations", page)
            if page["cursor"] is None:
                break
            cursor = {"cursor": page["cursor"]}
        conversation_id = max(sandbox.conversation_ids(), key=lambda one: len(sandbox.chat_ids(one)))
        path = f"{ROOT}/{conversation_id}"
        chat = f"{path}/chats/{sandbox.chat_ids(conversation_id)[0]}"
        update = {"state": "ea", "assignee": None, "categoryIds": ["a", "나"], "title": "제목"}
        days = {"startDate": "2024-01-01", "endDate": "2024-01-31"}
        wrong_days = {"startDate": "2024-01-31", "endDate": "2024-01-01"}
        for operation, method, where, body in [
            ("getConversation", "GET", path, None),
            ("updateConversation", "PATCH", path, update),
            ("updateConversationTitle", "PUT", f"{path}/title", {"title": ""}),
            ("listConversationChats", "GET", f"{path}/chats", None),
            ("listConversationChats", "GET", f"{path}/chats?pageNo=99", None),
            ("postChatFeedback", "POST", f"{chat}/feedback", {"rating": None}),
            ("postChatFeedback", "POST", f"{chat}/feedback", {"rating": True}),
            ("postChatFeedback", "POST", f"{chat}/feedback", {}),
            ("getConversation", "GET", path, None),
            ("getConversationRunning", "GET", f"{path}/running", None),
            ("getDailyConversationCount", "GET", DAILY, days),
            ("getDailyConversationCount", "GET", DAILY, wrong_days),
        ]:
            check(operation, await client.write(method, where, body))


def test_the_operations_are_those_of_the_contract() -> None:
    contract = json.loads(CONTRACT.read_bytes())
    named = chain.from_iterable(path.values() for path in contract["paths"].values())
    assert sorted(OPERATIONS) == sorted(operation["operationId"] for operation in named)


def test_the_validators_do_see_what_is_wrong() -> None:
    with pytest.raises(AssertionError, match=r"\$\.totalCount"):
        check("listConversationChats", {"chats": [], "pageNo": 1, "totalCount": "many"})
    check("getDailyConversationCount", {"errors": None})
    with pytest.raises(AssertionError):
        check("getDailyConversationCount", {"errors": None, "result": None})


@pytest.fixture(scope="module")
def served() -> Iterator[Sandbox]:
    with Sandbox(conversations=200) as sandbox:
        yield sandbox


@pytest.mark.slow
@pytest.mark.parametrize("operation_id", sorted(OPERATIONS))
def test_whatever_is_sent_the_answer_is_no_failure_and_a_200_conforms(operation_id: str, served: Sandbox) -> None:
    schema = schemathesis.openapi.from_dict(or_null(json.loads(CONTRACT.read_bytes())))
    operation = schema.find_operation_by_id(operation_id)
    ids = served.conversation_ids()
    good, bad = (operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode)

    @settings(
        max_examples=60, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(good | bad)
    def send(case: Any) -> None:
        if "conversation_id" in case.path_parameters and len(str(case.path_parameters["conversation_id"])) % 2:
            # Random ids only ever find nothing: every other time take one that there is.
            case.path_parameters["conversation_id"] = ids[0]
            if "chat_id" in case.path_parameters:
                case.path_parameters["chat_id"] = served.chat_ids(ids[0])[0]
                served.add_chats(1, ids[0])
        case.call_and_validate(
            base_url=served.url,
            headers={"API-KEY": served.api_key},
            timeout=10,
            checks=[checks.not_a_server_error, openapi_checks.response_schema_conformance],
        )

    send()
