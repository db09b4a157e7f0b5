"""Every command is documented, and does what its help says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from alli_async.cli.app import cli
from alli_async.cli.groups import LazyGroup
from alli_async.sandbox import Sandbox
from tests.support.commands import all_commands, environment, run

# Each command, and arguments with which it succeeds. ID and CHAT stand for ids of a sandbox, TMP for a folder.
RUNS = {
    "export": "TMP/all --quiet",
    "compact": "TMP/done",
    "verify": "TMP/done",
    "conversations list": "--limit 2",
    "conversations get": "ID",
    "conversations show": "ID",
    "conversations watch": "ID --history",
    "conversations wait": "ID",
    "conversations update": "ID --title New --state eo --clear assignee",
    "conversations bulk-update": "ID --category c1 --yes",
    "conversations set-title": "ID Newer",
    "conversations stop": "ID",
    "chats list": "ID",
    "chats delete": "ID CHAT --yes",
    "chats feedback": "ID CHAT --rating bad --reason inaccurate --suggest Better",
    "daily": "2024-01-01 2024-01-03",
    "doctor": "",
    "completion": "bash",
}
# It serves until it is interrupted: `test_the_sandbox_command_serves_what_it_says_until_it_is_interrupted`.
RUNS_ELSEWHERE = {"sandbox"}


def groups(group: LazyGroup) -> Iterator[LazyGroup]:
    """A group, and those in it."""
    yield group
    for lazy in group.lazy_commands.values():
        if isinstance(inner := lazy.load(), LazyGroup):
            yield from groups(inner)


COMMANDS = dict(all_commands(cli))
ALL = {**COMMANDS, **{each.name or "": each for each in groups(cli)}}


def help_of(command: click.Command, name: str) -> str:
    with command.make_context(f"alli-async {name}", [], resilient_parsing=True) as ctx:
        return command.get_help(ctx)


def test_no_command_is_without_a_run() -> None:
    assert set(RUNS) | RUNS_ELSEWHERE == set(COMMANDS)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(conversations=60) as served:
        yield served


@pytest.mark.parametrize("name", RUNS)
def test_every_command_runs(name: str, sandbox: Sandbox, tmp_path: Path) -> None:
    one = next(each for each in sandbox.conversation_ids() if len(sandbox.chat_ids(each)) > 2)
    words = {"ID": one, "CHAT": sandbox.chat_ids(one)[1]}
    arguments = [words.get(word, word.replace("TMP", str(tmp_path))) for word in shlex.split(RUNS[name])]
    if "TMP/done" in RUNS[name]:
        assert run("export", str(tmp_path / "done"), sandbox=sandbox).returncode == 0
    done = run(*name.split(), *arguments, sandbox=sandbox)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert bool(done.stdout) is (name != "export")


@pytest.mark.parametrize("name", ALL)
def test_every_help_has_examples_and_plain_lines_of_eighty_columns(name: str) -> None:
    shown = help_of(ALL[name], name)
    assert re.search(r"^Examples?:$", shown, re.MULTILINE)
    assert max(map(len, shown.splitlines())) <= 80
    assert "alli-async " in shown.partition("Example")[2]
    assert not re.search(r"\bx[<>]|[<>]=?x\b", shown)  # bounds of numbers, as click writes them
    assert not re.search(r"\bOf the \w+\.$|\bTheirs\b", shown, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_does(name: str) -> None:
    for param in COMMANDS[name].params:
        if isinstance(param, click.Option):
            assert param.help, param.name
            assert param.help[0].isupper(), param.name


@pytest.mark.parametrize("name", ALL)
def test_the_examples_of_the_help_are_ones_that_are_understood(name: str) -> None:
    shown = help_of(ALL[name], name).partition("Example")[2]
    for line in re.findall(r"^  (alli-async .*?)(?: *[|>&#].*)?$", shown, re.MULTILINE):
        words = shlex.split(line)[1:]
        group: click.Command = cli
        with cli.make_context("alli-async", list(words), resilient_parsing=True) as ctx:
            while isinstance(group, LazyGroup):
                found = group.get_command(ctx, words[0]) if words and words[0] in group.lazy_commands else None
                if found is None:
                    found = group.get_command(ctx, "list")
                else:
                    words = words[1:]
                assert found is not None, line
                group = found
        # Files that an option or argument names need not be there.
        try:
            group.make_context(line, words)
        except click.BadParameter as error:
            assert "does not exist" in error.message, line


@pytest.mark.parametrize("group", [pytest.param(each, id=each.name) for each in groups(cli)])
def test_a_summary_in_a_list_of_commands_says_what_the_help_of_the_command_begins_with(group: LazyGroup) -> None:
    for lazy in group.lazy_commands.values():
        first = (lazy.load().help or "").partition("\n")[0].rstrip(".")
        assert set(lazy.summary.rstrip(".").lower().split()[:2]) & set(first.lower().split()), lazy.name


def test_the_command_tells_its_exit_codes() -> None:
    for shown in (help_of(cli, ""), help_of(COMMANDS["export"], "export")):
        for code in ("0 done", "1 failed", "2 wrong usage", "3 done, but", "4 another export", "130", "143"):
            assert code in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion(shell: str) -> None:
    done = run("completion", shell)
    assert done.returncode == 0
    assert "_ALLI_ASYNC_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("alli-async conv", "conversations"),
        ("alli-async conversations ", "bulk-update"),
        ("alli-async conversations list --ord", "--order"),
        ("alli-async chats feedback I C --rating ", "good"),
    ],
)
def test_the_completion_offers_what_can_follow(words: str, offered: str) -> None:
    typed = words.split(" ")
    env = environment(None, _ALLI_ASYNC_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(typed) - 1))
    done = run(env=env)
    assert f"plain,{offered}" in done.stdout
