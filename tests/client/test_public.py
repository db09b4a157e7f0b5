"""The public face: its names, its types, its documentation, and what it does not import."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from typing import Any, Unpack, get_type_hints
from unittest.mock import create_autospec

import msgspec
import pytest

import alli_async
from alli_async import AlliClient, ConversationFilters, ConversationsAPI, errors, models, sandbox
from alli_async import export as alli_async_export
from alli_async.contrib import opentelemetry
from alli_async.export import export

ROOT = Path(alli_async.__file__).parent

NAMES = """
    AlliClient ConversationsAPI ConversationFilters ConversationPages ChatPages TranscriptStream RetryPolicy Limits
    ApiResponse Call CallMiddleware CallHandler Attempt ItemResult ItemResults tune_malloc
    Request Response ResponseInfo Middleware Handler Skipped StreamStats RawTranscript UNSET UnsetType __version__
    Conversation ConversationPage Chat ChatPage ChatInputSource KnowledgeBaseInfo FolderInfo Citation User LLMApp
    Transcript ConversationUpdate Feedback DailyCounts DailyCount Order ConversationState FeedbackReason Region
    AlliError ClientStateError ConfigurationError TransportError AlliConnectionError AlliTimeoutError TLSError
    APIError BadRequestError AuthenticationError PermissionDeniedError PaymentRequiredError NotFoundError
    RateLimitError ServerError RedirectError DecodeError ResponseTooLargeError PaginationError IncompleteError
    ExportError LockedError
