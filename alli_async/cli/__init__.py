"""The alli-async command. click, cloup and rich are imported when it runs: the library does not need them."""

from __future__ import annotations

import signal
import sys

from .descriptors import reserve_standard_descriptors
from .signals import end_at_once_if_terminated

__all__ = ["main"]


def main() -> None:
    """Run the command and exit with its code: 0, 1 for an error, 2 for wrong usage, 130 when interrupted."""
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
