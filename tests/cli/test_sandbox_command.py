"""The options of `alli-async sandbox`."""

from __future__ import annotations

from dataclasses import fields

import click
import pytest

from alli_async.cli.serving import make_churn, sandbox_command
from alli_async.sandbox import Churn
from alli_async.sandbox.options import Options


def test_the_command_takes_every_simple_option() -> None:
    taken = {option.name for option in sandbox_command.params}
    options = {each.name for each in fields(Options)} - {"churn"}
    assert taken == options | {"changes"}


@pytest.mark.parametrize(
    ("changes", "churn"),
    [
        ((), None),
        (("0",), None),
        (("3",), Churn(new_chats=3)),
        (("deleted_conversations=2",), Churn(new_chats=0, deleted_conversations=2)),
        (
            ("1", "deleted_first_chats=4", "ended_conversations=5"),
            Churn(new_chats=1, deleted_first_chats=4, ended_conversations=5),
        ),
    ],
)
def test_the_command_takes_the_kinds_of_churn_by_their_names(
    changes: tuple[str, ...], churn: Churn | None
) -> None:
    arguments = [part for change in changes for part in ("--churn", change)]
    parsed = sandbox_command.make_context("sandbox", arguments).params["changes"]
    assert make_churn(parsed) == churn


@pytest.mark.parametrize("text", ["x", "new_chats=x", "chats=3", "-1", "=3"])
def test_the_command_refuses_churn_that_there_is_not(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a number of new chats, nor NAME=N"):
        sandbox_command.make_context("sandbox", [f"--churn={text}"])
