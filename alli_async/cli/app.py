"""The alli-async command: its groups, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence

import click
import cloup

from .._version import __version__
from .groups import EXIT_CODES, SETTINGS, Late, LateGroup

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
        Late("export", "exporting:export_command", "Export all conversations with their chats."),
        Late("compact", "compacting:compact_command", "Rewrite an export to its latest state."),
        Late("verify", "compacting:verify_command", "Check every file of an export."),
    ],
    "Look and change": [
        Late("conversations", "conversations:conversations_group", "List, read and change conversations."),
        Late("chats", "chats:chats_group", "List, delete and rate the chats of a conversation."),
        Late("daily", "daily:daily_command", "Show the active conversations of each day."),
    ],
    "Set up": [
        Late("doctor", "doctor:doctor_command", "Check key, connection and server."),
        Late("sandbox", "serving:sandbox_command", "Serve made-up conversations to try things out."),
        Late("completion", "completion:completion_command", "Print the completion script of a shell."),
    ],
}


@cloup.group(
    cls=LateGroup,
    late=_COMMANDS,
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
    except Exception as error:  # noqa: BLE001 - what is no failure to tell of is raised again
        # What is needed to tell of a failure is imported when there is one.
        from .failures import report

        return report(error, as_json="--json" in arguments)
    return code if isinstance(code, int) else 0
