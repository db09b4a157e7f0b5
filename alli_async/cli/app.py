"""The alli-async command, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence

import click

from .. import __version__
from ..errors import AlliError, ConfigurationError
from .exhaustion import exhausted
from .exporting import compact_command, export_command
from .reading import chats_command, conversations_command, daily_command
from .runtime import INTERRUPTED
from .serving import sandbox_command


def run(arguments: Sequence[str]) -> int:
    """Run the command with these arguments; gives the exit code."""
    try:
        code = cli.main(args=list(arguments), prog_name="alli-async", standalone_mode=False)
    except click.Abort:
        click.echo("alli-async: interrupted", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        click.echo(f"alli-async: {error.format_message()}", err=True)
        return error.exit_code
    except ConfigurationError as error:
        click.echo(f"alli-async: {error}", err=True)
        return 2
    except AlliError as error:
        # By the name it can be caught by.
        kind = next(each for each in type(error).__mro__ if each.__module__ == AlliError.__module__)
        click.echo(f"alli-async: {kind.__name__}: {error}", err=True)
        return 1
    except Exception as error:
        if (why := exhausted(error)) is None:
            raise
        click.echo(f"alli-async: {why}. What an export has committed stays; run it again to go on.", err=True)
        return 1
    return code if isinstance(code, int) else 0


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="alli-async")
def cli() -> None:
    """Get conversations out of Alli.

    The key comes from ALLI_API_KEY (or ALLI_TOKEN) in the environment, from --api-key-file, or from a prompt.
    """


for _command in (
    export_command,
    compact_command,
    conversations_command,
    chats_command,
    daily_command,
    sandbox_command,
):
    cli.add_command(_command)
