"""Questions before changes that cannot be undone."""

from __future__ import annotations

import sys

import click

from .terminal import is_terminal


def confirm(what: str, *, option: str = "--yes") -> None:
    """Show what would happen, and ask whether it may.

    Args:
        what: What would happen; safe for a terminal.
        option: The option that stands for a yes.

    Raises:
        click.UsageError: There is no terminal to ask on.
        click.Abort: The answer was no.
    """
    if not is_terminal(sys.stdin):
        raise click.UsageError(f"there is no terminal to ask on; give {option} if you mean it. {what}")
    click.echo(what, err=True)
    if not ask("Go on?"):
        click.echo("Nothing was changed.", err=True)
        raise click.exceptions.Exit(1)


def ask(question: str) -> bool:
    """Ask a question on the terminal; the answer is no unless it is yes."""
    import signal

    # The command's own handler would only note a Ctrl-C: nothing else goes on while this waits.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return click.confirm(question, default=False, err=True)
    finally:
        signal.signal(signal.SIGINT, before)
