"""DEST: the format that its name says, and whether a file may be replaced."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from .confirming import ask
from .terminal import is_terminal, visible

STDOUT = "-"


def format_of(dest: str, form: str | None, compression: str | None) -> tuple[str | None, str | None]:
    """The format and compression of a destination, which a file's name decides.

    Args:
        dest: The destination.
        form: The format that was asked for; None if it was left out.
        compression: The compression that was asked for; None if none was.

    Raises:
        click.UsageError: The options do not fit standard output, or DEST is a file that no export writes.
        ConfigurationError: The name is that of a file that no export writes, or does not fit the options.
    """
    if dest == STDOUT:
        if form not in (None, "jsonl") or compression not in (None, "none"):
            raise click.UsageError("DEST - is standard output, which takes plain JSON Lines only")
        return "jsonl", "none"
    from ..export.request import file_of

    file = file_of(dest, form, compression)
    if file is not None:
        return file.format, file.compression
    if "://" not in dest and os.path.exists(dest) and not os.path.isdir(dest):
        raise click.UsageError(f"DEST: {visible(dest)} is a file, but its name does not end in .jsonl or .csv")
    return form, compression


def check_directory_options(dest: str, options: Mapping[str, Any]) -> None:
    """Refuse options that need a directory or an object store.

    Args:
        dest: The destination.
        options: The options, by their names.

    Raises:
        click.UsageError: The destination is a file or standard output.
    """
    is_file = single_file(dest) is not None
    if dest != STDOUT and not is_file:
        return
    for name in ("incremental", "refresh", "cluster"):
        if options[name]:
            option = "--dask" if name == "cluster" else f"--{name}"
            what = f"{visible(dest)} is one file" if is_file else "- is standard output"
            raise click.UsageError(f"{option} needs a directory or an object store as DEST; {what}")


def single_file(dest: str) -> Path | None:
    """The path of a destination that is a single file; None for any other destination."""
    from ..export.request import file_at

    file = None if dest == STDOUT else file_at(dest)
    return None if file is None else file.path


def check_replaceable(dest: str, *, force: bool) -> None:
    """Ask before a file is replaced.

    Raises:
        click.UsageError: The file exists, and there is no terminal to ask on.
    """
    path = single_file(dest)
    if path is not None:
        check_writable(path, force=force)


def check_writable(path: Path, *, force: bool) -> None:
    """Ask before a file is replaced.

    Raises:
        click.UsageError: The file exists, and there is no terminal to ask on.
    """
    if force or not path.is_file():
        return
    if not is_terminal(sys.stdin):
        raise click.UsageError(f"{visible(str(path))} exists already; --force replaces it")
    if not ask(f"{visible(str(path))} exists already. Replace it?"):
        click.echo("Nothing was changed.", err=True)
        raise click.exceptions.Exit(1)
