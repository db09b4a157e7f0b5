"""The alli-async command: its groups, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence

import click
import cloup

from .._version import __version__
from .groups import EXIT_CODES, SETTINGS, LazyCommand, LazyGroup

_EPILOG = f"""
Examples:

\b
  alli-async export backup
  alli-async export monday.csv --since 2026-01-05 --until 2026-01-05
  alli-async conversations list --limit 20
  alli-async conversations show ID

The key comes from ALLI_API_KEY (or ALLI_TOKEN) in the environment, from the
file that ALLI_API_KEY_FILE or --api-key-file names, or from a prompt; never
from an argument. ALLI_REGION (us, ja) or ALLI_BASE_URL names the server.
{EXIT_CODES}
alli-async COMMAND --help says more. Completion for your shell:
alli-async completion --help.
"""

_COMMANDS = {
    "Get everything": [
        LazyCommand("export", "exporting:export_command", "Export all conversations with their chats."),
        LazyCommand("compact", "compacting:compact_command", "Rewrite an export to its latest state."),
        LazyCommand("verify", "compacting:verify_command", "Check every file of an export."),
    ],
    "Look and change": [
        LazyCommand("conversations", "conversations:conversations_group", "List, read and change conversations."),
        LazyCommand("chats", "chats:chats_group", "List, delete and rate the chats of a conversation."),
        LazyCommand("daily", "daily:daily_command", "Show the active conversations of each day."),
    ],
    "Set up": [
        LazyCommand("doctor", "doctor:doctor_command", "Check key, connection and server."),
        LazyCommand("sandbox", "serving:sandbox_command", "Serve made-up conversations to try things out."),
        LazyCommand("completion", "completion:completion_command", "Print the completion script of a shell."),
    ],
}


@cloup.group(
    cls=LazyGroup,
    commands_by_title=_COMMANDS,
    context_settings=SETTINGS,
    epilog=_EPILOG,
    align_sections=True,
)
@click.version_option(__version__, prog_name="alli-async")
def cli() -> None:
    """Get conversations out of Alli, read them, and change them."""


def run(arguments: Sequence[str]) -> int:
    """Run the command with these arguments.

    Returns:
        The exit code.
    """
    try:
        code = cli.main(args=list(arguments), prog_name="alli-async", standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - `report` raises again what is a fault of the command
        # The modules that report a failure are imported only when there is one.
        from .failures import report

        return report(error, as_json="--json" in arguments)
    return code if isinstance(code, int) else 0
