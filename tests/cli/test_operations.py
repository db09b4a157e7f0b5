"""The operations of the API from the command: what people see, what pipes get, and what is asked before."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from alli_async.sandbox import Sandbox
from tests.support.commands import environment, run, run_process, terminal


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(conversations=120) as served:
        yield served


def on_terminal(sandbox: Sandbox, *arguments: str, columns: int = 80, code: int = 0, reply: str = "") -> str:
    """What a command shows on a terminal, without colours; a reply is typed where it asks yes or no."""
    send = {b"[y/N]": reply.encode()} if reply else {}
    shown = terminal(arguments, environment(sandbox), send=send, code=code, columns=columns)
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).replace("\r\n", "\n")


# --- lists --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_a_table_fits_its_terminal_and_shows_whole_ids(sandbox: Sandbox, columns: int) -> None:
    shown = on_terminal(sandbox, "conversations", "list", "--limit", "5", columns=columns)
    ids = [row for row in sandbox.conversation_ids() if row in shown.replace("\n", "").replace(" ", "")]
    assert len(ids) >= (5 if columns >= 80 else 0)
    # Characters of East Asia take two columns, so that fewer of them fit.
    assert max(map(len, shown.splitlines()[:-1])) <= columns


def test_a_table_shows_fifty_rows_by_one_request_and_says_that_there_are_more(sandbox: Sandbox) -> None:
    shown = on_terminal(sandbox, "conversations", columns=140)
    assert len(shown.splitlines()) == 1 + 50 + 1
    assert "50 conversations; there are more: --limit N or --all" in shown
    assert sandbox.count("listConversations") == 1
    assert len(on_terminal(sandbox, "conversations", "--all", columns=140).splitlines()) == 1 + 120 + 1


def test_a_pipe_gets_every_row_as_the_server_sent_it(sandbox: Sandbox) -> None:
    done = run("conversations", "list", sandbox=sandbox)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(row["id"] for row in rows) == sorted(sandbox.conversation_ids())
    assert any("channel" in row for row in rows)  # a field that the contract does not have
    assert done.stderr == ""


def test_fields_are_picked_in_the_spelling_of_the_wire_or_of_python(sandbox: Sandbox) -> None:
    done = run("conversations", "--limit", "1", "--fields", "title,chat_count,user.userId", sandbox=sandbox)
    assert list(json.loads(done.stdout)) == ["title", "chatCount", "user.userId"]
    done = run("conversations", "--fields", "id,colour", sandbox=sandbox)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "has no field 'colour'; there are id, title, user, " in done.stderr


def test_chats_can_be_left_out(sandbox: Sandbox) -> None:
    done = run("conversations", "--limit", "3", "--no-chats", sandbox=sandbox)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert all("chats" not in row and "chatCount" in row for row in rows)
    assert len(done.stdout) < 3 * 1000


def test_csv_has_a_heading_and_times_in_utc(sandbox: Sandbox) -> None:
    done = run("conversations", "--csv", "--limit", "60", sandbox=sandbox)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 60
    assert list(rows[0]) == ["id", "title", "user", "createdAt", "lastChatTime", "chatCount", "isEnd", "llmApp"]
    assert re.fullmatch(r"2024-01-01T\d\d:\d\d:\d\d\.\d\d\dZ", rows[0]["createdAt"])


def test_an_order_can_be_asked_for(sandbox: Sandbox) -> None:
    run("conversations", "--limit", "1", "--order", "first-chat-asc", sandbox=sandbox)
    assert dict(sandbox.received[-1].query)["order"] == "FIRST_CHAT_TIME_ASC"


def test_a_span_of_first_chats_can_be_asked_for(sandbox: Sandbox) -> None:
    done = run("conversations", "--since", "2024-01-01T00:30Z", "--until", "2024-01-01T00:40Z", sandbox=sandbox)
    assert 1 < len(done.stdout.splitlines()) < 60
    query = dict(sandbox.received[-1].query)
    assert (query["firstChatStartedAt"], query["firstChatEndAt"]) == ("1704069000000", "1704069600000")


def test_a_filter_that_selects_nothing_is_said(sandbox: Sandbox) -> None:
    done = run("conversations", "--user-id", "nobody", sandbox=sandbox)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "no conversation matches these options\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("conversations", "lsit"), "Did you mean 'list'?"),
        (("chats", "delet", "K", "C"), "Did you mean 'delete'?"),
        (("conversations", "--json", "--csv"), "--json and --csv: give one of them"),
        (("conversations", "--all", "--limit", "3"), "--all and --limit: give one of them"),
        (("conversations", "update", "K"), "nothing to change: give --title"),
        (("conversations", "update", "K", "--title", "x", "--clear", "title"), "--title and --clear title"),
        (("conversations", "update", "K", "--state", "gone"), "'eo'"),
        (("conversations", "bulk-update", "--state", "eo"), "which conversations?"),
        (("conversations", "bulk-update", "K", "--all", "--state", "eo"), "--all does not go with ids"),
        (("conversations", "bulk-update", "-", "--state", "eo"), "standard input holds no ids"),
        (("conversations", "bulk-update", "K", "--state", "eo"), "give --yes if you mean it"),
        (("chats", "feedback", "K", "C"), "nothing to say: give --rating"),
        (("daily", "2024-01-02", "2024-01-01"), "START lies after END"),
        (("daily", "2024-01-32", "2024-01-01"), "is not a day. Examples: "),
        (("conversations", "show", "K", "--from", "nowhere"), "does not exist"),
        (("conversations", "--since", "2024-01-02", "--until", "2024-01-01"), "--since lies after --until"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line_that_says_what_is_right(
    arguments: tuple[str, ...], said: str, sandbox: Sandbox
) -> None:
    done = run(*arguments, sandbox=sandbox)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert said in done.stderr
    assert not [each for each in sandbox.received if each.method != "GET"]


# --- changes ------------------------------------------------------------------------------------------------


def test_an_update_says_what_it_changed_and_clears_with_null(sandbox: Sandbox) -> None:
    one = sandbox.conversation_ids()[0]
    done = run("conversations", "update", one, "--title", "Refund", "--clear", "assignee", sandbox=sandbox)
    assert done.returncode == 0, done.stderr
    assert f'Updated {one}: title set to "Refund"; assignee cleared (before: title "' in done.stdout
    assert json.loads(sandbox.received[-1].body) == {"title": "Refund", "assignee": None}
    done = run("conversations", "update", one, "--category", "a", "--category", "b", "--json", sandbox=sandbox)
    assert json.loads(done.stdout)["id"] == one
    assert json.loads(sandbox.received[-1].body) == {"categoryIds": ["a", "b"]}


def test_a_bulk_update_shows_what_it_would_touch_and_asks(sandbox: Sandbox) -> None:
    ids = sandbox.conversation_ids()[:7]
    shown = on_terminal(sandbox, "conversations", "bulk-update", *ids, "--state", "eo", code=1, reply="n\n")
    assert 'This changes 7 conversations: state set to "eo".' in shown
    assert ids[0] in shown
    assert "Nothing was changed." in shown
    assert not [each for each in sandbox.received if each.method == "POST"]
    shown = on_terminal(
        sandbox, "conversations", "bulk-update", "--user-id", "user-0396", "--state", "eo", reply="y\n"
    )
    assert "the conversations of user user-0396" in shown
    assert json.loads(sandbox.received[-1].body) == {"conversationInfo": {"state": "eo"}, "userIds": ["user-0396"]}


def test_ids_come_from_standard_input(sandbox: Sandbox) -> None:
    ids = sandbox.conversation_ids()[:3]
    done = run(
        *("conversations", "bulk-update", "-", "--state", "eo", "--yes"),
        sandbox=sandbox,
        input=f"{ids[0]}\n\n {ids[1]} \r\n{ids[2]}\n{ids[0]}\n",
    )
    assert (done.returncode, done.stdout) == (0, 'Updated 3 conversations: state set to "eo".\n')
    assert json.loads(sandbox.received[-1].body)["conversationIds"] == ids


def test_a_deletion_shows_the_chat_and_asks(sandbox: Sandbox) -> None:
    one = next(each for each in sandbox.conversation_ids() if len(sandbox.chat_ids(each)) > 2)
    chat = sandbox.chat_ids(one)[1]
    shown = on_terminal(sandbox, "chats", "delete", one, chat, code=1, reply="\n")
    assert "This deletes the chat of 2024-" in shown
    assert chat in sandbox.chat_ids(one)
    assert run("chats", "delete", one, chat, sandbox=sandbox).returncode == 2
    on_terminal(sandbox, "chats", "delete", one, chat, reply="y\n")
    assert chat not in sandbox.chat_ids(one)


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (("--rating", "good"), {"rating": True}),
        (("--rating", "none"), {"rating": None}),
        (
            ("--rating", "bad", "--reason", "inaccurate", "--reason", "not_relevant", "--suggest", "Better"),
            {"rating": False, "feedbackSelection": ["inaccurate", "not_relevant"], "suggestedAnswer": "Better"},
        ),
    ],
)
def test_an_answer_is_rated(arguments: tuple[str, ...], sent: dict[str, object], sandbox: Sandbox) -> None:
    one = next(each for each in sandbox.conversation_ids() if len(sandbox.chat_ids(each)) > 2)
    done = run("chats", "feedback", one, sandbox.chat_ids(one)[1], *arguments, sandbox=sandbox)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Noted for chat ")
    assert json.loads(sandbox.received[-1].body) == sent


# --- transcripts --------------------------------------------------------------------------------------------


def test_a_transcript_is_read_with_senders_times_notes_and_ratings(sandbox: Sandbox) -> None:
    one = next(each for each in sandbox.conversation_ids() if len(sandbox.chat_ids(each)) > 30)
    shown = on_terminal(sandbox, "conversations", "show", one)
    assert one in shown
    assert all(chat in shown for chat in sandbox.chat_ids(one))
    assert re.search(r"\[1\] .+", shown)
    assert "rated " in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_transcript_in_a_pipe_is_plain_text(sandbox: Sandbox) -> None:
    one = next(each for each in sandbox.conversation_ids() if len(sandbox.chat_ids(each)) > 2)
    shown = run("conversations", "show", one, sandbox=sandbox).stdout
    assert "\x1b" not in shown
    assert not [line for line in shown.splitlines() if line.endswith(" ")]
    assert max(map(len, shown.splitlines())) <= 100


def test_a_watch_that_sees_nothing_new_says_so(sandbox: Sandbox) -> None:
    done = run("conversations", "watch", sandbox.conversation_ids()[0], sandbox=sandbox)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "no new chats: no answer is being made\n"


@pytest.mark.parametrize("form", ["jsonl", "parquet", "file"])
def test_a_transcript_is_read_out_of_an_export(form: str, sandbox: Sandbox, tmp_path: Path) -> None:
    one = next(each for each in sandbox.conversation_ids() if len(sandbox.chat_ids(each)) > 30)
    dest = str(tmp_path / ("x.jsonl.gz" if form == "file" else "x"))
    arguments = () if form == "file" else ("--format", form)
    assert run("export", dest, *arguments, sandbox=sandbox).returncode == 0
    live = run("conversations", "show", one, "--json", sandbox=sandbox)
    asked = sandbox.count()
    kept = run("conversations", "show", one, "--from", dest, "--json", env=environment(None))
    assert kept.returncode == 0, kept.stderr
    assert sandbox.count() == asked
    there, here = json.loads(live.stdout), json.loads(kept.stdout)
    assert [chat["message"] for chat in here["chats"]] == [chat["message"] for chat in there["chats"]]
    assert (here["title"], here["user"]) == (there["title"], there["user"])
    assert here["chats"][0]["timestamp"] == pytest.approx(there["chats"][0]["timestamp"])
    missing = run("conversations", "show", "no-such", "--from", dest, env=environment(None))
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)


# --- daily --------------------------------------------------------------------------------------------------


def test_days_are_bars_on_a_terminal_lines_in_a_pipe_and_a_chart_in_a_file(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    shown = on_terminal(sandbox, "daily", "2024-01-01", "20240103")
    assert re.search(r"2024-01-01 Mon +\d+ +█+", shown)
    assert max(map(len, shown.splitlines())) <= 80
    done = run("daily", "2024-01-01", "2024-01-02", "--json", sandbox=sandbox)
    assert [json.loads(line)["date"] for line in done.stdout.splitlines()] == ["2024-01-01", "2024-01-02"]
    done = run("daily", "2024-01-01", "2024-01-02", "--csv", sandbox=sandbox)
    assert done.stdout.splitlines()[0] == "date,active"
    pytest.importorskip("matplotlib", reason="matplotlib (extra plot) is not installed")
    done = run("daily", "2024-01-01", "2024-01-31", "--png", str(tmp_path / "d.png"), sandbox=sandbox)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "d.png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_package_is_one_line_that_says_what_to_install(sandbox: Sandbox, tmp_path: Path) -> None:
    for name in ("matplotlib", "jinja2"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('no', name='{name}')")
    env = environment(sandbox, PYTHONPATH=str(tmp_path))
    one = sandbox.conversation_ids()[0]
    for arguments, extra in (
        (("daily", "2024-01-01", "2024-01-02", "--png", str(tmp_path / "d.png")), "plot"),
        (("conversations", "show", one, "--html", str(tmp_path / "t.html")), "cli"),
    ):
        done = run_process(*arguments, env=env)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert f"alli-async[{extra}]" in done.stderr
    shutil.rmtree(tmp_path)
