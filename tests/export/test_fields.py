"""`columns` and `redact`: which fields an export writes, whatever its format."""

from __future__ import annotations

import csv
import gzip
import hashlib
import hmac
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from alli_async import ConfigurationError
from alli_async.export import compact, export, plan_export
from alli_async.export.formats.compression import zstd_module
from alli_async.sandbox import Sandbox
from tests.conftest import ClientFactory
from tests.export.support import records
from tests.support import Exchange, ScriptedServer, answer, chat, conversation
from tests.support.late import late

pq = late("pyarrow.parquet")

KEY = b"a key of thirty-two random bytes"
SOURCE = {"knowledgeBaseIds": ["kb-1"], "webSites": None, "newInSource": 1}
CITATION = {"clueId": "k", "title": "Guide", "url": "https://example.com/a", "newInCitation": 2}


def rich(number: int) -> dict[str, Any]:
    """A conversation with personal data, and with fields that this version does not know at every level."""
    return conversation(
        id=f"c{number}",
        title=f"About {number}",
        user={
            "userId": f"user-{number % 2}",
            "firstName": "Kim",
            "lastName": None,
            "newInUser": "a@b.c",
        },
        newField={"phone": "010-1234"},
        categories=["a", "b"],
        memo=None,
        chats=[
            chat(1, message="hello", newInChat=3, source=SOURCE, citations=[CITATION]),
            chat(2, message=None),
        ],
        chatCount=2,
    )


def serving_these(*conversations: dict[str, Any]) -> ScriptedServer:
    """A server of a few conversations, all on one page."""
    by_id = {each["id"]: each for each in conversations}

    async def send(exchange: Exchange) -> None:
        *_, before, last = urlsplit(exchange.request.target).path.split("/")
        if last == "conversations":
            await exchange.send(answer(200, {"conversations": list(conversations), "cursor": None}))
        elif last == "chats" and before in by_id:
            chats = by_id[before]["chats"]
            await exchange.send(answer(200, {"chats": chats, "pageNo": 1, "totalCount": len(chats)}))
        elif last in by_id:
            await exchange.send(answer(200, by_id[last]))
        else:
            await exchange.send(answer(404, {"type": "APIError", "code": 7003, "message": "none"}))

    return ScriptedServer(default=send)


def serving_rich() -> ScriptedServer:
    return serving_these(*(rich(number) for number in range(3)))


def digest(text: str, key: bytes = KEY) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


async def lines(make_client: ClientFactory, dest: Path, **how: Any) -> list[dict[str, Any]]:
    """The lines of an export."""
    async with serving_rich() as server:
        await export(make_client(server), dest, **how)
    if dest.is_dir():
        return sorted(records(dest), key=lambda each: str(each["id"]))
    return [json.loads(line) for line in gzip.decompress(dest.read_bytes()).splitlines()]


