from __future__ import annotations

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
