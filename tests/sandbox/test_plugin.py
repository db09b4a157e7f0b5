from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ("pytester",)

TESTS = """
import urllib.request
import pytest


def test_default(alli_sandbox):
    assert len(alli_sandbox.conversation_ids()) == 100
    request = urllib.request.Request(alli_sandbox.url + "/webapi/v2/conversations")
    request.add_header("API-KEY", alli_sandbox.api_key)
    with urllib.request.urlopen(request) as response:
        assert response.status == 200
    assert alli_sandbox.count("listConversations", 200) == 1


@pytest.mark.alli_sandbox(conversations=7, cursor="keyset")
def test_marked(alli_sandbox):
    assert alli_sandbox.count() == 0
    assert len(alli_sandbox.conversation_ids()) == 7
    assert alli_sandbox.options.cursor == "keyset"


@pytest.mark.alli_sandbox(cursor="wrong")
def test_wrong(alli_sandbox):
    pass
"""


def test_the_fixture_serves_each_test_its_own_sandbox_with_the_markers_options(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whether the package is installed, with its entry point, or not.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess("-p", "alli_async.sandbox.pytest_plugin", "--strict-markers")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*ValueError: cursor must be one of offset, keyset, relay, opaque, endless, not 'wrong'*"]
    )


MOCKED = """
import pytest
from alli_async import AlliClient, AlliConnectionError, NotFoundError, RetryPolicy

URL = "https://backend.alli.ai/webapi/v2/conversations"


async def test_mocked(alli_responses):
    alli_responses.get(URL + "?pageSize=50", payload={"conversations": [], "cursor": None})
    alli_responses.get(URL + "/x", status=404, payload={"type": "APIError", "code": 7003, "message": "none"})
    async with AlliClient("k") as alli:
        assert (await alli.conversations.list()).conversations == []
        with pytest.raises(NotFoundError):
            await alli.conversations.get("x")
    assert [method for method, _ in alli_responses.requests] == ["GET", "GET"]


async def test_the_next_test_begins_without_answers(alli_responses):
    async with AlliClient("k", retry=RetryPolicy(max_attempts=1)) as alli:
        with pytest.raises(AlliConnectionError):
            await alli.conversations.get("x")
    assert len(alli_responses.requests) == 1
"""


def test_the_aioresponses_fixture_answers_a_client_and_ends_with_its_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(MOCKED)
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function")
    result = pytester.runpytest_inprocess("-p", "alli_async.sandbox.pytest_plugin", "-p", "pytest_asyncio.plugin")
    result.assert_outcomes(passed=2)


def test_a_pytest_run_without_the_fixtures_imports_neither_aiohttp_nor_the_client(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text("def test_nothing(): pass\n", "utf-8")
    code = (
        "import os, sys; os.environ['PYTEST_DISABLE_PLUGIN_AUTOLOAD'] = '1'; import pytest; "
        "code = pytest.main(['-q', '-p', 'alli_async.sandbox.pytest_plugin', '-p', 'no:cacheprovider']); "
        "heavy = ('alli_async', 'aiohttp', 'msgspec'); "
        "print(code, *sorted(name for name in sys.modules if name.startswith(heavy)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    exit_code, *loaded = done.stdout.splitlines()[-1].split()
    assert exit_code in ("0", "ExitCode.OK")
    assert loaded == [
        "alli_async",
        "alli_async._lazy",
        "alli_async._log",
        "alli_async._version",
        "alli_async.sandbox",
        "alli_async.sandbox.pytest_plugin",
    ]