@pytest.mark.parametrize("name", ["all", "all.jsonl.gz"])
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, rich(1)),
        ({"columns": ["title", "chatCount"]}, {"id": "c1", "title": "About 1", "chatCount": 2}),
        (
            {"columns": ["id", "message", "chats.sender"]},
            {
                "id": "c1",
                "chats": [{k: each[k] for k in ("sender", "message")} for each in rich(1)["chats"]],
            },
        ),
        ({"columns": ["chats"]}, {"id": "c1", "chats": rich(1)["chats"]}),
        ({"columns": ["extra", "memo"]}, {"id": "c1", "newField": {"phone": "010-1234"}, "memo": None}),
        (
            {"columns": ["chats.citations.url", "chats.extra"]},
            {
                "id": "c1",
                "chats": [{"newInChat": 3, "citations": [{"url": CITATION["url"]}]}, {"citations": []}],
            },
        ),
        (
            {"columns": ["user", "title"], "redact": {"title": KEY, "user.first_name": None}},
            {"id": "c1", "title": digest("About 1"), "user": {"userId": "user-1", "lastName": None}},
        ),
        (
            {"columns": ["title"], "redact": ["user", "chats.message"]},
            {"id": "c1", "title": "About 1"},
        ),
    ],
)
async def test_lines_hold_the_chosen_fields_as_the_server_sent_them(
    make_client: ClientFactory, tmp_path: Path, name: str, how: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert (await lines(make_client, tmp_path / name, **how))[1] == expected


@pytest.mark.parametrize("name", ["all", "all.jsonl.gz"])
async def test_a_redacted_export_holds_no_redacted_and_no_unknown_field(
    make_client: ClientFactory, tmp_path: Path, name: str
) -> None:
    found = await lines(
        make_client, tmp_path / name, redact={"user.user_id": KEY, "user.first_name": None, "message": None}
    )
    assert [each["user"] for each in found] == [
        {"userId": digest(f"user-{number % 2}"), "lastName": None} for number in range(3)
    ]
    assert found[0]["user"] == found[2]["user"]
    text = json.dumps(found)
    assert not any(word in text for word in ("Kim", "hello", "new", "010-1234", "user-1"))
    assert [len(each["chats"]) for each in found] == [2, 2, 2]
    assert found[1]["title"] == "About 1"


async def test_an_unreadable_record_of_a_redacted_export_is_put_aside_without_its_text(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with serving_these(rich(0), rich(1) | {"chatCount": "many"}) as server:
        report = await export(make_client(server), tmp_path, redact=["user"])
    assert report.quarantined == 1
    for path in tmp_path.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"Kim" not in (gzip.decompress(data) if path.suffix == ".gz" else data), path


async def test_parquet_has_the_chosen_columns(make_client: ClientFactory, tmp_path: Path) -> None:
    async with serving_rich() as server:
        client = make_client(server)
        await export(client, tmp_path / "all", format="parquet")
        await export(
            client,
            tmp_path / "some",
            format="parquet",
            columns=["user.user_id", "title", "message", "chats.citations.url"],
            redact={"user.user_id": KEY},
        )
        for _ in range(2):
            await export(client, tmp_path / "some", format="parquet", incremental=True, **SOME)
    whole = [
        pq.read_table(tmp_path / "all" / name).sort_by("run").to_pylist() for name in ("conversations", "chats")
    ]
    assert json.loads(whole[0][0]["extra"]) == {
        "newField": {"phone": "010-1234"},
        "user": {"newInUser": "a@b.c"},
    }
    first = next(each for each in whole[1] if each["message"] == "hello")
    assert json.loads(first["extra"]) == {
        "newInChat": 3,
        "source": {"newInSource": 1},
        "citations": [{"newInCitation": 2}],
    }
    some = [pq.read_table(tmp_path / "some" / name) for name in ("conversations", "chats")]
    assert some[0].column_names == ["id", "title", "user", "run"]
    assert some[1].column_names == ["conversation_id", "position", "message", "citations", "run"]
    # The incremental runs bring the same again.
    rows = sorted((each for each in some[0].to_pylist() if each["run"] == 1), key=lambda each: str(each["id"]))
    assert [each["user"] for each in rows] == [{"user_id": digest(f"user-{n % 2}")} for n in range(3)]
    assert {str(each["citations"]) for each in some[1].to_pylist()} == {str([{"url": CITATION["url"]}]), "[]"}


SOME: dict[str, Any] = {
    "columns": ["message", "chats.citations.url", "user.user_id", "title"],
    "redact": {"user.user_id": KEY},
}


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (
            {"columns": ["titel"]},
            "columns: there is no field 'titel' (did you mean title?); the fields are id,",
        ),
        ({"columns": ["user.phone"]}, "columns: there is no field 'user.phone'"),
        ({"columns": [7]}, "columns: there is no field 7"),
        ({"columns": []}, "columns: names no field"),
        ({"columns": "title"}, "columns: expected a list of names, got 'title'"),
        ({"columns": ["title", "title"]}, "columns: title is named twice"),
        ({"columns": ["message", "chats.message"]}, "columns: chats.message is named twice"),
        ({"columns": ["user", "user.user_id"]}, "columns: user.user_id is a part of user; name one of them"),
        ({"columns": ["title"], "redact": ["title"]}, "redact: title is one of the columns"),
        ({"columns": ["user.user_id"], "redact": ["user"]}, "redact: user.user_id is one of the columns"),
        ({"redact": ["phone"]}, "redact: there is no field 'phone'"),
        ({"redact": ["id"]}, "redact: id is what an export knows a conversation by"),
        (
            {"redact": {"user": KEY}},
            "redact: user is no text, so it can be removed but not hashed; name user.",
        ),
        ({"redact": {"created_at": KEY}}, "redact: created_at is no text"),
        ({"redact": {"title": b"short"}}, "redact: the key of title must be at least 16 bytes"),
        ({"redact": {"title": KEY, "memo": KEY + b"2"}}, "redact: expected one key for all hashed fields"),
        ({"redact": ["chats", "chats.message"]}, "redact: chats.message is a part of chats"),
        (
            {"format": "csv", "columns": ["extra"]},
            "columns: extra stands for fields that this",
        ),
    ],
)
async def test_unknown_names_are_refused_with_the_known_ones_before_anything_is_sent(
    make_client: ClientFactory, tmp_path: Path, how: dict[str, Any], why: str
) -> None:
    async with Sandbox(conversations=1) as sandbox:
        for call in (export, plan_export):
            with pytest.raises(ConfigurationError) as raised:
                await call(make_client(sandbox), tmp_path / "all", **how)
            assert str(raised.value).startswith(why)
            assert KEY.decode() not in str(raised.value)
        assert sandbox.count() == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"columns": ["title"]},
        {"columns": ["title", "memo"], "redact": {"memo": KEY}},
        {"columns": ["title", "memo"], "redact": {"title": KEY + b"2"}},
    ],
)
async def test_a_destination_keeps_to_its_columns_and_its_redaction(
    make_client: ClientFactory, tmp_path: Path, other: dict[str, Any]
) -> None:
    how: dict[str, Any] = {"columns": ["memo", "title"], "redact": {"title": KEY}}
    async with serving_rich() as server:
        client = make_client(server)
        await export(client, tmp_path, **how)
        await export(client, tmp_path, **how | {"columns": ["title", "memo"]})
        with pytest.raises(ConfigurationError) as raised:
            await export(client, tmp_path, incremental=True, **other)
        assert "holds another export" in str(raised.value)
        assert "columns memo,title hashed title (key " in str(raised.value)
        assert "\n" not in str(raised.value)
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY not in everything


