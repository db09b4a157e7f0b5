"""alli-async completion."""

from __future__ import annotations

import click
import cloup


@cloup.command(
    "completion",
    epilog="""
Examples:

\b
  eval "$(alli-async completion bash)"     # in ~/.bashrc
  eval "$(alli-async completion zsh)"      # in ~/.zshrc
  alli-async completion fish > ~/.config/fish/completions/alli-async.fish
""",
)
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"there is no completion for {shell}")
    completer = kind(click.get_current_context().find_root().command, {}, "alli-async", "_ALLI_ASYNC_COMPLETE")
    if shell == "bash":
        # `source` of this class would start bash to ask for its version.
        click.echo(completer.source_template % completer.source_vars())
    else:
        click.echo(completer.source())
