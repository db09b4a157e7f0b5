from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from alli_async import AlliClient, ConfigurationError, ServerError
from alli_async.sandbox import Sandbox
from tests.conftest import QUICK
from tests.support.late import late

dlt = late("dlt")
contrib = late("alli_async.contrib.dlt")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(conversations=120, seed=4) as served:
        yield served


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "false")
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "data"))
    return dlt.pipeline(
        "alli_test",
        destination=dlt.destinations.duckdb(str(tmp_path / "out.duckdb")),
        dataset_name="alli",
        pipelines_dir=str(tmp_path / "pipelines"),
    )


@pytest.fixture
def source(sandbox: Sandbox) -> Callable[..., Any]:
    def make(**options: Any) -> Any:
        return contrib.alli_source(
            client=AlliClient(sandbox.api_key, base_url=sandbox.url, retry=QUICK), **options
        )

    return make


def ask(pipeline: Any, query: str) -> list[tuple[Any, ...]]:
    with pipeline.sql_client() as connection:
        return [tuple(row) for row in connection.execute_sql(query)]


def loaded(pipeline: Any) -> dict[str, int]:
    """The conversations that are loaded, with the number of chats of each; each must be there once."""
    rows = ask(
        pipeline,
        "SELECT c.id, count(h.id) FROM conversations c LEFT JOIN chats h ON h.conversation_id = c.id GROUP BY ALL",
    )
    assert ask(pipeline, "SELECT count(*) FROM conversations") == [(len(rows),)]
    assert ask(pipeline, "SELECT count(*) - count(DISTINCT (conversation_id, id)) FROM chats") == [(0,)]
    return dict(rows)


def held(sandbox: Sandbox) -> dict[str, int]:
    return {each: len(sandbox.chat_ids(each)) for each in sandbox.conversation_ids()}


def test_a_second_load_brings_what_has_had_a_chat_and_nothing_twice(
    pipeline: Any, source: Callable[..., Any], sandbox: Sandbox
) -> None:
    pipeline.run(source(rows=50))
    assert loaded(pipeline) == held(sandbox)

    first, second, third = sandbox.conversation_ids()[:3]
    sandbox.add_conversations(3)
    sandbox.add_chats(5, first)
    sandbox.override(first, {"title": "An update"})
    sandbox.add_chats(1, second)
    sandbox.delete_chats(2, second, first=True)
    sandbox.override(third, {"title": "Not to be seen without a chat"})
    sandbox.reset_counters()
    pipeline.run(source(rows=50))
    assert loaded(pipeline) == held(sandbox)
    assert ask(pipeline, f"SELECT title FROM conversations WHERE id = '{first}'") == [("An update",)]
    assert ask(pipeline, f"SELECT title FROM conversations WHERE id = '{third}'") != [
        ("Not to be seen without a chat",)
    ]
    assert sandbox.count("listConversationChats") <= 10  # the other 118 conversations were not asked for

    pipeline.run(source(rows=50), refresh="drop_data")
    assert loaded(pipeline) == held(sandbox)
    assert ask(pipeline, f"SELECT title FROM conversations WHERE id = '{third}'") == [
        ("Not to be seen without a chat",)
    ]


def test_values_are_those_of_the_server_and_nulls_stay_null(
    pipeline: Any, source: Callable[..., Any], sandbox: Sandbox
) -> None:
    one, empty = sandbox.conversation_ids()[0], next(i for i in sandbox.conversation_ids() if not held(sandbox)[i])
    user = {"userId": "u", "firstName": "민준", "lastName": ""}
    sandbox.override(one, {"user": user, "memo": None, "categories": ["a", "b"], "createdAt": 1704067200123.5})
    pipeline.run(source())
    found = ask(
        pipeline,
        "SELECT \"user\"->>'first_name', memo, categories->>1, created_at, last_chat_time IS NULL "
        f"FROM conversations WHERE id = '{one}'",
    )
    assert found == [("민준", None, "b", datetime(2024, 1, 1, 0, 0, 0, 123500, tzinfo=UTC), False)]
    query = f"SELECT last_chat_time, \"user\" FROM conversations WHERE id = '{empty}'"
    assert ask(pipeline, query)[0][0] is None
    assert ask(pipeline, "SELECT count(*) FROM chats WHERE citations IS NULL") != [(0,)]
    kinds = dict(ask(pipeline, "SELECT column_name, data_type FROM information_schema.columns"))
    assert kinds["last_chat_time"] == "TIMESTAMP WITH TIME ZONE"
    assert (kinds["chat_count"], kinds["rating"], kinds["position"]) == ("BIGINT", "BOOLEAN", "INTEGER")