# --- CSV --------------------------------------------------------------------------------------------------

TEXTS: Sequence[Mapping[str, Any]] = (
    {"message": '=HYPERLINK("https://evil.example","x")'},
    {"message": "+82-10-1234"},
    {"message": "-1"},
    {"message": "@SUM(A1)"},
    {"message": "\t=1"},
    {"message": "＝1"},
    {"message": 'two\r\nlines, "quoted"\u2028and \x0b more'},
    {"message": "안녕하세요, こんにちは 🦊"},
    {"message": "half a pair: \ud800"},
    {"message": None, "timestamp": -1.5},
    {"message": "", "timestamp": 1e300},
    {"message": "plain", "rating": True, "citations": [{"url": "u"}]},
)


def csv_rows(data: bytes) -> list[dict[str, str]]:
    assert data.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def serving_texts() -> ScriptedServer:
    chats = [chat(number, **each) for number, each in enumerate(TEXTS)]
    first = conversation(id="c0", title="=1+1", chats=chats, chatCount=len(chats), categories=["a", "b"])
    return serving_these(first, conversation(id="c1", title="empty", chats=[], chatCount=0, lastChatTime=None))


@pytest.mark.parametrize("name", ["all", "all.csv", "all.csv.gz"])
async def test_csv_has_a_row_for_each_chat_that_no_spreadsheet_takes_for_a_formula(
    make_client: ClientFactory, tmp_path: Path, name: str
) -> None:
    async with serving_texts() as server:
        how: dict[str, Any] = {"format": "csv"} if name == "all" else {}
        report = await export(make_client(server), tmp_path / name, **how)
    assert (report.conversations, report.chats) == (2, len(TEXTS))
    (path,) = (tmp_path / name / "conversations").iterdir() if name == "all" else [tmp_path / name]
    data = path.read_bytes()
    found = csv_rows(gzip.decompress(data) if name.endswith(".gz") else data)
    assert [each["conversation_id"] for each in found] == ["c0"] * len(TEXTS) + ["c1"]
    texts = [each["message"] or "" for each in TEXTS]
    guarded = [f"'{text}" for text in texts[:6]]
    assert [each["message"] for each in found] == [*guarded, *texts[6:8], "half a pair: \ufffd", *texts[9:], ""]
    assert {each["title"] for each in found} == {"'=1+1", "empty"}
    assert found[0]["categories"] == "a; b"
    assert found[0]["created_at"].endswith("Z")
    assert found[0]["created_at"].startswith("20")
    assert [each["timestamp"] for each in found[9:11]] == ["1969-12-31T23:59:58.500Z", "1e+300"]
    assert (found[11]["rating"], found[11]["citations"]) == ("true", '[{"url":"u"}]')
    assert (found[12]["position"], found[12]["chat_id"], found[12]["last_chat_time"]) == ("", "", "")
    assert [each["position"] for each in found[:3]] == ["0", "1", "2"]


