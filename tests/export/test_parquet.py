"""Parquet: flat datasets, in types that say what they hold."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from alli_async import ConfigurationError, RawTranscript
from alli_async.export import compact, export
from alli_async.export.formats import arrow
from alli_async.export.formats.fields import camel_case
from alli_async.export.formats.parquet import DEFAULT_SIZES, ParquetShardWriter, ParquetSizes, kept_tables
from alli_async.export.storage.directory import DirectoryStore
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.export.support import lines_of, manifest
from tests.support import chat, conversation
from tests.support.late import late

duckdb = late("duckdb")
ds = late("pyarrow.dataset")
pq = late("pyarrow.parquet")


def rows(dest: Path, folder: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ds.dataset(dest / folder, format="parquet").to_table().to_pylist()
    return found


def rows_of(query: str) -> list[tuple[str, int]]:
    """The rows of an SQL query."""
    with duckdb.connect() as connection:
        found: list[tuple[str, int]] = connection.execute(query).fetchall()
    return found


@pytest.mark.parametrize("unit", ["ms", "s"])
async def test_every_conversation_and_every_chat_is_a_row(
    make_client: ClientFactory, tmp_path: Path, unit: Any
) -> None:
    async with Sandbox(conversations=200, unit=unit) as sandbox:
        client = make_client(sandbox)
        report = await export(client, tmp_path, format="parquet")
        conversations = {each["id"]: each for each in rows(tmp_path, "conversations")}
        chats = rows(tmp_path, "chats")
        assert len(conversations) == report.conversations == 200
        assert len(chats) == report.chats
        found: dict[str, list[tuple[int, str]]] = {}
        for each in chats:
            found.setdefault(each["conversation_id"], []).append((each["position"], each["id"]))
        assert {one: [chat for _, chat in sorted(each)] for one, each in found.items()} == {
            each: sandbox.chat_ids(each) for each in sandbox.conversation_ids() if sandbox.chat_ids(each)
        }
        async for listed in client.conversations.list(page_size=20):
            row = conversations[listed.id]
            assert (row["title"], row["is_end"], row["run"]) == (listed.title, listed.is_end, 1)
            assert abs(row["created_at"] - listed.created).total_seconds() < 2e-6
            assert row["created_at"].tzinfo is not None
            assert row["created_at"].utcoffset() == UTC.utcoffset(None)
            assert (row["last_chat_time"] is None) == (listed.last_chat is None)
            assert (row["user"] or {}).get("user_id") == (listed.user.user_id if listed.user else None)
            assert (json.loads(row["variables"]) if row["variables"] else None) == listed.variables
        assert any(each["source"] for each in chats)
        assert any(each["citations"] and each["citations"][0]["clue_id"] for each in chats)
        found_parts = manifest(tmp_path)["parts"]
        assert sum(part["rows"] for part in found_parts) == 200 + len(chats)
        assert (
            pq.ParquetFile(tmp_path / found_parts[0]["name"]).metadata.row_group(0).column(0).compression == "ZSTD"
        )


async def test_the_latest_version_is_the_one_of_the_highest_run_and_compaction_keeps_only_that(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=200) as sandbox:
        client = make_client(sandbox)
        await export(client, tmp_path, format="parquet")
        changed = sandbox.conversation_ids()[10]
        added = sandbox.add_chats(2, changed)
        await export(client, tmp_path, format="parquet", incremental=True)
        query = (
            f"SELECT id, run FROM '{tmp_path}/conversations/*.parquet' "
            "QUALIFY row_number() OVER (PARTITION BY id ORDER BY run DESC) = 1"
        )
        latest = dict(rows_of(query))
        assert (len(latest), latest[changed]) == (200, 2)
        report = await compact(tmp_path)
        assert report.conversations == 200
        assert report.chats == len(rows(tmp_path, "chats"))
        assert dict(rows_of(query)) == dict.fromkeys(latest, 3)
        there = [each for each in rows(tmp_path, "chats") if each["conversation_id"] == changed]
        assert [each["id"] for each in sorted(there, key=lambda each: each["position"])][-2:] == added
        assert manifest(tmp_path)["conversations"] == 200


def raw(record: dict[str, Any]) -> RawTranscript:
    return RawTranscript(record["id"], json.dumps(record).encode(), len(record["chats"] or []))


def test_records_that_break_the_contract_are_put_aside_and_repairable_ones_are_written(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    writer = ParquetShardWriter(store, 1, "00000", "zstd")
    assert not writer.write(
        [
            raw(conversation(id="a", chats=[chat(1), chat(2, message="half a pair: \ud800")])),
            raw(conversation(id="b", chats=[chat(1, timestamp="yesterday")])),
            raw(conversation(id="c", chats={})),
        ]
    )
    bad = writer.finish()
    assert [(each.id, each.why.split(":")[0]) for each in bad] == [
        ("b", "the answer is not what the contract says"),
        ("c", "the answer is not what the contract says"),
    ]
    assert '"yesterday"' in (bad[0].text or "")
    no_text = raw(conversation(id="g", chats=[chat(1, message="XX")]))
    assert not writer.write([RawTranscript("g", no_text.json.replace(b"XX", b"\xff"), 1)])
    (worse,) = writer.finish()
    assert "UTF-8" in worse.why.upper() or "utf-8" in worse.why
    conversations, chats = writer.commit("00000")
    writer.discard()
    assert (conversations.rows, chats.rows) == (1, 2)
    assert rows(tmp_path, "chats")[1]["message"] == "half a pair: \ufffd"
    assert [each["id"] for each in rows(tmp_path, "conversations")] == ["a"]


def test_a_part_that_is_discarded_leaves_nothing_and_an_empty_one_has_its_columns(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    writer = ParquetShardWriter(store, 1, "00000", "none")
    writer.write([raw(conversation(id="a"))])
    writer.discard()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    writer = ParquetShardWriter(store, 1, "00000", "none")
    conversations, chats = writer.commit("00000")
    assert (conversations.rows, chats.rows) == (0, 0)
    assert pq.read_schema(tmp_path / chats.name).equals(arrow.schemas()[1])


def test_large_shards_are_written_in_groups(tmp_path: Path) -> None:
    sizes = ParquetSizes(group=1000, table=500)
    writer = ParquetShardWriter(DirectoryStore(tmp_path), 1, "00000", "gzip", sizes=sizes)
    for number in range(10):
        writer.write([raw(conversation(id=str(number), chats=[chat(1), chat(2)]))])
    writer.finish()
    conversations, _ = writer.commit("00000")
    assert pq.ParquetFile(tmp_path / conversations.name).metadata.num_row_groups > 1


async def test_without_its_package_a_format_is_refused_before_anything_is_asked(
    make_client: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Sandbox(conversations=1) as sandbox:
        client = make_client(sandbox)
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(ConfigurationError, match=r"pip install 'alli-async\[parquet\]'"):
            await export(client, tmp_path / "x", format="parquet")
        monkeypatch.setitem(sys.modules, "backports", None)
        monkeypatch.setitem(sys.modules, "backports.zstd", None)
        monkeypatch.setitem(sys.modules, "compression.zstd", None)
        with pytest.raises(ConfigurationError, match=r"pip install 'alli-async\[zstd\]'"):
            await export(client, tmp_path / "x", compression="zstd")
        assert sandbox.count() == 0
        assert not (tmp_path / "x").exists()


def written(
    dest: Path, records: list[bytes], sizes: ParquetSizes = DEFAULT_SIZES
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str | None]]:
    """The rows that records become, and the ids of those that are put aside."""
    writer = ParquetShardWriter(DirectoryStore(dest), 3, "00000", "zstd", sizes=sizes)
    found = [RawTranscript(json.loads(each.replace(b"\xff", b""))["id"], each, 0) for each in records]
    bad = writer.write(found) + writer.finish()
    writer.commit("00000")
    return rows(dest, "conversations"), rows(dest, "chats"), [each.id for each in bad]


EMPTY_SOURCE = dict.fromkeys(field.name for field in arrow.schemas()[1].field("source").type)
PLAIN = {"source": None, "citations": None, "rating": None, "agent_rating": None, "extra": None, "run": 3}


@pytest.mark.parametrize("at_a_time", [1, 1 << 20])
def test_whatever_the_contract_allows_becomes_a_row_of_the_same_values(tmp_path: Path, at_a_time: int) -> None:
    moment = "2024-02-29T12:34:56"
    chats = [
        {"id": "1", "sender": "A_NEW_ONE", "message": '🦊\n"q" \\ \u0000 한국어', "timestamp": 1709210096000.25},
        {"id": "2", "sender": "", "message": "", "timestamp": 1709210096, "rating": True, "agentRating": False}
        | {"unknown": {"variables": {"deep": 1}}, "source": {"knowledgeBaseIds": ["x", "y"], "folderIds": []}},
        {"id": "3", "sender": "BOT", "message": "m", "timestamp": -1.5, "source": None, "citations": []}
        | {"rating": None},
        {"id": "4", "sender": "BOT", "message": "m", "timestamp": 0, "source": {"sharedFolders": [{"id": "f"}]}}
        | {"citations": [{"clueId": "c", "pageNo": 7, "more": [1]}, {"clueId": "d", "text": None, "url": "u"}]},
    ]
    least = {"id": "least", "title": "t", "createdAt": 1709210096000, "isEnd": False, "chats": [], "chatCount": 0}
    nulls = dict.fromkeys(("user", "lastChatTime", "categories", "memo", "llmApp", "variables"))
    most = {"variables": {"plan": "pro", "n": [1, None, {"k": 1.5}]}, **least, "id": "most", "extra": {"chats": 1}}
    most |= {"chats": chats, "chatCount": 4, "categories": ["a", ""], "user": {"userId": "u"}}
    most |= {"llmApp": {"id": "L", "name": "앱", "other": 1}, "memo": "note"}
    inside = {**least, "id": "inside", "chats": [chats[0] | {"variables": {"not": "these"}}]}
    texts = [least, least | nulls | {"id": "nulls"}, most, inside, least | {"id": "last", "variables": {}}]
    found, each_chat, bad = written(
        tmp_path,
        [json.dumps(each, ensure_ascii=False).encode() for each in texts],
        ParquetSizes(table=at_a_time),
    )
    assert bad == []
    when = datetime.fromisoformat(moment + "+00:00")
    base = dict.fromkeys(arrow.schemas()[0].names) | {"title": "t", "created_at": when, "is_end": False, "run": 3}
    base["chat_count"] = 0
    user = {"user_id": "u", "first_name": None, "last_name": None}
    assert found == [
        base | {"id": "least"},
        base | {"id": "nulls"},
        base
        | {"id": "most", "chat_count": 4, "categories": ["a", ""], "memo": "note", "user": user}
        | {"llm_app": {"id": "L", "name": "앱", "description": None}}
        | {"variables": '{"plan": "pro", "n": [1, null, {"k": 1.5}]}'}
        | {"extra": '{"extra":{"chats": 1},"llmApp":{"other":1}}'},
        base | {"id": "inside"},
        base | {"id": "last", "variables": "{}"},
    ]
    zero = datetime(1970, 1, 1, tzinfo=UTC)
    citation = dict.fromkeys(("clue_id", "source", "title", "knowledge_base_id", "page_no", "url", "text"))
    expected = [
        {"id": "1", "sender": "A_NEW_ONE", "message": chats[0]["message"]}
        | {"timestamp": when + timedelta(microseconds=250)},
        {"id": "2", "sender": "", "message": "", "timestamp": when, "rating": True, "agent_rating": False}
        | {"source": EMPTY_SOURCE | {"knowledge_base_ids": ["x", "y"], "folder_ids": []}}
        | {"extra": '{"unknown":{"variables": {"deep": 1}}}'},
        {"id": "3", "sender": "BOT", "message": "m", "timestamp": zero - timedelta(seconds=1.5), "citations": []},
        {"id": "4", "sender": "BOT", "message": "m", "timestamp": zero}
        | {"source": EMPTY_SOURCE | {"shared_folders": [{"id": "f", "name": None}]}}
        | {"citations": [citation | {"clue_id": "c", "page_no": 7}, citation | {"clue_id": "d", "url": "u"}]}
        | {"extra": '{"citations":[{"more":[1]},{}]}'},
    ]
    assert each_chat == [
        *(PLAIN | {"conversation_id": "most", "position": n} | one for n, one in enumerate(expected)),
        PLAIN
        | {"conversation_id": "inside", "position": 0, **expected[0]}
        | {"extra": '{"variables":{"not": "these"}}'},
    ]


@pytest.mark.parametrize("is_known", [True, False])
def test_a_null_in_any_field_is_a_null_in_its_column(tmp_path: Path, is_known: bool) -> None:
    nulls = dict.fromkeys(
        camel_case(name) for name in arrow.schemas()[0].names if name not in ("run", "extra", "deleted_at")
    )
    no_chat = dict.fromkeys(
        ("id", "sender", "message", "timestamp", "rating", "agentRating", "source", "citations")
    )
    more = {} if is_known else {"more": 1}
    records = [
        nulls | {"id": "all", "chats": [no_chat, None], **more},
        nulls | {"id": "none", "chats": None},
        {"id": "missing"},
        conversation(id="one", chats=[chat(1), chat(2, message=None)]),
    ]
    found, chats, bad = written(tmp_path, [json.dumps(each).encode() for each in records])
    assert bad == []
    nothing = dict.fromkeys(arrow.schemas()[0].names) | {"run": 3}
    assert found[:3] == [
        nothing | {"id": "all", "extra": None if is_known else '{"more":1}'},
        nothing | {"id": "none"},
        nothing | {"id": "missing"},
    ]
    assert [(each["conversation_id"], each["position"], each["message"]) for each in chats] == [
        ("all", 0, None),
        ("all", 1, None),
        ("one", 0, chat(1)["message"]),
        ("one", 1, None),
    ]


@pytest.mark.parametrize("wrong", ["1e300", "-4e18", "1e400"])
def test_a_time_that_is_no_moment_is_null_and_kept_beside_the_columns(tmp_path: Path, wrong: str) -> None:
    record = json.dumps(conversation(id="a", createdAt=-7, chats=[chat(1, timestamp=-7), chat(2)])).replace(
        "-7", wrong
    )
    found, chats, bad = written(tmp_path, [record.encode(), json.dumps(conversation(id="b")).encode()])
    if wrong == "1e400":
        assert bad == ["a"]
        return
    assert bad == []
    assert [each["created_at"] is None for each in found] == [True, False]
    assert [each["extra"] for each in found] == [f'{{"createdAt":{wrong}}}', None]
    assert [each["extra"] for each in chats] == [f'{{"timestamp":{wrong}}}', None]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b'"chatCount": 0', b'"chatCount": 99999999999999999999'),
        (b'"chatCount": 0', b'"chatCount": 1.5'),
        (b'"isEnd": false', b'"isEnd": "no"'),
        (b'"title": "t"', b'"title": "\xff"'),
        (b'"title": "t"', b'"title": 5'),
        (b'"chats": []', b'"chats": {}'),
        (b'"createdAt": 1', b'"createdAt": "yesterday"'),
    ],
)
def test_what_no_column_takes_is_put_aside_alone(tmp_path: Path, field: bytes, value: bytes) -> None:
    good = b'{"id": "good", "title": "t", "createdAt": 1, "isEnd": false, "chats": [], "chatCount": 0}'
    wrong = good.replace(b"good", b"wrong").replace(field, value)
    assert wrong != good.replace(b"good", b"wrong")
    found, _, bad = written(tmp_path, [good, wrong, good.replace(b"good", b"third")])
    assert [each["id"] for each in found] == ["good", "third"]
    assert bad == ["wrong"]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ('{"id":"a","variables":{"x":1}}', '{"x":1}'),
        ('{"variables":{"x":1},"id":"a"}', '{"x":1}'),
        ('{"id":"a","variables":{"x":1},"memo":"z","chats":[{"a":{}}]}', '{"x":1}'),
        ('{"id":"a", "variables" : {"x": 1} }', '{"x": 1}'),
        ('{"id":"a","variables":null}', None),
        ('{"id":"a"}', None),
        ('{"variables":{"x":1},"chats":[{"id":"c","variables":{"y":2}}]}', '{"x":1}'),
        ('{"chats":[{"id":"c","variables":{"y":2}}]}', None),
        ('{"variables":{"x":1},"llmApp":{"id":"c","variables":{"y":2}}}', '{"x":1}'),
        ('{"variables":{"id":"c","variables":{"y":2}}}', '{"id":"c","variables":{"y":2}}'),
        ('{"id":"a","memo":",\\"variables\\":{}"}', None),
        ('{"id":"a","x,\\"variables":1}', None),
    ],
)
def test_the_variables_are_the_conversations_own(record: str, expected: str | None) -> None:
    assert arrow.variables(record.encode()) == expected


async def test_compaction_tells_in_a_column_when_a_conversation_was_found_deleted(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    def deleted() -> dict[str, datetime]:
        return {each["id"]: each["deleted_at"] for each in rows(tmp_path, "conversations") if each["deleted_at"]}

    async with Sandbox(conversations=60) as sandbox:
        client = make_client(sandbox)
        await export(client, tmp_path, format="parquet")
        gone = sandbox.delete_conversations(2)
        await export(client, tmp_path, format="parquet", refresh=True)
        noticed = lines_of(tmp_path / "deleted.jsonl")
        assert sorted(each["id"] for each in noticed) == sorted(gone)
        # Parts do not change once they are written.
        assert deleted() == {}
        await compact(tmp_path)
        expected = {each["id"]: datetime.fromisoformat(each["noticed_at"]) for each in noticed}
        assert deleted() == expected
        sandbox.add_conversations(1)
        await export(client, tmp_path, format="parquet", incremental=True)
        await compact(tmp_path)
        assert deleted() == expected
        assert len(rows(tmp_path, "conversations")) == 61
        await compact(tmp_path, drop_deleted=True)
        assert deleted() == {}
        assert len(rows(tmp_path, "conversations")) == 59


def test_a_part_of_an_earlier_version_gets_the_columns_that_it_lacks(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    earlier = ParquetShardWriter(store, 1, "00000", "zstd")
    earlier.write([raw(conversation(id="a")), raw(conversation(id="b"))])
    earlier.finish()
    parts = earlier.commit("00000")
    for part in parts:
        table = pq.read_table(tmp_path / part.name)
        kept = [name for name in table.column_names if name not in ("extra", "deleted_at")]
        pq.write_table(table.select(kept), tmp_path / part.name)
    noticed = datetime(2026, 1, 2, tzinfo=UTC)
    writer = ParquetShardWriter(store, 2, "00000", "zstd")
    writer.write_tables(kept_tables(store, parts, set(), 2, {"b": noticed}))
    assert [each.rows for each in writer.commit("00000")] == [2, 0]
    (tmp_path / parts[0].name).unlink()
    found = rows(tmp_path, "conversations")
    assert [(each["id"], each["run"], each["deleted_at"]) for each in found] == [("a", 2, None), ("b", 2, noticed)]
    assert {each["extra"] for each in found} == {None}