def test_a_load_that_fails_changes_nothing_and_the_next_one_is_whole(
    pipeline: Any, source: Callable[..., Any], sandbox: Sandbox
) -> None:
    pipeline.run(source())
    before = loaded(pipeline)
    new = sandbox.add_conversations(60)
    sandbox.poison(new[30], everywhere=True)
    with pytest.raises(Exception, match="extract") as caught:
        pipeline.run(source(rows=10))
    cause = caught.value.__cause__
    assert cause is not None
    assert isinstance(cause.__cause__ or cause, ServerError)
    assert loaded(pipeline) == before
    sandbox.poison(new[30], None)
    pipeline.run(source(rows=10))
    assert loaded(pipeline) == held(sandbox)


def test_a_conversation_that_fits_no_table_is_named_or_skipped(
    pipeline: Any, source: Callable[..., Any], sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    bad = sandbox.conversation_ids()[7]
    sandbox.override(bad, {"title": 5})
    with pytest.raises(Exception, match="extract") as caught:
        pipeline.run(source())
    assert "title" in str(caught.value)
    assert bad in str(caught.value)
    pipeline.run(source(on_error="skip"))
    expected = held(sandbox)
    del expected[bad]
    assert loaded(pipeline) == expected
    assert any(bad in record.getMessage() for record in caplog.records)


def test_other_filters_than_before_read_everything_that_they_select(
    pipeline: Any, source: Callable[..., Any], sandbox: Sandbox
) -> None:
    users = sorted(row[0] for row in _users(sandbox))[:2]
    pipeline.run(source(user_ids=users[:1]))
    assert 0 < len(loaded(pipeline)) < 120
    pipeline.run(source(user_ids=users))
    found = ask(pipeline, "SELECT DISTINCT \"user\"->>'user_id' FROM conversations ORDER BY 1")
    assert [row[0] for row in found] == users


def _users(sandbox: Sandbox) -> set[tuple[str]]:
    import anyio

    async def read() -> set[tuple[str]]:
        async with AlliClient(sandbox.api_key, base_url=sandbox.url) as alli:
            return {(each.user.user_id,) async for each in alli.conversations.list() if each.user}

    return anyio.run(read)


def test_one_resource_can_be_loaded_alone_and_the_other_one_later(
    pipeline: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    # dlt's own places of configuration, here its environment variables.
    monkeypatch.setenv("SOURCES__ALLI__API_KEY", sandbox.api_key)
    monkeypatch.setenv("SOURCES__ALLI__BASE_URL", sandbox.url)
    source = contrib.alli_source().with_resources("conversations")
    pipeline.run(source)
    assert ask(pipeline, "SELECT count(*) FROM conversations") == [(120,)]
    assert "chats" not in pipeline.default_schema.data_table_names()
    sandbox.add_conversations(1)
    pipeline.run(source)
    assert ask(pipeline, "SELECT count(*) FROM conversations") == [(121,)]
    pipeline.run(contrib.alli_source())  # what one resource has read before, the other one has not
    assert loaded(pipeline) == held(sandbox)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 0}, "rows: expected a whole number of at least 1, got 0"),
        ({"started_at": 5}, "started_at: does not go with incremental=True"),
        ({"user_ids": "abc"}, "user_ids: "),
        ({"base_url": "ftp://x"}, "base_url: "),
    ],
)
def test_what_cannot_be_right_is_refused_before_a_pipeline_runs(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        contrib.alli_source("key", **options)


def test_where_dlt_is_missing_it_is_said_how_to_get_it() -> None:
    code = "import sys; sys.modules['dlt'] = None; import alli_async.contrib.dlt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith(
        "ConfigurationError: alli_async.contrib.dlt needs dlt: pip install 'alli-async[dlt]'"
    )