async def test_csv_has_the_chosen_columns_in_the_order_of_the_model(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with serving_rich() as server:
        await export(
            make_client(server),
            tmp_path / "all.csv",
            columns=["message", "user", "title", "llm_app.name"],
            redact={"user.user_id": KEY},
        )
    found = csv_rows((tmp_path / "all.csv").read_bytes())
    assert list(found[0]) == [
        "conversation_id",
        "title",
        "user_id",
        "user_first_name",
        "user_last_name",
        "app_name",
        "position",
        "message",
    ]
    assert {each["user_id"] for each in found} == {digest("user-0"), digest("user-1")}


async def test_csv_in_a_directory_is_brought_up_to_date(make_client: ClientFactory, tmp_path: Path) -> None:
    async with Sandbox(conversations=120) as sandbox:
        client = make_client(sandbox)
        await export(client, tmp_path, format="csv", compression="zstd")
        changed = sandbox.conversation_ids()[3]
        sandbox.add_chats(2, changed)
        sandbox.add_conversations(5)
        await export(client, tmp_path, format="csv", compression="zstd", incremental=True)
        found: dict[str, list[str]] = {}
        for path in sorted((tmp_path / "conversations").iterdir()):
            rows = csv_rows(zstd_module().decompress(path.read_bytes()))
            # The latest run's version of a conversation holds.
            found.update((row["conversation_id"], []) for row in rows)
            for row in rows:
                found[row["conversation_id"]] += [row["chat_id"]] if row["chat_id"] else []
        assert found == {each: sandbox.chat_ids(each) for each in sandbox.conversation_ids()}


@pytest.mark.parametrize(
    ("name", "how", "why"),
    [
        ("all.jsonl", {"format": "csv"}, "format: csv does not fit .*all.jsonl, whose name says jsonl"),
        ("all.csv", {"format": "jsonl"}, "format: jsonl does not fit .*all.csv, whose name says csv"),
        ("all.csv", {"format": "parquet"}, "is a file; Parquet, incremental=True"),
        ("all.csv", {"incremental": True}, "is a file; Parquet, incremental=True"),
        ("all.parquet.csv.txt", {"format": "csv"}, "named like a file, but only .jsonl, "),
    ],
)
async def test_a_file_whose_name_does_not_fit_is_refused(
    make_client: ClientFactory, tmp_path: Path, name: str, how: dict[str, Any], why: str
) -> None:
    async with Sandbox(conversations=1) as sandbox:
        with pytest.raises(ConfigurationError, match=why):
            await export(make_client(sandbox), tmp_path / name, **how)
        assert sandbox.count() == 0


# --- compacted --------------------------------------------------------------------------------------------


async def test_csv_is_compacted_to_the_latest_version_of_each_conversation(
    make_client: ClientFactory, tmp_path: Path
) -> None:
    async with Sandbox(conversations=120) as sandbox:
        client = make_client(sandbox)
        await export(client, tmp_path, format="csv", columns=["chats.id", "title"], redact={"title": KEY})
        sandbox.add_chats(2, sandbox.conversation_ids()[3])
        sandbox.add_conversations(5)
        await export(
            client, tmp_path, format="csv", columns=["chats.id", "title"], redact={"title": KEY}, incremental=True
        )
        before = [row for path in (tmp_path / "conversations").iterdir() for row in csv_rows(path.read_bytes())]
        await compact(tmp_path)
        rows = [row for path in (tmp_path / "conversations").iterdir() for row in csv_rows(path.read_bytes())]
        found: dict[str, list[str]] = {}
        for row in rows:
            found.setdefault(row["conversation_id"], []).extend([row["chat_id"]] if row["chat_id"] else [])
        assert found == {each: sandbox.chat_ids(each) for each in sandbox.conversation_ids()}
        assert {row["title"] for row in rows} == {row["title"] for row in before}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
async def test_chosen_columns_and_hashes_are_the_same_after_compaction(
    make_client: ClientFactory, tmp_path: Path, form: Any
) -> None:
    how: dict[str, Any] = {"format": form, "columns": ["user.user_id", "title"], "redact": {"user.user_id": KEY}}
    async with serving_rich() as server:
        client = make_client(server)
        await export(client, tmp_path, **how)
        await export(client, tmp_path, **how, incremental=True)
        await compact(tmp_path)
    if form == "jsonl":
        found = sorted(records(tmp_path), key=lambda each: str(each["id"]))
        assert [each["user"] for each in found] == [{"userId": digest(f"user-{n % 2}")} for n in range(3)]
        assert {frozenset(each) for each in found} == {frozenset(("id", "title", "user"))}
        return
    table = pq.read_table(tmp_path / "conversations")
    assert table.column_names == ["id", "title", "user", "run"]
    rows = sorted(table.to_pylist(), key=lambda each: str(each["id"]))
    assert [each["user"] for each in rows] == [{"user_id": digest(f"user-{n % 2}")} for n in range(3)]
