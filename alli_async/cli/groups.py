"""Groups of commands: loaded when they are run, with a verb that may be left out."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from typing import Any

import click
import cloup

# The help of a command is read on terminals of this width.
WIDTH = 80
SETTINGS = cloup.Context.settings(
    help_option_names=["-h", "--help"],
    align_option_groups=False,
    formatter_settings=cloup.HelpFormatter.settings(
        width=WIDTH, max_width=WIDTH, col1_max_width=26, col2_min_width=40
    ),
)

EXIT_CODES = """
Exit codes: 0 done; 1 failed; 2 wrong usage; 3 done, but something is missing
(it is listed); 4 another export holds DEST; 130 interrupted (Ctrl-C);
143 terminated.
"""


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """A command that is imported when it is run: the list of commands needs its name and summary only.

    Attributes:
        name: The command's name.
        place: The module in this package and the command's name in the module, like `"exporting:export_command"`.
        summary: The first line of its help.
    """

    name: str
    place: str
    summary: str

    def load(self) -> click.Command:
        """Import the command."""
        module, _, name = self.place.partition(":")
        loaded = importlib.import_module(f".{module}", __package__)
        command: click.Command = getattr(loaded, name)
        return command

    def stub(self) -> click.Command:
        """A command of this name and summary, for the list of commands."""
        return cloup.Command(self.name, help=self.summary, short_help=self.summary)


class LazyGroup(cloup.Group):
    """A group whose commands are imported when they are run.

    Args:
        commands_by_title: The commands, by the title of their section in the help.
        default: The name of the command that runs where none is named.
        default_takes_argument: Whether the default command takes an argument, which is then no command's name.
    """

    def __init__(
        self,
        *args: Any,
        commands_by_title: dict[str, list[LazyCommand]],
        default: str | None = None,
        default_takes_argument: bool = False,
        **kwargs: Any,
    ) -> None:
        sections = [
            cloup.Section(title, [each.stub() for each in group]) for title, group in commands_by_title.items()
        ]
        super().__init__(*args, sections=sections, **kwargs)
        self.lazy_commands = {each.name: each for group in commands_by_title.values() for each in group}
        self._default = default
        self._takes_argument = default_takes_argument

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, imported."""
        found = self.lazy_commands.get(cmd_name)
        return found.load() if found is not None else super().get_command(ctx, cmd_name)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command in where none is named; where there is none, show the help as wrong usage."""
        # Completion after the group's name offers its commands, not the options of the default one.
        is_completing = ctx.resilient_parsing and not args
        if self._default is not None and not is_completing and self._means_default(args):
            args.insert(0, self._default)
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def _means_default(self, args: list[str]) -> bool:
        if not args:
            return not self._takes_argument
        first = args[0]
        if first in _help_names() or first in self.lazy_commands:
            return False
        if first.startswith("-"):
            return True
        # An id is long; a short word is more likely to be a verb that was mistyped.
        return self._takes_argument and not difflib.get_close_matches(first, self.lazy_commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the stubs: the help of a group imports no command."""
        formatter = cloup.formatting.ensure_is_cloup_formatter(formatter)
        for section in self.list_sections(ctx):
            rows = [(name, command.get_short_help_str(WIDTH)) for name, command in section.list_commands()]
            formatter.write_section(cloup.formatting.HelpSection(section.title, rows))


def _help_names() -> list[str]:
    """The options that show the help."""
    names: list[str] = SETTINGS["help_option_names"]
    return names
