"""The alli-async command: the whole API from a terminal, for people and for pipes.

click, cloup and rich (extra `cli`) are imported when it runs: the library does not need them. What only some
commands need is imported by these commands, and a command only when it is run: `--help` imports no client.

How a command runs::

    main -> app.run -> groups.LazyGroup: imports the module of the command
            runtime.asynchronous: an event loop, ended by the first signal (signals)
            connecting.open_client: the client that the options stand for
            output.write: bytes to standard output, as fast as they are taken
            failures.report: an error in one line or as JSON, and the exit code

The commands:

- `exporting`, `compacting`: export, compact. `destinations` says what a name means, `progress` what is shown
  meanwhile, `reports` what is printed at the end, `streaming` writes to standard output, `fields` picks fields.
- `conversations`, `waiting`, `changing`, `chats`: lists, answers under way, changes. `confirming` asks.
- `showing`: a transcript to read: in the terminal (`transcript`), as a web page (`webpage`, `templates/`), live or
  out of an export (`exported`).
- `daily`, `doctor` (whose checks are in `checkup`), `serving` (the sandbox), `completion`.

What they share:

- `options`: options of the connection, the filters and the span. `moments` reads TIME, `durations` durations.
- `records`: conversations and chats as rows and fields. `rows` writes rows as a table, JSON Lines or CSV.
- `terminal`: text that does nothing to a terminal. Whatever a server sent passes `visible` before it is shown.
- `exhaustion`, `descriptors`: limits of the machine, and standard streams that are closed.

Standard output is for results, standard error for all else. A table is for terminals only; a pipe gets JSON Lines
as the server sent them. A change that cannot be undone is shown and asked about, and refused where there is no
terminal to ask on.
"""

from __future__ import annotations

import signal
import sys

from .descriptors import reserve_standard_descriptors
from .signals import end_at_once_if_terminated

__all__ = ["main"]


def main() -> None:
    """Run the command and exit with its code; `groups.EXIT_CODES` lists them."""
    try:
        reserve_standard_descriptors()
        end_at_once_if_terminated()
        code = _run()
        if code == 130:
            # Whoever was in a hurry may press it again while Python shuts down.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(code)
    except KeyboardInterrupt:
        # While modules are loaded, or where nothing else has taken it.
        sys.stderr.write("alli-async: interrupted\n")
        sys.exit(130)


def _run() -> int:
    try:
        import click as _click
        import cloup as _cloup
        import rich as _rich
    except ImportError as error:
        missing = str(error.name)
        sys.stderr.write(f"alli-async: the command needs {missing}: pip install 'alli-async[cli]'\n")
        return 1
    del _click, _cloup, _rich
    from .app import run

    return run(sys.argv[1:])
