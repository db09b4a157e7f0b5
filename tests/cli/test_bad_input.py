"""Whatever is typed wrongly is refused in a line that speaks of the options of the command, never of Python."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from alli_async import AlliClient, RetryPolicy
from alli_async.cli.app import cli
from alli_async.conversations import ConversationsAPI
from alli_async.export import compact, export, plan_export, verify
from alli_async.sandbox import Sandbox
from tests.support.commands import all_commands, environment, run

_CALLS = (AlliClient, RetryPolicy, export, plan_export, compact, verify, *vars(ConversationsAPI).values())
# The arguments of the library whose names can be no words of a sentence.
ARGUMENTS = {
    name
    for call in _CALLS
    if callable(call)
    for name in inspect.signature(call).parameters
    if "_" in name.strip("_")
}
PYTHON = re.compile(rf"Traceback|\bpass \w|=True|=None|\b0o\d|\b(?:{'|'.join(sorted(ARGUMENTS))})\b")
COMMANDS = dict(all_commands(cli))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(conversations=5) as served:
        yield served


def test_the_arguments_of_the_library_are_known() -> None:
    assert {"allow_http", "max_attempts", "max_response_bytes", "user_ids", "conversation_ids"} <= ARGUMENTS
    assert PYTHON.search("pass allow_http=True")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_value_that_no_option_takes_is_refused_in_plain_words(name: str) -> None:
    taken = [
        each for each in COMMANDS[name].params if not (getattr(each, "is_flag", 0) or getattr(each, "count", 0))
    ]
    with COMMANDS[name].make_context(name, [], resilient_parsing=True) as ctx:
        for param, text in itertools.product(taken, ["nonsense", "nan", "-1", "1e999", ""]):
            try:
                param.type_cast_value(ctx, (text,) if param.multiple or param.nargs == -1 else text)
            except click.BadParameter as error:
                assert not re.search("integer range|float range|in the range|literal", error.format_message())
                assert not PYTHON.search(error.format_message())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("conversations list --limit x", "'x' is not a whole number of at least 1"),
        ("conversations list --timeout inf", "'inf' is not a number above 0"),
        ("conversations list --max-response-mb nan", "'nan' is not a number above 0 and up to 1,000,000"),
        ("conversations list --base-url http://a.example", "--base-url: http://a.example would carry the key"),
        ("conversations list --proxy http://a.example", "--proxy: http://a.example would see the key"),
        ("conversations list --variable a,b", "--variable: a name cannot hold a comma"),
        ("conversations list --user-id EMPTY", "--user-id: expected a text that is not empty"),
        ("conversations list --own-user-id EMPTY", "--own-user-id: expected"),
        ("conversations get EMPTY", "ID: expected an id"),
        ("conversations get ..", "ID: expected an id"),
        ("conversations stop EMPTY", "ID: expected an id"),
        ("conversations wait ID --wait-for nan", "--wait-for"),
        ("conversations watch ID --poll-interval 0", "'0' is not a number above 0"),
        ("conversations bulk-update EMPTY --state eo --yes", "ID: expected a text that is not empty"),
        ("conversations show ID --from broken.jsonl", "--from: broken.jsonl cannot be read"),
        ("conversations show ID --from rows.csv", "--from: rows.csv is of CSV"),
        ("conversations show ID --from nowhere", "--from: nowhere does not exist"),
        ("chats feedback ID EMPTY --rating good", "CHAT: expected an id"),
        ("daily 2024-01-01 2024-01-02 --png x.gif", "--png: x.gif is not named like a PNG file"),
        ("daily 2024-01-01 2024-01-02 --png chart.png", "chart.png exists already; --force replaces it"),
        ("completion powershell", "SHELL"),
        ("export rows.csv --incremental", "--incremental needs a directory or an object store as DEST; rows.csv"),
        ("export new.jsonl --refresh", "--refresh needs a directory"),
        ("export - --dask tcp://127.0.0.1:9", "--dask needs a directory or an object store as DEST; - is"),
        ("export new.csv --compression gzip", "--compression: gzip does not fit new.csv, whose name says none"),
        ("export new --mode 77", "'77' are not permission bits by which the owner reads and writes"),
        ("export new --redact EMPTY", "--redact names no field"),
        ("export new --columns title --redact title", "--redact: title is one of the columns"),
        ("export new --incremental --started-at 2024-01-01", "--incremental: sets --started-at itself"),
        ("export nowhere.txt", "nowhere.txt is named like a file, but only"),
        ("sandbox --embed x", "'x' is neither a whole number nor all"),
        ("sandbox --burst 5", "--burst must be at least 1 and stand beside a --rate-limit"),
        ("sandbox --fault 503=2", "--fault must have probabilities"),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused_in_one_line(
    arguments: str, said: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "broken.jsonl").write_text('{"id": "ID", ')
    for name in ("rows.csv", "chart.png"):
        (tmp_path / name).write_text("kept")
    before, sent = sorted(tmp_path.iterdir()), sandbox.count()
    words = ["" if word == "EMPTY" else word for word in arguments.split()]
    done = run(*words, sandbox=sandbox, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) in {(2, "", 1), (1, "", 1)}, done.stderr
    assert said in done.stderr
    assert not PYTHON.search(done.stderr), done.stderr
    assert (sorted(tmp_path.iterdir()), sandbox.count()) == (before, sent)
    assert (tmp_path / "chart.png").read_text() == "kept"


def test_an_export_with_other_options_says_which_and_what_to_do(sandbox: Sandbox, tmp_path: Path) -> None:
    assert run("export", "x", sandbox=sandbox, cwd=tmp_path).returncode == 0
    done = run("export", "x", "--llm-app-id", "app", sandbox=sandbox, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "x holds another export: jsonl, gzip, no filters" in done.stderr
    assert "asked for was: jsonl, gzip, --llm-app-id app" in done.stderr
    assert "(name another DEST, or give the options that it was made with)" in done.stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "https://127.0.0.1:9"])
def test_a_server_that_cannot_be_reached_is_told_in_plain_words(url: str) -> None:
    done = run("conversations", env=environment(None, ALLI_BASE_URL=url, ALLI_API_KEY="k"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no connection: cannot connect to 127.0.0.1:9: Connection refused [GET " in done.stderr
    assert ", not sent;" in done.stderr
    assert not PYTHON.search(done.stderr), done.stderr