"""


def test_the_public_names_are_these() -> None:
    assert sorted(alli_async.__all__) == sorted(NAMES.split())
    for name in NAMES.split():
        assert hasattr(alli_async, name)


def test_every_error_is_an_alli_error_and_stands_in_the_tree_of_the_docstring() -> None:
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, Exception)]
    tree = errors.__doc__ or ""
    for kind in kinds:
        assert issubclass(kind, errors.AlliError)
        assert re.search(rf"\b{kind.__name__}\b", tree), kind
        assert kind.__name__ in alli_async.__all__


def public(module: Any) -> list[Any]:
    found: list[Any] = []
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isfunction(thing):
            found.append(thing)
        if inspect.isclass(thing) and thing.__module__.startswith("alli_async"):
            members = [member for key, member in vars(thing).items() if not key.startswith("_")]
            found.append(thing)
            found += [each for each in members if inspect.isfunction(each)]
            found += [each.fget for each in members if isinstance(each, property)]
    return found


PUBLIC = [each for module in (alli_async, alli_async_export, sandbox, opentelemetry) for each in public(module)]


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__qualname__)
def test_everything_public_is_documented_and_its_annotations_resolve(thing: Any) -> None:
    assert (inspect.getdoc(thing) or "").strip()
    get_type_hints(thing)


def test_the_eleven_operations_of_the_contract_are_all_there() -> None:
    contract = json.loads((Path(__file__).parents[1] / "data" / "alli-openapi.json").read_text("utf-8"))
    wanted = {operation["operationId"] for path in contract["paths"].values() for operation in path.values()}
    files = [ROOT / "conversations.py", *ROOT.glob("_*/*.py")]
    sources = "".join(file.read_text("utf-8") for file in files)
    assert len(wanted) == 11
    assert wanted <= set(re.findall(r'Request\(\s*"(\w+)"', sources))


def test_the_structs_have_every_field_of_the_contract_and_ask_for_none_that_may_be_missing() -> None:
    contract = json.loads((Path(__file__).parents[1] / "data" / "alli-openapi.json").read_text("utf-8"))
    schemas = contract["components"]["schemas"]
    pairs: dict[str, type[msgspec.Struct]] = {
        "ConversationsResponse": models.ConversationPage,
        "ChatsResponse": models.ChatPage,
        "FeedbackResponse": models.Feedback,
        "ConversationInfoRequest": models.ConversationUpdate,
    }
    for name in ("Conversation", "User", "Chat", "ChatInputSource", "KnowledgeBaseInfo", "FolderInfo", "Citation"):
        pairs[name] = getattr(models, name)
    pairs["LLMApp"] = models.LLMApp
    for name, struct in pairs.items():
        properties = schemas[name]["properties"]
        fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
        assert set(fields) == set(properties), name
        nullable = {key for key, schema in properties.items() if {"type": "null"} in schema.get("anyOf", [])}
        for key in set(schemas[name].get("required", [])) - nullable:
            assert fields[key].required, (name, key)
        for key in nullable | (set(properties) - set(schemas[name].get("required", []))):
            assert not fields[key].required, (name, key)
    for enum, kind in (
        ("ConversationStateEnum", models.ConversationState),
        ("UserAnswerFeedbackSelection", models.FeedbackReason),
    ):
        assert [*kind] == schemas[enum]["enum"]


def loaded_after(code: str) -> set[str]:
    """The modules that a new interpreter holds after some code."""
    code = f"import sys\n{code}\nsys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stderr.split())


def test_importing_and_making_a_client_imports_only_its_dependencies_and_what_they_need() -> None:
    loaded = loaded_after("from alli_async import AlliClient; AlliClient('k')")
    assert {"aiohttp", "msgspec", "anyio", "alli_async._transcripts.stream"} <= loaded
    assert "tenacity" not in loaded  # the first retry imports it
    assert not loaded & {"click", "rich", "uvloop", "isal", "pytest", "aioresponses"}
    assert not loaded & {"alli_async.sandbox", "alli_async.export", "alli_async.cli"}


def test_importing_the_package_imports_nothing_that_is_not_used_yet() -> None:
    loaded = loaded_after("import alli_async; alli_async.__version__")
    own = {"alli_async", "alli_async._lazy", "alli_async._log", "alli_async._version"}
    assert {name for name in loaded if "alli_async" in name} == own
    assert not loaded & {"aiohttp", "msgspec", "anyio", "asyncio"}


def test_the_errors_and_models_are_attributes_of_the_package_without_an_import_of_their_own() -> None:
    code = "import alli_async; alli_async.errors.AlliError, alli_async.models.Chat, alli_async.config.RetryPolicy"
    assert "aiohttp" not in loaded_after(code)


def test_the_help_of_a_command_needs_neither_aiohttp_nor_msgspec_nor_a_loop() -> None:
    code = "from alli_async.cli.app import run\n"
    for command in ([], ["export"], ["compact"], ["conversations"], ["chats"], ["daily"], ["sandbox"]):
        code += f"run({[*command, '--help']})\n"
    assert not loaded_after(code) & {"aiohttp", "msgspec", "rich"}


def test_a_package_lists_its_public_names_before_they_are_used() -> None:
    code = "import alli_async, alli_async.sandbox as sandbox\nfor each in (alli_async, sandbox):\n"
    code += "    assert set(each.__all__) <= set(dir(each)), each\n    assert '__doc__' in dir(each)"
    assert "aiohttp" not in loaded_after(code)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'alli_async' has no attribute 'AlliClients'"):
        _ = alli_async.AlliClients  # type: ignore[attr-defined]


def test_the_core_has_four_dependencies() -> None:
    core = [line for line in requires("alli-async") or [] if "extra ==" not in line]
    assert sorted(re.split(r"[<>=!~ ]", line)[0] for line in core) == ["aiohttp", "anyio", "msgspec", "tenacity"]


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "py.typed").exists()


def test_the_client_needs_no_more_than_three_positional_arguments() -> None:
    for thing in (AlliClient, *[each for name, each in vars(ConversationsAPI).items() if name[0] != "_"]):
        parameters = inspect.signature(thing).parameters.values()
        positional = [
            each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD and each.name != "self"
        ]
        assert len(positional) <= 3


def test_no_module_reaches_for_a_clock_of_the_wall_but_attempts_and_the_records_of_an_export() -> None:
    users = set()
    for path in ROOT.rglob("*.py"):
        if {"sandbox", "export", "contrib", "cli"} & set(path.parts):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today"):
                users.add(path.name)
    assert users <= {"attempts.py"}


async def test_a_specified_mock_of_the_client_has_its_operations_and_their_signatures() -> None:
    alli = create_autospec(AlliClient, instance=True)
    alli.conversations.get.return_value = "found"
    assert await alli.conversations.get("id", variables=["a"]) == "found"
    alli.conversations.get.assert_awaited_once_with("id", variables=["a"])
    with pytest.raises(TypeError):
        alli.conversations.get()
    with pytest.raises(TypeError):
        alli.conversations.list("position")
    with pytest.raises(AttributeError):
        _ = alli.conversations.no_such_operation
    made = create_autospec(AlliClient)("key")
    made.conversations.set_title.return_value = "renamed"
    assert await made.conversations.set_title("id", "title") == "renamed"


FILTERS = set(ConversationFilters.__annotations__)


@pytest.mark.parametrize("function", [ConversationsAPI.list, ConversationsAPI.transcripts, export])
def test_the_help_of_what_takes_filters_names_each_and_says_what_started_at_is(
    function: Any,
) -> None:
    hints = get_type_hints(function, include_extras=True)
    assert hints["filters"] == Unpack[ConversationFilters]
    told = inspect.getdoc(function) or ""
    named = {name for name in FILTERS if f"`{name}`" in told}
    assert FILTERS - named == set()
    assert re.search(r"`started_at` and `end_at` bound the time of the LAST chat", told)
